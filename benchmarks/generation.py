"""What generating images costs besides the U-Net's own work.

    python benchmarks/generation.py                       the demo model
    python benchmarks/generation.py --size full --resolution 256 --pictures 1 --denoising_steps 50

Three things are timed in turn: `textual_inversion.generation.generate`; ppdiffusers' pipeline as a user calls it; and
the bare loop of the pipeline. The loop runs the U-Net, guidance and the scheduler for every denoising step of the same
batches; prompts are encoded beforehand, and no image is decoded.
"""

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import full_size_model, runs, tables  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import positive, positive_int  # noqa: E402
from textual_inversion.system.errors import run_command  # noqa: E402
from textual_inversion.system.paths import DEMO_MODEL  # noqa: E402

PROMPTS = ("a photo of a toy", "a photo of a toy on the beach")
OURS, PIPELINE, BARE = "generate", "ppdiffusers' pipeline", "bare U-Net loop"
_WARM_UP = 2  # denoising steps; at full size all of them would take minutes


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="generation.py", description="What generating images costs besides the U-Net's work.")
    flag = parser.add_argument
    flag("--size", choices=("demo", *full_size_model.SIZES), default="demo", help="base model")
    flag("--resolution", type=positive_int, help="pixels; unset: the model's own")
    flag("--pictures", type=positive_int, default=8, help="of two prompts in turn")
    flag("--batch_size", type=positive_int, default=4)
    flag("--denoising_steps", type=positive_int, default=30)
    flag("--guidance_scale", type=positive, default=7.5)
    flag("--scheduler", help="as in infer.py; unset: the model's own")
    flag("--rounds", type=positive_int, default=3, help="runs of each kind, in turns")
    flag("--num_threads", type=positive_int, help="unset: all cores")
    runs.add_work_dir(flag)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    folder = DEMO_MODEL if args.size == "demo" else full_size_model.cached(args.work_dir, args.size)
    from textual_inversion.system.environment import prepare_environment

    prepare_environment(args.num_threads)
    from textual_inversion.models.base_model import load_base_model

    model = load_base_model(folder)
    model.vae  # noqa: B018 - in memory before anything is timed
    times = measure(model, args)
    side = args.resolution or model.resolution
    title = f"Generation, {args.size} model, {args.pictures} pictures of {side}x{side}, {args.denoising_steps} steps"
    print(tables.section(title, times_table(times, args.pictures), tables.targets_table(targets(times))))


def measure(model, args) -> dict[tuple[str, float], list[float]]:
    """(what, guidance) -> seconds of each round; a first, short round is not counted."""
    times: dict[tuple[str, float], list[float]] = {}
    warm_up = Namespace(**vars(args) | {"denoising_steps": min(_WARM_UP, args.denoising_steps)})
    for number in range(args.rounds + 1):
        for guidance in (args.guidance_scale, 1.0):
            for name, job in jobs(model, args if number else warm_up, guidance).items():
                begin = time.perf_counter()
                job()
                seconds = time.perf_counter() - begin
                runs.say(f"round {number}: {name}, guidance {guidance:g}: {tables.seconds(seconds)}")
                if number:
                    times.setdefault((name, guidance), []).append(seconds)
    return times


def jobs(model, args, guidance: float) -> dict[str, Callable[[], object]]:
    """What is timed; each makes the same number of images from the same prompts."""
    from textual_inversion.generation.generate import ImageRequest, batches, generate

    height, width = model.image_size(args.resolution, args.resolution)
    requests = [
        ImageRequest(PROMPTS[i % 2], i, guidance_scale=guidance, num_inference_steps=args.denoising_steps)
        for i in range(args.pictures)
    ]
    sizes = [len(batch) for batch in batches(requests, args.batch_size)]
    settings = {"height": height, "width": width, "scheduler": args.scheduler, "batch_size": args.batch_size}
    bare = BareLoop(model, args, guidance, height, width)
    return {
        OURS: lambda: generate(model, requests, **settings),
        PIPELINE: lambda: by_pipeline(model, requests, settings, guidance, args.denoising_steps),
        BARE: lambda: [bare(size) for size in sizes],
    }


def by_pipeline(model, requests, settings: dict, guidance: float, steps: int) -> None:
    """Make the images with ppdiffusers' pipeline, batch by batch; it encodes the prompts itself."""
    pipe = model.pipeline(settings["scheduler"])
    for first in range(0, len(requests), settings["batch_size"]):
        prompts = [request.prompt for request in requests[first : first + settings["batch_size"]]]
        size = {name: settings[name] for name in ("height", "width")}
        pipe(prompts, guidance_scale=guidance, num_inference_steps=steps, **size)


class BareLoop:
    """The denoising loop of a pipeline and nothing else.

    Args:
        guidance: at most 1 means none; the U-Net then sees each image once instead of twice.
    """

    def __init__(self, model, args, guidance: float, height: int, width: int):
        import paddle

        self._model, self._args, self._guidance = model, args, guidance
        self._shape = (model.unet.config.in_channels, height // model.vae_scale_factor, width // model.vae_scale_factor)
        self._pipe = model.pipeline(args.scheduler)
        with paddle.no_grad():
            self._states = model.encode_prompts([PROMPTS[0], ""]).hidden_states  # (2, L, D)

    @property
    def is_guided(self) -> bool:
        """Whether the U-Net computes the empty prompt too."""
        return self._guidance > 1

    def __call__(self, batch_size: int):
        """Denoise a batch; returns its latents [B, C, H, W]."""
        import paddle

        scheduler, unet = self._pipe.scheduler, self._model.unet
        with paddle.no_grad():
            scheduler.set_timesteps(self._args.denoising_steps)
            latents = paddle.randn([batch_size, *self._shape]) * scheduler.init_noise_sigma
            wanted, empty = (state.unsqueeze(0).expand([batch_size, -1, -1]) for state in self._states)
            states = paddle.concat([empty, wanted]) if self.is_guided else wanted
            for timestep in scheduler.timesteps:
                entered = paddle.concat([latents, latents]) if self.is_guided else latents
                noise = unet(scheduler.scale_model_input(entered, timestep), timestep, states).sample
                if self.is_guided:
                    without, within = noise.chunk(2)
                    noise = without + self._guidance * (within - without)
                latents = scheduler.step(noise, timestep, latents).prev_sample
        return latents


def times_table(times: dict[tuple[str, float], list[float]], pictures: int) -> str:
    """Seconds for all images, seconds for one, and the share of the bare loop."""
    rows = []
    for (name, guidance), values in times.items():
        bare = tables.median(times[(BARE, guidance)])
        middle = tables.median(values)
        share = tables.ratio(bare, middle)
        each = tables.seconds(middle / pictures)
        rows.append((f"{name}, guidance {guidance:g}", tables.seconds(middle), tables.spread(values), each, share))
    head = ("", "all pictures, median", "quickest – slowest", "a picture", "bare loop's share")
    return tables.table(head, [(*row[:-1], tables.number(row[-1])) for row in rows])


def targets(times: dict[tuple[str, float], list[float]]) -> list[tables.Target]:
    """What the project wants of these figures."""
    middle = {key: tables.median(values) for key, values in times.items()}
    guided = next(guidance for _, guidance in times if guidance > 1)
    share = tables.ratio(middle[(BARE, guided)], middle[(OURS, guided)])
    half = tables.ratio(middle[(OURS, 1.0)], middle[(OURS, guided)])
    return [
        tables.Target(f"speed, of the bare loop's, guidance {guided:g}", share, 0.95, at_least=True),
        tables.Target(f"seconds with guidance 1, of those with {guided:g}", half, 0.55),
    ]


if __name__ == "__main__":
    run_command(main)
