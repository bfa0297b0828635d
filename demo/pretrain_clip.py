"""Stage `clip` of the pretraining: a text encoder and an image encoder that know which caption belongs to which image.

The training is contrastive; in addition, linear heads read the toy's attributes from both projections. The heads are
discarded afterwards. They make one invented word hold a whole appearance after few samples.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPConfig, CLIPModel

from demo.pretrain_batches import draw_training_numbers, styled_numbers
from demo.pretrain_data import (
    N_TRAIN,
    UNSEEN,
    WordTokenizer,
    load_pictures,
    make_captions,
    make_twins,
    target_sizes,
)
from demo.pretrain_vae import LATENTS_FILE, STAGES, to_tensor
from demo.pretrain_vae import load as load_autoencoder
from demo.training import Run, load_average, reduced_precision

IMAGES_FILE = "clip_images.pt"  # in the work folder
WIDTH, PROJECTION = 128, 128
BATCH, RATE, DECAY = 96, 1e-3, 0.995
HEAD_WEIGHT, MAX_SCALE = 0.5, 50.0
N_DESCRIBED, N_STYLED = 72, 56  # images of a batch that are told from their twins too; how many of them are styled
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # what the shipped image processor says: pixels in -1..1
SHOWN_TOKENS = 32  # longest caption of the demo world, end marker included; the text encoder is causal
SIDE = 64  # of the images that it reads: larger ones are scaled down
SHIFT = 1  # pixels
VISION = dict(
    image_size=SIDE,
    patch_size=8,
    hidden_size=160,
    intermediate_size=640,
    num_hidden_layers=4,
    num_attention_heads=4,
    projection_dim=PROJECTION,
    hidden_act="quick_gelu",
)


def text_config(tokenizer: WordTokenizer) -> dict:
    """Return the size of the text encoder, shared by the CLIP model and the diffusion model."""
    return dict(
        vocab_size=len(tokenizer.vocabulary),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=PROJECTION,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.start,
        eos_token_id=tokenizer.end,
        pad_token_id=tokenizer.end,
    )


def clip_model(tokenizer: WordTokenizer) -> CLIPModel:
    """Build the CLIP model."""
    return CLIPModel(
        CLIPConfig(text_config=text_config(tokenizer), vision_config=dict(VISION), projection_dim=PROJECTION)
    )


class AttributeHeads(nn.Module):
    """One linear classifier per attribute on features of some width."""

    def __init__(self, width: int = PROJECTION) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, n) for n in target_sizes())

    def loss(self, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy over the attributes. features [B, P], targets [B, attributes]."""
        losses = [
            F.cross_entropy(head(features), targets[:, i], ignore_index=UNSEEN) for i, head in enumerate(self.heads)
        ]
        return torch.stack(losses).mean()


def text_features(model: CLIPModel, ids: torch.Tensor) -> torch.Tensor:
    """Return the projected text features [B, P] of token ids [B, L]."""
    return model.text_projection(model.text_model(input_ids=ids).pooler_output)


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    """Images as the image encoder reads them, [B, 3, SIDE, SIDE]."""
    return F.interpolate(pixels, size=(SIDE, SIDE), mode="bicubic", antialias=True)  # as the shipped image processor


def image_features(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """Return the projected image features [B, P] of images in -1..1, [B, 3, H, W]."""
    return model.visual_projection(model.vision_model(pixel_values=scaled(pixels)).pooler_output)


@torch.no_grad()
def drawn_and_decoded(pixels: torch.Tensor, latents: torch.Tensor, vae: AutoencoderKL) -> torch.Tensor:
    """Images scaled down, as they were drawn and as they come back from their latents: the model judges such.

    Args:
        pixels: uint8 [N, H, W, 3].
        latents: means and stds, [N, 2C, h, w].
        vae: decodes them, on the device that it is to work on.

    Returns:
        uint8 [2, N, SIDE, SIDE, 3], on the device of `pixels`.
    """
    device, found = next(vae.parameters()).device, torch.empty(2, len(pixels), SIDE, SIDE, 3, dtype=torch.uint8)
    for start in range(0, len(pixels), 250):
        part = slice(start, start + 250)
        mean, std = latents[part].to(device).float().chunk(2, dim=1)
        with reduced_precision(device):
            decoded = vae.decode(mean + std * torch.randn_like(mean)).sample.float().clamp(-1, 1)
        for kind, images in enumerate((to_tensor(pixels[part]).to(device), decoded)):
            rounded = ((scaled(images).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            found[kind, part] = rounded.permute(0, 2, 3, 1).cpu()
    return found


def kept_images(work_dir: Path, device: torch.device) -> torch.Tensor:
    """What `drawn_and_decoded` gives for the training images; made once, and again when what it was made of changed."""
    kept, made_of = work_dir / IMAGES_FILE, [work_dir / name for name in (LATENTS_FILE, *(f"{s}.pt" for s in STAGES))]
    changed = max(path.stat().st_mtime_ns for path in made_of if path.exists())
    if kept.exists() and kept.stat().st_mtime_ns > changed:
        return torch.load(kept, weights_only=True)
    pixels, latents = load_pictures(work_dir)[:N_TRAIN], torch.load(work_dir / LATENTS_FILE, weights_only=True)
    found = drawn_and_decoded(torch.from_numpy(pixels), latents, load_autoencoder(work_dir)[0].to(device))
    aside = kept.with_suffix(".tmp")
    torch.save(found, aside)
    aside.replace(kept)
    return found


def contrastive_loss(text: torch.Tensor, image: torch.Tensor, scale: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Cross entropy in both directions (CLIP, arXiv 2103.00020); equal captions share their probability."""
    logits = scale.exp().clamp(max=MAX_SCALE) * F.normalize(text.float(), dim=-1) @ F.normalize(image.float(), dim=-1).T
    same = (ids[:, None] == ids[None]).all(-1).float()
    wanted = same / same.sum(-1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted))


def twin_loss(texts: torch.Tensor, image: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the true description against altered ones. texts [B, 1 + twins, P], image [B, P]."""
    texts, image = F.normalize(texts.float(), dim=-1), F.normalize(image.float(), dim=-1)
    logits = scale.exp().clamp(max=MAX_SCALE) * (texts * image[:, None]).sum(-1)
    return F.cross_entropy(logits, torch.zeros(len(image), dtype=torch.long, device=image.device))


def train(work_dir: Path, minutes: float, steps: int, device: torch.device) -> None:
    """Train the CLIP model and the heads."""
    torch.manual_seed(1)
    tokenizer, styled = WordTokenizer(work_dir / "tokenizer"), styled_numbers()
    styled = styled[styled < N_TRAIN]
    pictures = kept_images(work_dir, device).to(device)
    twins = torch.from_numpy(make_twins(work_dir)[:, :, :SHOWN_TOKENS]).to(device)
    ids, targets = (torch.from_numpy(array).to(device) for array in make_captions(work_dir, N_TRAIN))
    modules = {"clip": clip_model(tokenizer), "heads": nn.ModuleList([AttributeHeads(), AttributeHeads()])}
    model, heads = (module.to(device) for module in modules.values())
    run = Run(work_dir, "clip", modules, RATE, steps, minutes, decay=DECAY, weight_decay=0.05)
    for _ in run:
        chosen = draw_training_numbers(BATCH, 0, styled, N_STYLED).flip(0).to(device)  # the styled ones first
        variant = torch.randint(0, ids.shape[1], (BATCH,), device=device)
        tokens = ids[chosen, variant, :SHOWN_TOKENS].long()
        shift = tuple(torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist())
        kind = torch.randint(0, 2, (BATCH,), device=device)
        described = twins[chosen[:N_DESCRIBED]].long()
        with reduced_precision(device):
            image = image_features(model, to_tensor(pictures[kind, chosen]).roll(shift, dims=(2, 3)))
            text, said_twins = text_features(model, torch.cat([tokens, described.flatten(0, 1)])).split(
                [BATCH, described[..., 0].numel()]
            )
            shown = heads[0].loss(image, targets[chosen]).float()
            said = heads[1].loss(text, targets[chosen]).float()
        match = contrastive_loss(text, image, model.logit_scale, tokens)
        told = twin_loss(said_twins.unflatten(0, described.shape[:2]), image[:N_DESCRIBED], model.logit_scale)
        loss = match + told + HEAD_WEIGHT * (shown + said)
        run.update(loss, BATCH, match=match, told=told, shown=shown, said=said)


def load(work_dir: Path) -> tuple[CLIPModel, dict]:
    """Return the averaged CLIP model and the figures of its training."""
    model = clip_model(WordTokenizer(work_dir / "tokenizer"))
    heads = nn.ModuleList([AttributeHeads(), AttributeHeads()])
    figures = load_average(work_dir, "clip", {"clip": model, "heads": heads})
    return model.eval().requires_grad_(False), figures
