"""The images of a plan, column by column."""

import numpy as np
import pytest

from helpers.tiny_models import build_model
from textual_inversion.embeddings.files import read_concept_files
from textual_inversion.formats.embedding_file import LearnedEmbedding, write_pdparams
from textual_inversion.generation.draw_plan import draw
from textual_inversion.generation.generate import batches, generate, total_steps
from textual_inversion.generation.grid import product_plan
from textual_inversion.generation.prompt_file import PromptLine
from textual_inversion.models.attach import attach_files
from textual_inversion.models.base_model import load_base_model


class Recorder:
    def __init__(self):
        self.steps = []

    def update(self, step, **figures):
        self.steps.append(step)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_base_model(build_model(tmp_path_factory.mktemp("base") / "sd1"))


def column(folder, seed, vectors):
    values = np.random.default_rng(seed).standard_normal((vectors, 32)).astype(np.float32)
    write_pdparams(folder / f"{seed}.pdparams", [LearnedEmbedding("<cat>", {"text_encoder": values})])
    return read_concept_files([folder / f"{seed}.pdparams"])


def planned(columns):
    axes = dict.fromkeys(("negative_prompt", "scheduler", "eta", "size", "height", "width"))
    axes |= {"guidance_scale": (1.0, 3.0), "num_inference_steps": (1, 2), "seed": (5,), "eta": (0.0,)}
    return product_plan([PromptLine("a <cat>"), PromptLine("a dog")], axes, 1, columns)


def test_each_column_is_drawn_with_its_own_files_and_the_same_prompts_and_seeds(tmp_path, model):
    columns = {"three": column(tmp_path, 1, 3), "one": column(tmp_path, 2, 1)}
    plan, progress = planned(columns), Recorder()
    chosen, pipeline = batches(plan.requests, 3), model.pipeline()

    found = dict(draw(model, plan, chosen[::-1], pipeline=pipeline, progress=progress))

    assert sorted(found) == list(range(len(plan.requests))) and len(found) == 16
    assert progress.steps == sorted(progress.steps) and progress.steps[-1] == total_steps(plan.requests)
    for label, files in columns.items():
        attach_files(model, files)
        positions = [i for i, one in enumerate(plan.requests) if one.embeds == label]
        alone = generate(model, [plan.requests[i] for i in positions], pipeline=pipeline, batch_size=3)
        for position, image in zip(positions, alone, strict=True):
            assert np.array_equal(found[position], image)
    other = {plan.requests[i].embeds: np.asarray(found[i]) for i in (2, 3)}
    assert not np.array_equal(*other.values()), "the columns hold different vectors"


def test_a_share_of_the_batches_gives_their_images_alone(tmp_path, model):
    plan = planned({"one": column(tmp_path, 2, 1), "two": column(tmp_path, 3, 1)})
    chosen, pipeline = batches(plan.requests, 3), model.pipeline()

    whole = dict(draw(model, plan, chosen, pipeline=pipeline))
    shares = [dict(draw(model, plan, chosen[rank::2], pipeline=pipeline)) for rank in range(2)]

    assert not shares[0].keys() & shares[1].keys()
    for position, image in (shares[0] | shares[1]).items():
        assert np.array_equal(whole[position], image)


def test_a_plan_without_columns_leaves_the_models_words(tmp_path, model):
    attach_files(model, column(tmp_path, 2, 1))
    plan = planned(None)

    found = dict(draw(model, plan, batches(plan.requests, 8), pipeline=model.pipeline()))

    assert len(found) == 8 and model.text_encoders[0].encode_ids.holds_placeholder("a <cat>")
