"""Putting the parts of a run together: the base model with its concepts, and the stream of training samples.

These functions take all settings; what they call takes the parts that it needs.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from textual_inversion.data.dataset import TrainingSet, encode_images
from textual_inversion.data.hub_images import image_folder
from textual_inversion.data.noise import MultiresolutionNoise
from textual_inversion.data.prompt_variation import make_variation
from textual_inversion.data.random_streams import draw_seed
from textual_inversion.data.read_images import ReadImages, read_held_out, read_images, unaugmented
from textual_inversion.data.sampler import SampleStream
from textual_inversion.data.vector_augmentation import make_plan
from textual_inversion.embeddings.files import read_initializer_embeds
from textual_inversion.formats.learned_embedding import LearnedEmbedding, embedding_notes
from textual_inversion.hub import data_sets
from textual_inversion.models import memory
from textual_inversion.models.base_model import BaseModel, load_base_model
from textual_inversion.models.hub import resolve
from textual_inversion.models.other_vae import fetch_vae
from textual_inversion.models.precision import lower
from textual_inversion.settings.choices import AUTO, NO_CHECKS, REFUSE
from textual_inversion.settings.concept import Concept
from textual_inversion.settings.flag import changed
from textual_inversion.settings.shared import parts_of, source_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.settings.train_method import TrainingSettings
from textual_inversion.system.errors import ImageError
from textual_inversion.system.paths import portable
from textual_inversion.system.tracking import Tracker
from textual_inversion.training import first_look
from textual_inversion.training.best_step import check_judge
from textual_inversion.training.first_look import FirstLook
from textual_inversion.training.fixed_set import FixedSet, measured_on
from textual_inversion.training.image_losses import EACH, ImageLosses, are_measured
from textual_inversion.training.initialization import add_concepts
from textual_inversion.training.initializer_choice import LossSettings, with_chosen_words
from textual_inversion.training.loss import timestep_range
from textual_inversion.training.loss_watch import LossWatch
from textual_inversion.training.nearest_words import word_finder
from textual_inversion.training.resume import CHOSEN_WORDS, recorded_seed, recorded_words
from textual_inversion.training.settling import Settling
from textual_inversion.training.state import ConceptVectors, Record, Run, RunContext
from textual_inversion.training.validation import Painter, prompt_notes


def with_seed(config: TrainConfig, record: Record, context: RunContext) -> TrainConfig:
    """The settings with their seed: the user's, the resumed checkpoint's, or one that is drawn."""
    seed = config.training.seed
    seed = recorded_seed(record) if seed is None else seed
    return changed(config, seed=context.ranks.broadcast(draw_seed() if seed is None else seed))


def load_model(config: TrainConfig, context: RunContext) -> tuple[TrainConfig, BaseModel]:
    """Load the frozen base model, and settle the size of the training images.

    Raises:
        BaseModelError: it cannot be had, or not be trained.
        SettingsError: it cannot make images of that size.
    """
    settings, images = config.base_model, config.images
    name, source = settings.pretrained_model_name_or_path, source_of(settings, config.hub.hub_token)
    if context.ranks.is_main:
        resolve(name, **source)  # one process fetches, the others find it
        if settings.vae is not None:
            fetch_vae(settings.vae, **{key: value for key, value in source.items() if key != "revision"})
    context.ranks.wait()
    with context.stop.held_back():
        importlib.import_module("ppdiffusers")
    model = load_base_model(name, **parts_of(settings), **source)
    height, width = model.image_size(images.height or images.resolution, images.width or images.resolution)
    return changed(config, height=height, width=width), model


def teach(
    config: TrainConfig, context: RunContext, model: BaseModel, read: ReadImages, record: Record
) -> tuple[TrainConfig, ConceptVectors, list[LearnedEmbedding]]:
    """Give the base model the concepts, and say what each starts from.

    Returns:
        The settings with the initializers filled in, the vectors, and the learned embeddings that they start from.

    Raises:
        ConceptError: a concept cannot be learned with this base model.
        SettingsError: an initializer or a CLIP model is not to be had.
    """
    concepts = context.ranks.broadcast(_with_initializers(config, context, model, read, record))
    record.fingerprint[CHOSEN_WORDS] = [concept.initializer_token for concept in concepts]
    if config.concept.initializer_token is not None:
        config = changed(config, initializer_token=[concept.initializer_token for concept in concepts])
    learned = read_initializer_embeds(
        config.concept.initializer_embeds, token=config.hub.hub_token, renaming=config.concept.rename
    )
    vectors = add_concepts(concepts, model, learned, config.training.seed, read, context.say)
    about_files = [note for embedding in learned for note in embedding_notes(embedding)]
    encode_ids, weights = model.text_encoders[0].encode_ids, config.validation.prompt_weights
    about_prompts = prompt_notes(config.validation_prompts, encode_ids, vectors.tokens, prompt_weights=weights)
    for note in about_files + about_prompts + model.drawing_notes(config.validation.scheduler):
        context.say(f"note: {note}")
    check_judge(config.validation, config.validation_prompts, model, vectors)
    return config, vectors, learned


def with_images(config: TrainConfig, context: RunContext) -> TrainConfig:
    """The settings with each data set of a hub by the commit that was read, and its images in a folder.

    Raises:
        ImageError: a data set cannot be had.
    """
    names = [name for folders in _image_folders(config).values() for name in folders]
    wanted = [name for name in dict.fromkeys(names) if data_sets.is_name(name)]
    if not wanted:
        return config
    where = {"cache_dir": config.base_model.cache_dir, "token": config.hub.hub_token}
    if context.ranks.is_main:
        for name in wanted:  # one process fetches, the others find it
            image_folder(name, **where)
    context.ranks.wait()
    found = {name: image_folder(name, **where) for name in wanted}
    for name in wanted:
        context.say(f"images of {found[name][1]}")
    config = config_with_folders(config, {name: str(folder) for name, (folder, _) in found.items()})
    pinned = {name: pin for name, (_, pin) in found.items()}
    folders = _image_folders(config)
    folders.pop("validation_data_dir", None)  # is read from the folder, not from the concept
    return changed(config, **{flag: [pinned.get(name, name) for name in names] for flag, names in folders.items()})


def _image_folders(config: TrainConfig) -> dict[str, tuple[str, ...]]:
    """The folders of images that a run reads, by their flags; only flags that are given."""
    folders = {
        "train_data_dir": config.concept.train_data_dir,
        "contrast_data_dir": config.concept.contrast_data_dir,
        "validation_data_dir": config.validation.validation_data_dir,
    }
    return {flag: tuple(names) for flag, names in folders.items() if names}


def config_with_folders(config: TrainConfig, folders: Mapping[str, str]) -> TrainConfig:
    """The settings with folders in place of some names of data sets."""
    concepts = tuple(
        replace(
            one,
            image_folder=folders.get(one.image_folder, one.image_folder),
            contrast_folder=folders.get(one.contrast_folder, one.contrast_folder),
        )
        for one in config.concepts
    )
    held_out = config.validation.validation_data_dir
    if held_out is not None:
        config = changed(config, validation_data_dir=[folders.get(name, name) for name in held_out])
    return replace(config, concepts=concepts)


def read_all(config: TrainConfig, context: RunContext) -> tuple[ReadImages, ReadImages | None]:
    """The images that are learned from, and those that are held out; raises what `read_images.read_images` does."""
    validation, told = config.validation, {"say": context.say, "shows_progress": context.ranks.is_main}
    prompts, language = config.prompts, config.base_model.language
    read = read_images(config.concepts, config.images, prompts, language, config.concept.repeats, **told)
    if validation.validation_data_dir is None:
        return read, None
    folders = validation.validation_data_dir, validation.validation_mask_dir
    return read, read_held_out(config.concepts, *folders, config.images, prompts, language, read, **told)


def encode_all(
    config: TrainConfig, context: RunContext, model: BaseModel, read: ReadImages, held_out: ReadImages | None
) -> tuple[TrainingSet, TrainingSet | None]:
    """The images as training needs them; those that are held out on the main process, where the loss is measured."""
    size, told = (config.images.height, config.images.width), {"say": context.say}
    told["shows_progress"] = context.ranks.is_main
    validation = None
    if held_out is not None and context.ranks.is_main:
        as_they_are = unaugmented(config.images)
        validation = encode_images(held_out, model, as_they_are, size, keep_vae=True, **told)
    own = {"seed": config.training.seed, "keep_vae": keeps_vae(config)}
    return encode_images(read, model, config.images, size, **own, **told), validation


def _with_initializers(
    config: TrainConfig, context: RunContext, model: BaseModel, read: ReadImages, record: Record
) -> tuple[Concept, ...]:
    """The concepts with a word for each `auto`: the one that a resumed run began with, or one that is chosen now."""
    concepts, words = config.concepts, recorded_words(record, len(config.concepts))
    if words is not None:
        concepts = tuple(
            replace(concept, initializer_token=word) if concept.initializer_token == AUTO else concept
            for concept, word in zip(concepts, words, strict=True)
        )
    if not context.ranks.is_main or not any(concept.initializer_token == AUTO for concept in concepts):
        return concepts
    asked = (config.objective.min_timestep, config.objective.max_timestep)
    settings = LossSettings(
        images=config.images,
        size=(config.images.height, config.images.width),
        seed=config.training.seed,
        timestep_range=timestep_range(model.noise_scheduler.alphas_cumprod, model.prediction_type, *asked),
        variation=make_variation(config.prompts, [concept.placeholder_token for concept in concepts]),
        chunk=config.training.train_batch_size,
    )
    nearest = word_finder(config.validation.clip_model, model, context.say)
    return tuple(with_chosen_words(concepts, model, read, nearest, settings, config.base_model.language, context.say))


def check_images(config: TrainConfig, context: RunContext, record: Record, model: BaseModel, read: ReadImages) -> None:
    """Look at the training images, where the settings ask for it, and say what was found; see `first_look`.

    Raises:
        ImageError: something was found, and the settings refuse that; on all processes.
    """
    wish = config.images.check_images
    if wish == NO_CHECKS:
        return
    texts: list[str] = []
    if context.ranks.is_main:
        folder = None if config.saving.plan else context.folder
        size = (config.images.height, config.images.width)
        look = FirstLook(read, config.concepts, config.images, size, model.side_factor)
        found = look.findings(first_look.find_scorer(model, config.validation.clip_model))
        record.figures["image_findings"] = {check: len(texts) for check, texts in found.items()}
        texts = [text for texts in found.values() for text in texts]
        for text in texts or ["nothing was found"]:
            context.say(f"look at the images: {text}")
        if folder is not None:
            path = look.save_sheet(folder)
            context.say(f"look at the images: what the model will see is in {path}")
    found_any = context.ranks.broadcast(len(texts))
    if found_any and wish == REFUSE:
        raise ImageError(
            f"{found_any} finding(s) among the training images, and --check_images refuse takes none; change the "
            "images, or give --check_images alone"
        )


def spare(config: TrainConfig, context: RunContext, model: BaseModel) -> None:
    """Lower the precision and save memory as far as the settings ask for, and say what the base model is."""
    machine, training = config.machine, config.training
    lower(model, machine.mixed_precision)
    efficient = machine.enable_xformers_memory_efficient_attention
    memory.save_memory(model, gradient_checkpointing=machine.gradient_checkpointing, efficient_attention=efficient)
    if machine.low_memory:
        in_parts = memory.work_in_parts(model, has_efficient_attention=efficient)
        batch, accumulation = training.train_batch_size, training.gradient_accumulation_steps
        context.say(memory.low_memory_line(batch, accumulation, in_parts, keep_vae=keeps_vae(config)))
    size = f"{config.images.width}x{config.images.height} pixels"
    low = machine.mixed_precision
    in_type = "" if low == "no" else f", U-Net and text encoders in {low}"
    context.say(f"base model {portable(model.name)}: {model.prediction_type}, {size}, all of it frozen{in_type}")


def keeps_vae(config: TrainConfig) -> bool:
    """Whether the VAE stays in memory between the times at which it is used."""
    crops, draws = config.images.encodes_live, bool(config.validation_prompts)
    return memory.keeps_vae(random_crops=crops, draws=draws, low_memory=config.machine.low_memory)


def plan_samples(
    config: TrainConfig, model: BaseModel, vectors: ConceptVectors, data: TrainingSet, global_batch: int
) -> SampleStream:
    """What each training sample will be: a pure function of the seed, the step and its index in the global batch."""
    alphas_cumprod, objective = model.noise_scheduler.alphas_cumprod, config.objective
    counts = {concept.placeholder_token: concept.num_vectors for concept in vectors.concepts}
    plan = make_plan(config.prompts, counts, config.training.max_train_steps)
    variation = make_variation(config.prompts, vectors.tokens)
    timesteps = (objective.min_timestep, objective.max_timestep)
    return SampleStream(
        seed=config.training.seed,
        images=data.images,
        latent_shapes=data.latent_shapes,
        global_batch=global_batch,
        # Where a caption names another concept too, that one is read and not learned from.
        placeholders=tuple(vectors.tokens),
        num_train_timesteps=len(alphas_cumprod),
        timestep_range=timestep_range(alphas_cumprod, model.prediction_type, *timesteps),
        flip_p=config.images.flip_p,
        variants=config.images.variants,
        vary=plan if plan.varies else None,
        variation=variation if variation.varies else None,
        stratified=objective.timestep_sampling == "stratified",
        antithetic=objective.antithetic_noise,
        multiresolution=make_multiresolution(objective.multires_noise_iterations, objective.multires_noise_discount),
    )


def make_multiresolution(iterations: int, discount: float) -> MultiresolutionNoise | None:
    """The coarser noises of the training samples; None for none."""
    return MultiresolutionNoise(iterations, discount) if iterations else None


def make_painter(config: TrainConfig, run: Run) -> Painter:
    """What draws validation images, and before and after."""
    size = (config.images.height, config.images.width)
    return Painter(run.model, run.context, size, one_by_one=config.machine.low_memory, keep_vae=keeps_vae(config))


def make_losses(
    config: TrainConfig, run: Run, tracker: Tracker, write: Callable[[str], None]
) -> tuple[LossWatch, ImageLosses | None]:
    """What measures the loss on the fixed set, and what measures it for each image."""
    samples, chunk = run.samples, config.training.train_batch_size
    data, measured = measured_on(run)
    span = samples.timestep_range or (0, samples.num_train_timesteps)
    fixed_set = FixedSet(run.model, data, measured.evaluation_batches(config.validation.eval_samples), chunk, span)
    watch = LossWatch(fixed_set, run.record, tracker, write, _make_settling(config.training, run.record))
    if not are_measured(samples):
        return watch, None
    of_images = FixedSet(run.model, run.data, samples.image_batches(EACH), chunk, span)
    return watch, ImageLosses(of_images, run.record, tracker)


def _make_settling(training: TrainingSettings, record: Record) -> Settling | None:
    """What ends the run, where the settings ask for it; it goes on with what a resumed run has seen."""
    if not training.stop_when_settled:
        return None
    return Settling(training.patience, training.warmup_steps, record.figures.setdefault("fixed_set_samples", {}))
