"""What the samples of a training image depend on, besides its pixels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingImage:
    """One training image.

    Attributes:
        concept: index of the concept that it shows, counted from 0.
        prompts: with the placeholder token; one is drawn for each sample, and the first is the plain one.
        bucket: images in one bucket have the same size.
        repeats: times the image is seen in an epoch; among the images of a concept their ratio counts.
        templates: prompts from templates, which some samples get in place of the image's captions.
        has_captions: the prompts are captions, and not from templates.
        is_contrast: the vectors are trained away from it.
    """

    concept: int
    prompts: tuple[str, ...]
    bucket: int = 0
    repeats: int = 1
    templates: tuple[str, ...] = ()
    has_captions: bool = False
    is_contrast: bool = False
