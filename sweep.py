"""Search for the best settings of a training: many trials, each the training command with flags of its own.

    python sweep.py                                    a dozen trials of the demo
    python sweep.py --space space.yaml --train_data_dir DIR … --address auto
    python sweep.py --resume sweep                     go on after any interruption

A trial is an ordinary run in a folder of its own. Ray spreads trials over this machine, or over a cluster.
"""

from contextlib import ExitStack

from textual_inversion.cli.addresses import check_shared
from textual_inversion.cli.sweep import build_parser, parse, prepared, write_record
from textual_inversion.system.errors import run_command
from textual_inversion.system.paths import how_to_call, in_shell
from textual_inversion.system.progress import print_line
from textual_inversion.system.signals import Signals

__all__ = ["build_parser", "main"]


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    with Signals() as stop, ExitStack() as held:
        run(argv, stop, held)


def run(argv: list[str] | None, stop: Signals, held: ExitStack) -> None:
    """Search, and write what was found."""
    from dataclasses import replace

    from textual_inversion.cluster import pool, report
    from textual_inversion.cluster.search import Search
    from textual_inversion.system import atomic
    from textual_inversion.system.output_folder import make_output_folder
    from textual_inversion.system.output_lock import locked

    words = parse(argv)
    pool.check_installed()
    sweep = prepared(words)
    pool.check_address(sweep.cluster.address)
    check_shared(sweep.output, sweep.cluster.address)
    output = make_output_folder(str(sweep.output))
    held.enter_context(locked(output))
    again = f"go on with {how_to_call('sweep.py')} --resume {in_shell(output)}"
    stop.advice = f"before any trial began; {again}"
    search = Search(sweep.plan, output, sweep.child, print_line, sweep.trials)
    if not search.is_done():
        room = pool.Room(sweep.cluster.cpus_per_run, sweep.cluster.gpus_per_run)
        with pool.opened(sweep.cluster.address, room, output) as tasks:
            stop.install()  # Ray sets handlers of its own
            parallel = sweep.cluster.parallel or tasks.size
            search.plan = replace(sweep.plan, lag=sweep.plan.lag or parallel)
            write_record(sweep, search.plan.lag)
            atomic.make_folder(output / "trials")
            print_line(f"{sweep.plan.num_trials} trials by {sweep.plan.method} in {output}, {parallel} at a time")
            stop.advice = f"while trials ran; {again}"
            search.run(tasks, parallel)
    for line in report.write(search):
        print_line(line, is_aligned=True)


if __name__ == "__main__":
    run_command(main)
