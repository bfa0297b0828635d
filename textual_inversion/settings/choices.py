"""What settings may be: the values to choose from."""

PROPERTIES = ("object", "style", "face")
LANGUAGES = ("en", "zh", "zh_en")
# What stands for a concept of which no more specific word is known.
GENERIC_WORDS = {"object": "toy", "style": "style", "face": "person"}

TRACKERS = ("visualdl", "tensorboard", "none")

AUTO = "auto"  # of --initializer_token: the vocabulary word nearest to the images

LATEST = "latest"  # of --resume_from_checkpoint: the newest one in the output folder

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
POLYNOMIAL_END = 1e-7  # the learning rate at which ppdiffusers' polynomial schedule ends
HALF_OF_THE_RUN = -1  # a number of steps that is known only later

INTERPOLATIONS = ("nearest", "linear", "bilinear", "bicubic", "lanczos")
RESIZE_MODES = ("squash", "center_crop", "random_crop", "bucket")
LOSS_TYPES = ("l2", "huber", "smooth_l1")
TIMESTEP_SAMPLINGS = ("uniform", "stratified")

PRECISIONS = ("no", "fp16", "bf16")

OPTIMIZERS = ("adamw", "adam", "sgd")

# Names for --scheduler -> ppdiffusers classes.
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
