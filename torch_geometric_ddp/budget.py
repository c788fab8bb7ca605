"""Storage in bits: what a synthetic set costs, and what fits."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from torch_geometric_ddp._checks import check_int, check_ppc
from torch_geometric_ddp.quotas import check_weights, largest_remainders

__all__ = ["BudgetError", "StorageBudget", "TooFewPointsError", "tensor_bits"]

FLOAT_BITS = 32


class BudgetError(ValueError):
    """What would be stored does not fit a budget."""


class TooFewPointsError(ValueError):
    """Clouds have fewer points than are asked for."""


def tensor_bits(tensors: Mapping[str, Tensor]) -> int:
    """The bits of the bytes that :obj:`tensors` are written as: everything stored counts."""
    return sum(8 * tensor.numel() * tensor.element_size() for tensor in tensors.values())


@dataclass(frozen=True)
class StorageBudget:
    r"""The room of :obj:`ppc` full-resolution clouds per class, in bits.

    A set of :math:`K` point clouds per class (PPC) of :math:`N_1` points in single precision has
    :math:`96 \, N_1 K C` bits for :math:`C` classes. Shape morphing must stay within them:

    .. math::
        96 \, M N_2 K C + 32 \, L (M - 1) K C \le 96 \, N_1 K C

    (DDP, ICLR 2026, storage constraint). What a set costs is asked of what is written of it, not
    of this formula, and what fits is asked of its parameterization.

    Args:
        num_points (int): The number of points :math:`N_1` of an original cloud.
        num_classes (int): The number of classes :math:`C`.
        ppc (float): Point clouds per class :math:`K`, also a part of one: the bits are then rounded
            down. (default: :obj:`1`)
        label_bits (int): What the part labels of one cloud of every class take together, if points
            are labelled. (default: :obj:`0`)
        weights (tuple of float, optional): Numbers above 0 to which the groups of the classes are
            proportional, see :meth:`counts`. The bits are the same. (default: all classes have as
            many)

    .. code-block:: python

        >>> StorageBudget(num_points=1024, num_classes=10).bits
        983040
        >>> StorageBudget(num_points=1024, num_classes=10, ppc=1 / 16).bits
        61440
        >>> StorageBudget(num_points=1024, num_classes=3, weights=(7, 30, 64)).counts(10)
        (2, 9, 19)

    Raises:
        TypeError: If :obj:`ppc` is no number, :obj:`weights` are no numbers, or one of the others
            is no integer.
        ValueError: If :obj:`num_points` or :obj:`num_classes` is below one, :obj:`ppc` is not above
            0, :obj:`label_bits` is negative, or there is not a weight above 0 for every class.
    """

    num_points: int
    num_classes: int
    ppc: float = 1
    label_bits: int = 0
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name, least in (("num_points", 1), ("num_classes", 1), ("label_bits", 0)):
            object.__setattr__(self, name, check_int(name, getattr(self, name), minimum=least))
        object.__setattr__(self, "ppc", check_ppc(self.ppc))  # One whole number is one budget.
        if self.weights is not None:
            weights = check_weights("weights", self.weights, self.num_classes)
            object.__setattr__(self, "weights", weights)  # A tuple, whatever sequence was given.

    @property
    def bits(self) -> int:
        """The bits that may be stored."""
        each = self.num_classes * self.bits_per_group + self.label_bits
        # As it is meant: three tenths of ten are three, and three thirds one, which no floats are.
        written = Fraction(repr(self.ppc))
        meant = written.limit_denominator(10**6)
        return math.floor((meant if float(meant) == self.ppc else written) * each)

    @property
    def num_groups(self) -> int:
        """The groups per class of a parameterization that has one in every whole cloud, or one."""
        return max(1, math.floor(self.ppc))

    def counts(self, per_class: int) -> tuple[int, ...]:
        """How many groups every class has, where there is room for so many of each.

        There are as many altogether as if all classes had the same number, so that the bits are
        the same, and they are divided by :func:`~torch_geometric_ddp.quotas.largest_remainders`.

        Args:
            per_class (int): The number of groups of a class, if all have the same.

        Raises:
            BudgetError: If classes have different weights, and there is only one group of each.
        """
        if self.weights is None:
            return (per_class,) * self.num_classes
        if per_class == 1 and len({*self.weights}) > 1:
            raise BudgetError(
                f"'quotas' must be 'uniform' here: ppc={self.ppc} has room for one group of every "
                "class, which leaves nothing to divide; smaller clouds or a cheaper codec do"
            )
        return largest_remainders(per_class * self.num_classes, self.weights)

    def check_points(self, name: str, num: Any, minimum: int = 1) -> int:
        """Returns a number of points that an original has, too.

        Args:
            name (str): What the number is called in an error.
            num (int): The number.
            minimum (int): The least that it may be. (default: :obj:`1`)

        Raises:
            TypeError: If it is no integer.
            TooFewPointsError: If an original has fewer.
            ValueError: If it is below :obj:`minimum`.
        """
        num = check_int(name, num, minimum)
        if num > self.num_points:
            raise TooFewPointsError(
                f"'{name}' must be at most the {self.num_points} of a real cloud, got {num}"
            )
        return num

    @property
    def bits_per_group(self) -> int:
        """The bits of one full-resolution cloud."""
        return 3 * FLOAT_BITS * self.num_points

    def largest(self, cost: Callable[[int], int], most: int | None = None) -> int:
        """The largest number that fits, such as that of points; 0 if not even one does.

        Args:
            cost (callable): Gives the bits of the whole set from the number, never fewer for more.
            most (int, optional): The largest number that is asked for. (default: any)

        Raises:
            ValueError: If any number fits.
        """
        if most is None:
            most = 1
            while cost(most) <= self.bits:
                most *= 2
                if most > 2**62:
                    raise ValueError("'cost' must exceed the budget for some number, got none")
        return bisect_right(range(1, most + 1), self.bits, key=cost)

    def check(self, num_classes: int, bits: int, what: str) -> int:
        """Returns :obj:`bits`, if they may be stored.

        Args:
            num_classes (int): The number of classes of the set that stores them.
            bits (int): All that it stores.
            what (str): What to call the set where it does not fit.

        Raises:
            BudgetError: If they exceed the budget.
            ValueError: If it is for another number of classes.
        """
        if num_classes != self.num_classes:
            raise ValueError(
                f"the budget is for {self.num_classes} classes, but {what} has {num_classes}"
            )
        if bits > self.bits:
            raise BudgetError(
                f"{what} stores {bits} bits, which is {bits - self.bits} more than the budget of "
                f"{self.bits} bits (ppc={self.ppc} clouds of {self.num_points} points for each of "
                f"{self.num_classes} classes)"
            )
        return bits
