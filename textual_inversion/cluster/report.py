"""What a search shows of its trials: a table, a CSV file, a plot, a page, and the best embedding with its command."""

import html
import shlex
from collections.abc import Sequence

from textual_inversion.cluster import metrics
from textual_inversion.cluster.search import Search, Trial
from textual_inversion.cluster.space import Setting
from textual_inversion.cluster.tables import aligned, as_csv, figure
from textual_inversion.cluster.trial import embedding_name
from textual_inversion.embeddings import file_names
from textual_inversion.formats.embedding_file import read_embeddings, write_pdparams, write_safetensors
from textual_inversion.settings.choices import METRICS
from textual_inversion.system import atomic
from textual_inversion.system.paths import how_to_call
from textual_inversion.system.terminal_text import visible

TABLE, PLOT, PAGE, BEST = "trials.csv", "sweep.png", "report.html", "best"
_SHOWN = 20  # trials of the table that is printed
_TRAIN = "train_textual_inversion.py"


def best_trial(search: Search) -> int | None:
    """The trial whose embedding is taken: the best one; of several metrics, the best of the front in the first."""
    if len(search.plan.metrics) == 1:
        return search.ladder().best()
    front = search.front()
    good = {number: metrics.goodness(search.trials[number].last(), search.plan.metrics) for number in front}
    return min(front, key=lambda number: ([-value for value in good[number]], number), default=None)


def in_order(search: Search) -> list[Trial]:
    """The trials, those that came furthest first and the better ones of them first."""

    def key(one: Trial) -> tuple:
        good = metrics.goodness(one.last(), search.plan.metrics)
        return (-max(one.results, default=-1), [-value for value in good] if good else [float("inf")], one.number)

    return sorted(search.trials, key=key)


def write(search: Search) -> list[str]:
    """Write table, plot and page, and the best embedding.

    Returns:
        What is to be said, in lines.

    Raises:
        OutputError: something cannot be written.
    """
    folder, best = search.folder, best_trial(search)
    front = set(search.front()) if len(search.plan.metrics) > 1 else set()
    rows = _rows(search, front)
    atomic.write_text(folder / TABLE, as_csv(rows))
    lines = aligned(rows[: 1 + _SHOWN], without="folder")
    if len(rows) > 1 + _SHOWN:
        lines.append(f"… and {len(rows) - 1 - _SHOWN} more in {folder / TABLE}")
    formulas = [f"{name} = {METRICS[name][0]}" for name in search.plan.metrics]
    from textual_inversion.cluster.plot import plot_png

    picture = plot_png(search, best)
    atomic.write_bytes(folder / PLOT, picture)
    command = None if best is None else _command(search, best)
    atomic.write_text(folder / PAGE, _page(rows, formulas, command))
    if best is None:
        return [*lines, *formulas, f"no trial could be measured; {folder / TABLE} says why"]
    _copy_best(search, best)
    unbeaten = f"no trial beats these in all metrics: {', '.join(map(str, sorted(front)))}"
    return [
        *lines,
        *formulas,
        *([f"{unbeaten}; the best of them in the first metric is {best}"] if front else []),
        f"plot: {folder / PLOT}; page: {folder / PAGE}",
        f"the best is trial {best}; its embedding: {folder / BEST / file_names.FINAL_NAME}; to train it again:",
        f"    {command}",
    ]


def _rows(search: Search, front: set[int]) -> list[list[str]]:
    """The table: its head, then a row for each trial."""
    names = [axis.name for axis in search.plan.space]
    shown = [*search.plan.metrics, *(["steps"] if "steps" not in search.plan.metrics else [])]
    rows = [["trial", *names, *shown, "status", "folder"]]
    if front:
        rows[0].append("front")
    for one in in_order(search):
        figures = one.last()
        values = [figure(figures.get(name)) for name in shown]
        error = one.refused or (one.error if search.is_given_up(one) else None)
        status = search.status(one) + (f": {error}" if error else "")
        row = [str(one.number), *(_setting(one.parameters.get(name)) for name in names), *values, status]
        row.append(search.run_folder(one.number).relative_to(search.folder).as_posix())
        rows.append(row + ([("yes" if one.number in front else "")] if front else []))
    return rows


def _setting(value: Setting) -> str:
    return "" if value is None else " ".join(value) if isinstance(value, tuple) else value


def _command(search: Search, number: int) -> str:
    """The command line that trains a trial again, to the step at which it was measured."""
    return f"{how_to_call(_TRAIN)} {shlex.join(search.repeated_by(number))}"


def _copy_best(search: Search, number: int) -> None:
    """Write the embedding of a trial into the folder of the best."""
    one = search.trials[number]
    source = search.run_folder(number) / embedding_name(search.plan.labels[max(one.results)])
    learned = read_embeddings(source)
    folder = atomic.make_folder(search.folder / BEST)
    write_pdparams(folder / file_names.FINAL_NAME, learned)
    names = file_names.safetensors_names(file_names.FINAL, [concept.placeholder_token for concept in learned])
    for name, concept in zip(names, learned, strict=True):
        write_safetensors(folder / name, concept)


# ------------------------------------------------------------------------------------------------------------- page

_STYLE = (
    "body{font-family:sans-serif;margin:2rem;color:#26262a;background:#faf9f6}table{border-collapse:collapse}"
    "td,th{padding:.2rem .8rem;border-bottom:1px solid #dad8d2;text-align:left}img{max-width:100%}"
    "pre{background:#eee;padding:1rem;overflow:auto}"
)


def _page(rows: Sequence[Sequence[str]], formulas: Sequence[str], command: str | None) -> str:
    """The page: everything from outside is text in it, and it runs no script."""
    head, *body = [[html.escape(visible(cell)) for cell in row] for row in rows]
    table = "".join(f"<th>{cell}</th>" for cell in head)
    table += "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)
    best = "" if command is None else f"<h2>Best</h2><pre>{html.escape(visible(command))}</pre>"
    csp = "default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Search</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{csp}"><style>{_STYLE}</style></head><body>'
        f'<h1>Search</h1><p>{"<br>".join(map(html.escape, formulas))}</p><img src="{PLOT}" alt="trials">{best}'
        f"<h2>Trials</h2><table>{table}</table></body></html>\n"
    )
