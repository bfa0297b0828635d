"""What varies between the images of a run."""

from textual_inversion.generation.plan import SIZE, Axis, Plan, axes_of, value_of
from textual_inversion.generation.request import ImageRequest


def request(prompt="a", seed=1, **settings):
    return ImageRequest(prompt, seed, **settings)


def test_what_has_several_values_is_an_axis_in_order():
    requests = [request(p, s, guidance_scale=g) for p in "ba" for g in (5.0, 1.0) for s in (9, 3)]

    assert axes_of(requests) == (
        Axis("prompt", ("b", "a")),
        Axis("guidance_scale", (5.0, 1.0)),
        Axis("seed", (9, 3)),
    )
    assert axes_of(requests, rising=True)[1:] == (Axis("guidance_scale", (1.0, 5.0)), Axis("seed", (3, 9)))
    assert axes_of(requests[:1]) == () == axes_of([])


def test_height_and_width_are_axes_of_their_own_where_all_pairs_occur_and_else_one():
    pairs = [(64, 64), (64, 128), (128, 64), (128, 128)]
    both, squares = ([request(height=h, width=w, seed=s) for h, w in sizes for s in (1, 2)]
                     for sizes in (pairs, [pairs[0], pairs[3]]))  # fmt: skip

    assert [axis.name for axis in axes_of(both)] == ["height", "width", "seed"]
    assert axes_of(squares) == (Axis(SIZE, ("64x64", "128x128")), Axis("seed", (1, 2)))
    assert axes_of(both[:4]) == (Axis("width", (64, 128)), Axis("seed", (1, 2)))
    assert value_of(request(height=8, width=16), SIZE) == "16x8"


def test_schedulers_are_called_as_the_facts_call_them():
    requests = [request(scheduler=name) for name in (None, "euler-a")]

    (axis,) = axes_of(requests, "PNDMScheduler")

    assert axis == Axis("scheduler", ("PNDMScheduler", "EulerAncestralDiscreteScheduler"))


def test_a_settled_plan_has_the_models_sizes_and_equal_ones_are_one_value():
    plan = Plan([request(width=None), request(width=64), request(height=128)], axes_of([]))

    settled = plan.settled(lambda one: (one.height or 64, one.width or 64), "DDIMScheduler")

    assert [(one.height, one.width) for one in settled.requests] == [(64, 64), (64, 64), (128, 64)]
    assert settled.axes == (Axis("height", (64, 128)),)
