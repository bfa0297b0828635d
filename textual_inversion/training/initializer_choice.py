"""`--initializer_token auto`: the word that the vectors of a concept start from is chosen by the loss.

The words nearest to the images in CLIP's space, and the generic word for any concept of the kind, each take the
placeholder token's place in the training prompts. The word with the lowest loss on the concept's images is taken, with
the same images, timesteps and noises for all of them, so that only the words differ. What CLIP finds nearest may say
much that is wrong, which costs more than what a generic word leaves open.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from textual_inversion.data.dataset import encode_images
from textual_inversion.data.prompt_variation import PromptVariation
from textual_inversion.data.read_images import ReadImages
from textual_inversion.data.sampler import SampleStream
from textual_inversion.data.templates import generic_word
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.placeholder_words import whole_words
from textual_inversion.models.vocabulary import known_ids
from textual_inversion.settings.choices import AUTO
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.train_data import ImageSettings
from textual_inversion.training.fixed_set import FixedSet
from textual_inversion.training.nearest_words import Nearest

_NEAREST = 5  # words by CLIP that the loss is asked about
_SAMPLES = 16  # for each word
_MOST_IMAGES = 8  # of a concept, evenly from all of them


@dataclass(frozen=True)
class LossSettings:
    """What the loss of a word depends on, besides model and images.

    Attributes:
        images: how they are cut to size.
        size: (height, width) of the training images, in pixels.
        seed: of the run.
        timestep_range: the half-open range of timesteps that the run trains on.
        variation: of the run's prompts.
        chunk: samples per pass through the U-Net.
    """

    images: ImageSettings
    size: tuple[int, int]
    seed: int
    timestep_range: tuple[int, int]
    variation: PromptVariation
    chunk: int


class WordLoss:
    """The loss on the images of one concept where a word stands in place of its placeholder token.

    Args:
        concept, index: whose images, and which of the run's concepts it is.
        model: it needs to know no placeholder token.

    Raises:
        ImageError: an image is no longer what it was.
    """

    def __init__(self, concept: Concept, index: int, model: BaseModel, read: ReadImages, settings: LossSettings):
        self._model, self._chunk = model, settings.chunk
        self._timestep_range = settings.timestep_range or (0, len(model.noise_scheduler.alphas_cumprod))
        self._pattern = whole_words([concept.placeholder_token])
        options = {"keep_vae": True, "say": lambda line: None, "shows_progress": False}
        self._data = encode_images(_some_of(read, index), model, settings.images, settings.size, **options)
        samples = SampleStream(
            seed=settings.seed,
            images=self._data.images,
            latent_shapes=self._data.latent_shapes,
            global_batch=1,
            num_train_timesteps=len(model.noise_scheduler.alphas_cumprod),
            timestep_range=settings.timestep_range,
            variation=replace(settings.variation, placeholders=(concept.placeholder_token,)),
        )
        self._batches = samples.evaluation_batches(_SAMPLES)

    def __call__(self, word: str) -> float:
        """The mean squared error of the U-Net's prediction."""
        batches = [
            replace(batch, prompts=[self._with(word, text) for text in batch.prompts]) for batch in self._batches
        ]
        fixed_set = FixedSet(self._model, self._data, batches, self._chunk, self._timestep_range)
        return float(fixed_set.losses().mean())

    def _with(self, word: str, prompt: str) -> str:
        return self._pattern.sub(lambda found: word, prompt)


def _some_of(read: ReadImages, concept: int) -> ReadImages:
    """The images of one concept that are learned: at most `_MOST_IMAGES`, evenly from all of them."""
    own = [i for i, image in enumerate(read.images) if image.concept == concept and not image.is_contrast]
    if len(own) > _MOST_IMAGES:
        own = [own[number * len(own) // _MOST_IMAGES] for number in range(_MOST_IMAGES)]
    images = tuple(replace(read.images[i], concept=0) for i in own)
    masks = tuple(read.masks[i] for i in own) if read.masks else ()
    return replace(read, images=images, files=tuple(read.files[i] for i in own), masks=masks)


def with_chosen_words(
    concepts: Sequence[Concept],
    model: BaseModel,
    read: ReadImages,
    nearest: Nearest,
    settings: LossSettings,
    language: str,
    say: Callable[[str], None],
) -> list[Concept]:
    """Concepts in which a word takes the place of every initializer `auto`.

    Args:
        nearest: gives the words near to a concept's images.
        language: of the prompts, one of `choices.LANGUAGES`.
        say: told in one line for each such concept which word it is, and why.

    Raises:
        ImageError: an image is no longer what it was.
    """
    settled = []
    for index, concept in enumerate(concepts):
        if concept.initializer_token == AUTO:
            near = nearest(read.of_concept(index), concept.learnable_property)[:_NEAREST]
            words = dict.fromkeys([*(word for word, _ in near), generic_word(concept.learnable_property, language)])
            measure = WordLoss(concept, index, model, read, settings)
            losses = {word: measure(word) for word in words if known_ids(word, model.text_encoders[0].tokenizer)}
            concept = replace(concept, initializer_token=min(losses, key=losses.__getitem__))
            say(_line(concept, losses))
        settled.append(concept)
    return settled


def _line(concept: Concept, losses: dict[str, float]) -> str:
    each = ", ".join(f"{word} {losses[word]:.4f}" for word in sorted(losses, key=losses.__getitem__))
    return (
        f"{concept.placeholder_token}: {concept.initializer_token!r} has the lowest loss on its images of the "
        f"{len(losses)} words that were tried: {each}"
    )
