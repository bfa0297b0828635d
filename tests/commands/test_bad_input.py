"""What users get wrong, a row each: the command ends with status 2, no traceback, one line that names the thing and the
way out, and the output folder of an earlier run stays as it was, byte for byte. What can be used is used, and said.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import infer
import score
import sweep
import teach
import train_textual_inversion
from helpers.paths import ROOT
from helpers.strangers import attacks_by_global, entry, text, zip_of
from helpers.tiny_clip import build_clip
from helpers.tiny_models import build_model, tree
from helpers.torch_samples import TORCH_FILES
from helpers.training_runs import draw_images, short_run
from textual_inversion.cli.parser import Switch
from textual_inversion.cli.train import build_parser
from textual_inversion.data import images
from textual_inversion.data.image_folder import natural
from textual_inversion.data.image_formats import Plugin
from textual_inversion.formats.paddle_file import pdparams_bytes
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.generation import generate
from textual_inversion.models.weight_files import WeightFile
from textual_inversion.system.errors import run_command

COMMANDS = {
    "train": train_textual_inversion.main,
    "infer": infer.main,
    "score": score.main,
    "sweep": sweep.main,
    "teach": teach.main,
}
# The last line is made for people: none of Python's own words may stand in it.
PYTHONS_WORDS = ("NoneType", "object has no", "not supported between", "Errno", "unhashable", "expected str")


@dataclass
class World:
    """One tiny base model with its CLIP model, images, and a folder that an earlier run and its images fill."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "out"

    def argv(self, command: str, *more: str) -> list[str]:
        given = {word for word in more if word.startswith("--")}
        settings = {
            "--embeds": str(self.out / "learned_embeds.pdparams"),
            "--num_inference_steps": "1",
            "--num_images": "1",
            **({"--output_dir": str(self.out)} if command == "infer" else {}),
        }
        if command == "train":
            return short_run(self.root, *more)
        if command in ("sweep", "teach"):
            own = [] if "--resume" in given else ["--output_dir", str(self.root / "many")]
            return [*own, *more]
        return [word for flag, value in settings.items() if flag not in given for word in (flag, value)] + list(more)

    def write(self, name: str, data: bytes | str) -> str:
        path = self.root / "made" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    def folder(self, name: str) -> Path:
        path = self.root / "made" / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    argv = short_run(world.root, "--only_save_embeds")
    build_clip(world.root / "base" / "clip")
    train_textual_inversion.main(argv)
    infer.main(world.argv("infer", "--prompt", "a <cat-toy>"))
    assert {"run.json", "learned_embeds.pdparams", "manifest.json", "contact_sheet.png"} <= set(tree(world.out))
    return world


def run(command: str, argv: list[str], capsys) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command, as `python COMMAND.py ARGV` would give them."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        run_command(lambda: COMMANDS[command](argv))
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


# ---------------------------------------------------------------------------------------------------- what a row makes


def filled(size=(40, 32), mode="RGB", color="red"):
    return Image.new(mode, size, color)


def noise(size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8))


def header_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that declares any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def header_jpeg(width: int, height: int) -> bytes:
    """A JPEG whose frame header declares any size."""
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xda\x00\x02\xff\xd9"


def only(world: World, name: str, data: bytes) -> list[str]:
    """Training on a folder that holds one file."""
    folder = world.folder(f"only-{zlib.crc32(data + name.encode())}")
    (folder / name).write_bytes(data)
    return ["--train_data_dir", str(folder)]


def beside(world: World, name: str, data: bytes | str) -> list[str]:
    """Training on a folder of images and one more file."""
    data = data if isinstance(data, bytes) else data.encode()
    folder = draw_images(world.folder(f"beside-{zlib.crc32(data + name.encode())}"))
    (folder / name).write_bytes(data)
    return ["--train_data_dir", str(folder)]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def looped(world: World) -> list[str]:
    folder = world.folder("looped")
    for name in ("a.png", "b.png"):
        (folder / name).unlink(missing_ok=True)
    os.symlink("a.png", folder / "b.png")
    os.symlink("b.png", folder / "a.png")
    return ["--train_data_dir", str(folder)]


def model(change, **options):
    """Training on a copy of the base model in which `change` has done something."""

    def make(world: World) -> list[str]:
        folder = world.root / "made" / "model"
        shutil.rmtree(folder, ignore_errors=True)
        if options:
            build_model(folder, **options)
        else:
            shutil.copytree(world.root / "base", folder)
        change(folder)
        return ["--pretrained_model_name_or_path", str(folder)]

    return make


def other_vae(**changes):
    """Training with a copy of the base model's VAE, whose configuration says something else."""

    def make(world: World) -> list[str]:
        folder = world.root / "made" / "vae"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(world.root / "base" / "vae", folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        return ["--vae", str(folder)]

    return make


def captioned(world: World, caption: str) -> list[str]:
    """Training on images that all have one caption."""
    folder = draw_images(world.folder(f"captioned-{zlib.crc32(caption.encode())}"))
    for image in folder.glob("*.png"):
        image.with_suffix(".txt").write_text(caption)
    return ["--train_data_dir", str(folder)]


def without(part: str):
    def change(folder: Path) -> None:
        shutil.rmtree(folder / part) if (folder / part).is_dir() else (folder / part).unlink()

    return model(change)


def holding(part: str, data: bytes | str):
    return model(lambda folder: (folder / part).write_bytes(data if isinstance(data, bytes) else data.encode()))


def saying(part: str, **entries):
    def change(folder: Path) -> None:
        config = json.loads((folder / part).read_text()) | entries
        (folder / part).write_text(json.dumps(config))

    return model(change)


def spoil(path: Path) -> None:
    """Put a NaN into one tensor of a file."""
    metadata, tensors = WeightFile(path).metadata, load_file(path)
    next(iter(tensors.values())).reshape(-1)[0] = np.nan
    save_file(tensors, path, metadata=metadata)


def pickled(data: bytes):
    def change(folder: Path) -> None:
        (folder / "unet/diffusion_paddle_model.safetensors").unlink()
        (folder / "unet/model_state.pdparams").write_bytes(data)

    return model(change)


def file(flag: str, name: str, data):
    return lambda world: [flag, world.write(name, data() if callable(data) else data)]


def rows(width: int = 32, count: int = 1, value: float = 0.5) -> np.ndarray:
    return np.full((count, width), value, np.float32)


def embedding(token: str = "<x>", **shape):
    return lambda: pdparams_bytes({token: rows(**shape)})


def lora(layer: str = "unet.a", value: float = 0.5):
    """A LoRA file of rank 2 that changes one layer."""
    matrices = {"down": rows(8, 2, value), "up": rows(2, 8, value)}
    return lambda: pdparams_bytes({f"{layer}.lora.{role}.weight": matrix for role, matrix in matrices.items()})


def drawing(mask: Image.Image):
    """From the first training image, with a mask."""

    def make(world: World) -> list[str]:
        path = world.folder("drawing") / "mask.png"
        mask.save(path)
        return ["--image", str(world.root / "pictures/0.png"), "--mask_image", str(path)]

    return make


def two_files(world: World) -> list[str]:
    return ["--embeds", world.write("one.pdparams", embedding()()), world.write("two.pdparams", embedding()())]


def with_other_token(world: World) -> list[str]:
    return ["--compare", f"{world.out}/learned_embeds.pdparams", world.write("o.pdparams", embedding("<other>")())]


def recorded(**record):
    """An embedding beside a run.json that says `record`."""

    def make(world: World) -> list[str]:
        world.write("recorded/run.json", json.dumps({"placeholder_token": "<x>", **record}))
        return ["--embeds", world.write("recorded/x.pdparams", embedding()())]

    return make


def broken_record(content: bytes | None):
    """An embedding beside a run.json of this content; None: beside a folder of that name."""

    def make(world: World) -> list[str]:
        shutil.rmtree(world.folder("broken"))
        if content is None:
            world.folder("broken/run.json")
        else:
            world.write("broken/run.json", content)
        return ["--embeds", world.write("broken/x.pdparams", embedding()())]

    return make


def base(world: World) -> list[str]:
    return ["--pretrained_model_name_or_path", str(world.root / "base")]


def with_base(make):
    return lambda world: [*make(world), *base(world)]


def unknown_to_bert(world: World) -> list[str]:
    return [*model(lambda folder: None, family="taiyi")(world), "--initializer_token", "☃"]


def masks(name: str, image: Image.Image | None):
    def make(world: World) -> list[str]:
        folder = world.folder(f"masks-{name}")
        for number in range(3):
            if image is not None or number:
                (image or filled(mode="L", color="white")).save(folder / f"{number}.png")
        return ["--mask_dir", str(folder)]

    return make


EVIL = attacks_by_global(Path("/nowhere/mark"))["os.system"][0]
NESTED = "[" * 100_000
EMPTY = safetensors_bytes({}, {"format": "pd"})
TWO = ["--placeholder_token", "<a>", "<b>", "--train_data_dir", "{pictures}", "{pictures}"]

# Command, what it is given (words with {out}, {base}, {pictures}, or a function), fragments of the last line.
TRAIN_ROWS = [
    # flags: values
    ("--learning_rate 0", "--learning_rate: must be greater than 0"),
    ("--learning_rate nan", "--learning_rate"),
    ("--learning_rate fast", "'fast' is not a number"),
    ("--max_train_steps 0", "must be at least 1"),
    ("--max_train_steps 1e3", "not a whole number"),
    ("--max_train_steps 9999999999999", "must be at most 1000000000"),
    ("--num_train_epochs 0", "--num_train_epochs"),
    ("--repeats 0", "--repeats"),
    ("--train_batch_size 0", "--train_batch_size"),
    ("--train_batch_size 100000000000", "--train_batch_size: must be at most"),
    ("--gradient_accumulation_steps -1", "--gradient_accumulation_steps"),
    ("--lr_scheduler step", "invalid choice: 'step'"),
    ("--lr_scheduler linear --lr_warmup_steps 2", "make the warm-up shorter"),
    ("--lr_scheduler polynomial --learning_rate 1e-9", "--learning_rate must be above that"),
    ("--lr_num_cycles 0", "--lr_num_cycles"),
    ("--lr_power 0", "--lr_power"),
    ("--seed -1", "--seed: must be between 0"),
    ("--seed 99999999999999999999", "--seed"),
    ("--flip_p 2", "between 0.0 and 1.0"),
    ("--clip_skip 0", "--clip_skip: must be at least 1"),
    ("--clip_skip 3", "--clip_skip 3: the prompts of", "with the layers 1 (its own) to 2"),
    ("--max_token_length 100", "--max_token_length: must be 75, 150 or 225, not 100"),
    (
        "--max_token_length 150 --hidden_reg_weight 0.1 --initializer_token toy",
        "--hidden_reg_weight compares prompts at their end",
        "leave one of the two out",
    ),
    ("--vae /nowhere/vae", "there is no folder /nowhere/vae for --vae", "give a folder, a file"),
    (["--vae", "{pictures}"], "--vae", "neither it nor a vae folder in it holds config.json"),
    (["--vae", "{pictures}/0.png"], "is no .safetensors file"),
    (["--vae", "{out}"], "is inside --output_dir", "choose another folder for the results"),
    (["--vae", "{out}/learned_embeds.safetensors", "--output_dir", "{pictures}/new"], "holds no VAE"),
    (other_vae(scaling_factor=0.13025), "scales its latents by 0.13025, and the U-Net was trained with 0.18215"),
    (other_vae(latent_channels=8), "makes latents of 8 channels, and the U-Net takes 4"),
    (other_vae(_class_name="VQModel"), "is a VQModel, not an AutoencoderKL"),
    ("--vae nobody/vae", "the VAE nobody/vae is not on this machine", "give a local folder"),
    ("--scheduler magic", "--scheduler: invalid choice: 'magic'"),
    ("--keep_tokens -1", "--keep_tokens: must be at least 0"),
    ("--keep_tokens 1", "--keep_tokens has no effect without --shuffle_caption or --caption_tag_dropout_rate"),
    ("--caption_dropout_rate 2", "--caption_dropout_rate: must be between 0.0 and 1.0"),
    ("--caption_tag_dropout_rate -1", "--caption_tag_dropout_rate: must be between"),
    ("--template_share 1.1", "--template_share: must be between"),
    ("--num_blank_prompts -1", "--num_blank_prompts: must be at least 0"),
    ("--num_a_prompts 100000", "--num_a_prompts: must be at most 10000"),
    ("--shuffle_caption", "--shuffle_caption has no effect, since no image has a caption"),
    (lambda w: ["--num_a_prompts", "1", *captioned(w, "a <cat-toy>")], "--num_a_prompts has no effect"),
    (
        lambda w: ["--enable_wildcard", *captioned(w, "a {red <cat-toy>")],
        "--enable_wildcard, a prompt of 0.png: a { without its }",
    ),
    (
        lambda w: ["--shuffle_caption", *captioned(w, "<cat-toy>, " + ", ".join(["toy"] * 50))],
        "which cuts off <cat-toy>",
        "raise --max_token_length",
    ),
    ("--vae_batch_size 0", "--vae_batch_size: must be at least 1"),
    ("--vae_batch_size 100000000000", "--vae_batch_size: must be at most"),
    ("--vae_batch_size 2 --resize_mode random_crop", "--vae_batch_size has no effect", "leave one of the two out"),
    (
        "--cache_latents_dir x --resize_mode random_crop",
        "--cache_latents_dir has no effect",
        "leave one of the two out",
    ),
    (["--cache_latents_dir", "{pictures}/0.png"], "--cache_latents_dir", "cannot be made", "name another folder"),
    ("--token_dropout 1", "--token_dropout"),
    ("--progressive_vectors -1", "--progressive_vectors"),
    ("--eval_samples 0", "--eval_samples"),
    ("--num_validation_images 0", "--num_validation_images"),
    ("--overview --overview_concepts 0", "--overview_concepts"),
    ("--overview --overview_images 0", "--overview_images"),
    ("--overview_concepts 3 --overview false", "--overview_concepts has no effect without --overview"),
    ("--overview_images 3 --overview false", "--overview_images has no effect without --overview"),
    ("--validation_steps 1", "without --validation_prompt; add a prompt"),
    ("--validation_prompts_file /nowhere.txt", "/nowhere.txt cannot be read", "give a readable file"),
    ("--guidance_scale -1", "--guidance_scale"),
    ("--num_inference_steps 1001", "between 1 and 1000"),
    ("--num_threads 1000000", "--num_threads: must be at most 1024"),
    ("--dataloader_num_workers 100000", "--dataloader_num_workers"),
    ("--device tpu", "must be cpu, gpu or gpu:N"),
    ("--device gpu:0", "use --device cpu"),
    ("--max_restarts -1", "--max_restarts: must be at least 0"),
    ("--preset quick", "--preset: invalid choice: 'quick' (choose from 'sd15-8gb'"),
    ("--preset style logo", "both set --initializer_token, style says style and logo says logo"),
    ("--report_to paper", "--report_to"),
    ("--adam_beta1 1", "--adam_beta1"),
    ("--adam_epsilon 0", "--adam_epsilon"),
    ("--max_grad_norm 0", "-1 for no clipping"),
    ("--max_grad_norm inf", "-1 for no clipping"),
    ("--max_skipped_steps 0", "--max_skipped_steps"),
    ("--patience 0 --stop_when_settled", "--patience"),
    ("--patience 3", "--patience has no effect without --stop_when_settled"),
    ("--stop_when_settled --eval_steps 0", "--eval_steps 0 measures none", "leave one out"),
    ("--stop_when_settled --average_last_steps 2", "the mean of the last ones", "leave one of the two out"),
    ("--stop_when_settled --patience 1000 --eval_samples 60000", "--eval_samples 60000", "choose fewer"),
    ("--check_images always", "--check_images: invalid choice"),
    ("--mixed_precision fp8", "--mixed_precision: invalid choice"),
    ("--mixed_precision fp16 --device cpu", "which has no kernels for half precision", "leave one of the two out"),
    ("--timestep_sampling even", "--timestep_sampling: invalid choice"),
    ("--average_last_steps 9", "is more than the 2 training steps"),
    ("--average_last_steps -1", "--average_last_steps"),
    ("--compile --low_memory", "cannot be combined"),
    ("--checkpointing_steps 0", "--checkpointing_steps"),
    ("--checkpoints_total_limit 0", "--checkpoints_total_limit"),
    ("--resume_from_checkpoint /nowhere/checkpoint-3", "/nowhere/checkpoint-3: there is no such folder", "say latest"),
    ("--vector_shuffle", "--vector_shuffle has no effect on a concept of one vector"),
    ("--num_vectors 3 --progressive_vectors 9", "--progressive_vectors 9 ends after the run's 2 steps"),
    ("--min_timestep 1000", "--min_timestep 1000"),
    ("--max_timestep 100000", "--max_timestep 100000", "a maximum of at most 1000"),
    ("--snr_gamma 5 --debiased_estimation_loss", "give one of them"),
    ("--loss_type l3", "--loss_type"),
    ("--optimizer magic", "--optimizer"),
    ("--learning_rate 1e-3:1,0", "--learning_rate: 1e-3:1,0: must be greater than 0.0, not 0; write RATE:STEP"),
    ("--learning_rate 1e-3:1", "--learning_rate 0.001:1 ends at step 1 of 2", "write the last rate without a step"),
    ("--learning_rate 1e-3:1,1e-4 --lr_scheduler cosine", "cannot be combined with --lr_scheduler cosine"),
    ("--d0 0", "--d0"),
    ("--d_coef -1", "--d_coef"),
    ("--adafactor_scale_parameter maybe", "--adafactor_scale_parameter"),
    ("--use_ema --ema_decay 1", "--ema_decay"),
    ("--use_ema --average_last_steps 1", "two means of the vectors"),
    ("--huber_schedule linear", "--huber_schedule: invalid choice"),
    ("--loss_type huber --huber_scale 0", "--huber_scale"),
    ("--multires_noise_iterations 65", "--multires_noise_iterations: must be between 0 and 64"),
    ("--multires_noise_iterations 6 --multires_noise_discount 2", "--multires_noise_discount"),
    ("--multires_noise_iterations 6 --noise_offset 0.1", "both shift large areas of the noise; give one of them"),
    ("--resize_mode bend", "--resize_mode"),
    ("--interpolation magic", "--interpolation: invalid choice"),
    ("--unmasked_weight 0.5", "without --mask_dir or --mask_from; add it"),
    ("--brightness_jitter 1.5", "--brightness_jitter: must be between"),
    ("--contrast_jitter -0.1", "--contrast_jitter: must be between"),
    ("--saturation_jitter much", "--saturation_jitter: 'much' is not a number"),
    ("--hue_jitter 0.6", "--hue_jitter: must be between 0.0 and 0.5"),
    ("--rotation 181", "--rotation: must be between 0.0 and 180.0"),
    ("--rotation nan", "--rotation: must be between"),
    ("--augmented_variants 1 --rotation 5", "--augmented_variants: must be at least 2"),
    ("--augmented_variants 1001 --rotation 5", "--augmented_variants: must be at most 1000"),
    ("--augmented_variants 4", "--augmented_variants has no effect without --rotation", "add it"),
    ("--tile_rows 0 --resize_mode tiles", "--tile_rows: must be at least 1"),
    ("--tile_rows 17 --resize_mode tiles", "--tile_rows: must be at most 16"),
    ("--tile_rows 3", "--tile_rows has no effect without --resize_mode tiles"),
    ("--mask_from edges", "--mask_from: invalid choice: 'edges'"),
    (["--mask_from", "alpha", "--mask_dir", "{pictures}"], "two sources of masks", "give one of them"),
    ("--mask_from plain_background --alpha_mask", "--alpha_mask means --mask_from alpha and contradicts"),
    ("--mask_from alpha", "--mask_from alpha has no effect: no training image is transparent anywhere"),
    ("--mask_from plain_background", "0.png: its background is not plain", "give its mask in --mask_dir"),
    ("--mask_model x.onnx", "--mask_model has no effect without --mask_from background"),
    ("--validation_data_dir /nowhere", "image folder /nowhere does not exist; give the folder"),
    ("--validation_data_dir a b", "--validation_data_dir has 2 values and --placeholder_token 1", "give one per"),
    ("--validation_mask_dir a", "--validation_mask_dir has no effect without --validation_data_dir"),
    (["--validation_data_dir", "{pictures}", "--eval_steps", "0"], "has no effect with --eval_steps 0"),
    (["--validation_data_dir", "{pictures}", "--mask_dir", "{pictures}"], "belong together", "add the other"),
    ("--train_data_dir hub:cats", "hub:cats is not the name of a data set; write hub:OWNER/NAME"),
    ("--train_data_dir hub:../x", "hub:../x is not the name of a data set"),
    ("--train_data_dir hub:nobody/cats", "hub:nobody/cats cannot be had", "or give a folder of images"),
    ("--train_data_dir nobody/cats", "a data set of Hugging Face is written hub:nobody/cats"),
    ("--huber_c 0.1", "without --loss_type huber or smooth_l1; add it"),
    ("--noise_offset 2", "--noise_offset"),
    ("--input_perturbation -1", "--input_perturbation"),
    ("--adam_beta2 2", "--adam_beta2"),
    ("--adam_weight_decay -1", "--adam_weight_decay"),
    ("--sgd_momentum 0.5", "without --optimizer sgd; add it"),
    ("--norm_reg_weight -1", "--norm_reg_weight"),
    ("--contrast_data_dir x --learnable_property negative --contrast_weight 0", "--contrast_weight"),
    ("--contrast_weight 2", "--contrast_weight has no effect without --contrast_data_dir; add it"),
    ("--contrast_data_dir x", "--learnable_property says object; give --learnable_property negative"),
    ("--initial_reg_weight nan", "--initial_reg_weight"),
    ("--hidden_reg_weight 0.1", "--hidden_reg_weight pulls towards --initializer_token; give one"),
    ("--eval_steps -1", "--eval_steps: must be at least 0"),
    ("--validation_epochs 0", "--validation_epochs"),
    ("--save_steps 0", "--save_steps"),
    ("--hub_whole_pipeline", "--hub_whole_pipeline needs --push_to_hub"),
    ("--enable_xformers_memory_efficient_attention", "it needs a GPU and paddlepaddle-gpu, leave it out"),
    ("--resolution 20", "multiples of 8; try 16"),
    ("--height 4", "--height 4", "try 8"),
    ("--width 8000000", "--width: must be at most 16384"),
    ("--learnable_property smell", "invalid choice"),
    ("--language klingon", "--language"),
    ("--variant ../x", "--variant: must be part of a file name, such as fp16"),
    ("--max_train_step 3", "did you mean --max_train_steps?"),
    ("--push_to_hub maybe", "must be true or false"),
    ("--hub_model_id me/x", "without --push_to_hub"),
    ("--export gguf", "--export: invalid choice"),
    ("--push_to gitee", "--push_to: invalid choice"),
    (
        "--push_to_hub --push_to aistudio",
        "--push_to_hub means --push_to huggingface and contradicts --push_to aistudio",
    ),
    ("--push_to aistudio", "needs the account and the name of the repository; give --hub_model_id me/my-cat"),
    ("--push_to aistudio --hub_model_id me/cat", "--push_to aistudio: cannot log in", "set AISTUDIO_ACCESS_TOKEN"),
    ("--pretrained_model_name_or_path aistudio:me", "there is no folder aistudio:me; give the folder of a model"),
    ("--pretrained_model_name_or_path aistudio:me/x", "aistudio:me/x is not on this machine", "give a local folder"),
    ("--initializer_embeds aistudio:me/x", "aistudio:me/x is not a file or folder here", "give a file instead"),
    (["--push_to_hub", "--hub_model_id", "my cat"], "'my cat' is not a valid repository id", "such as my-cat"),
    ("--keep_best --eval_steps 0", "--keep_best has no criterion"),
    (["--keep_best", "--validation_prompt", "a <cat-toy>", "--clip_model", "/nowhere"], "--clip_model /nowhere"),
    (
        ["--keep_best", "--validation_prompt", "a <cat-toy>", "--clip_model", "{pictures}"],
        "not a CLIP model",
        "give the",
    ),
    # flags: paths
    (["--train_data_dir", ""], "--train_data_dir is empty (a shell variable that is not set?)"),
    (["--output_dir", ""], "--output_dir is empty"),
    (["--output_dir", "x" * 300], "--output_dir: xxx", "shorten it"),
    (["--output_dir", "{pictures}/0.png"], "0.png is not a folder; choose another"),
    (["--output_dir", "{pictures}/0.png/below"], "0.png is not a folder; choose another"),
    (["--output_dir", "{base}/unet"], "is never changed; choose another"),
    (["--output_dir", "{pictures}"], "--train_data_dir are the same folder"),
    (
        ["--contrast_data_dir", "{pictures}", "--learnable_property", "negative"],
        "the same folder",
        "the second the good ones",
    ),
    (["--logging_dir", "run.json", "--report_to", "visualdl"], "run.json is not a folder; choose another"),
    (["--output_dir", "a\udcffb"], "--output_dir a?b has bytes that are not UTF-8; rename the file"),
    (["--train_data_dir=a\udcffb"], "--train_data_dir=a?b has bytes that are not UTF-8; rename the file"),
    (["--placeholder_token", "<a\udcffb>"], "--placeholder_token <a?b> has bytes that are not UTF-8; save the script"),
    (["--validation_prompt", "a <w>", "caf\udce9"], "--validation_prompt caf? has bytes that are not UTF-8; save"),
    ("--config /nowhere.yaml", "--config /nowhere.yaml cannot be read", "give a YAML file"),
    (file("--config", "c1.yaml", "learning_rate: [1, 2]"), "c1.yaml, line 1", "takes one value, not a list"),
    (file("--config", "c2.yaml", "seed: 1\nlearning_rat: 2"), "line 2", "did you mean learning_rate?"),
    (file("--config", "c3.yaml", "a: [b"), "this is not YAML"),
    (file("--config", "c4.yaml", b"\xff\xfe\x00"), "not UTF-8 text"),
    (file("--config", "c5.yaml", 'output_dir: "a\\0b"'), "control character", "single quotes"),
    (file("--template_file", "t1.txt", "a photo of a toy"), "must contain {} once, for the placeholder token"),
    (file("--template_file", "t2.txt", "# none"), "has no prompt template; write one per line"),
    ("--template_file /nowhere.txt", "/nowhere.txt cannot be read", "give a text file"),
    # concepts
    (["--placeholder_token", ""], "the placeholder token is empty", "such as <cat-toy>"),
    (["--placeholder_token", "my cat"], "'my cat' holds blanks"),
    ("--placeholder_token cat", "the placeholder token 'cat' is a token of this base model already; choose another"),
    (["--placeholder_token", "<" + "x" * 300 + ">"], "302 bytes", "choose another"),
    ([*TWO, "--placeholder_token", "<a>", "<a>"], "names <a> twice"),
    ([*TWO, "--placeholder_token", "<zq>", "zq!"], "under one file name; rename one of them"),
    ([*TWO, "--placeholder_token", "<zq>", "<Steps-5-ZQ>"], "<Steps-5-ZQ> and a step of <zq> would be saved under one"),
    (["--initializer_token", ""], "the initializer '' has no token", "such as toy"),
    (unknown_to_bert, "the initializer '☃' has no token in this base model's vocabulary", "such as toy"),
    ("--num_vectors 0", "--num_vectors"),
    ("--num_vectors few", "must be a whole number or auto"),
    ("--num_vectors auto", "counts the tokens of --initializer_token"),
    ("--num_vectors 70", "a word of 70 vectors cannot fit in a prompt", "the 75 tokens", "at most 63"),
    ("--num_vectors 1000000000", "a word of 1000000000 vectors cannot fit in a prompt"),
    ("--rename <a>", "--rename: must be OLD=NEW"),
    ("--rename <a>=<b>", "--rename", "--initializer_embeds"),
    ("--initializer_embeds /nowhere.pt", "/nowhere.pt: No such file or directory; check the path"),
    (file("--initializer_embeds", "evil.pt", EVIL), "evil.pt: asks for os.system, which could run any code"),
    (file("--initializer_embeds", "wide.pt", embedding(width=768)), "768 values (Stable Diffusion 1.x)"),
    # images
    ("--train_data_dir /nowhere", "image folder /nowhere does not exist; give the folder"),
    (lambda world: ["--train_data_dir", str(world.folder("empty"))], "is empty; put three to six images"),
    (lambda world: only(world, "notes.txt", b"x"), "no images, only files such as notes.txt"),
    (lambda world: only(world, "IMG_1.NEF", b"x"), "save them as JPEG or PNG"),
    (lambda world: only(world, "0.txt", b"a cat"), "no images, only files such as 0.txt"),
    (lambda world: beside(world, "metadata.jsonl", '{"file_name": "0.png"}\n{'), "metadata.jsonl, line 2: is not JSON"),
    (lambda world: beside(world, "metadata.csv", "file,text\n0.png,x\n"), "metadata.csv, line 1: does not name"),
    (lambda world: beside(world, "0.caption", b"\xff"), "0.caption is not UTF-8 text", "--no_captions"),
    (lambda world: only(world, "text.png", b"a photo"), "text.png: is not an image that can be read"),
    (
        lambda world: only(world, "cut.jpg", saved(noise(128), "JPEG")[:4000]),
        "cut.jpg: is damaged or incomplete",
        "copy it",
    ),
    (lambda world: only(world, "dot.png", saved(filled((1, 1)), "PNG")), "is only 1x1 pixels; use images of"),
    (lambda world: only(world, "huge.png", header_png(20_000, 20_000)), "huge.png", "make it smaller"),
    (lambda world: only(world, "huge.jpg", header_jpeg(20_000, 20_000)), "huge.jpg", "make it smaller"),
    (lambda world: only(world, "wide.png", header_png(20_000, 7_000)), "20000x7000 pixels", "make it smaller"),
    (
        lambda world: only(world, "nothing.png", saved(filled(mode="RGBA", color=(0, 0, 0, 0)), "PNG")),
        "everywhere",
    ),
    (looped, "has no images"),
    ("--contrast_data_dir /nowhere --learnable_property negative", "folder of good images /nowhere does not exist"),
    ("--mask_dir /nowhere", "mask folder /nowhere does not exist"),
    (masks("less", None), "has no mask for", "add 0.png, white is learned"),
    (masks("black", filled(mode="L", color="black")), "is black everywhere"),
    (masks("shape", filled((10, 90), "L", "white")), "give the mask the shape of its image"),
    ("--alpha_mask", "--mask_from alpha has no effect: no training image is transparent anywhere"),
    # base models
    ("--pretrained_model_name_or_path /nowhere", "there is no folder /nowhere; give the folder of a model"),
    (["--pretrained_model_name_or_path", "{pictures}"], "holds no model_index.json", "give the folder of a whole"),
    (["--pretrained_model_name_or_path", "{pictures}/0.png"], "is a file; give the folder"),
    ("--pretrained_model_name_or_path nobody/nothing", "not on this machine", "give a local folder"),
    (["--pretrained_model_name_or_path", "{base}/unet"], "is a UNet2DConditionModel alone"),
    (["--tokenizer_name", "{pictures}"], "lacks vocab.json and merges.txt", "download the tokenizer again"),
    (without("unet"), "unet/config.json is missing, so the base model is incomplete; download the model again"),
    (without("unet/diffusion_paddle_model.safetensors"), "unet holds no weights"),
    (without("text_encoder/config.json"), "text_encoder/config.json is missing"),
    (without("tokenizer/merges.txt"), "lacks vocab.json and merges.txt"),
    (without("scheduler"), "scheduler_config.json is missing"),
    (holding("model_index.json", NESTED), "model_index.json is no readable JSON", "download the model again"),
    (saying("model_index.json", _class_name=["x"]), "cannot be trained"),
    (saying("model_index.json", _class_name="FluxPipeline"), "transformer in place of the U-Net; take Stable"),
    (saying("unet/config.json", layers_per_block=10**9), "layers_per_block 1000000000, which no model has"),
    (saying("unet/config.json", block_out_channels=[32, 64, 64]), "no model can be built", "download it again"),
    (saying("unet/config.json", norm_num_groups=7), "into 7 groups", "download it again"),
    (saying("vae/config.json", block_out_channels="x"), "does not say how many channels"),
    (saying("vae/config.json", scaling_factor=None), "scaling_factor None"),
    (saying("text_encoder/config.json", hidden_act="os.system"), "no model can be built", "download it again"),
    (saying("text_encoder/config.json", vocab_size=10**12), "vocab_size 1000000000000, which no model has"),
    (saying("scheduler/scheduler_config.json", prediction_type="sample"), "only epsilon and v_prediction"),
    (saying("scheduler/scheduler_config.json", beta_schedule="x"), "no model can be built"),
    (saying("scheduler/scheduler_config.json", num_train_timesteps=10**9), "num_train_timesteps 1000000000, which no"),
    (saying("unet/config.json", layers_per_block=1000), "announces 2002 layers", "of different models"),
    (
        saying("unet/config.json", **{f"{way}_block_types": ["DownBlock2D"] * 20_000 for way in ("down", "up")}),
        "announces 40000 layers",
    ),
    (saying("unet/config.json", sample_size=20_000), "sample_size 20000, and no model has more than 1024"),
    (saying("vae/config.json", layers_per_block=1000), "announces 2002 layers"),
    (saying("text_encoder/config.json", num_hidden_layers=1000), "announces 1000 layers"),
    (saying("text_encoder/config.json", max_position_embeddings=9_999_999), "max_position_embeddings 9999999"),
    (saying("text_encoder/config.json", intermediate_size=9_999_999), "intermediate_size 9999999"),
    (
        model(lambda folder: os.truncate(folder / "unet/config.json", 300 << 20)),
        "config.json cannot be read (it has 300 MiB",
    ),
    (saying("tokenizer/vocab.json", **{"cat</w>": 9999}), "'cat</w>' the id 9999", "they belong to different models"),
    (model(lambda folder: spoil(folder / "unet/diffusion_paddle_model.safetensors")), "holds NaN or infinite values"),
    (model(lambda folder: spoil(folder / "text_encoder/model.safetensors")), "holds NaN or infinite values"),
    (holding("tokenizer/vocab.json", "[]"), "vocab.json is damaged; download the tokenizer again"),
    (holding("tokenizer/tokenizer_config.json", '{"model_max_length": -5}'), "model_max_length -5"),
    (holding("unet/diffusion_paddle_model.safetensors", EMPTY), "lacks the tensor"),
    (holding("unet/diffusion_paddle_model.safetensors", b"version https://git-lfs"), "run `git lfs pull`"),
    (pickled(EVIL), "model_state.pdparams: asks for os.system, which could run any code"),
    (pickled(entry(text("x"))), "not a dictionary of weights; choose a file of weights, preferably a .safetensors"),
]
PROMPT = ["--prompt", "a <x>"]
INFER_ROWS = [
    ("--processes 0 --address auto", "--processes: must be at least 1"),
    ("--processes 2", "--processes has no effect without --address"),
    ("--address auto --hub_token secret", "--hub_token would be seen in the list of processes", "set HF_TOKEN"),
    ("--address auto --merge {out}", "--merge draws nothing, so --address has no effect"),
    ("--num_images 0", "--num_images: must be at least 1"),
    ("--num_images 100000000", "--num_images: must be at most"),
    ("--num_inference_steps 0", "between 1 and 1000"),
    ("--guidance_scale inf", "--guidance_scale"),
    ("--seed -1", "--seed"),
    ("--height 20", "must be a multiple of 8, not 20; try 16"),
    ("--width 1000000", "--width: must be at most 16384"),
    ("--batch_size 0", "--batch_size"),
    ("--num_cols 0", "--num_cols"),
    ("--report_to paper", "--report_to"),
    (["--report_to", "visualdl", "--logging_dir", "run.json"], "run.json is not a folder; choose another"),
    ("--mixed_precision fp8", "--mixed_precision: invalid choice"),
    ("--mixed_precision bf16 --device cpu", "which has no half-precision kernels"),
    ("--scheduler magic", "invalid choice: 'magic'"),
    ("--scheduler ddim magic", "invalid choice: 'magic'"),
    ("--eta 2", "--eta: must be between 0.0 and 1.0, not 2"),
    # grids
    ("--guidance_scale 9:1:5", "--guidance_scale: 9:1:5 runs backwards", "begin with the lower end"),
    ("--guidance_scale 1:9", "--guidance_scale: must be a value or START:STOP:COUNT, such as 1:9:5, not 1:9"),
    ("--guidance_scale 1:nan:3", "--guidance_scale: must be between 0.0 and 1000.0"),
    ("--guidance_scale 3:3:4", "--guidance_scale: 3:3:4 gives the same value 4 times", "write 3"),
    ("--guidance_scale 1:9:1", "has two ends and only one value", "count at least 2"),
    ("--guidance_scale 1:2:9999999", "--guidance_scale: must be at most 1000000"),
    ("--eta 1:0:2", "--eta: 1:0:2 runs backwards"),
    ("--num_inference_steps 10:50:4", "--num_inference_steps: 10:50:4 gives fractions", "count 3"),
    ("--num_inference_steps 1:5:9", "1:5:9 gives the same values more than once", "count 5"),
    ("--seed 0:5:4", "--seed: 0:5:4 gives fractions"),
    ("--seed 9:0:10", "--seed: 9:0:10 runs backwards"),
    ("--height 64:128:4", "--height: 64:128:4 gives fractions"),
    ("--width 64:96:9", "--width: 64:96:9: must be a multiple of 8, not 68"),
    ("--size 20", "--size: must be a multiple of 8, not 20"),
    ("--size 64x64x64", "--size: must be WIDTHxHEIGHT, such as 768x512"),
    ("--size 128x64:64x128:3", "--size: 128x64:64x128:3 runs backwards"),
    ("--size 64 --height 64", "--size and --height or --width both set the size", "keep one"),
    ("--random_samples 0", "--random_samples: must be at least 1"),
    ("--random_samples 100001", "these settings ask for 100,001 images", "confirm them with --yes"),
    ("--random_samples 1000001 --yes", "one run draws at most 1,000,000"),
    ("--prompt <cat-toy> --seed 0:199999:200000", "200,000 images; confirm them with --yes, or draw some of them with"),
    (
        "--prompt <cat-toy> --seed 0:999999:1000000 --num_images 65536 --yes",
        "65,536,000,000 images; one run draws at most 1,000,000",
    ),
    (["--prompt", "{a|b}" * 60], "more than 10^18 images", "draw some of them with --random_samples N"),
    (["--prompt", "a {b"], "--prompt: a { without its }; write \\{ for a brace itself, in 'a {b'"),
    (["--prompt", "a }"], "--prompt: a } without its {"),
    (["--prompt", "{3$$a|b}"], "--prompt: 3 of 2 alternatives cannot be taken"),
    (["--prompt", "{" * 60 + "a" + "}" * 60], "--prompt: braces more than 50 deep"),
    (["--prompt", "${x=1}"], "--prompt: variables such as ${name=text} are not read"),
    (["--negative_prompt", "{a|b"], "--negative_prompt: a { without its }"),
    ("--prompts_file /nowhere.txt", "--prompts_file /nowhere.txt cannot be read", "give a readable file"),
    (file("--prompts_file", "g1.txt", "# nothing"), "--prompts_file", "holds no prompt; write one per line"),
    (file("--prompts_file", "g2.txt", b"\xff\xfea"), "is not UTF-8 text"),
    (file("--prompts_file", "g3.txt", "a\n\nb --steps 0"), "g3.txt, line 3: --steps: must be between 1 and 1000"),
    (file("--prompts_file", "g4.txt", "a --scheduler magic"), "g4.txt, line 1: --scheduler: 'magic' is none of ddim"),
    (file("--prompts_file", "g5.txt", "a --w 60"), "g5.txt, line 1: --w: must be a multiple of 8, not 60"),
    (file("--prompts_file", "g6.txt", "a --guidance 5:1:2"), "g6.txt, line 1: --guidance: 5:1:2 runs backwards"),
    (file("--prompts_file", "g7.txt", "a\n{b"), "g7.txt, line 2: a { without its }"),
    (file("--prompts_file", "g8.txt", "a --size 64 --w 64"), "g8.txt, line 1: --size and a height or width both"),
    (file("--config", "g9.yaml", "guidance_scale: 9:1:5"), "g9.yaml, line 1: --guidance_scale: 9:1:5 runs backwards"),
    (file("--config", "g10.yaml", "guidance_scale: []"), "g10.yaml, line 1: an item of guidance_scale is empty"),
    (["--compare", ""], "--compare is empty"),
    ("--compare /nowhere.pdparams", "/nowhere.pdparams: No such file or directory"),
    (with_other_token, "--compare: ", "holds <cat-toy> and ", "holds <other>", "use --embeds, or give one another"),
    (["--compare", "{out}/learned_embeds.pdparams", "--clip_model", "{base}"], "is not a CLIP model; give the folder"),
    ("--clip_model x/y", "--clip_model has no effect without --compare"),
    ("--prompts cat", "did you mean --prompt?"),
    (["--embeds", ""], "--embeds is empty"),
    ("--embeds /nowhere.pdparams", "/nowhere.pdparams: No such file or directory; check the path"),
    (["--embeds", "{pictures}"], "holds none of learned_embeds.safetensors", "name an embedding file"),
    (["--embeds", "{pictures}/0.png"], "0.png: is an image without an embedding in it"),
    (["--embeds", "/dev/zero"], "it is a device, not a regular file"),
    (["--embeds", "{base}/unet/diffusion_paddle_model.safetensors"], "it looks like a model or a LoRA"),
    ("--embeds nobody/nothing", "is not in the cache", "give a file instead"),
    (two_files, "the token <x> occurs twice in", "side by side with infer.py --compare"),
    (file("--embeds", "evil.bin", EVIL), "asks for os.system, which could run any code; nothing in it was run"),
    (file("--embeds", "bomb.pt", lambda: zip_of(("a/data.pkl", EVIL), ("../../x", b"x"))), "asks for os.system"),
    (file("--embeds", "cut.pdparams", lambda: embedding()()[:-20]), "download or copy it again"),
    (file("--embeds", "nan.pdparams", embedding(value=float("nan"))), "NaN or infinite values", "save it again"),
    (with_base(file("--embeds", "sd1.pt", embedding(width=768))), "768 values (Stable Diffusion 1.x), and ", "32"),
    (
        with_base(file("--embeds", "cat.pt", embedding("cat"))),
        "cat.pt: the placeholder token 'cat' is a token of this",
        "choose another with --rename 'cat=<cat>'",
    ),
    (
        file("--embeds", "blank.pt", embedding("a b")),
        "'a b' holds blanks or control characters; choose another with --rename 'a b=<blank>'",
    ),
    (file("--embeds", "long.pt", embedding("x" * 9999)), "9999 bytes", "choose another"),
    (recorded(base_model="/nowhere"), "was learned on /nowhere, which does not exist", "--pretrained_model"),
    (recorded(base_model=["{", 5]), "run.json holds a list as base_model, which no run writes", "repair or remove it"),
    (
        recorded(base_model="models/gone"),
        "names the base model models/gone, which is not on this machine",
        "no hub is asked for what a record names",
        "--trust_record",
    ),
    (recorded(settings={"height": "x"}), "holds 'x' as settings.height"),
    (broken_record(b""), "run.json is empty; repair or remove it"),
    (broken_record(b"{"), "is no readable JSON (line 1"),
    (broken_record(b"[]"), "holds a list instead of the settings of a run"),
    (broken_record(None), "run.json cannot be read: it is a folder, not a regular file; repair or remove it"),
    (file("--embeds", "a1111.pt", lambda: TORCH_FILES["a1111_pt"]), "says that it was learned on v1-5-pruned; name"),
    ("--rename <a>", "--rename: must be OLD=NEW"),
    (["--rename", "<a>="], "--rename: must be OLD=NEW"),
    (["--rename", "<a>=b c"], "--rename: must be OLD=NEW"),
    ("--rename <z>=<y>", "--rename: nothing is called '<z>'; the files hold <cat-toy>"),
    (["--output_dir", "{pictures}/0.png"], "cannot be made", "choose another folder"),
    (["--output_dir", "{pictures}/0.png/below"], "cannot be made", "choose another folder"),
    (["--config", "{out}/config.yaml"], "train_data_dir is not a setting of infer.py"),
    ("--strength 0", "--strength: must be greater than 0.0, not 0"),
    ("--strength 1.5", "--strength: must be greater than 0 and at most 1"),
    ("--strength nan", "--strength: must be greater than 0.0, not nan"),
    ("--strength 0.5", "--strength has no effect without an image to start from; add --image"),
    (["--mask_image", "{pictures}/0.png"], "--mask_image has no effect without an image to start from"),
    (["--image", "{pictures}/0.png", "--strength", "0.3"], "--strength 0.3 of 1 denoising steps is less than one step"),
    (["--image", "{out}/run.json"], "run.json: is not an image that can be read, whatever its name"),
    (["--image", "/nowhere.png"], "/nowhere.png: cannot be read (No such file"),
    (["--image", "/dev/zero"], "/dev/zero: cannot be read (it is a device"),
    (["--image", ""], "--image is empty"),
    (["--image", "{pictures}", "--mask_image", "{out}/run.json"], "run.json: is not an image that can be read"),
    (drawing(mask=filled(mode="L", color=0)), "mask.png: is black everywhere, so nothing would be drawn"),
    ("--lora x.safetensors:much", "--lora: x.safetensors:much: the scale much is not a number"),
    ("--lora x.safetensors:101", "the scale must be between -100 and 100, not 101; write FILE:SCALE"),
    ("--lora /nowhere.safetensors", "/nowhere.safetensors: No such file or directory; check the path"),
    (["--lora", "{pictures}/0.png"], "0.png: is an image; choose a LoRA, preferably a .safetensors"),
    (["--lora", "{out}/learned_embeds.pdparams"], "is no LoRA, since it holds '<cat-toy>'"),
    (file("--lora", "evil.safetensors", EVIL), "asks for os.system, which could run any code; nothing in it was run"),
    (file("--lora", "nan.pdparams", lora(value=float("nan"))), "'unet.a' holds NaN or infinite values; it is broken"),
    (with_base(file("--lora", "other.pdparams", lora())), "changes 'unet.a', which ", "does not have; take a LoRA"),
    (
        with_base(file("--lora", "wide.pdparams", lora("unet.mid_block.attentions.0.proj_in"))),
        "with matrices [2, 8] and [8, 2], and the weights of",
    ),
]
SCORE_ROWS = [
    ("--num_images 0", "--num_images"),
    ("--images_per_edit_prompt 0", "--images_per_edit_prompt"),
    ("--seed -1", "--seed"),
    ("--learnable_property smell", "invalid choice"),
    ("--language klingon", "--language: invalid choice"),
    ("--mixed_precision fp8", "--mixed_precision: invalid choice"),
    ("--placeholder_token <z>", "holds <cat-toy>; choose one of them, not <z>"),
    ("--train_data_dir /nowhere", "image folder /nowhere does not exist"),
    ("--clip_model /nowhere", "--clip_model /nowhere", "give the folder of a CLIP model"),
    (["--clip_model", "{base}"], "is not a CLIP model; give the folder of one"),
    ("--output /nowhere/x.json", "there is no such folder; make it first"),
    (["--output", "{out}"], "a folder has that name; give the name of a file"),
    (file("--embeds", "evil.ckpt", EVIL), "asks for os.system"),
    (recorded(settings=5), "run.json holds a number under settings; repair or remove it"),
    (recorded(settings={"train_data_dir": {"a": 5}}), "holds an object as settings.train_data_dir"),
    (
        recorded(settings={"train_data_dir": "/gone"}),
        "learned from the images in /gone, which is no folder",
        "add --tr",
    ),
    (recorded(settings={}), "does not say which images it was learned from; add --train_data_dir DIR"),
    (broken_record(b"{"), "is no readable JSON (line 1"),
    (broken_record(None), "run.json cannot be read: it is a folder, not a regular file"),
    (two_files, "the token <x> occurs twice in"),
    (file("--embeds", "a1111.pt", lambda: TORCH_FILES["a1111_pt"]), "says that it was learned on v1-5-pruned; name"),
    ("--rename <a>", "--rename: must be OLD=NEW"),
]
_CLUSTER_ROWS = [
    ("--cpus_per_run 0", "--cpus_per_run: must be at least 1"),
    ("--gpus_per_run -1", "--gpus_per_run: must be at least 0"),
    ("--processes_per_run 0", "--processes_per_run: must be at least 1"),
    ("--parallel 0", "--parallel: must be at least 1"),
    ("--max_failures -1", "--max_failures: must be at least 0"),
    ("--resume {pictures}", "--resume {pictures} holds nothing that could go on", "name the --output_dir"),
    ("--hub_token secret", "--hub_token cannot be given", "set HF_TOKEN"),
    ("--learnin_rate 1", "did you mean --learning_rate?"),
    ("--address nowhere", "--address nowhere"),
]
SWEEP_ROWS = [
    *_CLUSTER_ROWS,
    ("--method best", "--method: invalid choice"),
    ("--num_trials 0", "--num_trials: must be at least 1"),
    ("--metric beauty", "--metric: invalid choice: 'beauty'"),
    ("--search_seed -1", "--search_seed"),
    ("--min_steps 0", "--min_steps: must be at least 1"),
    ("--reduction_factor 1", "--reduction_factor: must be between 2 and 16"),
    ("--num_images 0", "--num_images: must be at least 1"),
    ("--space {out}/none.yaml", "none.yaml cannot be read (No such file"),
    ("--metric score --pretrained_model_name_or_path owner/none --space demo/space.yaml", "name a CLIP model"),
]
TEACH_ROWS = [
    *_CLUSTER_ROWS,
    ("--together 0", "--together: must be at least 1"),
    ("--together 2 --alone", "contradict each other"),
    ("--concepts {out}/none", "none cannot be read (No such file"),
    ("--concepts {pictures}", "has no folders"),
    ("--placeholder_token <a>", "is what the list says of each concept"),
]
ROWS = [
    *(("sweep", *row) for row in SWEEP_ROWS),
    *(("teach", *row) for row in TEACH_ROWS),
    *(("train", *row) for row in TRAIN_ROWS),
    *(("infer", *row) for row in INFER_ROWS),
    *(("score", *row) for row in SCORE_ROWS),
]


def words_of(given, world: World) -> list[str]:
    if callable(given):
        return given(world)
    places = {"{out}": world.out, "{base}": world.root / "base", "{pictures}": world.root / "pictures"}
    words = given if isinstance(given, list) else given.split()
    for mark, place in places.items():
        words = [word.replace(mark, str(place)) for word in words]
    return words


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_with_a_range_or_a_choice_has_a_row(command, world):
    parser = build_parser() if command == "train" else sys.modules[command].build_parser()
    actions = [action for action in parser._actions if not isinstance(action, Switch)]  # one row stands for them all
    checked = [action for action in actions if action.type or action.choices]
    # What the three commands share needs a row once.
    tried = {word for _, given, *_ in ROWS if not callable(given) for word in words_of(given, world)}
    assert not {action.option_strings[-1] for action in checked} - tried
    assert len(ROWS) >= 150


@pytest.mark.slow
@pytest.mark.parametrize("command, given, fragments", [(c, g, f) for c, g, *f in ROWS],
                         ids=[f"{c}: {f[0]}" for c, _, *f in ROWS])  # fmt: skip
def test_a_refusal_is_one_line_and_changes_nothing(world, capsys, command, given, fragments):
    argv = world.argv(command, *words_of(given, world))
    before = tree(world.out)

    status, _, err = run(command, argv, capsys)

    last = err.splitlines()[-1]
    assert (status, last[:7]) == (2, "error: "), err
    fragments = [fragment.replace("{pictures}", str(world.root / "pictures")) for fragment in fragments]
    assert all(fragment in last for fragment in fragments), last
    assert last.isprintable() and not any(word in last for word in PYTHONS_WORDS) and "Traceback" not in err
    assert tree(world.out) == before


# ----------------------------------------------------------------------------------------------------- real processes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "given", "fragment"),
    [
        ("train", "--train_data_dir /nowhere/猫", "image folder /nowhere/"),
        ("infer", file("--embeds", "evil.pt", EVIL), "asks for os.system"),
        ("score", "--placeholder_token <z>", "choose one of them, not <z>"),
    ],
)
def test_as_a_process_on_a_terminal_without_chinese_letters(world, command, given, fragment):
    script = {"train": "train_textual_inversion.py"}.get(command, f"{command}.py")
    argv = world.argv(command, *words_of(given, world))
    before = tree(world.out)

    done = subprocess.run(
        [sys.executable, str(ROOT / script), *argv], capture_output=True, cwd=world.root, timeout=120,
        env=dict(os.environ, PYTHONIOENCODING="ascii"),
    )  # fmt: skip

    last = done.stderr.decode("ascii").splitlines()[-1]
    assert done.returncode == 2 and last.startswith("error: ") and fragment in last and tree(world.out) == before


def test_a_read_only_output_folder_is_refused_before_any_work(world, capsys):
    """Root writes where modes forbid it, so a read-only mount stands for them there."""
    folder = world.folder("read-only")
    if os.geteuid() == 0:
        folder = next((Path(place) for place in ("/sys", "/proc/sys") if Path(place).is_dir()), folder)
        if _can_write(folder):
            pytest.skip("this system lets root write everywhere")
        folder = folder / "kernel"
    else:
        folder.chmod(0o500)

    status, _, err = run("train", world.argv("train", "--output_dir", str(folder)), capsys)

    assert status == 2 and str(folder) in err.splitlines()[-1] and "choose another" in err.splitlines()[-1]


def _can_write(folder: Path) -> bool:
    try:
        (folder / "kernel" / "x").mkdir()
    except OSError:
        return False
    return True


def test_a_lack_of_memory_is_an_error_of_one_line(world, capsys, monkeypatch):
    def refuse(*_, **__):
        raise MemoryError("(ResourceExhausted) a page of C++")

    monkeypatch.setattr(generate, "_make_batch", refuse)
    before = tree(world.out)

    status, _, err = run("infer", world.argv("infer"), capsys)

    assert status == 2 and err.splitlines()[-1].startswith("error: there is not enough memory for this; lower")
    assert tree(world.out) == before


# ----------------------------------------------------------------------------------------------- used, and said so


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def odd_images(folder: Path) -> dict[str, str]:
    """A folder of what cameras, programs and people leave in it; file -> what is said of it, "" where nothing is."""
    see_through = filled(mode="RGBA")
    see_through.putalpha(filled(mode="L", color=128))
    deep = Image.fromarray(np.arange(40 * 32, dtype=np.uint16).reshape(32, 40) * 40)
    filled().save(folder / "phone.jpg", exif=turned(6))
    see_through.save(folder / "alpha.png")
    filled().convert("CMYK").save(folder / "print.jpg")
    deep.save(folder / "deep.png")
    filled().save(folder / "moving.gif", save_all=True, append_images=[filled(color="blue"), filled(color="lime")])
    filled().save(folder / "玩具 猫.png")
    filled().save(folder / "UPPER.JPEG")
    filled().save(folder / "web.webp")
    noise(300).resize((1200, 1000)).save(folder / "wide.bmp")
    os.symlink("circle.png", folder / "circle.png")
    os.symlink(folder / "web.webp", folder / "link.webp")
    os.symlink(folder, folder / "itself")
    (folder / "notes.txt").write_text("not a caption of any picture")
    (folder / "photo.heic").write_bytes(b"x")
    return {
        "phone.jpg": "turned upright by its EXIF orientation",
        "alpha.png": "transparency laid on white",
        "print.jpg": "CMYK converted to RGB",
        "deep.png": "16-bit values scaled to 8 bits",
        "moving.gif": "has several frames, the first one is used",
        "玩具 猫.png": "", "UPPER.JPEG": "", "web.webp": "", "wide.bmp": "", "link.webp": "",
    }  # fmt: skip


def test_images_that_can_be_used_are_used_and_what_was_done_is_said(world, monkeypatch, capsys):
    monkeypatch.setattr(Plugin, "is_ready", False)
    folder = world.folder("图片 of mine")
    said = odd_images(folder)
    argv = ["--train_data_dir", str(folder), "--output_dir", str(world.root / "odd"), "--only_save_embeds",
            "--append_file_name_to_text"]  # fmt: skip

    status, out, err = run("train", world.argv("train", *argv), capsys)

    assert status == 0, err
    lines = [line for line in out.splitlines() if line.startswith(f"{folder}{os.sep}")]
    of_folder = [line.removeprefix(f"{folder}: ") for line in out.splitlines() if line.startswith(f"{folder}: ")]
    assert [line.split(";")[0] for line in of_folder] == [
        "1 broken link(s) passed over: circle.png", "1 HEIC image(s) passed over",
        "1 text file(s) without an image of that name: notes.txt",
    ]  # fmt: skip
    assert lines == [f"{folder / name}: {words}" for name, words in sorted_as_read(folder, said) if words] or sorted(
        lines
    ) == sorted(f"{folder / name}: {words}" for name, words in said.items() if words)
    assert f"10 training image(s) of <cat-toy> in {folder}" in out
    upright = images.load_image(folder / "phone.jpg")
    assert upright.size == (32, 40)


def sorted_as_read(folder: Path, said: dict[str, str]):
    return sorted(said.items(), key=lambda item: natural(item[0]))


def test_what_of_a_prompt_is_not_read_is_said(world, capsys):
    long = "a <cat-toy> " + "dog " * 90 + "snow"
    captions = draw_images(world.folder("captioned"))
    (captions / "0.txt").write_text(long)
    argv = ["--validation_prompt", long, "--num_validation_images", "1", "--train_data_dir", str(captions),
            "--output_dir", str(world.root / "cut"), "--only_save_embeds"]  # fmt: skip

    status, out, _ = run("train", world.argv("train", *argv), capsys)

    assert status == 0
    assert "1 training prompt(s) are longer than the 75 tokens the model reads, and are cut; 'a <cat-toy> dog" in out
    assert "is longer than the model reads (77 tokens); cut: 'dog dog" in out and "dog snow'" in out


def test_a_caption_that_would_lose_the_word_is_refused_with_its_beginning(world, capsys):
    captions = draw_images(world.folder("lost"))
    (captions / "0.txt").write_text("dog " * 90 + "<cat-toy>")

    status, _, err = run("train", world.argv("train", "--train_data_dir", str(captions)), capsys)

    said = "which cuts off <cat-toy>; shorten it, put <cat-toy> first, or raise --max_token_length"
    assert status == 2 and said in err.splitlines()[-1]


@pytest.mark.slow
def test_an_image_whose_name_is_no_text_can_be_used(world, capsys):
    folder = draw_images(world.folder("bytes"))
    try:
        os.rename(folder / "0.png", os.fsencode(folder) + b"/a_\xff_b.png")
    except OSError:
        pytest.skip("this file system has only names that are text")
    argv = ["--train_data_dir", str(folder), "--output_dir", str(world.root / "bytes"), "--only_save_embeds",
            "--append_file_name_to_text"]  # fmt: skip

    assert run("train", world.argv("train", *argv), capsys)[0] == 0
