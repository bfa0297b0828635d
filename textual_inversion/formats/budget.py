"""What one reading of a file may cost: bytes of values, names, parts and steps. Every reader spends from one budget.

A file of a few kilobytes can ask for any amount: the same tensor under thousands of names, the same list walked over
again and again. So whoever makes an array, takes a name, opens a part or walks over items says so here first, and what
is shared counts as often as it is copied. Beyond its budget a reading ends with `AsksTooMuch`.

    values     an embedding: four times the file, at most MOST_VALUES; weights: four times the file
    names      MOST_NAMES of MOST_LETTERS together (embeddings)
    parts      of an archive
    steps      opcodes of a pickle, and items that a call goes over
"""

from textual_inversion.formats.errors import AsksTooMuch

MOST_WHOLE = 48 << 20  # bytes of a file that is read as a whole: 4096 vectors of Stable Diffusion XL take 32 MiB
MOST_VALUES = 48 << 20  # bytes of values that an embedding file may become
MOST_NAMES = 4096  # of vectors
MOST_LETTERS = 1 << 20  # of all names together: 256 each, where a placeholder token has at most 200
LONGEST_HEADER = 1 << 20  # bytes of JSON before the values of an embedding: 4096 names take half of it
MOST_STEPS = 300_000  # a U-Net of 1700 tensors takes about 80,000
MOST_PARTS = 20_000
_SLACK = 1 << 20


class Budget:
    """What one reading may still spend.

    Args:
        values: bytes of values.
        names, letters: of vectors, together.
        checksums_up_to: bytes of the longest part of an archive that is read only to verify its checksum; None: all.
        longest_header: bytes of a safetensors header; None: as long as a model's may be.

    Attributes:
        checksums_up_to, longest_header: as given.
    """

    def __init__(
        self,
        values: int,
        *,
        names: int | None = None,
        letters: int = MOST_LETTERS,
        checksums_up_to: int | None = None,
        longest_header: int | None = None,
    ):
        self._values_limit, self._names_limit, self._letters_limit = values, names, letters
        self.longest_header = longest_header
        self._values, self._names, self._letters, self._steps, self._parts = 0, 0, 0, 0, 0
        self.checksums_up_to = checksums_up_to

    @classmethod
    def of_embedding(cls, file_size: int) -> "Budget":
        """The budget of a file of learned vectors, however large the file is."""
        values = min(4 * file_size + _SLACK, MOST_VALUES)
        return cls(values, names=MOST_NAMES, checksums_up_to=MOST_WHOLE, longest_header=LONGEST_HEADER)

    @classmethod
    def of_weights(cls, file_size: int) -> "Budget":
        """The budget of a file of a base model's weights."""
        return cls(4 * file_size + _SLACK)

    def spend_values(self, size: int) -> None:
        """Take `size` bytes of values; raises AsksTooMuch."""
        self._values += size
        if self._values > self._values_limit:
            shown = f"{self._values_limit / 1e6:.0f} MB"
            raise AsksTooMuch(f"asks for too much: more than {shown} of values from a file of its size")

    def spend_name(self, name: str) -> None:
        """Take the name of a vector; raises AsksTooMuch."""
        self._names, self._letters = self._names + 1, self._letters + len(name)
        if self._names_limit is not None and self._names > self._names_limit:
            raise AsksTooMuch(f"asks for too much: more than {self._names_limit} names of vectors")
        if self._names_limit is not None and self._letters > self._letters_limit:
            raise AsksTooMuch(f"asks for too much: names of more than {self._letters_limit} letters together")

    def spend_parts(self, parts: int) -> None:
        """Take parts of an archive; raises AsksTooMuch."""
        self._parts += parts
        if self._parts > MOST_PARTS:
            raise AsksTooMuch(f"asks for too much: it is a zip archive of more than {MOST_PARTS} parts")

    def spend_steps(self, steps: int) -> None:
        """Take opcodes, or items that a call goes over; raises AsksTooMuch."""
        self._steps += steps
        if self._steps > MOST_STEPS:
            raise AsksTooMuch(f"asks for too much: it takes more than {MOST_STEPS} steps to read")
