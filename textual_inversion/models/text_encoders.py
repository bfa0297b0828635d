"""The text encoders of base models: one entry of `KINDS` per class, and an encoder with its tokenizer.

An entry holds what is special about its class; loading, checking and saving are the same for all.
"""

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from textual_inversion.models.concept_embedding import table_of
from textual_inversion.models.config_checks import check_announced, check_sizes
from textual_inversion.models.layers.frozen_layer_norm import freeze
from textual_inversion.models.prompt_chunks import TokenIds
from textual_inversion.models.prompt_encoder import PromptEncoder, Reading
from textual_inversion.models.tokenizers import holds_vocabulary, load_tokenizer
from textual_inversion.models.weight_files import ENCODER_FILES, read_json, read_state
from textual_inversion.models.weights import build_unset, load_weights
from textual_inversion.system.device import to_device

_TRANSFORMERS = "ppdiffusers.transformers"


@dataclass(frozen=True)
class EncoderKind:
    """One class of text encoder.

    Attributes:
        class_name: its name, which is also the name in model_index.json.
        config_name: the class of its configuration.
        model_type: its type in config.json.
        tokenizer: the class of its tokenizer.
        end: the name of the special token that ends a text.
        module: the module of encoder and configuration.
        library: the name of that module in model_index.json.
        width: configuration -> width of its output.
        unread_positions: number of position embeddings that no token uses.
        idle: prefixes of the names of weights that no prompt embedding depends on. Some files omit them.
        unsaved: entries of config.json that are saved as null.
        final_norm: encoder -> the layer norm behind its last transformer layer; None: it has none there, and reads
            prompts with its last layer only.
        per_row: prefixes of the names of weights whose last dimension is the number of rows of the embedding table.
    """

    class_name: str
    config_name: str
    model_type: str
    tokenizer: str
    end: str
    module: str = _TRANSFORMERS
    library: str = _TRANSFORMERS
    width: Callable[[Any], int] = lambda config: config.hidden_size
    unread_positions: Callable[[Any], int] = lambda config: 0
    idle: tuple[str, ...] = ()
    per_row: tuple[str, ...] = ()
    unsaved: tuple[str, ...] = ()
    final_norm: Callable[[nn.Layer], nn.Layer] | None = None


_CLIP = dict(
    config_name="CLIPTextConfig",
    model_type="clip_text_model",
    tokenizer="CLIPTokenizer",
    end="eos_token",
    final_norm=lambda encoder: encoder.text_model.final_layer_norm,
)
KINDS = {
    kind.class_name: kind
    for kind in (
        EncoderKind("CLIPTextModel", **_CLIP),
        EncoderKind("CLIPTextModelWithProjection", **_CLIP),
        EncoderKind(
            "BertModel",
            "BertConfig",
            "bert",
            "BertTokenizer",
            "sep_token",
            idle=("pooler.",),
            unsaved=("pad_token_id",),  # else Paddle 3 reads padding as zeros; see `_read_padding_as_stored`
        ),
        EncoderKind(
            "RobertaSeriesModelWithTransformation",
            "RobertaSeriesConfig",
            "xlm-roberta",
            "XLMRobertaTokenizer",
            "sep_token",
            module="ppdiffusers.pipelines.alt_diffusion.modeling_roberta_series",
            library="alt_diffusion",
            width=lambda config: config.project_dim,
            unread_positions=lambda config: config.pad_token_id + 1,  # its positions are counted from there
            idle=("roberta.pooler.", "logit_scale"),
        ),
        EncoderKind(
            "LDMBertModel",
            "LDMBertConfig",
            "ldmbert",
            "BertTokenizer",
            "sep_token",
            module="ppdiffusers.pipelines.latent_diffusion.pipeline_latent_diffusion",
            library="latent_diffusion",
            idle=("to_logits.",),
            per_row=("to_logits.",),
        ),
    )
}


@dataclass(frozen=True)
class TextEncoderLocation:
    """Where a base model's folder holds a text encoder.

    Attributes:
        name: its name here and in embedding files: "text_encoder" or "text_encoder_2".
        folder, tokenizer: sub-folders, which are also the names in model_index.json.
        classes: classes of text encoders that may be there.
    """

    name: str
    folder: str
    tokenizer: str
    classes: tuple[str, ...]


@dataclass
class TextEncoder:
    """One text encoder with its tokenizer.

    Attributes:
        name: "text_encoder", and of the second of two "text_encoder_2".
        layer: the frozen encoder.
        encode_ids: prompts -> token ids int64 [B, L]; attaching embedding vectors sets one that knows placeholders.
        location: where the base model's folder holds it.
        kind: what is special about its class.
        num_chunks: in how many chunks a prompt without weights is read.
    """

    name: str
    tokenizer: Any
    layer: nn.Layer
    encode_ids: Callable[..., Any]
    location: TextEncoderLocation
    kind: EncoderKind
    num_chunks: int = 1

    @property
    def embedding_width(self) -> int:
        """Width of an embedding vector (D)."""
        return int(table_of(self.layer).shape[1])

    @property
    def output_width(self) -> int:
        """Width of the encoder's output for a token."""
        return int(self.kind.width(self.layer.config))

    @property
    def transformer_layers(self) -> list[nn.Layer]:
        """The encoder's transformer layers, in order."""
        lists = [layer for layer in self.layer.sublayers() if isinstance(layer, nn.LayerList)]
        return list(max(lists, key=len))

    def read_in_chunks(self, max_token_length: int | None) -> None:
        """Read prompts without weights in as many chunks as so many tokens need; None: in one. Forgets placeholders."""
        room = self.encode_ids.room
        self.num_chunks = 1 if max_token_length is None else -(-max_token_length // room)
        self.encode_ids = PromptEncoder(self.tokenizer, num_chunks=self.num_chunks)

    def token_ids(
        self, prompts: Sequence[str], readings: Sequence[Reading] | None = None, chunks: int | None = None
    ) -> TokenIds:
        """The token ids of B prompts, placeholders included; the arguments are those of `BaseModel.encode_prompts`."""
        if chunks is None and self.num_chunks > 1:
            return self.encode_ids.in_plain_chunks(prompts, readings)
        if chunks is None:
            return TokenIds(np.asarray(self.encode_ids(prompts, readings)))
        return self.encode_ids.in_chunks(prompts, readings, chunks)

    def __call__(self, ids: np.ndarray, **options: Any) -> Any:
        """Encode token ids int64 [B, L]; gradients flow to attached embedding vectors.

        Args:
            options: for the encoder, such as `output_hidden_states`.

        Returns:
            The encoder's own output.
        """
        mask = None
        if getattr(self.layer.config, "use_attention_mask", None):
            mask = to_device(self._attention_mask(ids))
        return self.layer(to_device(ids), attention_mask=mask, return_dict=True, **options)

    def states(self, ids: np.ndarray, layer: int | None) -> Any:
        """Hidden states [B, L, D] of token ids int64 [B, L], behind the final layer norm.

        Args:
            layer: of which transformer layer, counted from the last, which is 1; None: the last one.
        """
        if layer is None or layer == 1:
            return self(ids)[0]
        return self.kind.final_norm(self.layer)(self(ids, output_hidden_states=True).hidden_states[-layer])

    def _attention_mask(self, ids: np.ndarray) -> np.ndarray:
        """int64 [B, L]: 1 up to the end token, 0 for the padding after it (which may be the same token)."""
        is_end = ids == getattr(self.tokenizer, f"{self.kind.end}_id")
        ends_before = np.cumsum(is_end, axis=1) - is_end
        return (ends_before == 0).astype(np.int64)

    def weights_with(self, table: np.ndarray) -> dict[str, Any]:
        """All weights of the encoder under their usual names, with `table` [V + N, D] as its embedding table."""
        embedding = self.layer.get_input_embeddings()
        prefix = next(name for name, layer in self.layer.named_sublayers() if layer is embedding)
        state = self.layer.state_dict()
        tensors = {name: tensor for name, tensor in state.items() if not name.startswith(f"{prefix}.")}
        for name in [name for name in tensors if name.startswith(self.kind.per_row)]:
            array = tensors[name].numpy()
            more = [(0, 0)] * (array.ndim - 1) + [(0, len(table) - array.shape[-1])]
            tensors[name] = np.pad(array, more)
        return {f"{prefix}.weight": table, **tensors}

    def saved_config(self, base: Mapping[str, Any], rows: int) -> dict[str, Any]:
        """The encoder's configuration in its base model, changed to an embedding table of `rows` rows."""
        config = {**base, "architectures": [self.kind.class_name], "vocab_size": rows}
        config |= dict.fromkeys(self.kind.unsaved)
        return config | _end_of_text(self.kind, self.tokenizer)


def load_text_encoder(
    folder: Path, location: TextEncoderLocation, class_name: str, tokenizer_folder: Path, variant: str | None
) -> TextEncoder:
    """A frozen text encoder in float32 and its tokenizer.

    Args:
        folder: the base model's folder.
        class_name: a key of `KINDS`, from model_index.json.
        variant: weights to prefer, such as "fp16".

    Raises:
        BaseModelError: something is missing, or the tokenizer belongs to another model.
    """
    kind = KINDS[class_name]
    config_class, encoder_class = config_and_class(kind)
    stored = encoder_config(folder / location.folder, kind)
    state = read_state(folder / location.folder, ENCODER_FILES, variant=variant)
    check_announced(stored, len(state), folder / location.folder, state.largest_dimension)
    config = config_class.from_dict(stored)
    longest = config.max_position_embeddings - kind.unread_positions(config)
    own = folder / location.tokenizer  # of an unpacked single file this says how to pad, and has no vocabulary
    settings_folder = None if holds_vocabulary(own) else own
    limits = {"longest": longest, "rows": config.vocab_size}
    tokenizer = load_tokenizer(kind.tokenizer, tokenizer_folder, settings_folder=settings_folder, **limits)
    for name, value in _end_of_text(kind, tokenizer).items():
        setattr(config, name, value)
    encoder = build_unset(lambda: encoder_class(config))
    load_weights(encoder, state, idle=kind.idle)
    _read_padding_as_stored(encoder)
    _keep_causal_mask(encoder)
    return TextEncoder(location.name, tokenizer, freeze(encoder), PromptEncoder(tokenizer), location, kind)


def tokenizer_folder(folder: Path, name: str) -> Path:
    """The tokenizer's sub-folder in the folder of a whole model; else the folder itself."""
    return next((folder / part for part in (name, "tokenizer") if (folder / part).is_dir()), folder)


def _read_padding_as_stored(encoder: nn.Layer) -> None:
    """Let the padding token read its row of the table, as in PyTorch, where these encoders were trained.

    ppdiffusers 0.29 sets `padding_idx` of BERT's embeddings only as information, but Paddle 3 then reads zeros for it.
    """
    for layer in encoder.sublayers():
        if isinstance(layer, nn.Embedding) and getattr(layer, "_padding_idx", None) is not None:
            layer.padding_idx = None


def _keep_causal_mask(encoder: nn.Layer) -> None:
    """Make CLIP's causal mask once for each batch size, and not in every call.

    To make a mask, ppdiffusers 0.29 reads a number from the device, and the CPU has to wait for it.
    """
    for layer in encoder.sublayers(include_self=True):
        if hasattr(layer, "_build_causal_attention_mask"):
            layer._build_causal_attention_mask = functools.lru_cache(maxsize=8)(layer._build_causal_attention_mask)


def config_and_class(kind: EncoderKind) -> tuple[type, type]:
    """The classes of the configuration and of the encoder."""
    module = importlib.import_module(kind.module)
    return getattr(module, kind.config_name), getattr(module, kind.class_name)


def _end_of_text(kind: EncoderKind, tokenizer: Any) -> dict[str, int]:
    """The token at which CLIP pools. Some files say 2; CLIP would then pool at the largest id, a placeholder's."""
    return {"eos_token_id": tokenizer.eos_token_id} if kind.tokenizer == "CLIPTokenizer" else {}


def encoder_config(folder: Path, kind: EncoderKind) -> dict[str, Any]:
    """A text encoder's configuration, also from the config.json of a whole CLIP model."""
    config = read_json(folder / "config.json")
    if config.get("model_type") == "clip" and isinstance(config.get("text_config"), dict):
        config = {"projection_dim": config.get("projection_dim", 512), **config["text_config"]}
    check_sizes(config, folder)
    return for_float32(config) | {"model_type": kind.model_type}


def for_float32(config: dict[str, Any]) -> dict[str, Any]:
    """An encoder's configuration in float32, without the entries that describe the file and not the model."""
    dropped = ("torch_dtype", "dtype", "_name_or_path", "transformers_version", "paddlenlp_version", "architectures")
    plain = {key: value for key, value in config.items() if key not in dropped}
    for part in ("text_config", "vision_config"):
        if isinstance(plain.get(part), dict):
            plain[part] = for_float32(plain[part])
    return plain | {"dtype": "float32"}
