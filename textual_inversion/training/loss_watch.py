"""The loss on the fixed set while a run trains: measured, logged, printed, and asked whether it has settled."""

from collections.abc import Callable

from textual_inversion.system.tracking import Tracker
from textual_inversion.training.fixed_set import FixedSet
from textual_inversion.training.settling import Settling
from textual_inversion.training.state import Record


class LossWatch:
    """Measures the loss on the fixed set every so often, and keeps in the run's figures what it was.

    Figures are `fixed_set_loss`, step -> loss, and `fixed_set_bands`, part of the schedule -> [first, latest].

    Args:
        record: the run's.
        tracker: logs the curves.
        write: prints a line.
        settling: None: the run does not end when the loss has settled.

    Attributes:
        has_settled: whether the loss had stopped falling at the latest look.
    """

    def __init__(
        self,
        fixed_set: FixedSet,
        record: Record,
        tracker: Tracker,
        write: Callable[[str], None],
        settling: Settling | None,
    ):
        self._fixed_set, self._record, self._tracker, self._write = fixed_set, record, tracker, write
        self._settling, self.has_settled = settling, False

    def look(self, step: int) -> float:
        """The loss after a step, measured; step 0 is before any training."""
        each = self._fixed_set.losses()  # (samples,)
        value, figures = float(each.mean()), self._record.figures
        losses = figures.setdefault("fixed_set_loss", {})
        losses[str(step)] = value
        self._tracker.scalar("eval/fixed_set_loss", value, step)
        for band, loss in self._fixed_set.by_band(each).items():
            self._tracker.scalar(f"eval/fixed_set_loss_{band}", loss, step)
            first, *_ = figures.setdefault("fixed_set_bands", {}).get(band, [loss])
            figures["fixed_set_bands"][band] = [first, loss]
        first = next(iter(losses.values()))
        change = "" if len(losses) == 1 or not first else f" ({100 * (value / first - 1):+.1f} %)"
        self._write(f"step {step}: loss on the fixed set {value:.4f}{change}")
        self.has_settled = self._settling is not None and self._settling.see(step, each)
        return value
