"""Learn every concept of a list: hundreds of trainings on one machine or many, small concepts together.

    python teach.py                                    the concepts of the demo
    python teach.py --concepts photos --pretrained_model_name_or_path MODEL …
    python teach.py --concepts list.csv --address auto
    python teach.py --resume taught                    go on after any interruption

Each run is an ordinary one in a folder of its own. Ray spreads runs over this machine, or over a cluster.
"""

from contextlib import ExitStack

from textual_inversion.cli.addresses import check_shared
from textual_inversion.cli.teach import Teach, build_parser, parse, prepared, write_record
from textual_inversion.system.errors import OutputError, run_command
from textual_inversion.system.paths import how_to_call, in_shell
from textual_inversion.system.progress import print_line, print_note
from textual_inversion.system.signals import Signals

__all__ = ["build_parser", "main"]


def main(argv: list[str] | None = None) -> None:
    """Run the command; `argv` without the program's name."""
    with Signals() as stop, ExitStack() as held:
        run(argv, stop, held)


def run(argv: list[str] | None, stop: Signals, held: ExitStack) -> None:
    """Learn the concepts, and write what was learned; raises OutputError in the end where none was."""
    from textual_inversion.cluster import pool, taught
    from textual_inversion.system import atomic
    from textual_inversion.system.output_folder import make_output_folder
    from textual_inversion.system.output_lock import locked

    words = parse(argv)
    pool.check_installed()
    teach = prepared(words)
    pool.check_address(teach.cluster.address)
    check_shared(teach.output, teach.cluster.address)
    for note in teach.notes:
        print_note(note)
    output = make_output_folder(str(teach.output))
    held.enter_context(locked(output))
    again = f"go on with {how_to_call('teach.py')} --resume {in_shell(output)}"
    stop.advice = f"before any concept was learned; {again}"
    teaching = _teaching(teach)
    if not teaching.is_done():
        room = pool.Room(teach.cluster.cpus_per_run, teach.cluster.gpus_per_run)
        with pool.opened(teach.cluster.address, room, output) as tasks:
            stop.install()  # Ray sets handlers of its own
            write_record(teach)
            atomic.make_folder(output / "runs")
            count, parallel = sum(len(group.lessons) for group in teach.groups), teach.cluster.parallel or tasks.size
            print_line(f"{count} concepts in {len(teach.groups)} runs in {output}, {parallel} at a time")
            stop.advice = f"while concepts were learned; {again}"
            teaching.run(tasks, parallel)
    left_out = [(one.token, one.reason) for one in teach.left_out]
    for line in taught.write(teaching, left_out, has_images=teach.draws):
        print_line(line, is_aligned=True)
    if all(known is None or known.status != "taught" for _, known in teaching.by_concept()):
        raise OutputError(f"no concept was learned; {output / taught.TABLE} says why")


def _teaching(teach: Teach):
    """The list under way."""
    from textual_inversion.cluster.teaching import Teaching
    from textual_inversion.data.templates import plain_template

    def prompt_of(one) -> str:
        return plain_template(one.learnable_property, teach.language).replace("{}", one.token)

    prompts = prompt_of if teach.draws else None
    failures = teach.cluster.max_failures
    return Teaching(teach.groups, teach.fixed, teach.output, teach.child, prompts, failures, print_line, teach.known)


if __name__ == "__main__":
    run_command(main)
