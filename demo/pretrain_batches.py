"""Which images of the training world a batch of the pretraining shows."""

from __future__ import annotations

import torch

from demo.pretrain_data import N_ALL, N_TRAIN
from demo.toyworld import FIRST_PAIR, picture


def draw_training_numbers(
    count: int, p_pair: float, styled: torch.Tensor | None = None, n_styled: int = 0
) -> torch.Tensor:
    """Draw numbers of images to train on, int64 [count]: a share of pairs, and at the end some that are styled.

    Args:
        count: how many.
        p_pair: share of images of two toys among those that are not drawn as styled ones.
        styled: numbers of images in invented styles, int64 [S].
        n_styled: how many of them.
    """
    free = count - n_styled
    pair = torch.randint(FIRST_PAIR, N_ALL, (free,))
    numbers = torch.where(torch.rand(free) < p_pair, pair, torch.randint(0, N_TRAIN, (free,)))
    return torch.cat([numbers, styled[torch.randint(0, len(styled), (n_styled,))]]) if n_styled else numbers


def styled_numbers() -> torch.Tensor:
    """Return the numbers of the training images in invented styles, int64 [S], those of two toys too."""
    numbers = [*range(N_TRAIN), *range(FIRST_PAIR, N_ALL)]
    return torch.tensor([index for index in numbers if picture(index).style_name])
