"""Words that do not learn, found within the first steps and not after hours.

    unread_words     before the first step: words that stand in no training sentence, or behind all that is read
    MovementCheck    in the first steps: rows without a gradient, or with one too small to move them

Both name the likely reason.
"""

from collections.abc import Callable, Sequence

import numpy as np

# Good steps in which a word took part, after which its rows are judged.
_ENOUGH = 5


def unread_words(text_encoders, concepts, images) -> list[str]:
    """A warning for each word that no training sentence shows to a text encoder.

    Args:
        text_encoders: the base model's `text_encoders.TextEncoder`s, their prompt encoders knowing the words.
        concepts: the new words.
        images: `sampler.TrainingImage`s.
    """
    sentences = list(dict.fromkeys(prompt for image in images for prompt in image.prompts))
    warnings, absent = [], set()
    for encoder in text_encoders:
        encode_ids = encoder.encode_ids
        ids = [encode_ids.token_ids(sentence) for sentence in sentences]
        written, read = set().union(*ids), set().union(*(one[: encode_ids.room] for one in ids))
        for word in (concept.placeholder_token for concept in concepts):
            own = set(encode_ids.token_ids(word))
            if not own & written:
                absent.add(word)
            elif not own & read:
                warnings.append(
                    f"warning: {encoder.name} never reads {word}: in every training sentence it stands behind the "
                    f"{encode_ids.room} tokens that are read; shorten them, or put the word in front"
                )
    warnings += [
        f"warning: {word} stands in none of the {len(sentences)} training sentence(s), so it will learn nothing; write "
        "it into its captions, or ignore them with --no_captions"
        for word in sorted(absent)
    ]
    return warnings


class MovementCheck:
    """Judges every word's rows in every text encoder once, as soon as they have had a few good steps.

    Args:
        run: the command's `Run`.
        warm_up: steps in which the learning rate rises from 0; rows that rest meanwhile are judged after them.
        say: told what does not learn, and why that may be.
    """

    def __init__(self, run, warm_up: int, say: Callable[[str], None]):
        self._warm_up, self._say = warm_up, say
        self._several = len(run.embeddings) > 1
        names = [(concept.placeholder_token, name) for name in run.embeddings for concept in run.concepts]
        # Number of a parameter -> word, text encoder, rows, and what they were.
        self._open = {
            number: (*name, rows, rows.numpy())
            for number, (name, rows) in enumerate(zip(names, run.parameters, strict=True))
        }

    @property
    def done(self) -> bool:
        """Whether everything has been judged."""
        return not self._open

    def look(self, step: int, learning_rate: float, guard, *, is_last: bool = False) -> None:
        """Judge what can be judged after `step`, counted from 1; reads from the device until all is judged.

        Args:
            learning_rate: of this step.
            guard: the `step_guard.StepGuard` that has seen all steps so far.
            is_last: judge what had a good step at all.
        """
        if self.done:
            return
        guard.look()
        wanted = 1 if is_last else _ENOUGH
        ready = [number for number in self._open if guard.active_steps[number] - guard.skipped >= wanted]
        norms = guard.gradient_norms() if ready else []
        for number in ready:
            word, encoder, rows, before = self._open[number]
            moved = not np.array_equal(rows.numpy(), before)
            if norms[number] > 0 and not moved and step <= self._warm_up and not is_last:
                continue  # the learning rate is still on its way up
            self._open.pop(number)
            of = f"{word} in {encoder}" if self._several else word
            if norms[number] == 0:
                self._say(f"warning: {of} had no gradient in {step} step(s), so it does not learn: {_why(norms)}")
            elif not moved:
                self._say(
                    f"warning: {of} is after {step} step(s) what it was before: a learning rate of {learning_rate:.1e} "
                    f"with a gradient of norm {norms[number]:.1e} is lost in float32's rounding; raise --learning_rate"
                )


def _why(norms: Sequence[float]) -> str:
    """The likely reason for a parameter without a gradient, from the gradients of all."""
    if not any(norms):
        return "the loss depends on no new word; look at the training sentences, captions and masks"
    return "no sentence shows it to that encoder, masks hide its pictures, or the model does not use the encoder"
