"""Run the benchmarks, each in its own process, and collect their output.

    python benchmarks/all.py                      all of them, into benchmarks/RESULTS.md
    python benchmarks/all.py memory traffic       only these; the other sections stay
    python benchmarks/all.py --quick              tiny models and few steps, to check that everything runs

This takes hours at full size. Nothing else should run on the machine.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine, runs  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.system import atomic  # noqa: E402
from textual_inversion.system.errors import SettingsError, run_command  # noqa: E402

RESULTS = Path(__file__).with_name("RESULTS.md")
HEAD = """# Results

Written by `python benchmarks/all.py`; what each part measures stands in [README.md](README.md). A ratio is of figures
that were taken in one run, in turns. Each section names its machine, versions and revision.
"""
# The recipe of most scripts, with as many steps as it needs, and that of the demo's defaults.
_PLAIN = (
    "plain:--learning_rate 0.005 --lr_scheduler constant --adam_weight_decay 0 --timestep_sampling uniform "
    "--antithetic_noise false --max_train_steps 200"
)
_DEMO = (
    "demo:--learning_rate 0.025 --lr_scheduler cosine --adam_weight_decay 1 --timestep_sampling stratified "
    "--antithetic_noise --max_train_steps 100"
)
# Part -> the arguments of each of its runs, at full size and for a quick look.
PARTS = {
    "start_up": (((),), (("--repeats", "1", "--part", "answers"),)),
    "step_time": (((),), (("--size", "tiny", "--resolution", "64", "--steps", "2", "--rounds", "1"),)),
    "memory": (((),), (("--size", "tiny", "--case", "64", "64+gradient_checkpointing"),)),
    "many_images": (((),), (("--images", "2", "6", "--megapixels", "0.2"),)),
    "generation": (
        ((), ("--size", "full", "--resolution", "256", "--pictures", "1", "--denoising_steps", "50")),
        (("--size", "tiny", "--pictures", "2", "--denoising_steps", "2", "--rounds", "1"),),
    ),
    "growth": (
        ((),),
        (("--images", "2", "4", "--concepts", "1", "3", "--vectors", "1", "2", "--global_batch", "2", "4")
         + ("--steps", "1"),),
    ),
    "traffic": (((),), (("--size", "tiny", "--steps", "2", "--num_vectors", "1"),)),
    "scaling": (((),), (("--steps", "2", "--timed_steps", "4", "--rounds", "1", "--timed_batch_size", "1"),)),
    "steps_to_quality": (
        (("--jobs", "2", "--variant", _PLAIN, _DEMO),),
        (("--seeds", "1", "--steps", "4", "--every", "2", "--concept", "cat", "--num_images", "2")
         + ("--num_inference_steps", "2"),),
    ),
    "negative_words": (
        (("--fault", "blurred", "colourless", "--steps", "40"),),
        (("--fault", "blurred", "--steps", "2", "--images", "2", "--num_images", "2", "--num_inference_steps", "2"),),
    ),
    "foresight": (((),), (("--rounds", "1", "--steps", "2", "--case", "without overview, 300 steps"),)),
    "settled": (
        ((),),
        (("--seeds", "1", "--steps", "6", "--every", "1", "--patience", "2", "--concept", "cat", "--num_images", "2")
         + ("--num_inference_steps", "2"),),
    ),
    "after": (
        ((),),
        (("--steps", "2", "--word_steps", "2", "--left_out_steps", "1", "--num_images", "2")
         + ("--num_inference_steps", "1"),),
    ),
    "grid": (
        ((),),
        (("--images", "8", "--steps", "2", "--planned", "40", "--left", "4", "--kills", "2", "--killed_images", "16"),),
    ),
    "teach": ((("--steps", "40"),), (("--concepts", "2", "--alone", "1", "--sizes", "2", "--steps", "2"),)),
    "sweep": (((),), (("--only_kills", "--kills", "1", "--trials", "2", "--steps", "2"),)),
    "kill_and_resume": (((),), (("--every", "40", "--random", "1"),)),
    "studio": (((),), (("--rounds", "1", "--steps", "20", "--pages", "2", "--denoising_steps", "2"),)),
    "fuzz_formats": (((),), (("--files", "200"),)),
    "attack_commands": ((("--number", "800"),), (("--number", "8"),)),
    "interop": (((),), ((),)),
    "gpu": (((),), ((),)),
}  # fmt: skip
# Parts that lie elsewhere, because tests hold a short form of them.
_IN_TESTS = machine.ROOT / "tests" / "helpers"
_ELSEWHERE = {"fuzz_formats": _IN_TESTS / "fuzz_formats.py", "attack_commands": _IN_TESTS / "attack_commands.py"}
# Which parts take which of the flags below.
_PEER_FLAGS = {
    "step_time": ("peer", "torch_python", "torch_peer"),
    "memory": ("peer",),
    "interop": ("torch_python", "invokeai", "sdkit"),
}


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="all.py", description="Run the benchmarks and collect what they print.")
    flag = parser.add_argument
    flag("part", nargs="*", help=f"any of {', '.join(PARTS)}; none: all of them")
    flag("--quick", action="store_true", help="tiny models and few steps; the figures mean nothing")
    flag("--output", type=Path, help="unset: benchmarks/RESULTS.md, with --quick quick.md in the work folder")
    flag("--peer", action="append", default=[], metavar="PATH", help="as in step_time.py")
    flag("--torch_python", "--torch-python", metavar="PYTHON", help="as in step_time.py")
    flag("--torch_peer", action="append", default=[], metavar="PATH", help="as in step_time.py")
    flag("--invokeai", metavar="FOLDER", help="as in interop.py")
    flag("--sdkit", metavar="FOLDER", help="as in interop.py")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; the status is 1 where a part failed."""
    args = build_parser().parse_args(argv)
    unknown = [name for name in args.part if name not in PARTS]
    if unknown:
        raise SettingsError(f"{unknown[0]} is no benchmark; take any of {', '.join(PARTS)}")
    output = args.output or (args.work_dir / "quick.md" if args.quick else RESULTS)
    failed = []
    for name in args.part or PARTS:
        section, is_good = run_part(name, args)
        if is_good or args.quick:  # figures that are there already are better than none
            output.parent.mkdir(parents=True, exist_ok=True)
            text = output.read_text(encoding="utf-8") if output.is_file() else HEAD
            atomic.write_text(output, with_section(text, name, section))
        failed += [] if is_good else [name]
    runs.say(f"results in {output}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run_part(name: str, args) -> tuple[str, bool]:
    """What a part prints, and whether it succeeded; its progress goes to stderr."""
    sections = []
    for words in commands(name, args):
        runs.say(f"=== {' '.join(words[1:])}")
        # Later parts would take the earlier ones' work for that of strangers.
        environment = runs.default_environment() | {machine.LOAD_VARIABLE: str(machine.LOAD)}
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, cwd=machine.ROOT)
        if done.returncode:
            runs.say(f"=== {name} ended with status {done.returncode}")
            return f"## {name}\n\nended with status {done.returncode}", False
        sections.append(done.stdout.strip())
    return "\n\n".join(sections), True


def script(name: str) -> Path:
    """The program of a part."""
    return _ELSEWHERE.get(name, Path(__file__).with_name(f"{name}.py"))


def commands(name: str, args) -> list[list[str]]:
    """The command lines of a part."""
    more = {flag: getattr(args, flag) for flag in _PEER_FLAGS.get(name, ())}
    words = [word for flag, value in more.items() for word in peer_words(flag, value)]
    if args.work_dir != runs.WORK:
        words += ["--work_dir", str(args.work_dir)]
    return [[sys.executable, str(script(name)), *own, *words] for own in PARTS[name][args.quick]]


def peer_words(flag: str, value: str | Sequence[str] | None) -> list[str]:
    """A flag once for each of its values."""
    values = [value] if isinstance(value, str) else value or []
    return [word for each in values for word in (f"--{flag}", each)]


def with_section(text: str, name: str, section: str, *, order: Iterable[str] = PARTS, head: str = HEAD) -> str:
    """The results with a part's section added or replaced; all sections are in the order given."""
    found = {part: body for part, body in re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", text, re.DOTALL)}
    found[name] = section
    bodies = [f"<!-- {part} -->\n{found[part]}\n<!-- /{part} -->" for part in order if part in found]
    return "\n\n".join([head.strip(), *bodies]) + "\n"


if __name__ == "__main__":
    run_command(main)
