"""Runs that a signal ends after a step, for the tests of resuming."""

import os
import signal
from pathlib import Path

import pytest

import train_textual_inversion
from helpers.paths import ROOT
from textual_inversion.distributed.ranks import Ranks
from textual_inversion.system.errors import Stopped

# A program for the launcher: the training command, to which something happens in a step.
_DISTURBED = """
import os, signal, sys
sys.path.insert(0, {root!r})
import train_textual_inversion
from textual_inversion.system.errors import run_command

{words}
prepare = train_textual_inversion.prepare_environment

def prepared(*settings, **named):
    said = prepare(*settings, **named)
    from textual_inversion.distributed.ranks import Ranks
    mean, calls = Ranks.mean_gradients, []

    def told(self, *arguments):
        calls.append(1)
        if {when}:
            {act}
        return mean(self, *arguments)

    Ranks.mean_gradients = told
    return said

train_textual_inversion.prepare_environment = prepared
run_command(lambda: train_textual_inversion.main(argv))
"""


def stopped_rank() -> str:
    """A program that is told to end in a step, on one of its processes only: STEP and RANK stand before the flags."""
    return _DISTURBED.format(
        root=str(ROOT),
        words="steps, who, argv = int(sys.argv[1]), sys.argv[2], sys.argv[3:]",
        when='len(calls) == steps and os.environ["PADDLE_TRAINER_ID"] == who',
        act="os.kill(os.getpid(), signal.SIGTERM)",
    )


def killed_once(moment: Path) -> str:
    """A program whose process of rank 1 is killed in its fourth step, once; then there is a file `moment`."""
    return _DISTURBED.format(
        root=str(ROOT),
        words="argv = sys.argv[1:]",
        when=f'len(calls) == 4 and os.environ["PADDLE_TRAINER_ID"] == "1" and not os.path.exists({str(moment)!r})',
        act=f'open({str(moment)!r}, "w").close(); os.kill(os.getpid(), signal.SIGKILL)',
    )


def stopped_in(argv: list[str], step: int, number: int = signal.SIGTERM) -> Stopped:
    """Run the training command in this process and send it a signal during a step; returns what it raised."""
    mean, calls = Ranks.mean_gradients, []

    def told(self, *arguments):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), number)
        return mean(self, *arguments)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped) as caught:
        patch.setattr(Ranks, "mean_gradients", told)
        train_textual_inversion.main(argv)
    return caught.value


_OF_THIS_RUN = ("run.json", "report.html", "files.json")  # they name its folder


def results(out: Path) -> dict[str, bytes]:
    """The files that a run leaves besides its record, the page that shows it, its checkpoints and its log."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in _OF_THIS_RUN]
    kept = [path for path in files if path.relative_to(out).parts[0].split("-")[0] not in ("checkpoint", "logs")]
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}
