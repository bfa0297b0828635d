"""From the values of every setting to a plan: their product, or draws from it.

Sample i of a random plan is a function of the seed and of i alone (see `data.random_streams`), so that the first ten of
twenty samples are the ten of ten. Each axis has a random number of its own, so that what one axis holds does not change
the draws from the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from textual_inversion.data.alternatives import MOST as MOST_COUNTED
from textual_inversion.data.alternatives import Template, parsed, tidied
from textual_inversion.data.random_streams import Purpose, generator
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.generation.plan import Plan, axes_of
from textual_inversion.generation.prompt_file import PromptLine
from textual_inversion.generation.request import ImageRequest
from textual_inversion.settings.ranges import ends_of, values_in
from textual_inversion.system.errors import SettingsError

UNCONFIRMED, MOST_IMAGES = 100_000, 1_000_000
_SEEDS = 2**64
# The settings whose axes are independent of each other, in the order of nesting; each has a number in a random sample.
_INDEPENDENT = ("scheduler", "guidance_scale", "num_inference_steps", "eta")
_DRAWN = ("prompt", *_INDEPENDENT, "size", "seed", "negative_prompt")


@dataclass(frozen=True)
class _Entry:
    """A prompt with alternatives, and the values of every setting for it.

    Attributes:
        values: name of each of `_INDEPENDENT` -> its values, those of ranges included.
        ends: name -> the lowest and the highest value, where any number between them may be drawn.
        sizes: (height, width), each of which may be None.
        seeds: of the first image of each series of seeds.
        series: the number of seeds that count up from each.
    """

    prompt: Template
    negative_prompts: tuple[Template, ...]
    values: Mapping[str, Sequence[Any]]
    ends: Mapping[str, tuple[Any, Any]]
    sizes: Sequence[tuple[int | None, int | None]]
    seeds: Sequence[int]
    series: int

    @property
    def count(self) -> int:
        """The number of images, at most `MOST_COUNTED`, where every combination is drawn."""
        several = [self.prompt.count, min(MOST_COUNTED, sum(one.count for one in self.negative_prompts))]
        several += [len(values) for values in self.values.values()]
        return min(MOST_COUNTED, prod([*several, len(self.sizes), len(self.seeds), self.series]))

    def seed(self, index: int) -> int:
        """Seed number `index` of all series together."""
        return (self.seeds[index // self.series] + index % self.series) % _SEEDS


def product_plan(
    lines: Sequence[PromptLine],
    axes: Mapping[str, Sequence[Any] | None],
    num_images: int,
    columns: Mapping[str, Sequence[ConceptFile]] | None = None,
    *,
    allows_many: bool = False,
) -> Plan:
    """Every combination of the values.

    Args:
        lines: the prompts; their own settings come before those of `axes`.
        axes: values and `Range`s of "negative_prompt", "scheduler", "guidance_scale", "num_inference_steps", "eta" and
            "seed"; of "size" as (width, height), or of "height" and "width"; None or none for what is unset.
        num_images: the number of seeds that count up from each seed.
        columns: see `Plan`; every image is drawn with each of them.
        allows_many: there may be more than `UNCONFIRMED` images.

    Raises:
        SettingsError: a prompt cannot be read, or there are too many images. They are counted before any is planned.
    """
    entries = [_entry(line, axes, num_images) for line in lines]
    count = sum(entry.count for entry in entries) * max(1, len(columns or ()))
    refuse_too_many(count, allows_many, "draw some of them with --random_samples N")
    requests = list(dict.fromkeys(one for entry in entries for one in _requests(entry, list(columns or [""]))))
    return Plan(requests, axes_of(requests), columns or {})


def random_plan(
    lines: Sequence[PromptLine],
    axes: Mapping[str, Sequence[Any] | None],
    num_samples: int,
    num_images: int | None = None,
    columns: Mapping[str, Sequence[ConceptFile]] | None = None,
    *,
    allows_many: bool = False,
) -> Plan:
    """Combinations drawn at random, decided by the first seed of `axes`.

    Each line is drawn equally often, with one of its alternatives, and each axis gives one of its values. Where a range
    was given for a number, it gives any number between the lowest and the highest value. The images' seeds are drawn
    from the seeds that are given; of a single seed without `num_images` they count up, so that no two are equal.

    Args:
        num_samples: the number of combinations.
        num_images: the number of seeds that count up from each seed; None: see above.
        lines, axes, columns, allows_many: see `product_plan`.

    Raises:
        SettingsError: as `product_plan`.
    """
    refuse_too_many(num_samples * max(1, len(columns or ())), allows_many, "choose a smaller --random_samples")
    seeds = values_in(axes["seed"] or ())
    counts_up = len(seeds) == 1 and num_images is None
    entries = [_entry(line, axes, num_images or 1) for line in lines]
    own_seeds = ["seed" in line.settings for line in lines]
    requests = []
    for index in range(num_samples):
        source = generator(seeds[0], Purpose.GRID_SAMPLE, index=index)
        shares = dict(zip(_DRAWN, source.random(len(_DRAWN)), strict=True))
        which = int(shares["prompt"] * len(entries))
        seed = (seeds[0] + index) % _SEEDS if counts_up and not own_seeds[which] else None
        requests += _sampled(entries[which], shares, source, seed, list(columns or [""]))
    return Plan(requests, axes_of(requests, rising=True), columns or {}, is_random=True)


def _entry(line: PromptLine, axes: Mapping[str, Sequence[Any] | None], series: int) -> _Entry:
    own = {**axes, **line.settings}
    given = {name: own.get(name) or (None,) for name in _INDEPENDENT}
    where = line.location if "negative_prompt" in line.settings else "--negative_prompt"
    return _Entry(
        prompt=Template((line.text,)) if line.is_literal else parsed(line.text, line.location),
        negative_prompts=tuple(parsed(text, where) for text in own.get("negative_prompt") or ("",)),
        values={name: values_in(items) for name, items in given.items()},
        ends={name: ends for name, items in given.items() if (ends := ends_of(items)) is not None},
        sizes=_sizes(axes, line.settings),
        seeds=values_in(own["seed"] or ()),
        series=series,
    )


def _sizes(
    axes: Mapping[str, Sequence[Any] | None], own: Mapping[str, Sequence[Any]]
) -> list[tuple[int | None, int | None]]:
    """(height, width) for a line: its own ones; a side that it leaves open is that of all lines."""
    if given := own.get("size") or ("height" not in own and "width" not in own and axes.get("size")):
        return [(height, width) for width, height in values_in(given)]
    if axes.get("size"):
        common = [(height, width) for width, height in values_in(axes["size"] or ())]
    else:
        common = list(product(*(values_in(axes.get(side) or (None,)) for side in ("height", "width"))))
    sides = [
        (values_in(own.get("height") or (height,)), values_in(own.get("width") or (width,))) for height, width in common
    ]
    return list(dict.fromkeys(size for heights, widths in sides for size in product(heights, widths)))


def refuse_too_many(count: int, allows_many: bool, way_out: str) -> None:
    """Refuse more images than one run may draw, or than the user has confirmed; raises SettingsError."""
    shown = f"{count:,}" if count < MOST_COUNTED else "more than 10^18"
    if count > MOST_IMAGES:
        raise SettingsError(f"these settings ask for {shown} images; one run draws at most {MOST_IMAGES:,}: {way_out}")
    if count > UNCONFIRMED and not allows_many:
        raise SettingsError(f"these settings ask for {shown} images; confirm them with --yes, or {way_out}")


def _requests(entry: _Entry, columns: Sequence[str]) -> Iterator[ImageRequest]:
    """Every combination of an entry's values."""
    negatives = list(dict.fromkeys(tidied(text, one) for one in entry.negative_prompts for text in one.texts()))
    seeds = list(dict.fromkeys(map(entry.seed, range(len(entry.seeds) * entry.series))))
    for prompt in dict.fromkeys(tidied(text, entry.prompt) for text in entry.prompt.texts()):
        for negative, *values, (height, width), seed, label in product(
            negatives, *entry.values.values(), entry.sizes, seeds, columns
        ):
            settings = dict(zip(_INDEPENDENT, values, strict=True))
            yield ImageRequest(prompt, seed, negative, height=height, width=width, embeds=label, **settings)


def _sampled(
    entry: _Entry, shares: Mapping[str, float], source: Any, seed: int | None, columns: Sequence[str]
) -> Iterator[ImageRequest]:
    """One combination, in each column.

    Args:
        shares: a random number in [0, 1) for each axis.
        source: the generator of the alternatives.
        seed: None: one of the entry's.
    """
    settings = {
        name: _between(*entry.ends[name], shares[name]) if name in entry.ends else _one_of(values, shares[name])
        for name, values in entry.values.items()
    }
    height, width = _one_of(entry.sizes, shares["size"])
    if seed is None:
        seed = entry.seed(int(shares["seed"] * len(entry.seeds) * entry.series))
    negative = _one_of(entry.negative_prompts, shares["negative_prompt"])
    prompt, avoided = (tidied(one.drawn(source), one) for one in (entry.prompt, negative))
    for label in columns:
        yield ImageRequest(prompt, seed, avoided, height=height, width=width, embeds=label, **settings)


def _one_of(values: Sequence[Any], share: float) -> Any:
    return values[int(share * len(values))]


def _between(low: Any, high: Any, share: float) -> Any:
    """A number between two others: a whole one between whole ones, else one of four digits."""
    if isinstance(low, int):
        return low + int(share * (high - low + 1))
    return min(high, max(low, float(f"{low + share * (high - low):.4g}")))
