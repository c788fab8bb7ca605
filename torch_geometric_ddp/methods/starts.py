"""Starts: the clouds that are stored before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.quotas import first_of_each

__all__ = ["JointStart", "Start", "chosen_clouds", "clouds_of", "real_clouds", "tanh_noise"]

#: Gives, for a real set, a number of clouds per class and a generator, clouds [C, num, N1, 3].
Start = Callable[[PointCloudBank, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class JointStart:
    """A start whose clouds are chosen with regard to each other.

    Of any other start a class with a smaller quota takes the first clouds, which those that follow
    did not change.

    Args:
        of_each (callable): Gives, for a real set, the number of clouds of every class and a
            generator, the clouds :obj:`[sum, N1, 3]`, class by class.
    """

    of_each: Callable[[PointCloudBank, Sequence[int], torch.Generator], Tensor]

    def __call__(self, bank: PointCloudBank, num: int, generator: torch.Generator) -> Tensor:
        """As many clouds of every class, as of a :obj:`Start`."""
        clouds = self.of_each(bank, (num,) * bank.num_classes, generator)
        return clouds.unflatten(0, (bank.num_classes, num))


def clouds_of(
    start: Start, bank: PointCloudBank, counts: Sequence[int], generator: torch.Generator
) -> Tensor:
    """The clouds :obj:`[sum, N1, 3]` of a start, class by class.

    Args:
        start (callable): The start, perhaps a :class:`JointStart`.
        bank (PointCloudBank): The real clouds.
        counts (sequence of int): How many every class has.
        generator (torch.Generator): What the start draws from.

    Raises:
        TypeError: If it gives no tensor of the type of the real clouds.
        ValueError: If it gives another number of clouds or of points.
    """
    of_each = getattr(start, "of_each", None)
    if of_each is not None:
        return _checked(of_each(bank, counts, generator), bank, sum(counts))
    most = max(counts)
    clouds = _checked(start(bank, most, generator), bank, bank.num_classes, most)
    return first_of_each(clouds, counts)


def _checked(clouds: object, bank: PointCloudBank, *numbers: int) -> Tensor:
    """What a start gave, if it is as many clouds like the real ones as were asked for."""
    if not isinstance(clouds, Tensor) or clouds.dtype != bank.pos.dtype:
        kind = clouds.dtype if isinstance(clouds, Tensor) else type(clouds).__name__
        raise TypeError(f"'start' must give a tensor of {bank.pos.dtype}, got {kind}")
    shape = [*numbers, bank.dense().size(1), 3]
    if list(clouds.shape) != shape:
        raise ValueError(f"'start' must give clouds of shape {shape}, got {list(clouds.shape)}")
    return clouds


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
