"""Names of the files of learned embeddings."""

FINAL_NAME = "learned_embeds.pdparams"
BEST_NAME = "learned_embeds-best.pdparams"


def safe_name(placeholder: str) -> str:
    """A placeholder as part of a file name: `<cat-toy>` gives `cat-toy`."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in placeholder).strip("-.")
    return kept or "concept"
