"""Pictures that a run draws on the way and at its end: each rank draws its share, the first one gets them all.

A picture depends on its request alone, so it does not matter who draws it, but for rounding: the U-Net's sums come out
a little otherwise in a batch of another size, which moves a pixel by one of 255 levels here and there.
"""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.distributed as dist
from PIL import Image

from textual_inversion.generation.generate import ImageRequest, generate, total_steps
from textual_inversion.generation.prompt_file import SamplePrompt
from textual_inversion.models.memory import keeps_vae
from textual_inversion.system.progress import Progress
from textual_inversion.system.signals import blocked

# Pictures that are made together, and the pixels from which they are made one by one.
_BATCH = 8
_LARGE_PICTURE = 256 * 256


def request_of(prompt: SamplePrompt, seed: int, args) -> ImageRequest:
    """One picture of a prompt, what it leaves open settled by the flags."""
    steps, guidance = prompt.num_inference_steps, prompt.guidance_scale
    return ImageRequest(
        prompt=prompt.text,
        seed=seed,
        negative_prompt=prompt.negative_prompt,
        guidance_scale=args.guidance_scale if guidance is None else guidance,
        num_inference_steps=args.num_inference_steps if steps is None else steps,
    )


def share(requests: Sequence[ImageRequest], ranks) -> list[ImageRequest]:
    """The requests that this rank draws: each once, dealt out in turn."""
    return list(dict.fromkeys(requests))[ranks.rank :: ranks.world_size]


def draw(
    args, run, requests: Sequence[ImageRequest], *, size: tuple[int, int] | None = None, shows_progress: bool = False
) -> list | None:
    """The pictures of the requests, each different one drawn once; to be called on all ranks alike.

    The VAE stays in memory where it will be wanted again soon, see `memory.keeps_vae`; else it leaves.

    Args:
        run: the command's `Run`: model, ranks, stop.
        size: (height, width) in pixels; None: the training pictures'.
        shows_progress: of the first rank's share.

    Returns:
        RGB PIL images in the order of the requests on the first rank; None on the others.

    Raises:
        Stopped: this rank was told to end or, where there are several, another was before all were done.
    """
    height, width = size or (args.height, args.width)
    own = share(requests, run.ranks)
    # A large picture's attention alone fills gigabytes; small ones are made quickest together.
    batch_size = _BATCH if height * width < _LARGE_PICTURE and not args.low_memory else 1
    pictures = []
    if own:
        shown = shows_progress and run.ranks.is_main
        with Progress(total_steps(own), description="denoising step", enabled=shown) as progress:
            settings = {"height": height, "width": width, "batch_size": batch_size, "progress": progress}
            pictures = generate(run.model, own, **settings)
    if not keeps_vae(args):
        run.model.free_vae()
    distinct = list(dict.fromkeys(requests))
    drawn = _gather(run, pictures, len(distinct), (height, width))
    if drawn is None:
        return None
    by_request = dict(zip(distinct, drawn, strict=True))
    return [by_request[request] for request in requests]


def _gather(run, pictures: list, count: int, size: tuple[int, int]) -> list | None:
    """All `count` pictures of (height, width), in the order in which they were dealt out, on the first rank.

    They travel as uint8 [ceil(count / world size), H, W, 3] of each rank, the last of which may be empty.
    """
    ranks = run.ranks
    if ranks.world_size == 1:
        return pictures
    own = np.zeros((-(-count // ranks.world_size), *size, 3), dtype=np.uint8)
    for place, picture in enumerate(pictures):
        own[place] = np.asarray(picture)
    with run.stop.noted():
        ranks.meet(run.stop)
        with blocked():
            sent, received = paddle.to_tensor(own), [] if ranks.is_main else None
            dist.gather(sent, received, dst=0)
            sent.numpy()  # on a card the exchange is over only now, and nobody leaves before
            shares = [tensor.numpy() for tensor in received or ()]
    if not ranks.is_main:
        return None
    return [Image.fromarray(shares[i % ranks.world_size][i // ranks.world_size]) for i in range(count)]
