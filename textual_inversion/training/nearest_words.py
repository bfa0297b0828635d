"""`--initializer_token auto`: the word of the base model's vocabulary that is nearest to the training pictures.

Nearness is the cosine, in CLIP's space (arXiv 2103.00020), between a sentence with the word and the mean feature of
the pictures. Words are whole tokens: what the new row starts from is one row of the table.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from textual_inversion.system.errors import SettingsError

AUTO = "auto"
_SENTENCES = {"style": "a painting in the style of {}"}
_SENTENCE = "a photo of a {}"
# Vocabularies are in order of frequency. Behind so many words come names and fragments, whose rows were seldom trained.
_MOST = 8000
_SHORTEST = 3  # letters
_SHOWN = 5


def whole_words(tokenizer, most: int = _MOST) -> list[str]:
    """Words that are one token each, of at least three plain small letters, the most frequent first."""
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    # CLIP marks the end of a word, XLM-RoBERTa its beginning, BERT what goes on with one.
    if any(token.endswith("</w>") for token in tokens):
        marked = [(token.removesuffix("</w>"), token) for token in tokens if token.endswith("</w>")]
    elif any(token.startswith("▁") for token in tokens):
        marked = [(token.removeprefix("▁"), token) for token in tokens if token.startswith("▁")]
    else:
        marked = [(token, token) for token in tokens]
    found = []
    for word, token in marked:
        plain = len(word) >= _SHORTEST and word.isascii() and word.isalpha() and word.islower()
        if plain and tokenizer.tokenize(word) == [token]:
            found.append(word)
            if len(found) == most:
                break
    return found


def nearest(scorer, pictures: Sequence, words: Sequence[str], learnable_property: str) -> list[tuple[str, float]]:
    """All words with their cosines, the nearest first.

    Args:
        scorer: a `clip.ClipScorer`.
        pictures: RGB PIL images.
        learnable_property: one of `choices.PROPERTIES`.
    """
    sentence = _SENTENCES.get(learnable_property, _SENTENCE)
    mean = scorer.image_features(pictures).mean(axis=0)  # (P,)
    texts = scorer.text_features([sentence.replace("{}", word) for word in words], trimmed=True)  # (n, P)
    cosines = texts @ (mean / np.linalg.norm(mean))
    return [(words[i], float(cosines[i])) for i in np.argsort(-cosines, kind="stable")]


def settle_auto(args, model, pictures: Sequence[Sequence], say) -> None:
    """Put a word in the place of every `auto` in `args.initializer_token` and `args.concepts`.

    Args:
        args: settled settings.
        model: a `models.BaseModel`.
        pictures: RGB PIL images, by concept.
        say: told the nearest words.

    Raises:
        SettingsError: there is no CLIP model to look with, or the vocabulary holds no such words.
    """
    if not asks_for_it(args):
        return
    scorer, words = _open_clip(args, model), whole_words(model.text_encoders[0].tokenizer)
    if not words:
        raise SettingsError(f"--initializer_token {AUTO}: the vocabulary of {model.name} has no plain words; name one")
    concepts = []
    for concept, own in zip(args.concepts, pictures, strict=True):
        if concept.initializer_token == AUTO:
            ranked = nearest(scorer, own, words, concept.learnable_property)
            best = ", ".join(f"{word} {cosine:.3f}" for word, cosine in ranked[:_SHOWN])
            say(f"{concept.placeholder_token}: nearest of {len(words)} words to its pictures: {best}")
            concept = replace(concept, initializer_token=ranked[0][0])
        concepts.append(concept)
    args.concepts = concepts
    args.initializer_token = [concept.initializer_token for concept in concepts]


def asks_for_it(args) -> bool:
    """Whether any concept's initializer is to be found."""
    return AUTO in (args.initializer_token or ())


def _open_clip(args, model):
    from textual_inversion.evaluation.clip import ClipScorer, find_clip

    if args.clip_model is None and not (model.folder / "clip" / "config.json").is_file():
        raise SettingsError(
            f"--initializer_token {AUTO} looks at the pictures with a CLIP model, and {model.name} comes without one; "
            "name one, such as --clip_model openai/clip-vit-large-patch14, or name the word yourself"
        )
    return ClipScorer(find_clip(model.folder, args.clip_model))
