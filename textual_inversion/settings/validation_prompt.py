"""A prompt of validation images, with its own sampling settings."""

from dataclasses import dataclass

# Seed of the first image of a prompt without a seed of its own. It is the same at every step, so that an image changes
# only because the vectors did.
FIRST_SEED = 0


@dataclass(frozen=True)
class ValidationPrompt:
    """A prompt and its own sampling settings; None means that the flags of the command apply.

    Attributes:
        text: the prompt, with placeholder tokens that are not yet expanded.
        seed: of the first image; the next images have the following seeds.
        guidance_scale: weight of classifier-free guidance.
        num_inference_steps: denoising steps.
        negative_prompt: what the images should not show.
    """

    text: str
    seed: int | None = None
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    negative_prompt: str = ""

    @property
    def first_seed(self) -> int:
        """The seed of the first image."""
        return FIRST_SEED if self.seed is None else self.seed

    @property
    def caption(self) -> str:
        """The prompt, followed by its own settings in parentheses."""
        own = {
            "seed": self.seed,
            "guidance": None if self.guidance_scale is None else f"{self.guidance_scale:g}",
            "steps": self.num_inference_steps,
            "without": self.negative_prompt or None,
        }
        settings = ", ".join(f"{name} {value}" for name, value in own.items() if value is not None)
        return f"{self.text} ({settings})" if settings else self.text
