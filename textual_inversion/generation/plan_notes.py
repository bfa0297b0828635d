"""What the user should know before a plan is drawn: prompts without a word, text that is not read, idle flags."""

from collections.abc import Sequence

from textual_inversion.data.prompt_variation import holds_placeholder
from textual_inversion.embeddings.files import ConceptFile
from textual_inversion.formats.learned_embedding import composed
from textual_inversion.generation.plan import Plan
from textual_inversion.models.attach import vae_notes
from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.prompt_notes import reading_notes
from textual_inversion.settings.choices import NEGATIVE, SCHEDULERS

MOST_NOTED = 20  # lines about prompts
_MOST_READ = 1000  # prompts
_BOTH = ("prompt", "negative_prompt")


def plan_notes(model: BaseModel, files: Sequence[ConceptFile], plan: Plan) -> list[str]:
    """Everything that the user should know, of the embedding files first."""
    tokens = list(dict.fromkeys(token for file in files for token in file.placeholder_tokens))
    of_files = [note for file in files for note in file.notes]
    of_files += vae_notes(files, model)
    unwanted = [token for token in tokens if any(_is_unwanted(file, token) for file in files)]
    about_prompts = [*unwanted_notes(unwanted, plan), *prompt_notes(model, tokens, plan, unwanted)]
    return [*of_files, *drawing_notes(model, plan), *about_prompts]


def _is_unwanted(file: ConceptFile, token: str) -> bool:
    return token in file.placeholder_tokens and file.learnable_property(token) == NEGATIVE


def unwanted_notes(unwanted: Sequence[str], plan: Plan) -> list[str]:
    """Lines about words for what is not wanted: they stand in a prompt, or in no negative prompt.

    Args:
        unwanted: their placeholder tokens.
    """
    found = []
    for token in unwanted:
        is_in = {name: any(holds_placeholder(composed(text), token) for text in plan.texts(name)) for name in _BOTH}
        if is_in["prompt"]:
            found.append(
                f"{token} was learned from images of what is not wanted, and a prompt names it, which leads towards "
                "them; it belongs in --negative_prompt"
            )
        elif not is_in["negative_prompt"]:
            found.append(
                f"{token} is a word for what is not wanted, and no --negative_prompt names it, so that nothing of it "
                f'is applied; add --negative_prompt "{token}"'
            )
    return found


def prompt_notes(model: BaseModel, tokens: Sequence[str], plan: Plan, unwanted: Sequence[str] = ()) -> list[str]:
    """Lines about prompts: unknown placeholder tokens, or none at all, and text that is not read.

    Args:
        tokens: the placeholder tokens of the embedding files.
        unwanted: those of words for what is not wanted, which prompts need not hold.
    """
    prompts, negative_prompts = (plan.texts(name)[:_MOST_READ] for name in _BOTH)
    with_weights = any(request.prompt_weights for request in plan.requests)
    encode_ids = model.text_encoders[0].encode_ids
    listed, found, drawn = ", ".join(tokens), [], set(prompts)
    texts = list(dict.fromkeys([*prompts, *negative_prompts]))
    needs_word = set(tokens) - set(unwanted)
    avoided = any(map(encode_ids.holds_learned_word, negative_prompts))
    for prompt in texts:
        words = composed(encode_ids.without_marks(prompt) if with_weights else prompt).split()
        bare = [token for token in tokens if token.strip("<>") in words and token not in composed(prompt)]
        if unknown := encode_ids.unknown_placeholders(prompt):
            found.append(f"no file holds {', '.join(unknown)}, which {prompt!r} names; the files hold {listed}")
        elif bare:
            found.append(f"{prompt!r} lacks the brackets of {', '.join(bare)}")
        elif prompt in drawn and not avoided and needs_word and not encode_ids.holds_learned_word(prompt):
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
