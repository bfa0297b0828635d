"""Which vectors stand in a sample's prompt."""

import numpy as np
import pytest

from textual_inversion.data.vector_augmentation import VectorPlan, make_plan
from textual_inversion.settings.train_data import PromptSettings
from textual_inversion.system.errors import SettingsError


def draws(plan: VectorPlan, step: int = 0, count: int = 400) -> list[tuple[int, ...]]:
    return [plan(np.random.default_rng(i), step)["<t>"] for i in range(count)]


def test_by_default_nothing_varies():
    assert not VectorPlan({"<t>": 4}).varies
    assert not VectorPlan({"<t>": 1}, shuffle=True, dropout=0.5, progressive_steps=10).varies


def test_shuffling_keeps_all_vectors_and_visits_every_order():
    orders = draws(VectorPlan({"<t>": 3}, shuffle=True))

    assert {tuple(sorted(order)) for order in orders} == {(0, 1, 2)}
    assert len(set(orders)) == 6


def test_dropout_leaves_out_about_its_share_in_order_and_never_all():
    kept = draws(VectorPlan({"<t>": 4}, dropout=0.3))

    assert all(order == tuple(sorted(order)) and order for order in kept)
    assert abs(np.mean([len(order) for order in kept]) - 4 * 0.7) < 0.15
    assert min(map(len, draws(VectorPlan({"<t>": 2}, dropout=0.99)))) == 1


def test_vectors_come_in_one_by_one():
    plan = VectorPlan({"<t>": 4, "<u>": 1}, progressive_steps=9)

    counts = [len(plan(np.random.default_rng(0), step)["<t>"]) for step in range(12)]

    assert counts == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert plan(np.random.default_rng(0), 0)["<u>"] == (0,)


def test_the_same_generator_gives_the_same_choice():
    plan = VectorPlan({"<t>": 6}, shuffle=True, dropout=0.5)

    assert draws(plan) == draws(plan)


@pytest.mark.parametrize(
    ("counts", "settings", "reason"),
    [
        ({"<t>": 1}, {"vector_shuffle": True}, "--vector_shuffle has no effect on a concept of one vector"),
        ({"<t>": 1, "<u>": 1}, {"progressive_vectors": 3}, "--progressive_vectors has no effect"),
        ({"<t>": 1, "<u>": 2}, {"progressive_vectors": 10}, "ends after the run's 10 steps"),
        ({"<t>": 1}, {}, None),
        ({"<t>": 2}, {"progressive_vectors": 9, "token_dropout": 0.5}, None),
    ],
)
def test_a_plan_without_effect_or_end_is_refused(counts, settings, reason):
    prompts = PromptSettings(**settings)

    if reason is None:
        assert make_plan(prompts, counts, 10).varies is bool(settings)
        return
    with pytest.raises(SettingsError, match=reason):
        make_plan(prompts, counts, 10)
