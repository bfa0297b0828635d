"""The mean of the last rows of a run (Polyak and Juditsky 1992; arXiv 1803.05407): late steps walk around a point."""

import paddle


class RowAverage:
    """Adds up the rows after each of the last steps, on the device, and puts their mean in their place at the end.

    Args:
        parameters: the rows, float32 [N, D] each.
        last: steps to average over; 0: none, the rows stay as the last step left them.
        steps: optimizer steps of the run.
    """

    def __init__(self, parameters: list, last: int, steps: int):
        self._parameters, self._last, self._steps = parameters, last, steps
        self._sums = [paddle.zeros(p.shape, dtype="float32") for p in parameters] if last else []

    @paddle.no_grad()
    def after_step(self, step: int) -> None:
        """See the rows after optimizer step `step`, counted from 1; after the last one they become the mean."""
        if not self._last or step <= self._steps - self._last:
            return
        self._sums = [total + parameter for total, parameter in zip(self._sums, self._parameters, strict=True)]
        if step == self._steps:
            for parameter, total in zip(self._parameters, self._sums, strict=True):
                paddle.assign(total / self._last, output=parameter)

    def state(self) -> dict:
        """What a resumed run must take over: a float32 tensor [N, D] a parameter, by names; {} where none is kept."""
        return {f"sum_{number}": total for number, total in enumerate(self._sums)}

    def restore(self, state: dict) -> None:
        """Go on from what `state` gave, as tensors or arrays, at the step that follows."""
        self._sums = [paddle.to_tensor(state[f"sum_{number}"]) for number in range(len(self._sums))]
