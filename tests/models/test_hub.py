"""Names of base models: folders, caches, downloads of the needed files only, and one sentence where nothing helps."""

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import requests
from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from helpers import local_aistudio
from helpers.tiny_models import build_model, tree
from textual_inversion.hub.hugging_face import SECONDS_TO_ANSWER
from textual_inversion.models import hub
from textual_inversion.system.errors import BaseModelError

NAME = "someone/tiny-diffusion"

# What a repository of Stable Diffusion on Hugging Face holds, in short.
REPOSITORY = """
.gitattributes README.md v1-5-pruned.ckpt v1-5-pruned.safetensors model_index.json
feature_extractor/preprocessor_config.json scheduler/scheduler_config.json
safety_checker/config.json safety_checker/model.safetensors safety_checker/model.fp16.safetensors
safety_checker/pytorch_model.bin text_encoder/config.json text_encoder/model.safetensors text_encoder/flax_model.msgpack
text_encoder/model.fp16.safetensors text_encoder/pytorch_model.bin tokenizer/merges.txt tokenizer/vocab.json
tokenizer/special_tokens_map.json tokenizer/tokenizer_config.json unet/config.json
unet/diffusion_pytorch_model.safetensors.index.json unet/diffusion_pytorch_model-00001-of-00002.safetensors
unet/diffusion_pytorch_model-00002-of-00002.safetensors unet/diffusion_pytorch_model.fp16.safetensors
unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors
unet/diffusion_pytorch_model.non_ema.bin unet/diffusion_pytorch_model.bin vae/config.json
vae/diffusion_pytorch_model.bin vae/diffusion_pytorch_model.fp16.safetensors vae_encoder/model.onnx
""".split()


@pytest.fixture(autouse=True)
def own_caches(tmp_path, monkeypatch):
    """Empty caches, the network allowed, and every way into it closed."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("PPNLP_HOME", str(tmp_path / "paddlenlp"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(requests, "head", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)


def unreachable(*_, **__):
    raise requests.ConnectionError("no network")


def answering(error):
    def answer(*_, **__):
        raise error

    return answer


def hugging_face(monkeypatch, folder: Path) -> list[dict]:
    """Let a folder be the repository `NAME` on Hugging Face; returns what is asked of it."""
    asked = []

    def model_info(self, name, **options):
        asked.append({"name": name, **options})
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in tree(folder)], sha="c0ffee")

    def snapshot_download(name, *, revision=None, cache_dir=None, local_files_only=False, allow_patterns=None, **_):
        target = Path(cache_dir or huggingface_hub.constants.HF_HUB_CACHE, name.replace("/", "--"), revision or "main")
        if local_files_only:
            if not target.is_dir():
                raise huggingface_hub.utils.LocalEntryNotFoundError("not here")
            return str(target)
        for file in allow_patterns:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, target / file)
        return str(target)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def store(monkeypatch, folder: Path, cut_after: int | None = None) -> list[str]:
    """Let a folder be the model `NAME` in ppdiffusers' store; returns the files that are fetched."""
    import ppdiffusers.utils

    fetched = []

    def download(name, file, *, cache_dir, **_):
        if not (folder / file).is_file() or (cut_after is not None and len(fetched) >= cut_after):
            raise OSError(f"no {file}")
        target = Path(cache_dir, name, file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, target)
        fetched.append(file)
        return str(target)

    monkeypatch.setattr(requests, "head", lambda url, timeout: SimpleNamespace(status_code=200 if NAME in url else 404))
    monkeypatch.setattr(ppdiffusers.utils, "bos_aistudio_hf_download", download)
    return fetched


def test_a_folder_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "model").mkdir(parents=True)

    assert hub.resolve("my/model") == Path("my/model")
    assert hub.resolve(tmp_path / "my") == tmp_path / "my"


@pytest.mark.parametrize("layout", ["ppdiffusers", "diffusers"])
@pytest.mark.parametrize("family", ["sd1", "sdxl", "taiyi", "alt", "ldm"])
def test_a_model_in_the_cache_of_ppdiffusers_needs_no_network(tmp_path, family, layout):
    folder = build_model(tmp_path / "paddlenlp" / "ppdiffusers" / NAME, family, layout, shards=2)

    assert hub.resolve(NAME) == folder


def test_a_model_in_the_cache_of_hugging_face_needs_no_network(tmp_path, monkeypatch):
    hugging_face(monkeypatch, build_model(tmp_path / "there", layout="diffusers"))
    first = hub.resolve(NAME)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)

    assert hub.resolve(NAME) == first


@pytest.mark.parametrize("gone", ["unet/diffusion_paddle_model.safetensors", "tokenizer", "scheduler", "vae"])
def test_a_half_filled_cache_is_not_taken(tmp_path, gone):
    folder = build_model(tmp_path / "paddlenlp" / "ppdiffusers" / NAME)
    path = folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()

    with pytest.raises(BaseModelError, match="the hub cannot be reached"):
        hub.resolve(NAME)


@pytest.mark.parametrize("family, gone", [("sdxl", "text_encoder_2"), ("sdxl", "tokenizer_2"), ("ldm", "bert")])
def test_a_cache_without_a_part_that_its_family_needs_is_not_taken(tmp_path, family, gone):
    shutil.rmtree(build_model(tmp_path / "paddlenlp" / "ppdiffusers" / NAME, family) / gone)

    with pytest.raises(BaseModelError, match="the hub cannot be reached"):
        hub.resolve(NAME)


def test_without_a_network_the_answer_is_one_sentence_within_seconds():
    start = time.monotonic()

    with pytest.raises(BaseModelError) as refusal:
        hub.resolve(NAME)

    assert str(refusal.value) == (
        f"the base model {NAME} is not on this machine, and the hub cannot be reached; give a local folder instead"
    )
    assert time.monotonic() - start < 10


def test_offline_mode_asks_nobody(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(requests, "head", answering(AssertionError("asked")))

    with pytest.raises(BaseModelError, match="HF_HUB_OFFLINE forbids"):
        hub.resolve(NAME)


@pytest.mark.parametrize("name", ["./nothing", "/no/where", "a/b/c", "~/nothing", "\n", "two words"])
def test_what_is_no_hub_name_is_a_missing_folder(name):
    with pytest.raises(BaseModelError, match="there is no folder"):
        hub.resolve(name)


def test_a_file_is_told_from_a_folder(tmp_path):
    for name, message in (
        ("model.ckpt", "is a file; give the folder"),
        ("model.safetensors", "is not a safetensors file, or is cut short"),
    ):
        (tmp_path / name).write_bytes(b"x")

        with pytest.raises(BaseModelError, match=message):
            hub.resolve(tmp_path / name)


def test_each_part_is_fetched_once_and_nothing_else():
    files = hub.needed_files(REPOSITORY)

    assert [name for name in files if name.startswith("unet/")] == [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    ]
    assert {"vae/diffusion_pytorch_model.bin", "text_encoder/model.safetensors", "tokenizer/vocab.json"} <= set(files)
    unwanted = ("msgpack", "onnx", "ckpt", "fp16", "non_ema", "README", "text_encoder/pytorch_model.bin")
    assert not [name for name in files if any(word in name for word in unwanted)]


def test_a_variant_in_several_files_is_fetched():
    available = [
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        "unet/diffusion_pytorch_model.fp16-00001-of-00001.safetensors",
        "unet/diffusion_pytorch_model-00001-of-00001.safetensors",
    ]

    assert hub.needed_files(available) == available[:2]


def test_the_links_of_hugging_faces_cache_are_followed(tmp_path):
    from textual_inversion.models.base_model import load_base_model
    from textual_inversion.models.export import save_pipeline

    folder = build_model(tmp_path / "there", layout="diffusers")
    cache = tmp_path / "hf" / f"models--{NAME.replace('/', '--')}"
    for number, file in enumerate(tree(folder)):
        link, blob = cache / "snapshots/c0ffee" / file, cache / f"blobs/{number}"
        for path in (link, blob):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, blob)
        link.symlink_to(blob)
    (cache / "refs").mkdir()
    (cache / "refs/main").write_text("c0ffee")

    model = load_base_model(NAME, cache_dir=tmp_path / "hf")
    save_pipeline(model, [], tmp_path / "out")

    weights = tmp_path / "out/unet/diffusion_paddle_model.safetensors"
    assert not weights.is_symlink() and weights.samefile(model.folder / "unet/diffusion_pytorch_model.safetensors")
    assert tree(model.folder) == tree(folder)


def test_a_variant_is_fetched_where_there_is_one():
    files = hub.needed_files(REPOSITORY, variant="fp16")

    assert sum("fp16" in name for name in files) == 4
    assert not [name for name in files if name.endswith((".bin", "model.safetensors")) and "fp16" not in name]


@pytest.mark.parametrize("family", ["sdxl", "taiyi", "alt", "ldm"])
def test_every_family_can_be_fetched_from_hugging_face(tmp_path, monkeypatch, family):
    from textual_inversion.models.base_model import load_base_model

    there = build_model(tmp_path / "there", family, "diffusers", tokenizer_json_only=family == "alt")
    hugging_face(monkeypatch, there)

    assert tree(load_base_model(NAME).folder) == tree(there)


@pytest.mark.slow
def test_the_commands_pass_on_where_a_base_model_comes_from(tmp_path, monkeypatch):
    import infer
    import train_textual_inversion
    from helpers.training_runs import short_run

    asked = hugging_face(monkeypatch, build_model(tmp_path / "there", layout="diffusers", variant="fp16"))
    source = ["--pretrained_model_name_or_path", NAME, "--revision", "v2", "--variant", "fp16"]
    source += ["--cache_dir", str(tmp_path / "mine"), "--hub_token", "secret"]
    argv = short_run(tmp_path, *source, "--only_save_embeds")

    train_textual_inversion.main(argv)
    shutil.rmtree(tmp_path / "mine")
    quick = ["--prompt", "a <cat-toy>", "--num_images", "1", "--num_inference_steps", "1"]
    file = str(tmp_path / "out/learned_embeds.pdparams")
    infer.main([*source, "--embeds", file, *quick, "--output_dir", str(tmp_path / "drawn")])

    assert [(one["name"], one["revision"]) for one in asked] == [(NAME, "v2")] * 2
    weights = tmp_path / "mine" / NAME.replace("/", "--") / "v2/unet/diffusion_pytorch_model.fp16.safetensors"
    assert weights.is_file() and "secret" not in (tmp_path / "out/run.json").read_text()


def test_a_download_from_hugging_face_loads(tmp_path, monkeypatch):
    from textual_inversion.models.base_model import load_base_model

    folder = build_model(tmp_path / "there", layout="diffusers", safety_checker=True)
    (folder / "README.md").write_text("not needed")
    asked = hugging_face(monkeypatch, folder)

    model = load_base_model(NAME, revision="v2", cache_dir=tmp_path / "mine", token="secret")

    assert model.name == NAME and model.layout == "diffusers" and model.folder.is_relative_to(tmp_path / "mine")
    assert set(tree(folder)) - set(tree(model.folder)) == {"README.md"}
    assert asked == [{"name": NAME, "revision": "v2", "timeout": SECONDS_TO_ANSWER}]


@pytest.mark.parametrize("options", [dict(), dict(shards=2), dict(variant="fp16"), dict(safety_checker=True)])
def test_a_download_from_the_store_of_ppdiffusers_loads(tmp_path, monkeypatch, options):
    from textual_inversion.models.base_model import load_base_model

    folder = build_model(tmp_path / "there", **options)
    fetched = store(monkeypatch, folder)

    model = load_base_model(NAME)

    assert model.folder == tmp_path / "paddlenlp" / "ppdiffusers" / NAME
    assert tree(model.folder) == tree(folder) and len(fetched) == len(set(fetched))


def test_a_download_that_broke_off_is_told(tmp_path, monkeypatch):
    store(monkeypatch, build_model(tmp_path / "there"), cut_after=5)

    with pytest.raises(BaseModelError, match="was interrupted"):
        hub.resolve(NAME)


def test_a_tokenizer_alone_can_be_fetched(tmp_path, monkeypatch):
    folder = build_model(tmp_path / "there", layout="diffusers") / "tokenizer"
    hugging_face(monkeypatch, folder)

    found = hub.resolve(NAME, only_tokenizer=True)

    assert tree(found) == tree(folder)


@pytest.mark.parametrize(
    "kind, sentence",
    [
        (GatedRepoError, "access must be requested at https://huggingface.co/someone/tiny-diffusion"),
        (RepositoryNotFoundError, "the hub has no public repository of this name"),
        (RevisionNotFoundError, "has no revision v9 of it"),
        (huggingface_hub.utils.HfHubHTTPError, "the hub answered 503"),
        (requests.ReadTimeout, "the hub cannot be reached"),
    ],
)
def test_answers_of_the_hub_are_explained(monkeypatch, kind, sentence):
    response = requests.Response()
    response.status_code = 503
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", answering(kind("no", response=response)))

    with pytest.raises(BaseModelError, match=sentence) as refusal:
        hub.resolve(NAME, revision="v9")

    assert "\n" not in str(refusal.value)


def test_a_repository_without_such_a_model_is_refused(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "weights.ckpt").write_text(json.dumps({}))
    hugging_face(monkeypatch, tmp_path / "there")

    with pytest.raises(BaseModelError, match="holds no Stable Diffusion model"):
        hub.resolve(NAME)


# --------------------------------------------------------------------------------------------------------- AI Studio


@pytest.fixture
def aistudio(tmp_path, monkeypatch):
    """AI Studio on this machine, which alone may be asked."""
    with local_aistudio.LocalAIStudio() as local:
        local_aistudio.use(local, monkeypatch, tmp_path / "home")
        monkeypatch.setattr(requests, "head", lambda *_, **__: pytest.fail("the store was asked"))
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: pytest.fail("Hugging Face was asked"))
        yield local


def as_repository(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in tree(folder)}


@pytest.mark.parametrize("options", [dict(), dict(layout="diffusers", shards=2)])
def test_a_base_model_of_ai_studio_loads_and_then_needs_no_network(tmp_path, aistudio, options):
    from textual_inversion.models.base_model import load_base_model

    folder = build_model(tmp_path / "there", **options)
    aistudio.repositories["me/tiny"] = as_repository(folder) | {"README.md": b"not needed"}

    model = load_base_model("aistudio:me/tiny", cache_dir=tmp_path / "mine")

    assert model.name == "aistudio:me/tiny" and tree(model.folder) == tree(folder)
    asked = len(aistudio.requests)
    assert hub.resolve("aistudio:me/tiny", cache_dir=tmp_path / "mine", recorded_in="run.json") == model.folder
    assert len(aistudio.requests) == asked


def test_a_tokenizer_of_ai_studio(tmp_path, aistudio):
    folder = build_model(tmp_path / "there", layout="diffusers") / "tokenizer"
    aistudio.repositories["me/words"] = as_repository(folder)

    assert tree(hub.resolve("aistudio:me/words", only_tokenizer=True)) == tree(folder)


def test_ai_studio_is_not_asked_for_what_a_record_names(aistudio):
    aistudio.repositories["evil/model"] = {"model_index.json": b"{}"}

    for only_tokenizer in (False, True):
        with pytest.raises(
            BaseModelError, match="no hub is asked for what a record names: say --.* aistudio:evil/model"
        ):
            hub.resolve("aistudio:evil/model", recorded_in="run.json", only_tokenizer=only_tokenizer)
    assert aistudio.requests == []


def test_what_ai_studio_does_not_give_is_one_line(aistudio, monkeypatch):
    aistudio.repositories["me/cat"] = {"learned_embeds.bin": b"x"}

    def message(name):
        with pytest.raises(BaseModelError) as refusal:
            hub.resolve(name)
        assert "\n" not in str(refusal.value) and name in str(refusal.value)
        return str(refusal.value)

    assert "there is no folder aistudio:cat; give the folder of a model" in message("aistudio:cat")
    assert "holds no Stable Diffusion model" in message("aistudio:me/cat")
    assert "AI Studio has no public repository of this name" in message("aistudio:me/nothing")
    aistudio.refused = {"/git/": 500}
    assert "AI Studio answered 500: refused for now; give a local folder instead" in message("aistudio:me/cat")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids downloads" in message("aistudio:me/cat")


def test_an_address_of_object_storage_is_asked_for_only_if_no_record_named_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hub.reading, "file", lambda source, beside, inside: tmp_path / source.name)
    assert hub.resolve("s3://bucket/model") == tmp_path / "model"
    assert hub.resolve_vae("s3://bucket/vae") == tmp_path / "vae"
    for ask in (hub.resolve, hub.resolve_vae):
        with pytest.raises(BaseModelError):
            ask("s3://bucket/model", recorded_in="run.json")


def test_of_a_model_in_object_storage_the_files_that_are_used_are_read(monkeypatch):
    names = ["model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/x.ckpt",
             "clip/config.json", "samples/huge.png", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
             "vae/diffusion_pytorch_model.bin"]  # fmt: skip
    monkeypatch.setattr(hub.reading, "file", lambda source, beside, inside: set(inside(names)))
    address = hub.reading.address("s3://bucket/model")
    vae = {"vae/config.json", "vae/diffusion_pytorch_model.safetensors"}
    unet = {"unet/config.json", "unet/diffusion_pytorch_model.safetensors"}
    assert hub.at_address(address) == {"model_index.json", "clip/config.json", *unet, *vae}
    assert hub.at_address(address, is_vae=True) == vae
