"""The files of a run: embeddings every so often and at the end, and `run.json`, which says how they were made."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from textual_inversion.embeddings.file_names import BEST_NAME, FINAL_NAME, safe_name
from textual_inversion.formats import embedding_file
from textual_inversion.settings.choices import PER_CONCEPT
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError
from textual_inversion.system.paths import portable
from textual_inversion.system.provenance import git_revision, versions
from textual_inversion.training.row_report import row_lines


def make_output_folder(path: str) -> Path:
    """Create the output folder and prove that it can be written before any long work begins.

    Raises:
        OutputError: it cannot be made or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--output_dir {path} cannot be made ({error.strerror}); choose another folder") from None
    with atomic.replacing(folder / ".writable"):
        pass
    (folder / ".writable").unlink(missing_ok=True)  # another run may be looking at the same moment
    return folder


def save_embeddings(folder: Path, concepts, rows: dict[str, np.ndarray], facts: dict[str, str], *, step: int) -> None:
    """Write `learned_embeds-steps-N.pdparams` and make `learned_embeds.pdparams` the same.

    Args:
        concepts: the concepts in the order of their rows.
        rows: text encoder -> float32 [N, D] of all concepts.
        facts: what the file says about the run where its format can.

    Raises:
        OutputError: it cannot be written, or the rows hold NaN or infinity.
    """
    learned = as_learned(concepts, rows, facts)
    embedding_file.write_pdparams(folder / f"learned_embeds-steps-{step}.pdparams", learned)
    embedding_file.write_pdparams(folder / FINAL_NAME, learned)


def save_final(folder: Path, learned: list) -> None:
    """Write `learned_embeds.pdparams` with all concepts and a `.safetensors` for each; raises OutputError.

    Args:
        learned: from `as_learned`.
    """
    embedding_file.write_pdparams(folder / FINAL_NAME, learned)
    for concept in learned:
        name = "learned_embeds" if len(learned) == 1 else f"learned_embeds-{safe_name(concept.placeholder_token)}"
        embedding_file.write_safetensors(folder / f"{name}.safetensors", concept)


def file_facts(args, model, steps: int) -> dict[str, str]:
    """What an embedding file says about the run, where its format can hold it."""
    return {"base_model": portable(model.name), "steps": str(steps), "seed": str(args.seed)}


def _concept_facts(concept) -> dict[str, str]:
    """What an embedding file says about one concept."""
    facts = {"learnable_property": concept.learnable_property}
    return facts if concept.initializer_token is None else facts | {"initializer_token": concept.initializer_token}


def as_learned(concepts, rows: dict[str, np.ndarray], facts: dict[str, str]) -> list:
    """The rows [N, D] of all concepts, cut into one `formats.LearnedEmbedding` each."""
    if not all(np.isfinite(values).all() for values in rows.values()):
        raise OutputError(
            "the rows are no longer finite numbers, so they are not saved and the last good file stays; training "
            "diverged: lower --learning_rate"
        )
    learned, first = [], 0
    for concept in concepts:
        part = slice(first, first + concept.num_vectors)
        vectors = {encoder: np.asarray(values[part], dtype=np.float32) for encoder, values in rows.items()}
        whole = facts | _concept_facts(concept)
        learned.append(embedding_file.LearnedEmbedding(concept.placeholder_token, vectors, whole))
        first += concept.num_vectors
    return learned


def write_run_record(folder: Path, args, model, concepts, figures: dict, resumed: Sequence[dict] = ()) -> None:
    """Write `run.json`: arguments, versions, base model, dimensions, seed, revision, and the figures so far.

    `resumed` says after which steps the run went on from a checkpoint, and what had changed then. What is said per
    concept is a list where there are several concepts, and a plain value for a single one.
    """
    hidden = {"explicit", "hub_token", "demo_defaults", "concepts", "sample_prompts"}
    settings = {k: v for k, v in sorted(vars(args).items()) if k not in hidden}
    settings["train_data_dir"] = [portable(concept.image_folder) for concept in concepts]
    if settings.get("mask_dir"):
        settings["mask_dir"] = [portable(folder) for folder in args.mask_dir]
    places = ("pretrained_model_name_or_path", "tokenizer_name", "cache_dir")
    settings |= {k: portable(settings[k]) for k in places if settings.get(k) is not None}
    settings["sample_prompts"] = [vars(prompt) for prompt in args.sample_prompts]
    settings |= {k: _single(settings[k]) for k in ("placeholder_token", *PER_CONCEPT)}
    atomic.write_json(
        folder / "run.json",
        {
            "base_model": portable(model.name),
            "placeholder_token": _single([concept.placeholder_token for concept in concepts]),
            "initializer_token": _single([concept.initializer_token for concept in concepts]),
            "learnable_property": _single([concept.learnable_property for concept in concepts]),
            "num_vectors": _single([concept.num_vectors for concept in concepts]),
            "embedding_width": {encoder.name: encoder.embedding_width for encoder in model.text_encoders},
            "prediction_type": model.prediction_type,
            "seed": args.seed,
            "settings": settings,
            "versions": versions(),
            "git_revision": git_revision(),
            "resumed": list(resumed),
            "figures": _finite(figures),
        },
    )


def _finite(value):
    """Figures as JSON can hold them: what is no finite number becomes null."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _single(values):
    """The only value of a list of one; else the list."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def closing_lines(args, run) -> list[str]:
    """What was made, how long each phase took, and for the demo the score before and after."""
    losses = list(run.figures.get("fixed_set_loss", {}).values())
    lines = []
    if losses:
        lines.append(f"loss on the fixed set: {losses[0]:.4f} before, {losses[-1]:.4f} after")
    for word, score in run.figures.get("scores", {}).items():
        of = f"{word}: " if len(run.concepts) > 1 else ""
        lines.append(of + _score_line(score, "image", "with the training images"))
        lines.append(of + _score_line(score, "text", "of edit prompts"))
    lines += row_lines(run.figures.get("rows", {}))
    skipped = run.figures.get("skipped_steps", 0)
    lines.append(f"skipped steps: {skipped} of {args.max_train_steps}" if skipped else "skipped steps: none")
    best = run.figures.get("best", {})
    if "step" in best:
        lines.append(f"best step: {best['step']} by the {best['by']}, {best['score']:.4f}: {run.folder / BEST_NAME}")
    lines.append(run.phases.summary())
    if "overview" in run.figures:
        lines.append(f"before and after, side by side: {run.folder / 'overview.png'}")
    lines.append(f"{where_words_are(run)}; draw with {'it' if len(run.concepts) == 1 else 'them'}:")
    lines.append(f"    python infer.py --embeds {run.folder / FINAL_NAME}")
    return lines


def where_words_are(run) -> str:
    """The learned words and their file, as the beginning of a sentence."""
    words = [concept.placeholder_token for concept in run.concepts]
    return f"{', '.join(words)} {'is' if len(words) == 1 else 'are'} in {run.folder / FINAL_NAME}"


def _score_line(score: dict, kind: str, what: str) -> str:
    key = f"{kind}_similarity"
    before, after = score["baseline"][key], score["concept"][key]
    line = f"{kind} similarity {what}: {before:.3f} before, {after:.3f} after"
    if kind == "text":
        return line if score["text_ratio"] is None else f"{line}: {score['text_ratio']:.0%} kept"
    if score["share_of_the_way"] is None:
        return line
    return f"{line}: {score['share_of_the_way']:.0%} of the way to the best possible, {score['ceiling'][key]:.3f}"
