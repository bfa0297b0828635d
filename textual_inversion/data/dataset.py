"""The training images of a run: read with sentences and masks, brought to a shape, and encoded once by the VAE."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from textual_inversion.data.captions import sentences_of
from textual_inversion.data.images import find_images, load_image, to_array
from textual_inversion.data.latents import LiveLatents, encode_posteriors
from textual_inversion.data.masks import Masks, check_alpha, masks_for
from textual_inversion.data.resizing import Framing
from textual_inversion.data.sampler import TrainingImage
from textual_inversion.system.paths import portable


def read_images(args, run) -> tuple[list, list]:
    """Read every concept's pictures and masks, and write the sentences that go with them, before anything slow."""
    pictures, masks = [], []
    for place, concept in enumerate(args.concepts):
        paths = find_images(concept.image_folder, note=run.say)
        with ThreadPoolExecutor(max_workers=max(1, args.dataloader_num_workers)) as pool:
            own = list(pool.map(lambda path: load_image(path, note=run.say), paths))
        masks += masks_for(own, paths, args.mask_dir and args.mask_dir[place], alpha=args.alpha_mask, note=run.say)
        pictures += own
        run.images += [TrainingImage(place, prompts) for prompts in sentences_of(args, place, paths, note=run.say)]
        run.say(f"{len(paths)} training image(s) of {concept.placeholder_token} in {portable(concept.image_folder)}")
    if args.alpha_mask:
        check_alpha(masks)
    return pictures, masks


def encode_images(args, run, pictures: list, masks: list) -> None:
    """Bring every training image to its shape, and let the VAE see it once."""
    # After the base model: this imports ppdiffusers, which takes a while.
    from textual_inversion.models.memory import keeps_vae

    framing = Framing(args.resize_mode, args.height, args.width, args.interpolation, run.model.side_factor)
    run.shapes, buckets = framing.buckets([picture.size for picture in pictures])
    framing.say(run.shapes, buckets, run.say)
    run.images = [replace(image, bucket=bucket) for image, bucket in zip(run.images, buckets, strict=True)]
    framed = list(zip(pictures, (run.shapes[bucket] for bucket in buckets), strict=True))
    run.pixels = [to_array(framing.view(picture, shape)) for picture, shape in framed]
    if masks:
        run.masks = Masks(masks, framing, run.shapes, buckets, run.model.vae_scale_factor, args.unmasked_weight)
    if args.resize_mode == "random_crop":
        material = [to_array(framing.material(picture, shape)) for picture, shape in framed]
        run.cache = LiveLatents(run.model, material, run.shapes[0])
        return
    run.cache = encode_posteriors(run.model.vae, run.pixels, mirrored=args.flip_p > 0)
    if not keeps_vae(args):
        run.model.free_vae()
