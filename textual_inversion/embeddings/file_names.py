"""Names of the files of learned embeddings."""

import re
from collections.abc import Sequence

FINAL, BEST = "learned_embeds", "learned_embeds-best"
FINAL_NAME, BEST_NAME = f"{FINAL}.pdparams", f"{BEST}.pdparams"
_TIMED = re.compile(r"(?:best|steps-\d+)-(.+)", re.IGNORECASE)


def of_step(step: int) -> str:
    """The name of the files of an optimizer step, without an ending."""
    return f"{FINAL}-steps-{step}"


def safetensors_names(stem: str, placeholder_tokens: Sequence[str]) -> list[str]:
    """The `.safetensors` of each concept: `STEM.safetensors` of the only one, else `STEM-NAME.safetensors`.

    Args:
        stem: `FINAL`, `BEST` or the result of `of_step`.
    """
    if len(placeholder_tokens) == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{safe_name(token)}.safetensors" for token in placeholder_tokens]


def without_time(name: str) -> str | None:
    """The concept that a name would belong to as that of a step or of the best one: `a` for `steps-5-a`; else None.

    The final file of a concept of that name would be the other concept's at that step.

    Args:
        name: a result of `safe_name`.
    """
    found = _TIMED.fullmatch(name)
    return found[1] if found else None


def safe_name(placeholder_token: str) -> str:
    """A placeholder token as part of a file name: `<cat-toy>` gives `cat-toy`."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in placeholder_token).strip("-.")
    return kept or "concept"
