"""Half precision on a CPU, whose kernels know none: each operation is done in float32 and its result rounded.

As on a card, an operation that wants factors of one type refuses mixed ones, and elementwise operations promote them.
"""

from contextlib import contextmanager

import paddle
import ppdiffusers  # noqa: F401 - it tries half precision when it is imported, and shall find what is really there

LOW = (paddle.float16, paddle.bfloat16)
# Operations of paddle._C_ops that refuse mixed types on a card; the others promote.
STRICT = """matmul linear conv2d layer_norm group_norm baddbmm bmm embedding masked_fill concat stack""".split()
AS_THEY_ARE = ("cast", "assign", "detach", "share_data")
OPERATORS = """__add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __matmul__ __neg__ add subtract multiply
    divide matmul square mean sum""".split()


def _tensors(values):
    for value in values:
        if isinstance(value, paddle.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _cast(value, wanted, dtype):
    if isinstance(value, paddle.Tensor):
        return value.cast(dtype) if value.dtype in wanted else value
    return type(value)(_cast(one, wanted, dtype) for one in value) if isinstance(value, list | tuple) else value


def rounded(usual, *, strict: bool, seen: list, name: str):
    """An operation that takes float16 and bfloat16 too."""

    def run(*inputs, **options):
        values = [*inputs, *options.values()]
        types = {tensor.dtype for tensor in _tensors(values) if paddle.is_floating_point(tensor)}
        low = types & set(LOW)
        if not low:
            return usual(*inputs, **options)
        if strict and len(types) > 1:
            raise TypeError(f"{name} of {' and '.join(sorted(map(str, types)))}")
        seen.append(name)
        own = low.pop()
        output = usual(
            *_cast(inputs, LOW, "float32"), **{key: _cast(value, LOW, "float32") for key, value in options.items()}
        )
        return output if len(types) > 1 else _cast(output, (paddle.float32,), own)

    return run


@contextmanager
def half_precision_on_a_cpu(monkeypatch):
    """Let layers of float16 or bfloat16 be computed; gives a list of the operations that were."""
    seen = []
    with monkeypatch.context() as patch:
        for name, usual in list(vars(paddle._C_ops).items()):
            if callable(usual) and not name.startswith("_") and not name.endswith("_") and name not in AS_THEY_ARE:
                patch.setattr(paddle._C_ops, name, rounded(usual, strict=name in STRICT, seen=seen, name=name))
        for name in OPERATORS:
            usual = getattr(paddle.Tensor, name)
            patch.setattr(paddle.Tensor, name, rounded(usual, strict="matmul" in name, seen=seen, name=name))
        yield seen
