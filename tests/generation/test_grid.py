"""From the values of every setting to a plan."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from helpers.paths import ROOT
from textual_inversion.generation.grid import MOST_IMAGES, product_plan, random_plan
from textual_inversion.generation.plan import Axis
from textual_inversion.generation.prompt_file import PromptLine
from textual_inversion.settings.ranges import Range
from textual_inversion.system.errors import SettingsError

UNSET = dict.fromkeys(("negative_prompt", "scheduler", "eta", "size", "height", "width"))
PLAIN = UNSET | {"guidance_scale": (3.0,), "num_inference_steps": (10,), "seed": (5,), "eta": (0.0,)}


def lines(*texts):
    return [PromptLine(text) for text in texts]


def grid(*texts, num_images=1, columns=None, **axes):
    return product_plan(lines(*texts), PLAIN | axes, num_images, columns)


def rows(plan, *names):
    return [tuple(getattr(one, name) for name in names) for one in plan.requests]


def test_every_axis_is_crossed_with_every_other_the_prompt_slowest_and_the_columns_fastest():
    axes = {
        "negative_prompt": ("", "blurry"),
        "scheduler": ("ddim", "euler"),
        "guidance_scale": (1.0, 3.0),
        "num_inference_steps": (Range("10:20:2", (10, 20)),),
        "eta": (0.0, 0.5),
        "height": (64, 128),
        "width": (64, 128),
    }

    plan = grid("a", "b", num_images=2, columns={"x": (), "y": ()}, **axes)

    names = ["prompt", "negative_prompt", "scheduler", "guidance_scale", "num_inference_steps", "eta", "height",
             "width", "seed", "embeds"]  # fmt: skip
    values = [("a", "b"), ("", "blurry"), ("ddim", "euler"), (1.0, 3.0), (10, 20), (0.0, 0.5), (64, 128), (64, 128),
              (5, 6), ("x", "y")]  # fmt: skip
    assert rows(plan, *names) == list(itertools.product(*values))
    assert [axis.name for axis in plan.axes] == names
    assert plan.axes[2].values == ("DDIMScheduler", "EulerDiscreteScheduler") and not plan.is_random


def test_every_seed_starts_a_series_and_no_image_is_drawn_twice():
    assert rows(grid("a", num_images=2, seed=(5, Range("", (10, 20)))), "seed") == [
        (5,),
        (6,),
        (10,),
        (11,),
        (20,),
        (21,),
    ]
    assert rows(grid("a", num_images=3, seed=(1, 2)), "seed") == [(1,), (2,), (3,), (4,)]
    assert rows(grid("a", num_images=2, seed=(2**64 - 1,)), "seed") == [(2**64 - 1,), (0,)]
    assert len(grid("a", "a", "{a|a}", guidance_scale=(3.0, 3.0)).requests) == 1


def test_alternatives_are_values_of_the_axis():
    plan = grid("a {red|blue} toy", "b", negative_prompt=("{x|y}",))

    assert rows(plan, "prompt", "negative_prompt") == list(
        itertools.product(["a red toy", "a blue toy", "b"], ["x", "y"])
    )
    shown = product_plan([PromptLine("a {b}", is_literal=True)], PLAIN, 1)
    assert rows(shown, "prompt") == [("a {b}",)]


def test_sizes_go_together_or_cross():
    assert rows(grid("a", size=((64, 32), (32, 64))), "height", "width") == [(32, 64), (64, 32)]
    assert rows(grid("a", height=(32, 64)), "height", "width") == [(32, None), (64, None)]


def test_a_lines_own_settings_come_before_those_of_all_lines():
    own = [
        PromptLine("a", "1", {"guidance_scale": (7.0,), "seed": (1, 2), "negative_prompt": ("{no|nothing}",)}),
        PromptLine("b", "2", {"width": (128,)}),
        PromptLine("c", "3", {"size": ((8, 16),), "num_inference_steps": (Range("1:2:2", (1, 2)),)}),
    ]

    plan = product_plan(own, PLAIN | {"size": ((64, 64), (32, 32))}, 1)

    wanted = ("prompt", "negative_prompt", "guidance_scale", "num_inference_steps", "height", "width", "seed")
    assert rows(plan, *wanted) == [
        *(("a", no, 7.0, 10, side, side, s) for no in ("no", "nothing") for side in (64, 32) for s in (1, 2)),
        *(("b", "", 3.0, 10, side, 128, 5) for side in (64, 32)),
        *(("c", "", 3.0, steps, 16, 8, 5) for steps in (1, 2)),
    ]


# ------------------------------------------------------------------------------------------------------ random samples

AXES = PLAIN | {
    "guidance_scale": (Range("1:9:2", (1.0, 9.0)),),
    "num_inference_steps": (Range("5:8:2", (5, 8)),),
    "scheduler": ("ddim", "euler", "dpm++"),
    "eta": (0.0, 0.5),
}


def test_fewer_samples_are_the_beginning_of_more_and_another_seed_gives_others():
    texts = lines("a {red|blue|green} toy", "b {2$$x|y|z}")

    few, many = (random_plan(texts, AXES, count).requests for count in (10, 20))

    assert few == many[:10] and len(set(many)) == 20
    assert random_plan(texts, AXES | {"seed": (6,)}, 10).requests != few
    assert random_plan(texts, AXES, 10).is_random


def test_samples_lie_between_the_ends_of_ranges_and_among_the_values_of_lists():
    plan = random_plan(lines("a", "b"), AXES, 2000)

    guidance = np.array([one.guidance_scale for one in plan.requests])
    assert 1 <= guidance.min() < 1.05 and 8.95 < guidance.max() <= 9 and abs(guidance.mean() - 5) < 0.2
    counts = np.unique([one.num_inference_steps for one in plan.requests], return_counts=True)
    assert counts[0].tolist() == [5, 6, 7, 8] and counts[1].min() > 400
    assert {one.eta for one in plan.requests} == {0.0, 0.5}
    for name, each in (("scheduler", 600), ("prompt", 900)):
        assert min(np.unique([getattr(one, name) for one in plan.requests], return_counts=True)[1]) > each
    numbers = next(axis for axis in plan.axes if axis.name == "guidance_scale").values
    assert list(numbers) == sorted(numbers)


def test_what_one_axis_holds_does_not_change_the_draws_from_another():
    names = ("prompt", "guidance_scale", "num_inference_steps", "seed", "eta")
    before = rows(random_plan(lines("a", "b"), AXES, 50), *names)

    more = AXES | {"scheduler": ("lms",), "height": (64, 128), "negative_prompt": ("{x|y}",)}

    assert rows(random_plan(lines("a", "b"), more, 50), *names) == before


def test_seeds_of_samples_count_up_unless_several_are_given():
    assert rows(random_plan(lines("a"), PLAIN, 3), "seed") == [(5,), (6,), (7,)]
    several = rows(random_plan(lines("a"), PLAIN | {"seed": (5, 100)}, 200, 2), "seed")
    assert {seed for (seed,) in several} == {5, 6, 100, 101}
    assert set(rows(random_plan(lines("a"), PLAIN, 50, 2), "seed")) == {(5,), (6,)}
    own = [PromptLine("a", "1", {"seed": (9,)})]
    assert rows(random_plan(own, PLAIN, 3), "seed") == [(9,)] * 3


def test_every_sample_is_drawn_in_every_column():
    plan = random_plan(lines("a {x|y}"), AXES, 3, None, {"one": (), "two": ()})

    alone = random_plan(lines("a {x|y}"), AXES, 3)
    assert rows(plan, "embeds") == [("one",), ("two",)] * 3
    for column in range(2):
        assert (
            rows(alone, "prompt", "seed", "guidance_scale") == rows(plan, "prompt", "seed", "guidance_scale")[column::2]
        )


# ---------------------------------------------------------------------------------------------------------------- size


@pytest.mark.parametrize(
    ("axes", "count", "allows_many", "message"),
    [
        ({"seed": (Range("", tuple(range(25_001))),)}, 4, False, "ask for 100,004 images; confirm them with --yes"),
        ({"seed": (Range("", tuple(range(10**6))),)}, 65_536, True, "65,536,000,000 images; one run draws at most"),
    ],
)
def test_too_many_images_are_counted_and_not_planned(axes, count, allows_many, message):
    with pytest.raises(SettingsError, match=message):
        product_plan(lines("a"), PLAIN | axes, count, allows_many=allows_many)


def test_a_billion_alternatives_are_refused_or_drawn_from():
    huge = lines("{a|b}" * 60)

    with pytest.raises(SettingsError, match=r"more than 10\^18 images; one run draws at most 1,000,000"):
        product_plan(huge, PLAIN, 1, allows_many=True)
    with pytest.raises(SettingsError, match="100,002 images; confirm them with --yes, or choose a smaller"):
        random_plan(huge, PLAIN, 50_001, columns={"a": (), "b": ()})
    assert len({one.prompt for one in random_plan(huge, PLAIN, 20).requests}) == 20


def test_what_is_confirmed_is_planned():
    assert MOST_IMAGES > 100_001
    seeds = {"seed": (Range("", tuple(range(100_001))),)}

    assert product_plan(lines("a"), PLAIN | seeds, 1, allows_many=True).axes[0] == Axis("seed", tuple(range(100_001)))


def test_planning_needs_no_paddle():
    code = "import sys; import textual_inversion.generation.grid; print('paddle' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stdout.strip() == "False"
