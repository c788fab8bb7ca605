"""How a method stores what it distils, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.budget import StorageBudget
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.methods.starts import Start
from torch_geometric_ddp.parameterization import (
    FLOAT32,
    Codec,
    FullResolution,
    Parameterization,
    ShapeMorphing,
)
from torch_geometric_ddp.tasks import Task

__all__ = ["Storing", "full_resolution", "morphing"]

#: Makes the parameterization of a budget for a task, given where its clouds start from.
Storing = Callable[[PointCloudBank, StorageBudget, Start, torch.Generator, Task], Parameterization]


def full_resolution(
    lr: float = 1.0, rotation_lr: float | None = None, codec: Codec = FLOAT32
) -> Storing:
    """Stores :obj:`ppc` clouds per class as they are.

    Args:
        lr (float): The learning rate of the points. (default: :obj:`1.0`)
        rotation_lr (float, optional): That of the clouds' turns about the up axis, see
            :class:`~torch_geometric_ddp.parameterization.Rotation`. (default: no turns)
        codec (Codec): How the clouds are stored. (default:
            :class:`~torch_geometric_ddp.parameterization.Float32`)
    """

    def store(
        bank: PointCloudBank,
        budget: StorageBudget,
        start: Start,
        generator: torch.Generator,
        task: Task,
    ) -> Parameterization:
        bank, labels = task.lay_out(bank, budget.num_points)
        clouds = start(bank, budget.ppc, generator).flatten(0, 1)
        return FullResolution(clouds, bank.num_classes, lr, rotation_lr, labels, codec)

    return store


def morphing(
    num_anchors: int = 4,
    anchor_points: int | None = None,
    num_morphs: int = 16,
    adaptive: bool = True,
    codec: Codec = FLOAT32,
    weight_codec: Codec = FLOAT32,
    **kwargs: Any,
) -> Storing:
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
        **kwargs: Further arguments of
            :class:`~torch_geometric_ddp.parameterization.ShapeMorphing`.
    """

    def store(
        bank: PointCloudBank,
        budget: StorageBudget,
        start: Start,
        generator: torch.Generator,
        task: Task,
    ) -> Parameterization:
        points = _anchor_points(
            budget, anchor_points, num_anchors, num_morphs if adaptive else 0, codec, weight_codec
        )
        bank, labels = task.lay_out(bank, points)
        clouds = start(bank, budget.ppc * num_anchors, generator)
        return ShapeMorphing.from_clouds(
            clouds,
            num_anchors,
            points,
            num_morphs,
            generator,
            adaptive,
            labels,
            codec=codec,
            weight_codec=weight_codec,
            **kwargs,
        )

    return store


def _anchor_points(
    budget: StorageBudget,
    wanted: int | None,
    num_anchors: int,
    num_morphs: int,
    codec: Codec,
    weight_codec: Codec,
) -> int:
    """The points of an anchor: those that are wanted if they fit, or as many as fit."""
    if wanted is not None:
        check_int("anchor_points", wanted)
        if None in (codec.bits((1, num_anchors, wanted, 3)), weight_codec.bits((1, 1, 1))):
            return wanted  # Whether it fits depends on the values: the budget is held against them.
    largest = ShapeMorphing.largest_anchor_points(
        budget, num_anchors, num_morphs, codec, weight_codec
    )
    if wanted is None:
        # What is cheaper than the originals leaves room for more points than they have.
        return min(largest, budget.num_points)
    if wanted > largest:
        raise ValueError(
            f"'anchor_points'={wanted} does not fit the storage of ppc={budget.ppc} clouds of "
            f"{budget.num_points} points per class: with num_anchors={num_anchors} and "
            f"num_morphs={num_morphs} it is at most {largest}"
        )
    return wanted
