"""Random real clouds with mixtures of them, what interpolation is worth without distillation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_int, check_ppc, check_seed
from torch_geometric_ddp.budget import BudgetError
from torch_geometric_ddp.coreset.selection import check_stored
from torch_geometric_ddp.parameterization import FLOAT32, Codec, PointMixup, ShapeMorphing
from torch_geometric_ddp.quotas import Quotas, check_quotas, first_of_each, told_quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import Task, find_task

__all__ = ["point_mixup_coreset"]


def point_mixup_coreset(
    dataset: Iterable[Data],
    ppc: float = 1,
    seed: int = 0,
    task: Task | str = "classification",
    num_anchors: int = 4,
    num_mixtures: int = 16,
    codec: Codec = FLOAT32,
    quotas: Quotas = "uniform",
) -> SyntheticPointCloudDataset:
    """Chooses real clouds at random, reduced to what fits, and mixes them.

    The storage of a whole cloud holds a group of small ones, as in shape morphing, and the
    mixtures of :class:`~torch_geometric_ddp.parameterization.PointMixup` take the place of its
    learned morphs, without their weights. The clouds are scaled to the unit ball.

    Args:
        dataset (Dataset): The real set, clouds of one size.
        ppc (float): The storage, in full-resolution clouds per class. (default: :obj:`1`)
        seed (int): The seed. (default: :obj:`0`)
        task (Task or str): Only :obj:`"classification"`. (default: :obj:`"classification"`)
        num_anchors (int): Clouds of a group. (default: :obj:`4`)
        num_mixtures (int): Mixtures of a group. (default: :obj:`16`)
        codec (Codec): How clouds are stored. (default:
            :class:`~torch_geometric_ddp.parameterization.Float32`)
        quotas (str or sequence of float): How the storage is divided among the classes, see
            :func:`~torch_geometric_ddp.distill`. (default: :obj:`"uniform"`)

    Returns:
        The chosen clouds and their mixtures, a group in every whole cloud per class.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of range, the clouds of :obj:`dataset` differ in size, points
            are labelled with parts, or nothing fits.
    """
    ppc, seed = check_ppc(ppc), check_seed("seed", seed)
    num_anchors = check_int("num_anchors", num_anchors, minimum=2)
    check_stored(None, codec)
    check_quotas(quotas)
    task = find_task(task)
    if not task.one_label:
        raise ValueError(f"'task' must have one label for a cloud, got '{task.name}'")
    bank = task.read(dataset).normalize()
    budget = bank.budget(ppc, quotas)
    counts = budget.counts(budget.num_groups)
    try:
        points = ShapeMorphing.largest_anchor_points(
            budget, num_anchors, 0, codec, most=budget.num_points
        )
    except BudgetError as error:  # Which tells of morphs, of which there are none here.
        raise BudgetError(
            f"'num_anchors'={num_anchors} clouds of a group do not fit the storage of ppc={ppc} "
            f"clouds of {budget.num_points} points per class, which has no room for so many of "
            f"even one point as {codec}"
        ) from error
    drawn = bank.draw(max(counts) * num_anchors, torch.Generator().manual_seed(seed))
    chosen = first_of_each(drawn, [num * num_anchors for num in counts])
    pos = bank.select(chosen).farthest_points(points).dense()
    groups = pos.view(-1, num_anchors, points, 3)
    clouds = PointMixup(groups, 1, num_mixtures, codec=codec).divide(counts)
    provenance = {
        "method": "point-mixup",
        "seed": seed,
        "num_points": points,
        **told_quotas(quotas),
        "task": task.name,
        "ppc": ppc,
        "bits": clouds.storage_bits(),
        "chosen": chosen.tolist(),
    }
    return SyntheticPointCloudDataset(clouds, class_names=bank.class_names, provenance=provenance)
