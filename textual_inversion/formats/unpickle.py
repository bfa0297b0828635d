"""An interpreter of pickle's opcodes that builds containers, and what its caller's builders build, but nothing else.

Python's own unpickler imports what a file names and then calls it. This one imports nothing and calls only the
`Builder` functions that it is given: any other name raises `RefusedFile`. The work is bounded:

    steps       opcodes, and items that a call goes over, are charged to a `Budget`
    memory      what an opcode declares must be in the file; byte strings are views of it, never copies
    memo        a dictionary, so a huge index costs nothing
    keys        text and small integers only: hashing nested tuples can take exponential time
    recursion   none, whatever the nesting

Opcodes: Python's `pickletools.py`; protocols 0 to 5.
"""

import codecs
import struct
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import BrokenFile, RefusedFile, near, printable

LONGEST_LINE = 1024  # bytes of a global's name or of a number in text form
LONGEST_INTEGER = 64  # bytes of a binary integer; storage keys of PyTorch take 8
_MARK = object()


@dataclass(frozen=True, eq=False)
class Builder:
    """Stands for an importable name: `build(*args)` makes an object of ours, `name` is what the file calls it."""

    name: str
    build: Callable[..., Any]


class Buildable:
    """Base class of objects that a BUILD opcode may complete."""

    def set_state(self, state: Any) -> None:
        """Take the state that the file holds for this object; raises EmbeddingFileError if it is not valid."""
        raise NotImplementedError


def interpret(
    data: memoryview,
    builders: Mapping[tuple[str, str], Builder],
    load_persistent: Callable[[Any], Any] | None = None,
    start: int = 0,
    budget: Budget | None = None,
) -> tuple[Any, int]:
    """Run the pickle that begins at byte `start` of `data`.

    Args:
        budget: of the whole reading; None: one for this pickle alone.

    Returns:
        The object, and the offset after its STOP opcode.

    Raises:
        RefusedFile: a global outside `builders`, a persistent id without `load_persistent`, an extension code, …
        BrokenFile: cut short or damaged.
        AsksTooMuch: more work than the budget allows.
    """
    machine = _Machine(data, builders, load_persistent, start, budget or Budget.of_weights(len(data)))
    with near(lambda: machine.position):
        return machine.run(), machine.position


def refuse_key(key: Any) -> Hashable:
    """The key, if it hashes in constant time and cannot be made to collide at will; raises RefusedFile for others."""
    if isinstance(key, str) or key is None or (isinstance(key, int) and -(2**31) <= key < 2**31):
        return key
    raise RefusedFile(f"uses a key of type {type(key).__name__}; embeddings and weights are named by text")


class _Machine:
    """The state of one reading: position in the file, stack, memo, steps."""

    def __init__(
        self,
        data: memoryview,
        builders: Mapping[tuple[str, str], Builder],
        load_persistent: Callable[[Any], Any] | None,
        start: int,
        budget: Budget,
    ):
        self.data = data
        self.position = start
        self.builders = builders
        self.load_persistent = load_persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.count = budget.spend_steps

    # ------------------------------------------------------------------------------------------------- reading

    def run(self) -> Any:
        while True:
            self.count(1)
            code = self.take(1)[0]
            if code == ord("."):
                return self.pop()
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise BrokenFile(f"byte {self.position - 1} (0x{code:02x}) is not a pickle opcode")
            operation(self)

    def take(self, size: int) -> memoryview:
        end = self.position + size
        if end > len(self.data):
            raise BrokenFile(f"cut short: byte {self.position} announces {size} bytes of a file of {len(self.data)}")
        self.position, begin = end, self.position
        return self.data[begin:end]

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        window = bytes(self.data[self.position : self.position + LONGEST_LINE])
        length = window.find(b"\n")
        if length < 0:
            raise BrokenFile(f"cut short: no end of line after byte {self.position}")
        self.position += length + 1
        return window[:length].decode("latin-1")

    def text(self, size: int) -> str:
        return str(self.take(size), "utf-8")

    # --------------------------------------------------------------------------------------------------- stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise BrokenFile(f"damaged near byte {self.position}: an operand is missing")
        return value

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if not isinstance(value, kind):
            raise BrokenFile(f"damaged near byte {self.position}: no {kind.__name__} to fill")
        return value

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise BrokenFile(f"damaged near byte {self.position}: no mark")

    def pop_tuple(self, size: int) -> tuple:
        return tuple(reversed([self.pop() for _ in range(size)]))

    # ------------------------------------------------------------------------------- names, calls, state

    def find(self, module: Any, name: Any) -> Builder:
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedFile("asks for a global whose name is not text")
        builder = self.builders.get((module, name))
        if builder is None:
            raise RefusedFile(f"asks for {printable(f'{module}.{name}')}, which could run any code")
        return builder

    def call(self, function: Any, args: Any) -> Any:
        if not isinstance(function, Builder) or not isinstance(args, tuple):
            raise RefusedFile(f"calls a {type(function).__name__}, which builds neither arrays nor containers")
        self.count(sum(len(arg) for arg in args if isinstance(arg, (list, tuple, dict))))
        return function.build(*args)

    def global_line(self) -> None:
        module = self.line()
        self.push(self.find(module, self.line()))

    def stack_global(self) -> None:
        module, name = self.pop_tuple(2)
        self.push(self.find(module, name))

    def reduce(self) -> None:
        function, args = self.pop_tuple(2)
        self.push(self.call(function, args))

    def new_object_with_keywords(self) -> None:
        function, args, keywords = self.pop_tuple(3)
        if keywords != {}:
            raise RefusedFile("passes keyword arguments to what it builds")
        self.push(self.call(function, args))

    def old_object(self) -> None:
        function, *args = self.pop_to_mark()
        self.push(self.call(function, tuple(args)))

    def instance(self) -> None:
        module = self.line()
        function = self.find(module, self.line())
        self.push(self.call(function, tuple(self.pop_to_mark())))

    def build(self) -> None:
        state = self.pop()
        target = self.stack[-1]
        if isinstance(target, Buildable):
            target.set_state(state)
        elif not isinstance(target, dict):  # an OrderedDict's attributes (`_metadata` of PyTorch) carry no values
            raise RefusedFile(f"sets the state of a {type(target).__name__}")

    def extension(self, form: str) -> None:
        raise RefusedFile(f"asks for code {self.number(form)} of Python's extension registry, which could run any code")

    def persistent(self, identity: Any) -> None:
        if self.load_persistent is None:
            raise RefusedFile("asks for an object from outside the file (a persistent id)")
        self.push(self.load_persistent(identity))

    def out_of_band(self) -> None:
        raise RefusedFile("asks for a buffer from outside the file")

    # ---------------------------------------------------------------------------------------------- containers

    def append(self) -> None:
        value = self.pop()
        self.top(list).append(value)

    def extend(self) -> None:
        values = self.pop_to_mark()
        self.top(list).extend(values)

    def set_item(self) -> None:
        key, value = self.pop_tuple(2)
        self.top(dict)[refuse_key(key)] = value

    def fill(self, values: list[Any], target: dict) -> dict:
        if len(values) % 2:
            raise BrokenFile(f"damaged near byte {self.position}: a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[refuse_key(key)] = value
        return target

    def set_items(self) -> None:
        values = self.pop_to_mark()
        self.fill(values, self.top(dict))

    def new_set(self, values: list[Any]) -> None:
        self.count(2)  # even an empty one takes the memory of three other objects
        self.push({refuse_key(value) for value in values})

    def add_items(self) -> None:
        values = self.pop_to_mark()
        self.top(set).update(refuse_key(value) for value in values)

    # ------------------------------------------------------------------------------------------------- scalars

    def integer_line(self) -> None:
        line = self.line()
        self.push(line == "01" if line in ("00", "01") else self.short_integer(line))

    def short_integer(self, line: str) -> int:
        if len(line) > LONGEST_INTEGER:
            raise BrokenFile(f"an integer of {len(line)} digits near byte {self.position}")
        return int(line.rstrip("L"))

    def long_integer(self, size: int) -> None:
        if not 0 <= size <= LONGEST_INTEGER:
            raise BrokenFile(f"an integer of {size} bytes near byte {self.position}")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def string_line(self) -> None:
        line = self.line()
        if len(line) < 2 or line[0] != line[-1] or line[0] not in "'\"":
            raise BrokenFile(f"damaged near byte {self.position}: a text without quotes")
        self.push(codecs.escape_decode(line[1:-1].encode("latin-1"))[0].decode("latin-1"))

    # ---------------------------------------------------------------------------------------------------- memo

    def put(self, index: int) -> None:
        if self.stack[-1] is _MARK:
            raise BrokenFile(f"damaged near byte {self.position}: nothing to remember")
        self.memo[index] = self.stack[-1]

    def frame(self) -> None:
        length = self.number("<Q")
        if length > len(self.data) - self.position:
            raise BrokenFile(f"cut short: a frame of {length} bytes where {len(self.data) - self.position} remain")

    def protocol(self) -> None:
        version = self.number("<B")
        if version > 5:
            raise BrokenFile(f"is a pickle of protocol {version}; 5 is the newest known")


_TABLE: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _Machine.protocol,
    b"\x95": _Machine.frame,
    # stack and memo
    b"(": lambda m: m.push(_MARK),
    b"0": lambda m: m.stack.pop(),
    b"1": lambda m: m.pop_to_mark(),
    b"2": lambda m: m.push(m.stack[-1]),
    b"p": lambda m: m.put(m.short_integer(m.line())),
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"g": lambda m: m.push(m.memo[m.short_integer(m.line())]),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    # scalars
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": _Machine.integer_line,
    b"L": lambda m: m.push(m.short_integer(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.long_integer(m.number("<B")),
    b"\x8b": lambda m: m.long_integer(m.number("<i")),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(m.number(">d")),
    # text and bytes; Python 2's byte strings are read as Latin-1, as paddle.load does
    b"S": _Machine.string_line,
    b"U": lambda m: m.push(str(m.take(m.number("<B")), "latin-1")),
    b"T": lambda m: m.push(str(m.take(m.number("<I")), "latin-1")),
    b"V": lambda m: m.push(codecs.raw_unicode_escape_decode(m.line().encode("latin-1"))[0]),
    b"\x8c": lambda m: m.push(m.text(m.number("<B"))),
    b"X": lambda m: m.push(m.text(m.number("<I"))),
    b"\x8d": lambda m: m.push(m.text(m.number("<Q"))),
    b"C": lambda m: m.push(m.take(m.number("<B"))),
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x97": _Machine.out_of_band,
    b"\x98": lambda m: None,
    # containers
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b")": lambda m: m.push(()),
    b"\x8f": lambda m: m.new_set([]),
    b"l": lambda m: m.push(m.pop_to_mark()),
    b"d": lambda m: m.push(m.fill(m.pop_to_mark(), {})),
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),
    b"\x91": lambda m: m.new_set(m.pop_to_mark()),
    b"\x85": lambda m: m.push(m.pop_tuple(1)),
    b"\x86": lambda m: m.push(m.pop_tuple(2)),
    b"\x87": lambda m: m.push(m.pop_tuple(3)),
    b"a": _Machine.append,
    b"e": _Machine.extend,
    b"s": _Machine.set_item,
    b"u": _Machine.set_items,
    b"\x90": _Machine.add_items,
    # names, calls, state
    b"c": _Machine.global_line,
    b"\x93": _Machine.stack_global,
    b"R": _Machine.reduce,
    b"\x81": _Machine.reduce,
    b"\x92": _Machine.new_object_with_keywords,
    b"o": _Machine.old_object,
    b"i": _Machine.instance,
    b"b": _Machine.build,
    b"P": lambda m: m.persistent(m.line()),
    b"Q": lambda m: m.persistent(m.pop()),
    b"\x82": lambda m: m.extension("<B"),
    b"\x83": lambda m: m.extension("<H"),
    b"\x84": lambda m: m.extension("<i"),
}
_OPERATIONS = {code[0]: operation for code, operation in _TABLE.items()}
