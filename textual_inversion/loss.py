"""The objective of latent diffusion (arXiv 2112.10752, equation 2) as pure functions on tensors.

With a noise schedule's cumulative product a_t = prod(1 - beta), data x and noise e,

    noisy latents    x_t = sqrt(a_t) x + sqrt(1 - a_t) e
    epsilon target   e
    v target         sqrt(a_t) e - sqrt(1 - a_t) x          (arXiv 2202.00512, appendix D)

All tensors are float32 [B, C, H, W]; `alphas_cumprod` is float32 [T]; `timesteps` is int64 [B] in [0, T).
"""

import paddle
import paddle.nn.functional as F

PREDICTION_TYPES = ("epsilon", "v_prediction")


def _signal_and_noise(alphas_cumprod, timesteps):
    """(sqrt(a_t), sqrt(1 - a_t)), each [B, 1, 1, 1]."""
    a = paddle.gather(alphas_cumprod, timesteps).reshape([-1, 1, 1, 1])
    return a.sqrt(), (1.0 - a).sqrt()


def add_noise(latents, noise, alphas_cumprod, timesteps):
    """The forward process at each sample's timestep: x_t."""
    signal, sigma = _signal_and_noise(alphas_cumprod, timesteps)
    return signal * latents + sigma * noise


def training_target(prediction_type: str, latents, noise, alphas_cumprod, timesteps):
    """What the U-Net of a base model predicts.

    Raises:
        ValueError: for a prediction type other than `PREDICTION_TYPES`.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        signal, sigma = _signal_and_noise(alphas_cumprod, timesteps)
        return signal * noise - sigma * latents
    raise ValueError(f"prediction type {prediction_type!r} is none of {', '.join(PREDICTION_TYPES)}")


def diffusion_loss(prediction, target):
    """Mean squared error over all elements: a scalar."""
    return F.mse_loss(prediction, target)


def offset_noise(noise, per_channel, scale: float):
    """Noise with a shared shift per image and channel, so that overall brightness is learned too.

    Args:
        noise: [B, C, H, W]; per_channel: [B, C, 1, 1]; both standard normal.
        scale: weight of the shift; 0 leaves the noise as it is.
    """
    return noise + scale * per_channel if scale else noise
