"""Storings: what makes the parameterization of a method within a budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_flag, check_float, check_int
from torch_geometric_ddp._identity import describe, is_ours
from torch_geometric_ddp.budget import BudgetError, StorageBudget
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.methods.starts import Start, clouds_of
from torch_geometric_ddp.parameterization import (
    FLOAT32,
    Codec,
    FullResolution,
    Mirrored,
    Parameterization,
    PartLabels,
    PointSet,
    ShapeMorphing,
)
from torch_geometric_ddp.parameterization.codecs.base import check_codec
from torch_geometric_ddp.parameterization.mirrored import check_even
from torch_geometric_ddp.tasks import Task

__all__ = [
    "CloudStoring",
    "GroupStoring",
    "MorphStoring",
    "StoredForm",
    "Storing",
    "full_resolution",
    "mirrored",
    "morphing",
    "packed",
    "told_storing",
]

_SIX_BITS = PointSet(6)
_HALF_OF_SIX_BITS = PointSet(6, half=True)
# The learning rates of shape morphing.
_RATES = ("anchor_lr", "weight_lr", "rotation_lr")

#: Gives the clouds [n, N, 3] that are stored of real clouds [n, N1, 3], each as it is unfolded.
StoredForm = Callable[[Tensor], Tensor]

#: Makes the parameterization of a budget for a task, given where its clouds start from. One that
#: divides its groups as :meth:`StorageBudget.counts` says can be given quotas.
Storing = Callable[[PointCloudBank, StorageBudget, Start, torch.Generator, Task], Parameterization]


def _same(pos: Tensor) -> Tensor:
    return pos


class GroupStoring(ABC):
    """Stores groups of clouds, of which a budget holds some: what the storings here have in common.

    It makes the parameterization of the clouds of a start, as many as fit.
    """

    #: How many clouds of a start a group is made from.
    clouds_per_group: int = 1
    #: Why points may not be labelled with parts, if they may not.
    refusal: str = ""

    @abstractmethod
    def fitting(self, budget: StorageBudget) -> tuple[int, int]:
        """The groups per class that a budget holds, and the points of a stored cloud.

        Raises:
            ValueError: If none fits.
        """

    @abstractmethod
    def stored(
        self,
        clouds: Tensor,
        num_points: int,
        num_classes: int,
        labels: PartLabels | None,
        generator: torch.Generator,
    ) -> Parameterization:
        """The parameterization of clouds, group by group, for so many classes of as many groups."""

    def told(self) -> dict[str, Any]:
        """What tells it from others beside its parameterization, as JSON; nothing of our own."""
        return {} if is_ours(type(self)) else {"storing": describe(self)}

    def __call__(
        self,
        bank: PointCloudBank,
        budget: StorageBudget,
        start: Start,
        generator: torch.Generator,
        task: Task,
    ) -> Parameterization:
        """Makes the parameterization of the clouds of a start.

        Raises:
            ValueError: If they do not fit, or points are labelled that may not be.
        """
        num, num_points = self.fitting(budget)
        bank, labels = task.arrange(bank, num_points)
        if labels is not None and self.refusal:
            raise ValueError(self.refusal)
        counts = budget.counts(num)
        each = [count * self.clouds_per_group for count in counts]
        clouds = clouds_of(start, bank, each, generator)
        if budget.weights is None:
            return self.stored(clouds, num_points, bank.num_classes, labels, generator)
        return self.stored(clouds, num_points, 1, labels, generator).divide(counts)


def told_storing(storing: Storing) -> dict[str, Any]:
    """What tells a storing from others beside its parameterization, as JSON."""
    if isinstance(storing, GroupStoring):
        return storing.told()
    return {} if is_ours(storing) else {"storing": describe(storing)}


@dataclass(frozen=True)
class CloudStoring(GroupStoring):
    """Stores each cloud by itself: a :obj:`Storing` that also tells what becomes of real clouds.

    Args:
        sizes (callable): Gives the clouds per class of a budget and the points of a cloud. It
            raises a :class:`ValueError` where they do not fit.
        make (callable): Makes the parameterization of clouds :obj:`[C * K, N, 3]`, the number of
            classes and any part labels.
        reduce (callable): Takes as many points of real clouds :obj:`[n, N1, 3]` as :obj:`make`
            needs. (default: they stay as they are)
        refusal (str): Why points may not be labelled with parts. (default: they may)
    """

    sizes: Callable[[StorageBudget], tuple[int, int]]
    make: Callable[[Tensor, int, PartLabels | None], Parameterization]
    reduce: Callable[[Tensor], Tensor] = _same
    refusal: str = ""

    def fitting(self, budget: StorageBudget) -> tuple[int, int]:
        """What :attr:`sizes` says."""
        return self.sizes(budget)

    def stored(
        self,
        clouds: Tensor,
        num_points: int,
        num_classes: int,
        labels: PartLabels | None,
        generator: torch.Generator,
    ) -> Parameterization:
        """What :attr:`make` makes of the clouds, reduced to as many points."""
        if clouds.size(1) != num_points:  # Else they are arranged already, part by part.
            clouds = self.reduce(clouds)
        return self.make(clouds, num_classes, labels)

    def told(self) -> dict[str, Any]:
        """All of it, where a part is not our own."""
        parts = self.sizes, self.make, self.reduce
        return {} if all(map(is_ours, parts)) else {"storing": describe(self)}

    def form(self, pos: Tensor) -> Tensor:
        """What is stored of real clouds :obj:`[n, N1, 3]`, each as it is unfolded."""
        return self.make(self.reduce(pos), 1, None).unfold().detach()


def full_resolution(
    lr: float = 1.0, rotation_lr: float | None = None, codec: Codec = FLOAT32
) -> CloudStoring:
    """Stores the whole clouds per class of a budget as they are.

    Less than the storage of one cloud has room for one only if its codec is cheaper than single
    precision; :func:`packed` stores clouds of fewer points.

    Args:
        lr (float): The learning rate of the points. (default: :obj:`1.0`)
        rotation_lr (float, optional): That of the clouds' turns about the up axis, see
            :class:`~torch_geometric_ddp.parameterization.Rotation`. (default: no turns)
        codec (Codec): How the clouds are stored. (default:
            :class:`~torch_geometric_ddp.parameterization.Float32`)

    Raises:
        TypeError, ValueError: If a rate or :obj:`codec` is none; when it is called, if the budget
            has no room for a whole cloud.
    """
    _check_rates(lr=lr, rotation_lr=rotation_lr)
    check_codec("codec", codec)

    def sizes(budget: StorageBudget) -> tuple[int, int]:
        if codec.bits((1, 1, 3)) is not None:
            FullResolution.clouds_that_fit(budget, codec=codec)  # Raises, and says what does.
        return budget.num_groups, budget.num_points

    def make(clouds: Tensor, num_classes: int, labels: PartLabels | None) -> Parameterization:
        return FullResolution(clouds, num_classes, lr, rotation_lr, labels, codec)

    return CloudStoring(sizes, make)


def packed(
    num_points: int = 64,
    codec: Codec = _SIX_BITS,
    lr: float = 0.01,
    rotation_lr: float | None = None,
) -> CloudStoring:
    """Stores as many clouds of few points as fit.

    They start from the clouds of the start, each reduced by farthest point sampling. With the
    defaults, the storage of one full cloud of 1,024 points holds 123 clouds per class.

    Args:
        num_points (int): The points of a cloud. (default: :obj:`64`)
        codec (Codec): How the clouds are stored. (default: as sets of points on a grid of 6 bits a
            coordinate, :class:`~torch_geometric_ddp.parameterization.PointSet`)
        lr (float): The learning rate of the points. (default: :obj:`0.01`)
        rotation_lr (float, optional): That of the clouds' turns about the up axis, see
            :class:`~torch_geometric_ddp.parameterization.Rotation`. (default: no turns)

    Raises:
        TypeError: If :obj:`num_points` is no integer, a rate no number, or :obj:`codec` none.
        ValueError: If :obj:`num_points` is below one, or a rate negative; when it is called, if it
            is more points than a real cloud has, not even one cloud per class fits, or the size of
            what :obj:`codec` stores depends on the values.
    """
    num_points = check_int("num_points", num_points)
    _check_rates(lr=lr, rotation_lr=rotation_lr)
    check_codec("codec", codec)

    def sizes(budget: StorageBudget) -> tuple[int, int]:
        return FullResolution.clouds_that_fit(budget, num_points, codec), num_points

    def make(clouds: Tensor, num_classes: int, labels: PartLabels | None) -> Parameterization:
        return FullResolution(clouds, num_classes, lr, rotation_lr, labels, codec)

    def reduce(pos: Tensor) -> Tensor:
        return ops.gather_points(pos, ops.farthest_point_sample(pos, num_points))

    return CloudStoring(sizes, make, reduce)


def mirrored(
    num_points: int = 64, codec: Codec = _HALF_OF_SIX_BITS, lr: float = 0.01
) -> CloudStoring:
    """Stores as many halves of clouds as fit, which unfold with their mirror images.

    With the defaults, the storage of one full cloud of 1,024 points holds 246 clouds per class.

    Args:
        num_points (int): The points of an unfolded cloud, even. (default: :obj:`64`)
        codec (Codec): How the halves are stored. (default: as sets of points on a grid of 6 bits a
            coordinate in half of the ball)
        lr (float): The learning rate of the points. (default: :obj:`0.01`)

    Raises:
        TypeError: If :obj:`num_points` is no integer, :obj:`lr` no number, or :obj:`codec` none.
        ValueError: If :obj:`num_points` is odd or below two, or :obj:`lr` negative; when it is
            called, if it is more points than a real cloud has, not even one cloud per class fits,
            or points are labelled with parts.
    """
    num_points = check_even("num_points", num_points)
    _check_rates(lr=lr)
    check_codec("codec", codec)

    def sizes(budget: StorageBudget) -> tuple[int, int]:
        return Mirrored.clouds_that_fit(budget, num_points, codec), num_points

    def make(clouds: Tensor, num_classes: int, labels: PartLabels | None) -> Parameterization:
        return Mirrored.from_clouds(clouds, num_classes, num_points, lr, codec)

    refusal = "clouds whose points are labelled with parts cannot be mirrored"
    return CloudStoring(sizes, make, refusal=refusal)


@dataclass(frozen=True)
class MorphStoring(GroupStoring):
    """Stores anchors and the weights of their morphs: what :func:`morphing` makes.

    Its arguments are those of that function, the further ones as a mapping.
    """

    num_anchors: int
    anchor_points: int | None
    num_morphs: int
    adaptive: bool
    codec: Codec
    weight_codec: Codec
    fill: bool
    others: Mapping[str, Any]

    @property
    def clouds_per_group(self) -> int:  # type: ignore[override]
        """The anchors of a group."""
        return self.num_anchors

    def fitting(self, budget: StorageBudget) -> tuple[int, int]:
        """The groups per class, and the points of an anchor."""
        learned = self.num_morphs if self.adaptive else 0
        codecs, points = (self.codec, self.weight_codec), self.anchor_points
        if points is not None:
            budget.check_points("anchor_points", points)
        if not self.fill or points is None:
            points = _anchor_points(budget, points, self.num_anchors, learned, *codecs)
            return budget.num_groups, points
        groups = ShapeMorphing.most_groups(budget, self.num_anchors, points, learned, *codecs)
        return groups, points

    def stored(
        self,
        clouds: Tensor,
        num_points: int,
        num_classes: int,
        labels: PartLabels | None,
        generator: torch.Generator,
    ) -> Parameterization:
        """Anchors of the clouds, with weights that the generator draws."""
        return ShapeMorphing.from_clouds(
            clouds.unflatten(0, (num_classes, -1)),
            self.num_anchors,
            num_points,
            self.num_morphs,
            generator,
            self.adaptive,
            labels,
            codec=self.codec,
            weight_codec=self.weight_codec,
            **self.others,
        )

    def told(self) -> dict[str, Any]:
        """Whether the anchors of a group are aligned, if they are not."""
        return {} if self.others.get("align", True) else {"align": False}


def morphing(
    num_anchors: int = 4,
    anchor_points: int | None = None,
    num_morphs: int = 16,
    adaptive: bool = True,
    codec: Codec = FLOAT32,
    weight_codec: Codec = FLOAT32,
    fill: bool = False,
    **kwargs: Any,
) -> MorphStoring:
    """Stores anchors and the weights of their morphs.

    Args:
        num_anchors (int): Anchors per group :math:`M`. (default: :obj:`4`)
        anchor_points (int, optional): Points per anchor :math:`N_2`. (default: as many as fit,
            at most those of the originals)
        num_morphs (int): Morphs per group :math:`L`. (default: :obj:`16`)
        adaptive (bool): Whether the weights are learned. (default: :obj:`True`)
        codec (Codec): How the anchors are stored. (default:
            :class:`~torch_geometric_ddp.parameterization.Float32`)
        weight_codec (Codec): How the weights are stored. (default: the same)
        fill (bool): Whether a class has as many groups of :obj:`anchor_points` points as fit.
            Otherwise it has one in every whole cloud of the budget, or one in less than a cloud.
            (default: :obj:`False`)
        **kwargs: Learning rates, :obj:`anchor_lr` (2.5 by default), :obj:`weight_lr` (a tenth of
            it) and :obj:`rotation_lr` (no turns are learned), and whether anchors are aligned,
            :obj:`align` (they are).

    Raises:
        TypeError, ValueError: If a number is none or too small, an argument is not known, a codec
            is none, :obj:`adaptive` or :obj:`fill` is not true or false, or :obj:`fill` without
            :obj:`anchor_points`; when it is called, if the anchors and weights do not fit, or a
            real cloud has fewer points than an anchor.
    """
    num_anchors = check_int("num_anchors", num_anchors)
    num_morphs = check_int("num_morphs", num_morphs, minimum=0)
    if anchor_points is not None:
        anchor_points = check_int("anchor_points", anchor_points)
    for key in kwargs:
        if key not in (*_RATES, "align"):
            raise TypeError(
                f"shape morphing has no setting '{key}': further ones are {', '.join(_RATES)} and "
                "align"
            )
    _check_rates(**{key: kwargs.get(key) for key in _RATES})
    check_flag("adaptive", adaptive)
    check_codec("codec", codec)
    check_codec("weight_codec", weight_codec)
    if check_flag("fill", fill) and anchor_points is None:
        raise ValueError("'fill' must be with 'anchor_points', of which as many groups are made")

    return MorphStoring(
        num_anchors, anchor_points, num_morphs, adaptive, codec, weight_codec, fill, kwargs
    )


def _check_rates(**rates: float | None) -> None:
    """Raises unless they are learning rates, where they are given."""
    for name, rate in rates.items():
        if rate is not None:
            check_float(name, rate)


def _anchor_points(
    budget: StorageBudget,
    wanted: int | None,
    num_anchors: int,
    num_morphs: int,
    codec: Codec,
    weight_codec: Codec,
) -> int:
    """The points of an anchor: those that are wanted if they fit, or as many as fit."""
    if wanted is not None and None in (
        codec.bits((1, num_anchors, wanted, 3)),
        weight_codec.bits((1, 1, 1)),
    ):
        return wanted  # Whether it fits depends on the values: the budget is held against them.
    # What is cheaper than the originals leaves room for more points than they have.
    largest = ShapeMorphing.largest_anchor_points(
        budget, num_anchors, num_morphs, codec, weight_codec, wanted or budget.num_points
    )
    if wanted is None:
        return largest
    if wanted > largest:
        raise BudgetError(
            f"'anchor_points'={wanted} does not fit the storage of ppc={budget.ppc} clouds of "
            f"{budget.num_points} points per class: with num_anchors={num_anchors} and "
            f"num_morphs={num_morphs} it is at most {largest}"
        )
    return wanted
