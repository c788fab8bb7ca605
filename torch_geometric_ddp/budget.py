"""Storage in bits: what a synthetic set costs, and what fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from torch_geometric_ddp._checks import check_int

if TYPE_CHECKING:
    from torch_geometric_ddp.parameterization import Parameterization

__all__ = ["StorageBudget", "tensor_bits"]

FLOAT_BITS = 32


def tensor_bits(tensors: Mapping[str, Tensor]) -> int:
    """The bits of the numbers in :obj:`tensors`: everything that is stored counts."""
    return sum(tensor.numel() * tensor.element_size() * 8 for tensor in tensors.values())


@dataclass(frozen=True)
class StorageBudget:
    r"""The room of :obj:`ppc` full-resolution clouds per class, in bits.

    A set of :math:`K` point clouds per class (PPC) of :math:`N_1` points in single precision has
    :math:`96 \, N_1 K C` bits for :math:`C` classes. Shape morphing must stay within them:

    .. math::
        96 \, M N_2 K C + 32 \, L (M - 1) K C \le 96 \, N_1 K C

    (DDP, ICLR 2026, storage constraint). What a parameterization costs is asked of what it
    stores, not of this formula.

    Args:
        num_points (int): The number of points :math:`N_1` of an original cloud.
        num_classes (int): The number of classes :math:`C`.
        ppc (int): Point clouds per class :math:`K`. (default: :obj:`1`)
        label_bits (int): What the part labels of one cloud of every class take together, if points
            are labelled. (default: :obj:`0`)

    .. code-block:: python

        >>> StorageBudget(num_points=1024, num_classes=10).largest_anchor_points(4, 16)
        252
    """

    num_points: int
    num_classes: int
    ppc: int = 1
    label_bits: int = 0

    def __post_init__(self) -> None:
        for name in ("num_points", "num_classes", "ppc"):
            check_int(name, getattr(self, name))
        check_int("label_bits", self.label_bits, minimum=0)

    @property
    def bits(self) -> int:
        """The bits that may be stored."""
        return self.ppc * (self.num_classes * self.bits_per_group + self.label_bits)

    @property
    def bits_per_group(self) -> int:
        """The bits of one full-resolution cloud."""
        return 3 * FLOAT_BITS * self.num_points

    def largest_anchor_points(self, num_anchors: int, num_morphs: int) -> int:
        r"""The largest :math:`N_2` that fits with :math:`M` anchors and :math:`L` morphs.

        Args:
            num_anchors (int): The number of anchors :math:`M` of a group.
            num_morphs (int): The number of morphs :math:`L` of a group.

        Raises:
            ValueError: If not even anchors of one point fit.
        """
        num_anchors = check_int("num_anchors", num_anchors)
        num_morphs = check_int("num_morphs", num_morphs, minimum=0)
        weights = FLOAT_BITS * num_morphs * (num_anchors - 1)
        largest = (self.bits_per_group - weights) // (3 * FLOAT_BITS * num_anchors)
        if largest < 1:
            raise ValueError(
                f"'num_anchors'={num_anchors} and 'num_morphs'={num_morphs} do not fit: their "
                f"weights take {weights} of the {self.bits_per_group} bits of a cloud of "
                f"{self.num_points} points, which leaves no room for {num_anchors} anchors of "
                "even one point"
            )
        return largest

    def most_morphs(self, num_anchors: int) -> int | None:
        r"""The largest :math:`L` that leaves :math:`M` anchors of a point each.

        Args:
            num_anchors (int): The number of anchors :math:`M` of a group.

        Returns:
            The number, or :obj:`None` for one anchor, whose morphs cost nothing.

        Raises:
            ValueError: If not even anchors of one point fit.
        """
        self.largest_anchor_points(num_anchors, 0)
        if num_anchors == 1:
            return None
        return (self.bits_per_group - 3 * FLOAT_BITS * num_anchors) // (
            FLOAT_BITS * (num_anchors - 1)
        )

    def check(self, parameterization: Parameterization) -> int:
        """Returns the bits that a parameterization stores.

        Raises:
            ValueError: If they exceed the budget, or it is for another number of classes.
        """
        if parameterization.num_classes != self.num_classes:
            raise ValueError(
                f"the budget is for {self.num_classes} classes, but the parameterization has "
                f"{parameterization.num_classes}"
            )
        bits = parameterization.storage_bits()
        if bits > self.bits:
            raise ValueError(
                f"{parameterization.describe()} stores {bits} bits, which is {bits - self.bits} "
                f"more than the budget of {self.bits} bits (ppc={self.ppc} clouds of "
                f"{self.num_points} points for each of {self.num_classes} classes)"
            )
        return bits
