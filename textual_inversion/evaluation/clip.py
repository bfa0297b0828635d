"""CLIP features of images and texts (arXiv 2103.00020), with which scores are measured."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from PIL import Image
from typing_extensions import TypedDict

from textual_inversion.hub import repositories
from textual_inversion.models.config_checks import IN_USE, check_announced, check_image_sizes, explained
from textual_inversion.models.prompt_encoder import PromptEncoder
from textual_inversion.models.safety_checker import sizes_written_out
from textual_inversion.models.tokenizers import load_clip_tokenizer
from textual_inversion.models.weight_files import ENCODER_FILES, read_json, read_state
from textual_inversion.models.weights import build_unset, load_weights
from textual_inversion.system.checked_json import whole_number
from textual_inversion.system.errors import BaseModelError, SettingsError

_BATCH = 16
_SMALL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
# Mean and std of CLIP's training images, for folders that do not name theirs.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipScorer:
    """A frozen CLIP model.

    Args:
        folder: holds config.json, weights in either layout, tokenizer files, and preprocessor_config.json or
            processor_config.json.

    Attributes:
        name: its name in reports.
        notes: what the user should know of it, in lines.

    Raises:
        BaseModelError: the folder holds no CLIP model, or one of its weights is missing, of another shape, or surplus.
    """

    def __init__(self, folder: str | Path, *, name: str | None = None):
        self._folder = Path(folder)
        self.name = name or str(folder)
        self.notes: list[str] = []
        with explained(self._folder):
            self._load(self._folder)

    def _load(self, folder: Path) -> None:
        from ppdiffusers.transformers import CLIPModel

        config, state = _clip_config(folder), read_state(folder, ENCODER_FILES)
        check_announced(read_json(folder / "config.json"), len(state), folder, state.largest_dimension)
        limits = {"longest": config.text_config.max_position_embeddings, "rows": config.text_config.vocab_size}
        tokenizer = load_clip_tokenizer(_tokenizer_folder(folder), **limits)
        # Some files say 2, which selects another way to find the end of a text. Both ways find the same end.
        config.text_config.eos_token_id = tokenizer.eos_token_id
        self._encode_ids = PromptEncoder(tokenizer)
        self._model = build_unset(lambda: CLIPModel(config))
        load_weights(self._model, state)
        self._model.eval()
        stored = _preprocessing(folder)
        self._preprocess = _image_processor(stored, config.vision_config.image_size)
        if not stored:
            self.notes.append(f"{self.name} does not say how it wants its images; CLIP's usual mean and std are used")

    def image_features(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Features of RGB images of any size: float32 [n, P], unit norm. One image is held at a time."""

        def encode(numbers: Sequence[int]) -> paddle.Tensor:
            return self._model.get_image_features(self._pixels(images[number] for number in numbers))

        return self._features(range(len(images)), encode)

    def text_features(self, texts: Sequence[str], *, trimmed: bool = False) -> np.ndarray:
        """Features of texts, cut to the length that CLIP reads: float32 [n, P], unit norm.

        Args:
            trimmed: leave out the padding, to which no earlier token attends; quicker for thousands of short texts. The
                features stay the same, apart from rounding.
        """

        def encode(chunk: Sequence[str]) -> paddle.Tensor:
            ids = self._encode_ids(list(chunk))
            if trimmed:
                ids = ids[:, : 1 + int(self._encode_ids.ends(list(chunk)).max())]
            return self._model.get_text_features(paddle.to_tensor(ids))

        return self._features(texts, encode)

    def _pixels(self, images: Iterable[Image.Image]) -> paddle.Tensor:
        arrays = [self._preprocess(images=[image], return_tensors="np")["pixel_values"][0] for image in images]
        return paddle.to_tensor(np.asarray(arrays, dtype=np.float32))  # (B, 3, H, W)

    def _features(self, items: Sequence, encode: Callable[[Sequence], paddle.Tensor]) -> np.ndarray:
        chunks = []
        with paddle.no_grad():
            for first in range(0, len(items), _BATCH):
                with explained(self._folder, IN_USE):
                    features = encode(items[first : first + _BATCH])
                chunks.append((features / features.norm(p=2, axis=-1, keepdim=True)).numpy())
        if not chunks:
            return np.zeros((0, self._model.projection_dim), dtype=np.float32)
        return np.concatenate(chunks)


def find_clip(model_folder: Path, clip_model: str | None = None) -> Path:
    """The folder of the CLIP model to score with: the one that is named, else the base model's own `clip/`.

    Args:
        clip_model: a folder, or a repository on a hub.

    Raises:
        SettingsError: there is no such model.
    """
    if clip_model is not None:
        folder = Path(clip_model).expanduser()
        return folder if folder.is_dir() else _fetched(clip_model)
    own = Path(model_folder) / "clip"
    if not (own / "config.json").is_file():
        raise SettingsError(
            f"{model_folder} has no CLIP model of its own to score with; choose one, such as "
            "--clip_model openai/clip-vit-large-patch14"
        )
    return own


def check_clip(folder: Path) -> None:
    """Check by its files that a folder holds a CLIP model, without loading it; raises BaseModelError."""
    with explained(folder):
        _clip_config(folder)
        read_state(folder, ENCODER_FILES)


def _fetched(repository: str) -> Path:
    """The folder of a CLIP model of a hub, from the cache on this machine or downloaded."""
    snapshot = repositories.cached(repository)
    if snapshot is not None and _weights_in([path.name for path in snapshot.iterdir()]):
        return snapshot
    try:
        available = repositories.files_of(repository)
        small = [name for name in _SMALL_FILES if name in available]
        return repositories.fetch(repository, [*small, *_weights_in(available)])
    except repositories.HubError as error:
        raise SettingsError(
            f"--clip_model {repository} is neither a folder nor in the cache, and {error}; give the folder of a "
            "CLIP model"
        ) from error


def _weights_in(names: Sequence[str]) -> list[str]:
    """The weights file to use among the files of a folder, safetensors first; [] where there is none."""
    return next(([name] for name in (ENCODER_FILES[0], ENCODER_FILES[-1]) if name in names), [])


class _Config(TypedDict, total=False):
    """The entries of a CLIP model's config.json that are looked at here."""

    text_config: dict[str, Any] | None
    vision_config: dict[str, Any] | None
    text_config_dict: dict[str, Any] | None
    vision_config_dict: dict[str, Any] | None
    projection_dim: whole_number(1, 1 << 16)


def _clip_config(folder: Path) -> Any:
    from ppdiffusers.transformers import CLIPConfig

    if not (folder / "config.json").is_file():
        raise BaseModelError(f"{folder} holds no config.json and is not a CLIP model; give the folder of one")
    stored = read_json(folder / "config.json", schema=_Config)
    # Older files contain both parts twice; the second one counts.
    text = {**(stored.get("text_config") or {}), **(stored.get("text_config_dict") or {})}
    vision = {**(stored.get("vision_config") or {}), **(stored.get("vision_config_dict") or {})}
    if not text or not vision:
        raise BaseModelError(
            f"{folder} is not a CLIP model with a text and an image encoder; take one such as "
            "openai/clip-vit-large-patch14"
        )
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=stored.get("projection_dim", 512))


def _tokenizer_folder(folder: Path) -> Path:
    """The folder with a CLIP model's tokenizer, which a CLIP model inside a base model's folder may share with it."""
    for candidate in (folder, folder / "tokenizer", folder.parent / "tokenizer"):
        if any((candidate / name).is_file() for name in ("vocab.json", "tokenizer.json")):
            return candidate
    return folder


def _preprocessing(folder: Path) -> dict[str, Any]:
    """How a model wants its images; {} where no file says so. The newest files hold all processors of a model."""
    path = folder / "preprocessor_config.json"
    if path.is_file():
        stored = read_json(path)
    else:
        path = folder / "processor_config.json"
        stored = read_json(path).get("image_processor") if path.is_file() else None
    stored = stored if isinstance(stored, dict) else {}
    check_image_sizes(stored, path)
    return stored


def _image_processor(stored: dict[str, Any], image_size: int) -> Any:
    from ppdiffusers.transformers import CLIPImageProcessor

    usual = dict(size=image_size, crop_size=image_size, image_mean=list(_MEAN), image_std=list(_STD))
    return CLIPImageProcessor.from_dict(sizes_written_out(stored or usual))
