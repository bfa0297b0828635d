"""How long a training step takes, against the least it could take and against other programs.

    python benchmarks/step_time.py
    python benchmarks/step_time.py --peer PADDLE_EXAMPLE.py --torch_python PYTHON --torch_peer TORCH_EXAMPLE.py

Measured in turn, round after round, each in its own process:

- the floor: text encoder and U-Net, forward, and backward to the new vectors, and nothing else (`floor.py`). It is
  measured between the steps of our own run: with its modules, and with ppdiffusers' own layer norms and attention put
  back. The second cannot be used for training: on a CPU its layer norms give a wrong gradient.
- our step: the real command; a step lasts from the end of one `Callbacks.after_step` to the end of the next.
- `--peer`: a script that takes the flags of the ppdiffusers example, in its own default environment and then with the
  environment variables of our run.
- `--torch_python`: an interpreter with torch and diffusers for the floor in PyTorch, in float32 (`torch_floor.py`);
  `--torch_peer`: a script for it that takes the flags of the diffusers example.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import full_size_model, peer, runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import natural, positive_int  # noqa: E402
from textual_inversion.system.errors import SettingsError, run_command  # noqa: E402

OURS, FLOOR, PLAIN = "our step", "floor, with our modules", "floor, ppdiffusers' modules as they are"
PEER_DEFAULT, PEER_EQUAL = "{}, its default environment", "{}, our environment variables"
TORCH_FLOOR, TORCH_PEER = "floor, torch", "{}, torch"


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="step_time.py", description="Time a training step against its floor and others.")
    flag = parser.add_argument
    flag("--size", choices=full_size_model.SIZES, default="full", help="base model")
    flag("--resolution", type=positive_int, default=256, help="pixels")
    flag("--batch_size", type=positive_int, default=1)
    flag("--steps", type=positive_int, default=5, help="steps that count, in each run")
    flag("--warm_up", type=natural, default=1, help="steps before them")
    flag("--rounds", type=positive_int, default=3, help="runs of each kind, in turns")
    flag("--num_threads", type=positive_int, help="of our run and the floors; unset: all cores")
    flag("--flags", default="", help="more of the training command, as --flags='--low_memory'")
    flag("--peer", type=Path, action="append", default=[], metavar="PATH", help="a script for this interpreter")
    flag("--torch_python", "--torch-python", metavar="PYTHON", help="an interpreter with torch and diffusers")
    flag("--torch_peer", type=Path, action="append", default=[], metavar="PATH", help="a script for that interpreter")
    flag("--peer_flags", default="", help="more of the peers, as --peer_flags='--num_vectors 2'")
    flag("--peer_steps", type=positive_int, help="steps of the peers that count; unset: as many")
    flag("--peer_clock", choices=peer.CLOCKS, default="progress", help="how the peers' steps are timed")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    if args.torch_peer and not args.torch_python:
        raise SettingsError("--torch_peer needs an interpreter with torch; name it with --torch_python")
    for script in (*args.peer, *args.torch_peer):
        if not script.is_file():
            raise SettingsError(f"--peer {script}: there is no such file")
    times: dict[str, list[float]] = {}
    for number in range(args.rounds):
        for name, values in one_round(args):
            runs.say(f"round {number + 1}: {name}: {', '.join(map(tables.seconds, values))}")
            times.setdefault(name, []).extend(values)
    title = f"Step time, {args.size} size, {args.resolution}x{args.resolution}, batch {args.batch_size}"
    note = torch_note(args.work_dir / "torch_floor.json") if args.torch_python else ""
    print(tables.section(title, times_table(times), note, tables.targets_table(targets(times, args))))


def one_round(args) -> Iterator[tuple[str, list[float]]]:
    """(name, seconds of each step) of each thing that is measured, once."""
    model = full_size_model.cached(args.work_dir, args.size)
    pictures = runs.draw_images(args.work_dir / "pictures-512")
    record = ours(args, model, pictures)
    yield OURS, runs.step_seconds(record, args.warm_up)
    yield FLOOR, record["floor"][args.warm_up :]
    yield PLAIN, record["plain_floor"][args.warm_up :]
    equal = runs.default_environment() | record["environment"]
    for script in args.peer:
        for name, environment in ((PEER_DEFAULT, runs.default_environment()), (PEER_EQUAL, equal)):
            yield name.format(script.stem), peer_seconds(args, script, model, pictures, sys.executable, environment)
    if args.torch_python:
        yield TORCH_FLOOR, torch_floor(args, model)
    for script in args.torch_peer:
        torch_model = full_size_model.cached(args.work_dir, args.size, "diffusers")
        environment = runs.default_environment()
        seconds = peer_seconds(args, script, torch_model, pictures, args.torch_python, environment)
        yield TORCH_PEER.format(script.stem), seconds


def ours(args, model: Path, pictures: Path) -> dict:
    """The record of our own run, with a floor after each step."""
    arguments = runs.quiet_training(
        model,
        pictures,
        args.work_dir / "step-out",
        args.warm_up + args.steps,
        train_batch_size=args.batch_size,
        resolution=args.resolution,
        num_threads=args.num_threads,
    )
    instruments = ["--floor", "--only_training"]
    place = args.work_dir / "step"
    return runs.record([*arguments, *args.flags.split()], place, instruments=instruments)[0]


def torch_floor(args, model: Path) -> list[float]:
    """Seconds of each pass of the floor in PyTorch, which is a separate program."""
    record = args.work_dir / "torch_floor.json"
    words = {"record": record, "num_threads": args.num_threads}
    words |= {name: getattr(args, name) for name in ("resolution", "batch_size", "steps", "warm_up")}
    runs.run([args.torch_python, Path(__file__).with_name("torch_floor.py"), model, *runs.flags(words)])
    return json.loads(record.read_text())["floor"]


def peer_seconds(args, script: Path, model: Path, pictures: Path, python: str, environment: dict) -> list[float]:
    """Seconds of each step of a peer."""
    steps = args.warm_up + (args.peer_steps or args.steps)
    output = args.work_dir / f"peer-{script.stem}"
    save = {"save_steps": 1} if args.peer_clock == "files" else {}
    words = peer.arguments(
        model, pictures, output, steps, resolution=args.resolution, batch_size=args.batch_size, **save
    )
    found = peer.run_peer(
        script.resolve(),
        [*words, *args.peer_flags.split()],
        output=output,
        steps=steps,
        python=python,
        environment=environment | {"HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1")},
        clock=args.peer_clock,
    )
    return found.step_seconds(args.warm_up)


def torch_note(record: Path) -> str:
    """The versions with which the floor in PyTorch was measured."""
    found = json.loads(record.read_text())
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return f"PyTorch: {versions}, {found['threads']} threads, float32."


def times_table(times: dict[str, list[float]]) -> str:
    """Median seconds per step of everything measured, and the ratios to the floor and to our step."""
    base, step = tables.median(times.get(FLOOR, [])), tables.median(times.get(OURS, []))
    rows = [
        (
            name,
            tables.seconds(tables.median(values)),
            tables.spread(values),
            str(len(values)),
            tables.times(tables.ratio(tables.median(values), base)),
            tables.times(tables.ratio(tables.median(values), step)),
        )
        for name, values in times.items()
    ]
    head = ("", "per step, median", "quickest – slowest", "steps", "of the floor", "of our step")
    return tables.table(head, rows)


def targets(times: dict[str, list[float]], args) -> list[tables.Target]:
    """What the project wants of these figures."""
    step = tables.median(times[OURS])

    def against(name: str) -> float | None:
        return tables.ratio(tables.median(times.get(name, [])), step)

    found = [
        tables.Target("our step over the floor with our modules", 1 / against(FLOOR), 1.05),
        tables.Target("our step over the floor with ppdiffusers' modules", 1 / against(PLAIN), 1.05),
    ]
    for script in args.peer:
        for name, bound in ((PEER_DEFAULT, 6.0), (PEER_EQUAL, 2.0)):
            name = name.format(script.stem)
            found.append(tables.Target(f"{name}, over our step", against(name), bound, at_least=True))
    for script in args.torch_peer:
        name = TORCH_PEER.format(script.stem)
        found.append(tables.Target(f"{name}, over our step", against(name), 1.0, at_least=True))
    return found


if __name__ == "__main__":
    run_command(main)
