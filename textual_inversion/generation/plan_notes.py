"""What the user should know before a plan is drawn: prompts without a word, text that is not read, idle flags."""

from collections.abc import Sequence

from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.formats.learned_embedding import composed
from textual_inversion.generation.plan import Plan
from textual_inversion.models.attach import vae_notes
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.prompt_notes import reading_notes
from textual_inversion.settings.choices import SCHEDULERS

MOST_NOTED = 20  # lines about prompts
_MOST_READ = 1000  # prompts


def plan_notes(model: BaseModel, files: Sequence[ConceptFile], plan: Plan) -> list[str]:
    """Everything that the user should know, of the embedding files first."""
    tokens = list(dict.fromkeys(token for file in files for token in file.placeholder_tokens))
    of_files = [note for file in files for note in file.notes]
    of_files += vae_notes(files, model)
    return [*of_files, *drawing_notes(model, plan), *prompt_notes(model, tokens, plan)]


def prompt_notes(model: BaseModel, tokens: Sequence[str], plan: Plan) -> list[str]:
    """Lines about prompts: unknown placeholder tokens, or none at all, and text that is not read.

    Args:
        tokens: the placeholder tokens of the embedding files.
    """
    prompts, negative_prompts = (plan.texts(name)[:_MOST_READ] for name in ("prompt", "negative_prompt"))
    with_weights = any(request.prompt_weights for request in plan.requests)
    encode_ids = model.text_encoders[0].encode_ids
    listed, found, drawn = ", ".join(tokens), [], set(prompts)
    texts = list(dict.fromkeys([*prompts, *negative_prompts]))
    avoided = any(map(encode_ids.holds_learned_word, negative_prompts))
    for prompt in texts:
        words = composed(encode_ids.without_marks(prompt) if with_weights else prompt).split()
        bare = [token for token in tokens if token.strip("<>") in words and token not in composed(prompt)]
        if unknown := encode_ids.unknown_placeholders(prompt):
            found.append(f"no file holds {', '.join(unknown)}, which {prompt!r} names; the files hold {listed}")
        elif bare:
            found.append(f"{prompt!r} lacks the brackets of {', '.join(bare)}")
        elif prompt in drawn and not avoided and not encode_ids.holds_learned_word(prompt):
            found.append(f"{prompt!r} holds no placeholder token; the files hold {listed}")
    encoders = [encoder.encode_ids for encoder in model.text_encoders]
    found += reading_notes(encoders, texts, prompt_weights=with_weights)
    rest = len(found) - MOST_NOTED
    return [*found[:MOST_NOTED], f"and {rest} more such notes on other prompts"] if rest > 0 else found


def drawing_notes(model: BaseModel, plan: Plan) -> list[str]:
    """Lines about how images are drawn: a scheduler that stands in for another one, --eta without effect."""
    schedulers = plan.texts("scheduler")
    found = [note for name in schedulers for note in model.drawing_notes(name)]
    if any(request.eta for request in plan.requests):
        used = {name: type(model.sampling_scheduler(name)).__name__ for name in schedulers}
        if others := sorted({name for name in used.values() if name != SCHEDULERS["ddim"]}):
            found.append(f"--eta has no effect on {', '.join(others)}; only ddim adds such noise")
    return found
