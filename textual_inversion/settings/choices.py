"""The allowed values of settings."""

NEGATIVE = "negative"  # a word for what is not wanted, which belongs in the negative prompt
PROPERTIES = ("object", "style", "face", NEGATIVE)
LANGUAGES = ("en", "zh", "zh_en")
# The initializer for any concept with this property, where no more specific word is known.
GENERIC_WORDS = {"object": "toy", "style": "style", "face": "person", NEGATIVE: "bad"}

NO_HUB, HUGGING_FACE, AI_STUDIO = HUBS = ("none", "huggingface", "aistudio")  # values of --push_to

# Values of --preset: the names of the files in presets/.
PRESETS = ("sd15-8gb", "sd15-16gb", "sd21", "sdxl-16gb", "style", "face", "logo", "fast", "faithful")

TRACKERS = ("visualdl", "tensorboard", "wandb", "mlflow", "swanlab", "none")

AUTO = "auto"  # value of --initializer_token: the vocabulary word nearest to the images

LATEST = "latest"  # value of --resume_from_checkpoint: the newest one in the output folder

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
POLYNOMIAL_END = 1e-7  # the learning rate at which ppdiffusers' polynomial schedule ends
HALF_OF_THE_RUN = -1  # value of --progressive_vectors; replaced when the number of steps is known

INTERPOLATIONS = ("nearest", "linear", "bilinear", "bicubic", "lanczos")
NO_CHECKS, TELL, REFUSE = IMAGE_CHECKS = ("no", "tell", "refuse")  # values of --check_images
RESIZE_MODES = ("squash", "center_crop", "random_crop", "focal_crop", "bucket", "tiles")
ALPHA, PLAIN_BACKGROUND, BACKGROUND = MASK_SOURCES = ("alpha", "plain_background", "background")
LOSS_TYPES = ("l2", "huber", "smooth_l1")
HUBER_SCHEDULES = ("constant", "exponential", "snr")
TIMESTEP_SAMPLINGS = ("uniform", "stratified")

PRECISIONS = ("no", "fp16", "bf16")

OPTIMIZERS = ("adamw", "adam", "sgd", "lion", "adafactor", "prodigy", "dadapt_adam")
# Those that estimate the size of their steps; the learning rate multiplies it, and 1 leaves it as it is.
ESTIMATING_OPTIMIZERS = ("prodigy", "dadapt_adam")
# Flag -> the only optimizers that it has an effect on.
FLAGS_OF_OPTIMIZERS = {
    "sgd_momentum": ("sgd",),
    "adafactor_scale_parameter": ("adafactor",),
    "d0": ESTIMATING_OPTIMIZERS,
    "d_coef": ("prodigy",),
}

# Value of --scheduler -> ppdiffusers class.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "pndm": "PNDMScheduler",
    "lms": "LMSDiscreteScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-single": "DPMSolverSinglestepScheduler",
    "kdpm2": "KDPM2DiscreteScheduler",
    "kdpm2-a": "KDPM2AncestralDiscreteScheduler",
    "deis": "DEISMultistepScheduler",
    "lcm": "LCMScheduler",
}

# Values of --norm and --pad of `convert.py mix`.
NORMS = KEEP, MEAN, TABLE = "keep", "mean", "table"
PADDINGS = ZEROS, REPEAT = "zeros", "repeat"

# Values of --method and --metric of `sweep.py`; each metric with what it is, and whether more of it is better.
SEARCH_METHODS = GRID, RANDOM, TPE = "grid", "random", "tpe"
METRICS = {
    "score": ("share_of_the_way x min(1, text_ratio)", True),
    "share_of_the_way": ("image similarity, from the initializer's (0) to that of the best possible images (1)", True),
    "text_ratio": ("text similarity / that of the initializer", True),
    "image_similarity": ("mean CLIP cosine of images of the concept with the training images", True),
    "text_similarity": ("mean CLIP cosine of images of edit prompts with their texts", True),
    "fixed_set_loss": ("mean squared error of the predicted noise on samples that never change", False),
    "steps": ("optimizer steps", False),
}
