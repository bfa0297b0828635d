"""What goes wrong while vectors are learned, and how to tell.

    unread_tokens        before the first step: placeholder tokens that no training prompt shows to a text encoder
    MovementCheck        in the first steps: vectors without a gradient, or with one too small to move them
    vector_figures       at the end: how far from the start the vectors are, and how long beside the table's rows
    way_out              what to try when loss or gradient are no longer finite

The distance from the start is the cosine distance 1 - cos(v, v0): 0 for the same direction, 1 for a right angle. A
vector much longer than any row of the table outweighs the other words of a prompt.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from textual_inversion.models.text_encoders import TextEncoder
from textual_inversion.settings.concept import Concept
from textual_inversion.training.state import ConceptVectors
from textual_inversion.training.step_guard import StepGuard

# Good steps of a concept after which its vectors are judged.
_ENOUGH = 5
# Times the longest row of the table from which a vector counts as far out.
FAR_OUT = 3.0
_MOST = 95  # per cent of the table's rows


def unread_tokens(text_encoders: Sequence[TextEncoder], tokens: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """A warning for each placeholder token that no training prompt shows to a text encoder.

    Args:
        text_encoders: whose prompt encoders know the tokens.
        tokens: the placeholder tokens.
        prompts: all training prompts.
    """
    warnings, absent = [], set()
    for encoder in text_encoders:
        encode_ids = encoder.encode_ids
        ids = [encode_ids.token_ids(prompt) for prompt in prompts]
        written, read = set().union(*ids), set().union(*map(encode_ids.read_ids, prompts))
        for token in tokens:
            own = set(encode_ids.token_ids(token))
            if not own & written:
                absent.add(token)
            elif not own & read:
                warnings.append(
                    f"warning: {encoder.name} never reads {token}: in every training prompt it stands behind the "
                    f"{encode_ids.room * encode_ids.num_chunks} tokens that are read; shorten them, or put it in front"
                )
    warnings += [
        f"warning: none of the {len(prompts)} training prompt(s) holds {token}, so it will learn nothing; write it "
        "into its captions, or ignore them with --no_captions"
        for token in sorted(absent)
    ]
    return warnings


class MovementCheck:
    """Judges every concept's vectors in every text encoder once, as soon as they have had a few good steps.

    Args:
        vectors: before the first step of this process.
        warm_up: steps in which the learning rate rises from 0; vectors that do not move meanwhile are judged after it.
        say: told what does not learn, and why that may be.
    """

    def __init__(self, vectors: ConceptVectors, warm_up: int, say: Callable[[str], None]):
        self._warm_up, self._say = warm_up, say
        self._several = len(vectors.embeddings) > 1
        names = [(token, encoder) for encoder in vectors.embeddings for token in vectors.tokens]
        # Index of a parameter -> placeholder token, text encoder, the parameter, and its values before.
        self._open = {
            index: (*name, parameter, parameter.numpy())
            for index, (name, parameter) in enumerate(zip(names, vectors.parameters, strict=True))
        }

    @property
    def done(self) -> bool:
        """Whether everything has been judged."""
        return not self._open

    def look(self, step: int, learning_rate: float, guard: StepGuard, *, is_last: bool = False) -> None:
        """Judge what can be judged after `step`, counted from 1; reads from the device until all is judged.

        Args:
            learning_rate: of this step.
            guard: has seen all steps so far.
            is_last: judge whatever had a good step at all.
        """
        if self.done:
            return
        guard.look()
        wanted = 1 if is_last else _ENOUGH
        ready = [index for index in self._open if guard.active_steps[index] - guard.skipped >= wanted]
        norms = guard.gradient_norms() if ready else []
        for index in ready:
            token, encoder, parameter, before = self._open[index]
            moved = not np.array_equal(parameter.numpy(), before)
            if norms[index] > 0 and not moved and step <= self._warm_up and not is_last:
                continue  # the learning rate still rises
            self._open.pop(index)
            of = f"{token} in {encoder}" if self._several else token
            if norms[index] == 0:
                self._say(f"warning: {of} had no gradient in {step} step(s), so it does not learn: {_why(norms)}")
            elif not moved:
                self._say(
                    f"warning: {of} has not moved after {step} step(s): a learning rate of {learning_rate:.1e} with a "
                    f"gradient of norm {norms[index]:.1e} is lost in float32's rounding; raise --learning_rate"
                )


def _why(norms: Sequence[float]) -> str:
    """The likely reason for a parameter without a gradient, from the gradients of all."""
    if not any(norms):
        return "the loss depends on no concept; look at the training prompts, captions and masks"
    return "no prompt shows it to that encoder, masks hide its images, or the model does not use the encoder"


def vector_figures(concepts: Sequence[Concept], initial: Mapping, now: Mapping, table_norms: Mapping) -> dict:
    """Figures of every concept's vectors.

    Args:
        concepts: in the order of their vectors.
        initial, now: text encoder -> float32 [N, D], the initial values and those of now.
        table_norms: text encoder -> float32 [V], the norms of the frozen table's rows.

    Returns:
        Placeholder token -> text encoder -> "cosine_distance" from the start (None where a vector is zero) and "norm",
        both lists with a value for each vector, and of the table's norms "table_mean", "table_95_percent",
        "table_largest".
    """
    figures, first = {}, 0
    of_tables = {name: _table_figures(norms) for name, norms in table_norms.items()}
    for concept in concepts:
        part = slice(first, first := first + concept.num_vectors)
        figures[concept.placeholder_token] = {
            name: {
                "cosine_distance": _cosine_distances(initial[name][part], now[name][part]),
                "norm": [float(norm) for norm in _norms(now[name][part])],
                **of_table,
            }
            for name, of_table in of_tables.items()
        }
    return figures


def _table_figures(norms: np.ndarray) -> dict[str, float]:
    """What is said of the norms [V] of a table's rows."""
    return {
        "table_mean": float(np.mean(norms)),
        "table_95_percent": float(np.percentile(norms, _MOST)),
        "table_largest": float(np.max(norms)),
    }


def vector_lines(figures: Mapping) -> list[str]:
    """One line for each concept and text encoder, and another one where its vectors are far out."""
    lines = []
    for token, encoders in figures.items():
        for name, one in encoders.items():
            of = f"{token} in {name}" if len(encoders) > 1 else token
            lines.append(
                f"{of}: cosine distance from the start {_span(one['cosine_distance'])}, norm {_span(one['norm'])}; "
                f"norms of the table: mean {one['table_mean']:.3g}, {_MOST} % up to {one['table_95_percent']:.3g}, "
                f"largest {one['table_largest']:.3g}"
            )
            times = max(one["norm"]) / one["table_largest"] if one["table_largest"] else 0.0
            if times > FAR_OUT:
                lines.append(
                    f"note: {of} is {times:.3g} times as long as the longest row of the table, so it may drown the "
                    "other words of a prompt; a lower --learning_rate, fewer steps or --norm_reg_weight keep it shorter"
                )
    return lines


def _span(values: list) -> str:
    """One value, or the smallest and the largest of several."""
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    low, high = min(known), max(known)
    return f"{low:.3g}" if len(known) == 1 else f"{low:.3g} to {high:.3g}"


def _norms(vectors) -> np.ndarray:
    return np.linalg.norm(np.asarray(vectors, np.float64), axis=1)


def _cosine_distances(initial, now) -> list[float | None]:
    initial, now = np.asarray(initial, np.float64), np.asarray(now, np.float64)
    lengths = _norms(initial) * _norms(now)
    products = (initial * now).sum(axis=1)
    return [1 - float(p / length) if length > 0 else None for p, length in zip(products, lengths, strict=True)]


def way_out(last_good: int, peak_learning_rate: float, max_grad_norm: float, variant: str | None) -> str:
    """What to try when loss or gradient are not finite.

    Args:
        last_good: the last good step, 0 for none.
        variant: of the base model's weights, such as "fp16".
    """
    if last_good == 0 and variant:
        return f"no step was good: try the base model's full precision, without --variant {variant}"
    ways = f"lower --learning_rate, now {peak_learning_rate:g}"
    if max_grad_norm <= 0:
        ways += ", or clip the gradient with --max_grad_norm 1"
    return f"{ways}; as no step was good, look at the base model and the images too" if last_good == 0 else ways
