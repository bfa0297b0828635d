"""A prompt of validation images, with what it says for itself."""

from dataclasses import dataclass

# A prompt without a seed of its own has this one for its first image: the same at every step, so that an image changes
# only because the vectors did.
FIRST_SEED = 0


@dataclass(frozen=True)
class ValidationPrompt:
    """A prompt and its own sampling settings; None where the flags of the command decide.

    Attributes:
        text: holds placeholder tokens, not yet expanded.
        seed: of its first image; the next ones count up.
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
        """The prompt with whatever it says for itself."""
        own = {
            "seed": self.seed,
            "guidance": None if self.guidance_scale is None else f"{self.guidance_scale:g}",
            "steps": self.num_inference_steps,
            "without": self.negative_prompt or None,
        }
        settings = ", ".join(f"{name} {value}" for name, value in own.items() if value is not None)
        return f"{self.text} ({settings})" if settings else self.text
