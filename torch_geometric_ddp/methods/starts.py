"""Starts: the clouds that are stored before the first step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from torch_geometric_ddp.clouds.bank import PointCloudBank

__all__ = ["Start", "chosen_clouds", "real_clouds", "tanh_noise"]

#: Gives, for a real set, a number of clouds per class and a generator, clouds [C, num, N1, 3].
Start = Callable[[PointCloudBank, int, torch.Generator], Tensor]


def real_clouds(bank: PointCloudBank, num: int, generator: torch.Generator) -> Tensor:
    """Random real clouds, none twice before all of its class have come once."""
    return bank.dense()[bank.draw(num, generator)]


def tanh_noise(bank: PointCloudBank, num: int, generator: torch.Generator) -> Tensor:
    """The hyperbolic tangent of standard normal noise, as in the published codes."""
    shape = (bank.num_classes, num, bank.dense().size(1), 3)
    return torch.randn(shape, generator=generator).tanh().to(bank.pos)


def chosen_clouds(choose: Callable[[PointCloudBank, int], Tensor]) -> Start:
    """The real clouds that a function chooses.

    Args:
        choose (callable): Gives, for a bank and a number of clouds per class, their indices
            :obj:`[C, num]`.
    """

    def start(bank: PointCloudBank, num: int, generator: torch.Generator) -> Tensor:
        return bank.dense()[choose(bank, num)]

    return start
