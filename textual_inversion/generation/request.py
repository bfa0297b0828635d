"""What decides one image. Nothing here imports paddle, so that images can be planned before a model is loaded."""

from dataclasses import dataclass

from textual_inversion.generation.start_image import StartImage


@dataclass(frozen=True)
class ImageRequest:
    """One image to make.

    Attributes:
        prompt: may hold placeholders; the model's own prompt encoder expands them.
        seed: 0 to 2**64 - 1; decides all noise.
        negative_prompt: what guidance leads away from; without effect where `guidance_scale` is at most 1.
        guidance_scale: weight w of classifier-free guidance (arXiv 2207.12598); at most 1 means none, at half the work.
        num_inference_steps: denoising steps.
        scheduler: a key of `choices.SCHEDULERS`; None: the pipeline's own.
        eta: the share of noise that DDIM adds in each step, 0 to 1 (arXiv 2010.02502, equation 16); without effect on
            other schedulers.
        height, width: in pixels; None: the size that the model was trained for.
        embeds: the label of the column of a comparison, whose embedding files are attached; "" where there is none.
        initial_vectors: placeholders stand for the initial values of their embedding vectors.
        prompt_weights: both prompts may be of any length, and marks such as `(word:1.3)` weight their parts; see
            `models.prompt_weights`.
        start: what the image is made from; None: from noise alone. A height and width of None then stand for the size
            that `from_image.drawn_size` gives.

    Raises:
        SettingsError: the strength of `start` is less than one denoising step.
    """

    prompt: str
    seed: int
    negative_prompt: str = ""
    guidance_scale: float = 7.5
    num_inference_steps: int = 50
    scheduler: str | None = None
    eta: float = 0.0
    height: int | None = None
    width: int | None = None
    embeds: str = ""
    initial_vectors: bool = False
    prompt_weights: bool = False
    start: StartImage | None = None

    def __post_init__(self) -> None:
        if self.start is not None:
            self.start.check_steps(self.num_inference_steps)

    @property
    def denoising_steps(self) -> int:
        """The denoising steps that are taken: from an image not all of `num_inference_steps`."""
        return self.num_inference_steps if self.start is None else self.start.denoising_steps(self.num_inference_steps)

    @property
    def batch_settings(self) -> tuple:
        """What the images of a batch must have in common."""
        sampling = self.num_inference_steps, self.guidance_scale, self.scheduler, self.eta
        start = self.start and self.start.batch_settings
        return *sampling, self.height, self.width, self.embeds, self.prompt_weights, start

    @property
    def is_guided(self) -> bool:
        """Whether the U-Net also predicts without the prompt, for guidance."""
        return self.guidance_scale > 1
