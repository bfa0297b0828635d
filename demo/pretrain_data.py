"""Stages `data` and `tokenizer` of the pretraining: drawings on disk, a BPE tokenizer of their captions, labels."""

from __future__ import annotations

import json
import os
import random
from dataclasses import astuple, replace
from functools import cache
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from demo import captions
from demo.specs import COLORS, MEDIA, NAMED_STYLES, NAMED_TOYS, PATTERNS, SCENES, SPECIES, Style
from demo.toyworld import FIRST_PAIR, INVENTED, Picture, picture
from textual_inversion.data.templates import templates

N_TRAIN, N_PAIRS, SHARD = 80_000, 20_000, 2_000
N_HELD_OUT = FIRST_PAIR - N_TRAIN
N_ALL = FIRST_PAIR + N_PAIRS  # trained on, held out, pairs: in this order
CAPTIONS_PER_PICTURE = 4
MAX_TOKENS = 77
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
TARGETS = ("species", "body", "accent", "third", "pattern", "scene", "medium")
TOY_CHOICES = {"species": SPECIES, "pattern": PATTERNS} | {part: tuple(COLORS) for part in ("body", "accent", "third")}
TWINS = 3  # altered descriptions of each image
SIMILAR = 12  # styles that a style is taken for at first
UNSEEN = -100  # the label of what an image does not show; cross entropy skips it


def draw_shard(job: tuple[Path, int]) -> None:
    """Draw one shard of images, uint8 [SHARD, H, W, 3], unless it is there already."""
    folder, shard = job
    path = folder / f"pictures-{shard:03d}.npy"
    if path.exists():
        return
    pixels = np.stack([np.asarray(picture(i).draw()) for i in range(shard * SHARD, (shard + 1) * SHARD)])
    aside = path.with_suffix(".tmp.npy")
    np.save(aside, pixels)
    os.replace(aside, path)


def make_data(work_dir: Path) -> None:
    """Draw all images of the training world; those from `N_TRAIN` to `FIRST_PAIR` are never trained on."""
    jobs = [(work_dir, shard) for shard in range(N_ALL // SHARD)]
    with Pool(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.imap_unordered(draw_shard, jobs), 1):
            print(f"data: {done} of {len(jobs)} shards", flush=True)


def load_pictures(work_dir: Path) -> np.ndarray:
    """Return all images, uint8 [N, H, W, 3]."""
    return np.concatenate([np.load(path) for path in sorted(work_dir.glob("pictures-???.npy"))])


def colourless(shown: Picture) -> bool:
    """Tell whether the medium hides the toy's colours."""
    if shown.medium == INVENTED:
        return NAMED_STYLES[shown.style_name].strength == 1
    return shown.medium == "sketch"


def targets(shown: Picture) -> list[int]:
    """Return the index of each attribute in `TARGETS`; `UNSEEN` for colours that the medium hides, and for two toys."""
    toy = shown.toy
    colors = list(COLORS)
    media = [*MEDIA, *NAMED_STYLES]
    place = [SCENES.index(shown.scene), media.index(shown.style_name or shown.medium)]
    if shown.beside:
        return [UNSEEN] * (len(TARGETS) - len(place)) + place
    body, accent, third = (UNSEEN if colourless(shown) else colors.index(c) for c in (toy.body, toy.accent, toy.third))
    return [SPECIES.index(toy.species), body, accent, third, PATTERNS.index(toy.pattern), *place]


def target_sizes() -> list[int]:
    """Return the number of classes of each target."""
    n = len(COLORS)
    return [len(SPECIES), n, n, n, len(PATTERNS), len(SCENES), len(MEDIA) + len(NAMED_STYLES)]


# ------------------------------------------------------------------------------------------------------ tokenizer


def byte_alphabet() -> list[str]:
    """Return the printable stand-in of each byte in CLIP's vocabularies, in the order of their ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


def every_word() -> list[str]:
    """Return every word the captions of the demo world use, names included."""
    found = set(NAMED_TOYS) | set(NAMED_STYLES)
    for index in range(20_000):
        found.update(picture(index).caption().split())
    for kind in ("object", "style"):
        found.update(" ".join(templates(kind)).replace("{}", " ").split())
    found.update(" ".join(form for forms in captions.MEDIUM_FORMS.values() for form in forms).split())
    found.discard("{}")
    return sorted(part for word in found for part in word.replace("-", " - ").split())


def merges_for(words: list[str]) -> list[tuple[str, str]]:
    """Learn byte-pair merges until every word is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=100_000, min_frequency=1, end_of_word_suffix=WORD_END, show_progress=False)
    tokenizer.train_from_iterator([" ".join(words)], trainer)
    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def make_tokenizer(work_dir: Path) -> None:
    """Write vocab.json, merges.txt and their configuration, as CLIPTokenizer reads them."""
    folder = work_dir / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = byte_alphabet()
    merges = merges_for(every_word())
    tokens = [*alphabet, *(c + WORD_END for c in alphabet), *(a + b for a, b in merges), START, END]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    config = {
        **special,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": MAX_TOKENS,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(f"tokenizer: {len(vocabulary)} tokens, {len(merges)} merges", flush=True)


class WordTokenizer:
    """Tokenizes captions of the demo world, where every word is one token; thousands of times a second."""

    def __init__(self, folder: Path):
        self.vocabulary: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        self.start, self.end = self.vocabulary[START], self.vocabulary[END]

    def __call__(self, text: str) -> list[int]:
        """Return the `MAX_TOKENS` token ids of a caption."""
        words = text.lower().replace("-", " - ").split()[: MAX_TOKENS - 2]
        ids = [self.start, *(self.vocabulary[word + WORD_END] for word in words)]
        return ids + [self.end] * (MAX_TOKENS - len(ids))


@cache
def similar_styles(name: str) -> list[str]:
    """Return the named styles that share most with one: ink, paper, strength, texture and edge."""
    own = astuple(NAMED_STYLES[name])

    def shared(style: Style) -> int:
        return sum(ours == theirs for ours, theirs in zip(own, astuple(style), strict=True))

    others = [other for other in NAMED_STYLES if other != name]
    return sorted(others, key=lambda other: -shared(NAMED_STYLES[other]))[:SIMILAR]


def twin(shown: Picture, rng: random.Random) -> Picture:
    """Return an image that differs in one visible attribute: of its toy, or, every other time, its named style."""
    if shown.style_name and rng.random() < 0.5:
        return replace(shown, style_name=rng.choice(similar_styles(shown.style_name)))
    attribute = rng.choice(("species", "pattern") if colourless(shown) else tuple(TOY_CHOICES))
    others = [value for value in TOY_CHOICES[attribute] if value != getattr(shown.toy, attribute)]
    return replace(shown, toy=replace(shown.toy, **{attribute: rng.choice(others)}))


def make_twins(work_dir: Path, count: int = N_TRAIN) -> np.ndarray:
    """Return token ids, int16 [N, 1 + TWINS, MAX_TOKENS], of each image's full description and of its twins'."""
    tokenizer, rng, rows = WordTokenizer(work_dir / "tokenizer"), random.Random(0), []
    for index in range(count):
        shown = picture(index)
        said = [shown, *(twin(shown, rng) for _ in range(TWINS))]
        rows.append([tokenizer(captions.sentence(p.toy, p.scene, p.medium, p.style_name)) for p in said])
    return np.array(rows, np.int16)


def make_captions(work_dir: Path, count: int = N_TRAIN + N_HELD_OUT) -> tuple[np.ndarray, np.ndarray]:
    """Return token ids, int16 [N, CAPTIONS_PER_PICTURE, MAX_TOKENS], and targets, int64 [N, len(TARGETS)]."""
    tokenizer = WordTokenizer(work_dir / "tokenizer")
    shown = [picture(index) for index in range(count)]
    ids = [[tokenizer(p.caption(variant)) for variant in range(CAPTIONS_PER_PICTURE)] for p in shown]
    return np.array(ids, np.int16), np.array([targets(p) for p in shown])
