"""The new words of a run: what each starts from, its rows beside the base model's tables, prompts that know it."""

from textual_inversion.data import sampler
from textual_inversion.embeddings.files import read_initializer_embeds
from textual_inversion.models import prompt_encoder
from textual_inversion.training import initialization
from textual_inversion.training.movement import unread_words
from textual_inversion.training.nearest_words import settle_auto


def find_initializers(args, run, pictures: list) -> None:
    """Let the pictures of each concept say which word it starts from, where that was left to them."""
    own = [
        [p for p, image in zip(pictures, run.images, strict=True) if image.concept == c]
        for c in range(len(args.concepts))
    ]
    if run.ranks.is_main:
        settle_auto(args, run.model, own, run.say)
    args.concepts, args.initializer_token = run.ranks.broadcast((args.concepts, args.initializer_token))


def add_words(args, run) -> None:
    """Give the base model the new words: rows beside its embedding tables, and prompts that know them."""
    model = run.model
    run.learned = read_initializer_embeds(args.initializer_embeds, token=args.hub_token)
    run.concepts = initialization.settle(args.concepts, model, run.learned)
    generator = sampler.initial_rows_generator(args.seed)
    run.start = initialization.start_rows(model, run.concepts, generator, run.learned)
    counts = {concept.placeholder_token: concept.num_vectors for concept in run.concepts}
    run.embeddings = prompt_encoder.attach_concepts(model, counts, run.start)
    prompt_encoder.check_prompts(model.text_encoders[0].encode_ids, run.concepts, run.images, note=run.say)
    for warning in unread_words(model.text_encoders, run.concepts, run.images):
        run.say(warning)
    for concept in run.concepts:
        known = initialization.matching(concept, run.learned, alone=len(run.concepts) == 1)
        start = initialization.describe(concept, known)
        run.say(f"{concept.placeholder_token} as {concept.num_vectors} vector(s), starting from {start}")
    for prompt in args.sample_prompts:
        if not model.text_encoders[0].encode_ids.holds_placeholder(prompt.text):
            words = ", ".join(args.placeholder_token)
            run.say(f"note: the prompt {prompt.text!r} of sample pictures holds none of {words}")
    texts = [text for prompt in args.sample_prompts for text in (prompt.text, prompt.negative_prompt)]
    for line in prompt_encoder.cut_notes(model.text_encoders[0].encode_ids, texts):
        run.say(f"note: {line}")
