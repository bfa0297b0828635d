"""Names of the files of learned embeddings."""

import re
from collections.abc import Iterable, Sequence

FINAL, BEST = "learned_embeds", "learned_embeds-best"
FINAL_NAME, BEST_NAME = f"{FINAL}.pdparams", f"{BEST}.pdparams"
ENDINGS = (".pdparams", ".safetensors", ".bin", ".pt")
# Files in the top folder of a repository that hold the weights of a model, or the state of a training.
_OF_MODELS = re.compile(
    r"(tf_|flax_|paddle_|pytorch_|adapter_|diffusion_\w+_|pytorch_lora_)?(model|weights)([_.-].*)?"
    r"|(model_state|scheduler|optimizer|training_args|random_states|rng_state|scaler)\b.*",
    re.IGNORECASE,
)
# A name that is one file's and no pattern's, and leads nowhere.
_PLAIN = re.compile(r"[^.*?\[\]\\/\x00-\x1f\x7f][^*?\[\]\\/\x00-\x1f\x7f]{0,199}")
_INDEXES = ("model_index.json", "config.json")
_TIMED = re.compile(r"(?:best|steps-\d+)-(.+)", re.IGNORECASE)


def of_step(step: int) -> str:
    """The name of the files of an optimizer step, without an ending."""
    return f"{FINAL}-steps-{step}"


def safetensors_names(stem: str, placeholder_tokens: Sequence[str]) -> list[str]:
    """The `.safetensors` of each concept: `STEM.safetensors` of the only one, else `STEM-NAME.safetensors`.

    Args:
        stem: `FINAL`, `BEST` or the result of `of_step`.
    """
    if len(placeholder_tokens) == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{safe_name(token)}.safetensors" for token in placeholder_tokens]


def without_time(name: str) -> str | None:
    """The concept that a name would belong to as that of a step or of the best one: `a` for `steps-5-a`; else None.

    The final file of a concept of that name would be the other concept's at that step.

    Args:
        name: a result of `safe_name`.
    """
    found = _TIMED.fullmatch(name)
    return found[1] if found else None


def safe_name(placeholder_token: str) -> str:
    """A placeholder token as part of a file name: `<cat-toy>` gives `cat-toy`."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in placeholder_token).strip("-.")
    return kept or "concept"


def embeddings_among(files: Iterable[str]) -> list[str]:
    """Those files of a repository that by their names are learned embeddings, the final ones first.

    In a repository that is a model as a whole only files that are called as a run calls them count.

    Args:
        files: paths in the repository.
    """
    top = [file for file in files if "/" not in file]
    is_model = any(index in top for index in _INDEXES)
    plain = [file for file in top if file.endswith(ENDINGS) and _PLAIN.fullmatch(file)]
    named = [file for file in plain if file.startswith(FINAL) or not is_model]
    found = [file for file in named if file.startswith(FINAL) or not _OF_MODELS.fullmatch(file)]
    return sorted(found, key=lambda file: (not re.fullmatch(rf"{FINAL}\.\w+", file), not file.startswith(FINAL), file))
