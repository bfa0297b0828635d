"""The objective of latent diffusion (arXiv 2112.10752, equation 2) as pure functions on tensors.

With a noise schedule's cumulative product a_t = prod(1 - beta), data x and noise e,

    noisy latents          x_t = sqrt(a_t) x + sqrt(1 - a_t) e
    signal-to-noise ratio  SNR_t = a_t / (1 - a_t)
    epsilon target         e
    v target               v_t = sqrt(a_t) e - sqrt(1 - a_t) x          (arXiv 2202.00512, appendix D)

An error d of the predicted x is an error of sqrt(SNR_t) d in epsilon and of sqrt(SNR_t + 1) d in v. So a weight w on
the squared error of epsilon is equivalent to the weight w SNR_t / (SNR_t + 1) = w a_t on the squared error of v.

All tensors are float32 [B, C, H, W]; `alphas_cumprod` is float32 [T]; `timesteps` is int64 [B] in [0, T).
"""

import math

import paddle
from paddle import Tensor

from textual_inversion.settings.choices import HUBER_SCHEDULES, LOSS_TYPES
from textual_inversion.system.errors import SettingsError

PREDICTION_TYPES = ("epsilon", "v_prediction")

# A mask whose total weight is below this counts as empty.
_NO_WEIGHT = 1e-6


def _at(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """a_t of each sample, [B, 1, 1, 1]."""
    return paddle.gather(alphas_cumprod, timesteps).reshape([-1, 1, 1, 1])


def _signal_and_noise(alphas_cumprod: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """(sqrt(a_t), sqrt(1 - a_t)), each [B, 1, 1, 1]."""
    a = _at(alphas_cumprod, timesteps)
    return a.sqrt(), (1.0 - a).sqrt()


def _check_prediction_type(prediction_type: str) -> None:
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(f"prediction type {prediction_type!r} is none of {', '.join(PREDICTION_TYPES)}")


# --------------------------------------------------------------------------------------------------- noise and target


def add_noise(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """The noisy latents x_t of the forward process, at each sample's timestep."""
    signal, sigma = _signal_and_noise(alphas_cumprod, timesteps)
    return signal * latents + sigma * noise


def training_target(
    prediction_type: str, latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, timesteps: Tensor
) -> Tensor:
    """What the U-Net of a base model is trained to predict.

    Raises:
        ValueError: for a prediction type other than `PREDICTION_TYPES`.
    """
    _check_prediction_type(prediction_type)
    if prediction_type == "epsilon":
        return noise
    signal, sigma = _signal_and_noise(alphas_cumprod, timesteps)
    return signal * noise - sigma * latents


def offset_noise(noise: Tensor, per_channel: Tensor, scale: float) -> Tensor:
    """Noise with one shift per image and channel, so that overall brightness is learned too.

    Args:
        noise: [B, C, H, W], standard normal.
        per_channel: [B, C, 1, 1], standard normal.
        scale: weight of the shift; 0 returns the noise unchanged.
    """
    return noise + scale * per_channel if scale else noise


def perturbed_noise(noise: Tensor, perturbation: Tensor, scale: float) -> Tensor:
    """The noise for the U-Net's input, perturbed: e + scale * perturbation (arXiv 2301.11706).

    The target stays e: the U-Net learns to tolerate the errors that it makes itself while sampling.

    Args:
        noise, perturbation: [B, C, H, W], standard normal.
        scale: 0.1 in the paper; 0 returns the noise unchanged.
    """
    return noise + scale * perturbation if scale else noise


def timestep_range(alphas_cumprod: Tensor, prediction_type: str, low: int | None, high: int | None) -> tuple[int, int]:
    """The half-open range of timesteps to train on; None stands for the schedule's own end.

    If a schedule ends without any signal (zero terminal SNR, arXiv 2305.08891: a_t = 0), the input is the noise itself.
    Then epsilon says nothing about the image, and a sampler would divide by zero; v does not have this flaw.

    Raises:
        SettingsError: the range is empty, exceeds the schedule, or contains such a timestep with epsilon prediction.
    """
    length = alphas_cumprod.shape[0]
    low, high = low or 0, length if high is None else high
    if not low < high <= length:
        raise SettingsError(
            f"--min_timestep {low} and --max_timestep {high} leave none of the model's timesteps, 0 up to {length}; "
            f"choose a minimum below the maximum, and a maximum of at most {length}"
        )
    last = int((alphas_cumprod > 0).astype("int64").sum())  # a_t only decreases: from `last` on all is noise
    if prediction_type == "epsilon" and high > last:
        raise SettingsError(
            f"the model's noise schedule ends in pure noise (zero terminal SNR), where epsilon prediction learns "
            f"nothing; train with --max_timestep {last}"
        )
    return low, high


# --------------------------------------------------------------------------------------------------------- weighting


def min_snr_weights(alphas_cumprod: Tensor, timesteps: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Min-SNR weighting (arXiv 2303.09556): easy, almost noise-free timesteps count less.

        epsilon   min(SNR_t, gamma) / SNR_t       = min(a_t, gamma (1 - a_t)) / a_t
        v         min(SNR_t, gamma) / (SNR_t + 1) = min(a_t, gamma (1 - a_t))

    The right-hand sides stay finite at both ends of a schedule; for epsilon at a_t = 0 the limit is 1.

    Args:
        gamma: 5 in the paper.

    Returns:
        float32 [B], in (0, 1] for epsilon and in [0, gamma / (gamma + 1)] for v.

    Raises:
        ValueError: for a prediction type other than `PREDICTION_TYPES`.
    """
    _check_prediction_type(prediction_type)
    a = _at(alphas_cumprod, timesteps).flatten()
    kept = paddle.minimum(a, gamma * (1.0 - a))
    if prediction_type == "v_prediction":
        return kept
    return paddle.where(a > 0, kept / paddle.where(a > 0, a, paddle.ones_like(a)), paddle.ones_like(a))


def debiased_weights(alphas_cumprod: Tensor, timesteps: Tensor, prediction_type: str) -> Tensor:
    """Debiased estimation (arXiv 2310.08442): noisy timesteps, where x is predicted worst, count more.

        epsilon   1 / sqrt(SNR_t)              = sqrt((1 - a_t) / a_t)
        v         sqrt(SNR_t) / (SNR_t + 1)    = sqrt(a_t (1 - a_t)), equivalent for v (see above)

    Returns:
        float32 [B]; infinite for epsilon at a_t = 0, which `timestep_range` excludes.

    Raises:
        ValueError: for a prediction type other than `PREDICTION_TYPES`.
    """
    _check_prediction_type(prediction_type)
    a = _at(alphas_cumprod, timesteps).flatten()
    return ((1.0 - a) / a).sqrt() if prediction_type == "epsilon" else (a * (1.0 - a)).sqrt()


def sample_weights(
    alphas_cumprod: Tensor,
    timesteps: Tensor,
    prediction_type: str,
    snr_gamma: float | None = None,
    debiased: bool = False,
) -> Tensor | None:
    """Weight of each sample's loss, float32 [B]; None if all weigh the same."""
    if snr_gamma is not None:
        return min_snr_weights(alphas_cumprod, timesteps, prediction_type, snr_gamma)
    return debiased_weights(alphas_cumprod, timesteps, prediction_type) if debiased else None


# -------------------------------------------------------------------------------------------------------------- loss


def huber_thresholds(
    alphas_cumprod: Tensor, timesteps: Tensor, schedule: str, huber_c: float, scale: float = 1.0
) -> Tensor | float:
    """The error from which a Huber loss turns to a straight line, at each sample's timestep t of T (arXiv 2403.16728).

        constant      c s
        exponential   c^(t / T) s                                   from s for clean latents down to c s
        snr           (1 - c) / (1 + 1 / sqrt(SNR_t))^2 + c         from 1 down to c; the scale s has no part in it

    Returns:
        float32 [B, 1, 1, 1], or one number for all.

    Raises:
        ValueError: for a schedule other than `choices.HUBER_SCHEDULES`.
    """
    if schedule == "constant":
        return huber_c * scale
    if schedule == "exponential":
        rate = math.log(huber_c) / alphas_cumprod.shape[0]
        return scale * (rate * timesteps.astype("float32")).exp().reshape([-1, 1, 1, 1])
    if schedule != "snr":
        raise ValueError(f"schedule {schedule!r} is none of {', '.join(HUBER_SCHEDULES)}")
    signal, sigma = _signal_and_noise(alphas_cumprod, timesteps)
    return (1 - huber_c) * (signal / (signal + sigma)).square() + huber_c  # 1 / sqrt(SNR) = sigma / signal


def elementwise_loss(
    prediction: Tensor, target: Tensor, loss_type: str = "l2", huber_c: Tensor | float = 0.1
) -> Tensor:
    """The loss of every element, float32 [B, C, H, W], of the error d = prediction - target.

        l2          d^2
        huber       2 c (sqrt(d^2 + c^2) - c)      pseudo-Huber (arXiv 2403.16728): d^2 near zero, 2 c |d| far away
        smooth_l1   2 (sqrt(d^2 + c^2) - c)        the same divided by c: d^2 / c near zero, 2 |d| far away

    Args:
        huber_c: c, one for all or one a sample, see `huber_thresholds`.

    Raises:
        ValueError: for a loss other than `choices.LOSS_TYPES`.
    """
    squared = (prediction - target).square()
    if loss_type == "l2":
        return squared
    if loss_type not in LOSS_TYPES:
        raise ValueError(f"loss type {loss_type!r} is none of {', '.join(LOSS_TYPES)}")
    scale = huber_c if loss_type == "huber" else 1.0
    return 2.0 * scale * ((squared + huber_c**2).sqrt() - huber_c)


def diffusion_loss(
    prediction: Tensor,
    target: Tensor,
    loss_type: str = "l2",
    huber_c: Tensor | float = 0.1,
    *,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """The mean loss of the samples: a scalar.

    Args:
        loss_type, huber_c: see `elementwise_loss`.
        weights: float32 [B], weight of each sample's loss; None: all 1. The sum is divided by B, not by their sum.
        mask: float32 [B, 1, H, W] in [0, 1], weight of each position. A sample's loss is the mean weighted by its mask,
            so that a small object counts as much as a large one. None: all 1. An empty mask gives a loss of 0.
    """
    each = sample_losses(prediction, target, loss_type, huber_c, mask=mask)  # (B,)
    return (each if weights is None else each * weights).mean()


def sample_losses(
    prediction: Tensor, target: Tensor, loss_type: str = "l2", huber_c: float = 0.1, *, mask: Tensor | None = None
) -> Tensor:
    """The loss of each sample, float32 [B]; see `diffusion_loss`."""
    each = elementwise_loss(prediction, target, loss_type, huber_c)  # (B, C, H, W)
    if mask is None:
        return each.mean(axis=[1, 2, 3])
    total = mask.sum(axis=[1, 2, 3])  # (B,)
    return (each.mean(axis=1, keepdim=True) * mask).sum(axis=[1, 2, 3]) / total.clip(min=_NO_WEIGHT)
