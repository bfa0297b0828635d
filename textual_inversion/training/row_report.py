"""Where the learned rows have got to: how far from where they began, and how long beside the base model's own words.

The distance is the cosine distance 1 - cos(v, v0) of a row and its initial values: 0 for the same direction, 1 for a
right angle. A row much longer than any row of the table outweighs the other words of a prompt.
"""

from collections.abc import Mapping

import numpy as np

# Times the longest row of the table from which a norm is said to be far out.
FAR_OUT = 3.0
_MOST = 95  # per cent of the table's rows


def row_figures(concepts, start: Mapping, rows: Mapping, table_norms: Mapping) -> dict:
    """Figures of every concept's rows.

    Args:
        concepts: in the order of their rows.
        start, rows: text encoder -> float32 [N, D], the initial values and those of now.
        table_norms: text encoder -> float32 [V], the norms of the frozen table's rows.

    Returns:
        Placeholder -> text encoder -> "cosine_distance" from the start (None where a row is zero) and "norm", both
        lists with a value for each vector, and of the table's norms "table_mean", "table_95_percent", "table_largest".
    """
    figures, first = {}, 0
    for concept in concepts:
        part = slice(first, first := first + concept.num_vectors)
        figures[concept.placeholder_token] = {
            name: {
                "cosine_distance": _cosine_distances(start[name][part], rows[name][part]),
                "norm": [float(norm) for norm in _norms(rows[name][part])],
                "table_mean": float(np.mean(norms)),
                "table_95_percent": float(np.percentile(norms, _MOST)),
                "table_largest": float(np.max(norms)),
            }
            for name, norms in table_norms.items()
        }
    return figures


def row_lines(figures: Mapping) -> list[str]:
    """One line for each concept and text encoder, and another one where its rows are far out."""
    lines = []
    for word, encoders in figures.items():
        for name, one in encoders.items():
            of = f"{word} in {name}" if len(encoders) > 1 else word
            lines.append(
                f"{of}: cosine distance from the start {_span(one['cosine_distance'])}, norm {_span(one['norm'])}; "
                f"norms of the table: {one['table_mean']:.3g} on average, {_MOST} % up to "
                f"{one['table_95_percent']:.3g}, the largest {one['table_largest']:.3g}"
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


def _norms(rows) -> np.ndarray:
    return np.linalg.norm(np.asarray(rows, np.float64), axis=1)


def _cosine_distances(start, rows) -> list[float | None]:
    start, rows = np.asarray(start, np.float64), np.asarray(rows, np.float64)
    lengths = _norms(start) * _norms(rows)
    products = (start * rows).sum(axis=1)
    return [1 - float(p / length) if length > 0 else None for p, length in zip(products, lengths, strict=True)]
