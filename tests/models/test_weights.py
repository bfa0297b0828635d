"""Weights: both layouts, every spelling of a name, and nothing missing, misshapen or surplus is let through."""

import json
import re
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn
from safetensors.numpy import load_file, save_file

from textual_inversion.models import weights
from textual_inversion.models.weight_files import (
    DIFFUSION_FILES,
    ENCODER_FILES,
    StoredState,
    WeightFile,
    candidates,
    read_state,
    write_weights,
)
from textual_inversion.models.weights import build_unset, file_layout, is_as_ppdiffusers_loads_it, load_weights
from textual_inversion.system.errors import BaseModelError


class Part(nn.Layer):
    """A linear layer, an embedding, a convolution, a norm, a saved and an unsaved buffer."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(3, 5)
        self.table = nn.Embedding(4, 6)
        self.conv = nn.Conv2D(2, 3, 1)
        self.norm = nn.LayerNorm(4)
        self.register_buffer("scale", paddle.ones([1]))
        self.register_buffer("position_ids", paddle.arange(4), persistable=False)


class Attention(nn.Layer):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(4, 4) for _ in range(3))
        self.to_out = nn.LayerList([nn.Linear(4, 4)])


class Holder(nn.Layer):
    def __init__(self, name, layer):
        super().__init__()
        self.add_sublayer(name, layer)


def drawn(module, seed=0):
    generator = np.random.default_rng(seed)
    return {name: generator.standard_normal(t.shape).astype(np.float32) for name, t in module.state_dict().items()}


def torch_like(state):
    return {name: (array.T if name in ("proj.weight",) else array) for name, array in state.items()}


def assert_holds(module, state):
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), state[name])


@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_every_parameter_and_saved_buffer_is_set(layout):
    module, state = build_unset(Part), drawn(Part())

    load_weights(module, state if layout == "ppdiffusers" else torch_like(state), layout=layout, source="here")

    assert_holds(module, state)
    assert module.position_ids.tolist() == [0, 1, 2, 3]
    assert module.proj(paddle.ones([1, 3])).shape == [1, 5]


def test_an_unset_layer_has_no_random_weights():
    module = build_unset(Part)

    assert not any(parameter._is_initialized() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["proj.weight", "norm.bias", "scale"])
def test_a_missing_tensor_is_named(name):
    state = drawn(Part())
    del state[name]

    with pytest.raises(BaseModelError, match=f"here lacks the tensor {name}"):
        load_weights(build_unset(Part), state, layout="ppdiffusers", source="here")


def test_a_misshapen_tensor_is_named_with_both_shapes():
    state = drawn(Part()) | {"table.weight": np.zeros((7, 6), np.float32)}

    with pytest.raises(BaseModelError, match=r"table.weight with shape \[7, 6\].*\[4, 6\]"):
        load_weights(build_unset(Part), state, layout="ppdiffusers", source="here")


def test_a_layout_taken_for_the_other_is_refused_and_not_reshaped():
    with pytest.raises(BaseModelError, match="proj.weight"):
        load_weights(build_unset(Part), torch_like(drawn(Part())), layout="ppdiffusers")


def test_a_surplus_tensor_is_named_and_harmless_ones_are_not():
    state = drawn(Part())
    harmless = {"embeddings.position_ids": np.arange(4), "model_ema.decay": np.zeros(1, np.float32)}
    load_weights(build_unset(Part), state | harmless, layout="ppdiffusers")

    with pytest.raises(BaseModelError, match="the tensor lora.down"):
        load_weights(build_unset(Part), state | {"lora.down": np.zeros(2)}, layout="ppdiffusers")


def test_a_tensor_held_twice_is_refused():
    module = Holder("text_model", nn.Linear(2, 2))
    state = drawn(module)

    with pytest.raises(BaseModelError, match="text_model.weight twice"):
        load_weights(module, state | {"weight": state["text_model.weight"]}, layout="ppdiffusers")


@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
@pytest.mark.parametrize("as_convolution", [False, True])
def test_older_attention_names_and_shapes_load(layout, as_convolution):
    module = Holder("attention", Attention())
    state = drawn(module)
    stored = {}
    for name, array in state.items():
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f"attention.{new}.", f"attention.{old}.")
        if array.ndim == 2 and (layout == "diffusers" or as_convolution):
            array = array.T
        stored[name] = array[:, :, None, None] if array.ndim == 2 and as_convolution else array

    load_weights(module, stored, layout=layout)

    assert_holds(module, state)


@pytest.mark.parametrize("prefix", ["text_model", "vision_model"])
def test_names_without_the_outer_prefix_load(prefix):
    module = Holder(prefix, Part())
    state = drawn(module)

    load_weights(
        module, {name.removeprefix(f"{prefix}."): array for name, array in state.items()}, layout="ppdiffusers"
    )

    assert_holds(module, state)


def test_older_paddle_names_of_a_text_encoder_load():
    from ppdiffusers.transformers import CLIPTextConfig, CLIPTextModel

    config = dict(vocab_size=9, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2)
    module = CLIPTextModel(CLIPTextConfig(**config))
    state = drawn(module)
    older = {}
    for name, array in state.items():
        for new, old in (
            ("embeddings.token_embedding", "token_embedding"),
            ("embeddings.position_embedding", "positional_embedding"),
            ("encoder.layers", "transformer.layers"),
            ("mlp.fc1", "linear1"),
            ("mlp.fc2", "linear2"),
            ("layer_norm", "norm"),
            ("final_norm", "ln_final"),
            ("final_layer_norm", "ln_final"),
        ):
            name = name.replace(new, old)
        older[name] = array
    assert "text_model.transformer.layers.1.linear2.weight" in older and "text_model.ln_final.bias" in older

    load_weights(module, older, layout="ppdiffusers")

    assert_holds(module, state)


# ------------------------------------------------------------------------------------------------------------ files


def stored(folder, state, name="model.safetensors", form="pd"):
    folder.mkdir(exist_ok=True)
    save_file(state, folder / name, metadata={"format": form} if form else None)
    return folder / name


@pytest.mark.parametrize("form, layout", [("pd", "ppdiffusers"), ("np", "ppdiffusers"), ("pt", "diffusers")])
def test_a_file_says_its_layout_whatever_its_name(tmp_path, form, layout):
    state = drawn(Part())
    chosen = torch_like(state) if layout == "diffusers" else state
    for name in ("diffusion_paddle_model.safetensors", "diffusion_pytorch_model.safetensors"):
        folder = tmp_path / name
        stored(folder, {key: np.ascontiguousarray(array) for key, array in chosen.items()}, name, form)
        module = build_unset(Part)

        assert load_weights(module, read_state(folder, DIFFUSION_FILES)) == layout
        assert_holds(module, state)


@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
def test_a_silent_file_shows_its_layout_by_its_shapes(tmp_path, layout):
    state = drawn(Part())
    chosen = torch_like(state) if layout == "diffusers" else state
    stored(tmp_path, {key: np.ascontiguousarray(array) for key, array in chosen.items()}, form=None)

    assert file_layout(Part(), read_state(tmp_path, ENCODER_FILES)) == layout


def test_a_silent_file_whose_shapes_say_nothing_is_refused(tmp_path):
    module = Holder("layer", nn.Linear(4, 4))
    stored(tmp_path, drawn(module), form=None)

    with pytest.raises(BaseModelError, match="does not say which layout"):
        load_weights(module, read_state(tmp_path, ENCODER_FILES))


def test_half_precision_is_cast_to_float32(tmp_path):
    state = {name: array.astype(np.float16) for name, array in drawn(Part()).items()}
    stored(tmp_path, state, "model.fp16.safetensors")
    module = build_unset(Part)

    load_weights(module, read_state(tmp_path, ENCODER_FILES))

    assert all(parameter.dtype == paddle.float32 for parameter in module.parameters())
    assert_holds(module, {name: array.astype(np.float32) for name, array in state.items()})


def test_bfloat16_is_read_exactly(tmp_path):
    values = np.array([[1.0, -2.5], [0.15625, 3e38]], np.float32)
    upper_halves = (values.view(np.uint32) >> 16).astype("<u2")
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "f.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + upper_halves.tobytes())

    array = WeightFile(tmp_path / "f.safetensors")["w"]

    np.testing.assert_array_equal(array, (upper_halves.astype(np.uint32) << 16).view(np.float32))


def test_pickled_weights_are_read_by_the_allow_list(tmp_path):
    state = drawn(Part())
    paddle.save(
        {name: paddle.to_tensor(array) for name, array in state.items()}, str(tmp_path / "model_state.pdparams")
    )
    module = build_unset(Part)

    assert load_weights(module, read_state(tmp_path, DIFFUSION_FILES)) == "ppdiffusers"
    assert_holds(module, state)


def test_a_pickle_that_runs_something_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("harm",)

    import pickle

    (tmp_path / "model_state.pdparams").write_bytes(pickle.dumps({"w": Evil()}))

    with pytest.raises(BaseModelError, match="model_state.pdparams"):
        read_state(tmp_path, DIFFUSION_FILES)


def test_the_best_file_is_taken():
    order = [name for name, _ in candidates(ENCODER_FILES, "ema")]

    expected = [
        "model.ema.safetensors",
        "model.safetensors",
        "model_state.pdparams",
        "pytorch_model.bin",
        "model.fp16.safetensors",
    ]
    assert [name for name in order if name in expected] == expected
    assert "model.safetensors.index.fp16.json" in order and "model.safetensors.index.json" in order


def test_parts_of_a_cut_model_are_put_together(tmp_path):
    state = drawn(Part())
    names = sorted(state)
    for number in (1, 2):
        stored(tmp_path, {name: state[name] for name in names[number - 1 :: 2]}, f"part-{number}.safetensors")
    index = {"weight_map": {name: f"part-{position % 2 + 1}.safetensors" for position, name in enumerate(names)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    module = build_unset(Part)

    load_weights(module, read_state(tmp_path, ENCODER_FILES))
    assert_holds(module, state)

    (tmp_path / "part-2.safetensors").unlink()
    with pytest.raises(BaseModelError, match="part-2.safetensors.*missing"):
        read_state(tmp_path, ENCODER_FILES)


@pytest.mark.parametrize("kept", [0, 5, 60, 300, -1])
def test_a_cut_off_file_is_named(tmp_path, kept):
    path = stored(tmp_path, drawn(Part()))
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(BaseModelError, match="model.safetensors: .*download or copy it again"):
        load_weights(build_unset(Part), read_state(tmp_path, ENCODER_FILES))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 8000]},
        {"dtype": "F32", "shape": [2]},
        {"dtype": "F32", "shape": "x", "data_offsets": [0, 8]},
        [1],
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, entry):
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "f.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))

    with pytest.raises(BaseModelError, match="f.safetensors: .*download or copy it again"):
        WeightFile(tmp_path / "f.safetensors")["w"]


def test_a_git_lfs_pointer_and_an_empty_folder_are_explained(tmp_path):
    with pytest.raises(BaseModelError, match="holds no weights; it should hold one of model.safetensors"):
        read_state(tmp_path, ENCODER_FILES)
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(BaseModelError, match="git lfs pull"):
        read_state(tmp_path, ENCODER_FILES)


def test_written_safetensors_are_what_the_library_reads(tmp_path):
    tensors = {"a": paddle.arange(6, dtype="float32").reshape([2, 3]), "b": np.ones([2, 1], np.float32)}

    write_weights(tmp_path / "f.safetensors", tensors, {"format": "np"})

    read = load_file(tmp_path / "f.safetensors")
    np.testing.assert_array_equal(read["a"], tensors["a"].numpy())
    np.testing.assert_array_equal(read["b"], tensors["b"])
    assert WeightFile(tmp_path / "f.safetensors").metadata == {"format": "np"}


def test_only_files_with_the_models_own_names_can_be_linked(tmp_path):
    state = drawn(Part())
    stored(tmp_path / "same", state)
    stored(tmp_path / "more", state | {"position_ids": np.arange(4)})

    same, more = (read_state(tmp_path / name, ENCODER_FILES) for name in ("same", "more"))

    assert is_as_ppdiffusers_loads_it(Part(), same, renames_attention=False)
    assert not is_as_ppdiffusers_loads_it(Part(), more, renames_attention=False)


def resident_of(path) -> int | None:
    """Bytes of a mapped file that are in this process's memory; None where it is not mapped."""
    sizes, current = [], None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            current = line
        elif line.startswith("Rss:") and str(path) in current:
            sizes.append(1024 * int(line.split()[1]))
    return sum(sizes) if sizes else None


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux")
@pytest.mark.parametrize("name", ["model_state.pdparams", "model.safetensors"])
def test_a_file_is_in_memory_one_tensor_at_a_time_and_not_at_all_afterwards(tmp_path, monkeypatch, name):
    megabyte = 1 << 20
    module = nn.LayerList([nn.Linear(512, 512, bias_attr=False) for _ in range(16)])  # of a megabyte each
    tensors = {name: np.full(target.shape, 0.5, np.float32) for name, target in module.state_dict().items()}
    path = tmp_path / name
    if name.endswith(".safetensors"):
        save_file(tensors, path)
    else:
        paddle.save({name: paddle.to_tensor(array) for name, array in tensors.items()}, str(path))
    seen, usual = [], weights._oriented
    monkeypatch.setattr(
        weights,
        "_oriented",
        lambda stored, *a: (float(stored.sum()), seen.append(resident_of(path)), usual(stored, *a))[2],
    )

    load_weights(module, StoredState(path, [path]), layout="ppdiffusers")

    assert resident_of(path) is None
    assert all(float(layer.weight.min()) == 0.5 for layer in module)
    if name.endswith(".safetensors"):
        assert seen == [None] * 16  # read, not mapped
    else:
        assert len(seen) == 16 and megabyte / 2 < max(seen) < 4 * megabyte


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_weights_that_are_not_finite_are_refused(value, dtype):
    state = {name: array.astype(dtype) for name, array in drawn(Part()).items()}
    state["table.weight"][1, 2] = value

    with pytest.raises(BaseModelError, match=r"the model holds NaN or infinite values in table.weight.*; download"):
        load_weights(Part(), state, layout="ppdiffusers")


def test_large_weights_are_finite_though_their_sum_is_not():
    state = drawn(Part())
    state["table.weight"][:] = 3e38

    load_weights(Part(), state, layout="ppdiffusers")
