"""Point clouds stored as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from torch_geometric_ddp._checks import check_int, check_points
from torch_geometric_ddp.budget import BudgetError, StorageBudget
from torch_geometric_ddp.parameterization.base import Parameterization
from torch_geometric_ddp.parameterization.codecs import FLOAT32, Codec
from torch_geometric_ddp.parameterization.division import groups_per_class
from torch_geometric_ddp.parameterization.form import Form, same
from torch_geometric_ddp.parameterization.part_labels import PartLabels

__all__ = ["FullResolution"]


class FullResolution(Parameterization):
    r"""Stores every synthetic cloud at full resolution, as coresets, DM, PCC and SADM do.

    Args:
        pos (torch.Tensor): The clouds :obj:`[C * K, N, 3]`, class by class.
        num_classes (int): The number of classes :math:`C`.
        lr (float): The default learning rate. (default: :obj:`1.0`)
        rotation_lr (float, optional): The default learning rate of a turn of every cloud about the
            up axis (:class:`Rotation`). (default: no turns)
        labels (PartLabels, optional): The parts of the points, a row for each cloud or one for
            each class. (default: none)
        codec (Codec): How the clouds are stored. (default: :class:`Float32`)

    Raises:
        TypeError, ValueError: If a shape, a type or a number does not fit.
    """

    # A cloud is a set: any order of its points will do.
    forms: ClassVar[Mapping[str, Form]] = {"pos": Form(in_order=same)}

    pos: nn.Parameter

    def __init__(
        self,
        pos: Tensor,
        num_classes: int,
        lr: float = 1.0,
        rotation_lr: float | None = None,
        labels: PartLabels | None = None,
        codec: Codec = FLOAT32,
    ) -> None:
        pos = check_points("pos", pos)
        ppc = groups_per_class("pos", pos, num_classes, "clouds")
        super().__init__(num_classes, ppc, pos.size(1), labels, (1, ppc))
        self.keep("pos", pos, lr, codec, rotation_lr)

    def clouds(self, pos: Tensor) -> Tensor:
        """The clouds :obj:`[G, N, 3]` as they are."""
        return pos

    @classmethod
    def most_clouds(
        cls, budget: StorageBudget, num_points: int | None = None, codec: Codec = FLOAT32
    ) -> int:
        """The largest number of clouds per class that fits, with their labels if there are any.

        Args:
            budget (StorageBudget): What may be stored.
            num_points (int, optional): The points of a cloud. (default: as many as the originals)
            codec (Codec): How they are stored. (default: :class:`Float32`)

        Returns:
            The number, 0 if not even one fits.

        Raises:
            TypeError, ValueError: If :obj:`num_points` is no number of points, or the size of what
                :obj:`codec` stores depends on the values.
        """
        num = budget.num_points if num_points is None else check_int("num_points", num_points)
        return budget.largest(lambda ppc: cls._bits(budget, ppc, num, codec))

    @classmethod
    def clouds_that_fit(
        cls, budget: StorageBudget, num_points: int | None = None, codec: Codec = FLOAT32
    ) -> int:
        """The same as :meth:`most_clouds` where at least one cloud is needed.

        Raises:
            TypeError: If :obj:`num_points` is no integer.
            BudgetError: If not even one cloud of :obj:`num_points` points fits.
            TooFewPointsError: If they are more than those of an original.
            ValueError: If the size of what :obj:`codec` stores depends on the values.
        """
        num = budget.num_points
        if num_points is not None:
            num = budget.check_points("num_points", num_points)
        most = cls.most_clouds(budget, num, codec)
        if most < 1:
            raise BudgetError(
                f"'num_points'={num} does not fit the storage of ppc={budget.ppc} clouds of "
                f"{budget.num_points} points per class: as {codec} one cloud per class fits if it "
                f"has at most {cls.largest_points(budget, 1, codec)} points"
            )
        return most

    @classmethod
    def largest_points(
        cls, budget: StorageBudget, ppc: int | None = None, codec: Codec = FLOAT32
    ) -> int:
        """The largest number of points of a cloud that fits, beside labels if there are any.

        Args:
            budget (StorageBudget): What may be stored.
            ppc (int, optional): The number of clouds per class. (default: the whole ones of the
                budget, or one)
            codec (Codec): How they are stored. (default: :class:`Float32`)

        Returns:
            The number, 0 if not even one fits.

        Raises:
            TypeError, ValueError: If :obj:`ppc` is no number of clouds, or the size of what
                :obj:`codec` stores depends on the values; if it takes no cloud of so many points
                as fit.
        """
        ppc = budget.num_groups if ppc is None else check_int("ppc", ppc)
        return budget.largest(lambda num: cls._bits(budget, ppc, num, codec))

    @staticmethod
    def _bits(budget: StorageBudget, ppc: int, num_points: int, codec: Codec) -> int:
        """Those of so many clouds per class, with their labels if there are any."""
        return codec.sure_bits((budget.num_classes * ppc, num_points, 3)) + ppc * budget.label_bits
