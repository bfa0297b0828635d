"""Names of the files of learned embeddings."""

FINAL_NAME = "learned_embeds.pdparams"
BEST_NAME = "learned_embeds-best.pdparams"


def safe_name(placeholder_token: str) -> str:
    """A placeholder token as part of a file name: `<cat-toy>` gives `cat-toy`."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in placeholder_token).strip("-.")
    return kept or "concept"
