"""The best step of a run so far, kept in a file of its own while training goes on (`--keep_best`).

A concept that is trained for too long loses the rest of the prompt, and the last step is rarely the best. What is
judged is how much the sample pictures look like the training pictures: the mean CLIP cosine (arXiv 2208.01618,
section 5), where there is a CLIP model and sample pictures show the word; else the loss on the fixed set.
"""

import numpy as np

from textual_inversion.data import images
from textual_inversion.embeddings.file_names import BEST_NAME
from textual_inversion.evaluation.scoring import mean_cosine
from textual_inversion.formats import embedding_file
from textual_inversion.system.errors import SettingsError
from textual_inversion.training import outputs
from textual_inversion.training.resume import best_rows

BY_PICTURES = "image similarity of the sample pictures with the training pictures"
BY_LOSS = "loss on the fixed set"


class BestStep:
    """Keeps the rows of the best step so far, and in `run.figures["best"]` what is known about it.

    Step 0 is measured to compare with, but never kept: nothing is learned there.

    Args:
        args: settled settings.
        run: the command's `Run`.

    Attributes:
        by: `BY_PICTURES` or `BY_LOSS`.
        rows: text encoder -> rows [N, D] of the best step so far, or None.

    Raises:
        SettingsError: the CLIP model that was named is not to be had, or there is nothing at all to judge by.
    """

    def __init__(self, args, run):
        self._args, self._run = args, run
        self._likeness = _likeness(args, run)
        if self._likeness is None and not args.eval_steps:
            raise SettingsError(
                "--keep_best finds no CLIP model or no prompt with a learned word, and --eval_steps 0 measures no "
                "loss; leave --eval_steps out, or add --validation_prompt and --clip_model"
            )
        self.by = BY_PICTURES if self._likeness else BY_LOSS
        self.rows: dict[str, np.ndarray] | None = None
        self._go_on()

    def _go_on(self) -> None:
        """Take over the best step of a run that goes on, its file too: a step after the checkpoint may lie there."""
        run, known = self._run, self._run.figures.get("best", {})
        rows = best_rows(run.resumed) if run.resumed is not None else {}
        if known.get("by") != self.by or ("step" in known and not rows):
            known = {"by": self.by, "scores": {}}  # it was judged otherwise
        run.figures["best"] = known
        if "step" in known:
            self._keep(known["step"], rows)

    def _keep(self, step: int, rows: dict[str, np.ndarray]) -> None:
        run, facts = self._run, outputs.file_facts(self._args, self._run.model, step)
        embedding_file.write_pdparams(run.folder / BEST_NAME, outputs.as_learned(run.concepts, rows, facts))
        self.rows = rows

    def see_pictures(self, step: int, prompts: list[str], pictures: list) -> str | None:
        """Judge sample pictures, one a prompt; returns a sentence about it, None where the loss is what counts."""
        if self._likeness is None:
            return None
        return self._judge(step, self._likeness(prompts, pictures), larger_is_better=True)

    def see_loss(self, step: int, value: float) -> str | None:
        """Judge the loss on the fixed set; returns a sentence about it, None where pictures are what counts."""
        return self._judge(step, value, larger_is_better=False) if self._likeness is None else None

    def _judge(self, step: int, score: float, *, larger_is_better: bool) -> str | None:
        best = self._run.figures["best"]
        best["scores"][str(step)] = score
        said = f"step {step}: {self.by} {score:.4f}"
        if step == 0 or not np.isfinite(score):
            return said if larger_is_better else None
        if "score" in best and (score <= best["score"] if larger_is_better else score >= best["score"]):
            return f"{said}, the best is still step {best['step']}" if larger_is_better else None
        self._keep(step, self._run.rows())
        best |= {"step": step, "score": score, "file": BEST_NAME}  # the file is there: it could not fail now
        return f"{said}, the best so far" if larger_is_better else f"step {step} is the best so far"


def check_judge(args, run) -> None:
    """See to it, before anything is written, that the CLIP model that is named for --keep_best can judge.

    Raises:
        SettingsError, BaseModelError: it is not there, is no CLIP model, or no sample picture shows a learned word.
    """
    if args.keep_best and args.clip_model:
        from textual_inversion.evaluation.clip import check_clip, find_clip

        if not _shows_a_word(args, run):
            raise SettingsError("--clip_model judges sample pictures, but no prompt of them holds a learned word")
        check_clip(find_clip(run.model.folder, args.clip_model))


def _shows_a_word(args, run) -> bool:
    return any(_words_in(run, prompt.text) for prompt in args.sample_prompts)


def _likeness(args, run):
    """A function of (prompts, pictures) that gives their likeness to the training pictures, or None.

    Raises:
        SettingsError: the CLIP model that was named is not to be had.
    """
    from textual_inversion.evaluation.clip import ClipScorer, find_clip

    if not _shows_a_word(args, run):
        return None
    try:
        scorer = ClipScorer(find_clip(run.model.folder, args.clip_model))
    except SettingsError:
        if args.clip_model:
            raise
        return None
    return _Likeness(run, scorer)


def _words_in(run, prompt: str) -> set[int]:
    """Indices of the concepts that a prompt names."""
    encode_ids = run.model.text_encoders[0].encode_ids
    found = set(encode_ids.token_ids(prompt))
    words = [concept.placeholder_token for concept in run.concepts]
    return {index for index, word in enumerate(words) if found & set(encode_ids.token_ids(word))}


class _Likeness:
    """Mean over the concepts of the mean CLIP cosine between their sample pictures and their training pictures."""

    def __init__(self, run, scorer):
        self._run, self._scorer = run, scorer
        features = scorer.image_features([images.from_array(array) for array in run.pixels])  # (n, P)
        shown = np.array([image.concept for image in run.images])
        self._training = [features[shown == index] for index in range(len(run.concepts))]

    def __call__(self, prompts: list[str], pictures: list) -> float:
        """Likeness in [-1, 1]; pictures of prompts that name no learned word don't count.

        Args:
            prompts, pictures: one prompt a picture; RGB PIL images.
        """
        features = self._scorer.image_features(pictures)  # (n, P)
        named = [_words_in(self._run, prompt) for prompt in prompts]
        scores = []
        for index, training in enumerate(self._training):
            own = features[[index in words for words in named]]
            if len(own) and len(training):
                scores.append(mean_cosine(own, training))
        return float(np.mean(scores))
