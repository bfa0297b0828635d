"""What processes exchange: bytes of all collective operations in each optimizer step of a real run.

    python benchmarks/traffic.py

Two processes train for a few steps; the tensors of every call into paddle's process groups are counted. For comparison,
the table shows the size of the gradient of the whole embedding table, which a data-parallel wrapper would exchange.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import full_size_model, runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="traffic.py", description="Count the bytes that processes exchange per step.")
    parser.add_argument("--size", choices=full_size_model.SIZES, default="table",
                        help="base model; table: the real embedding table and little else")  # fmt: skip
    parser.add_argument("--steps", type=positive_int, default=5)
    parser.add_argument("--processes", type=positive_int, default=2)
    parser.add_argument("--num_vectors", type=positive_int, nargs="+", default=[1, 8])
    runs.add_work_dir(parser.add_argument)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    rows, targets = [], []
    for vectors in args.num_vectors:
        figures = measure(args, vectors)
        rows.append(row(vectors, figures))
        targets.append(target(vectors, figures))
    head = (
        "vectors",
        "rows' gradient",
        "a step exchanges",
        "after a step",
        "before training",
        "whole table",
        "less by",
    )
    print(tables.section("Traffic", tables.table(head, rows), tables.targets_table(targets)))


def measure(args, vectors: int) -> dict[str, int]:
    """Bytes of a run with this number of vectors; see `figures_of`."""
    model = full_size_model.cached(args.work_dir, args.size)
    pictures = runs.draw_images(args.work_dir / "pictures", side=64)
    runs.say(f"traffic: {args.processes} processes, {vectors} vector(s), {args.steps} steps")
    arguments = runs.quiet_training(
        model, pictures, args.work_dir / "traffic-out", args.steps, num_vectors=vectors, num_threads=1
    )
    records = runs.record(
        arguments, args.work_dir / "traffic", processes=args.processes, instruments=["--traffic", "--only_training"]
    )
    return figures_of(records)


def figures_of(records: list[dict]) -> dict[str, int]:
    """The largest figures over the records of all processes.

    Returns:
        `rows`: bytes of the gradient of the new vectors; `table`: of the whole table with them; `step`: handed to
        collective operations in a step; `after`: between two steps; `before`: before the first.
    """
    rows = 4 * max(record["numbers"] for record in records)
    return {
        "rows": rows,
        "table": rows + max(record["full_table_bytes"] for record in records),
        "step": max(inside for record in records for inside, _ in record["bytes"]),
        "after": max(after for record in records for _, after in record["bytes"]),
        "before": max(record["bytes_before_training"] for record in records),
    }


def row(vectors: int, figures: dict[str, int]) -> tuple:
    """A line of the table."""
    shown = {name: tables.byte_count(value) for name, value in figures.items()}
    less = tables.times(tables.ratio(figures["table"], figures["step"]))
    order = ("rows", "step", "after", "before", "table")
    return (str(vectors), *(shown[name] for name in order), less)


def target(vectors: int, figures: dict[str, int]) -> tables.Target:
    """A step exchanges the gradient of the vectors, and no more than a few flags besides."""
    what = f"bytes per step, {vectors} vector(s), of the rows' gradient"
    return tables.Target(what, figures["step"] / figures["rows"], 1.01)


if __name__ == "__main__":
    run_command(main)
