"""What matchings compare of real clouds: their subsets, and how uniform both are.

These are functions for :meth:`PointCloudBank.cached`: they depend on the clouds and on their
arguments alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from torch_geometric_ddp import ops
from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.clouds.bank import BLOCK, PointCloudBank

__all__ = [
    "clouds_of_classes",
    "in_order_for",
    "of_classes",
    "subset_uniformity",
    "subsets_of",
    "uniformity_of",
]


def of_classes(bank: PointCloudBank, start: int, stop: int) -> Tensor:
    """Which clouds are of the classes from :obj:`start` to below :obj:`stop`."""
    return ((bank.y >= start) & (bank.y < stop)).nonzero().flatten()


def clouds_of_classes(bank: PointCloudBank, start: int, stop: int) -> tuple[PointCloudBank, Tensor]:
    """The clouds of the classes from :obj:`start` to below :obj:`stop`, and where each lies.

    Args:
        bank (PointCloudBank): The clouds.
        start (int): The first class.
        stop (int): The class behind the last one.

    Returns:
        A bank of them with all classes, the others empty, and the place :obj:`[n]` of every cloud
        in it; that of the others is behind the last one.
    """
    index = of_classes(bank, start, stop)
    place = torch.full_like(bank.y, len(index))
    place[index] = torch.arange(len(index), device=place.device)
    own = bank.select(index)
    if bank.kept_in is not None:
        own.keep_in(bank.kept_in)
    return own, place


def in_order_for(bank: PointCloudBank, num_centers: int) -> PointCloudBank:
    """The same clouds, each in the order in which networks take their centres from it.

    Networks that go from points to fewer centres put every cloud in the order of
    :meth:`~torch_geometric_ddp.ops.farthest_point_order`, which on a GPU are most of the operations
    of a step. The batches of this bank say that theirs is that order.

    Args:
        bank (PointCloudBank): The clouds, whose points have no labels.
        num_centers (int): How many centres are taken
            (:attr:`~torch_geometric_ddp.nn.Backbone.num_ordered`).
    """
    parts = []
    for batch in bank.batches():
        layout = Layout.of(batch)
        pos = layout.dense(batch.pos)
        order = ops.farthest_point_order(pos, num_centers, layout.sizes)
        parts.append(layout.flat(ops.gather_points(pos, order)))
    ordered = bank.moved(torch.cat(parts))
    ordered.ordered_for = num_centers
    return ordered


def subsets_of(
    bank: PointCloudBank, num_subsets: int, num_points: int, progress: bool = False
) -> Tensor:
    """The points of disjoint subsets of every cloud, see :meth:`PointCloudBank.partition`.

    Args:
        bank (PointCloudBank): The clouds.
        num_subsets (int): The number of subsets :math:`P` of a cloud.
        num_points (int): The number of points :math:`N_2` of a subset.
        progress (bool): Whether to show the progress. (default: :obj:`False`)

    Returns:
        The points :obj:`[n, P, N2, 3]`.

    Raises:
        ValueError: If a cloud has fewer than :math:`P N_2` points.
    """
    return bank.pos[bank.partition(num_subsets, num_points, progress)]


def uniformity_of(bank: PointCloudBank, k: int, progress: bool = False) -> Tensor:
    """The :meth:`~torch_geometric_ddp.ops.uniformity_score` of every cloud, :obj:`[n]`.

    Args:
        bank (PointCloudBank): The clouds, all of one size.
        k (int): The number of neighbours.
        progress (bool): Whether to show the progress. (default: :obj:`False`)

    Raises:
        ValueError: If the clouds have different sizes, or :obj:`k` is below two.
    """
    blocks = tqdm(bank.dense().split(BLOCK), "Uniformity", disable=not progress)
    return torch.cat([ops.uniformity_score(block, k) for block in blocks])


def subset_uniformity(
    bank: PointCloudBank, num_subsets: int, num_points: int, k: int, progress: bool = False
) -> Tensor:
    """The :meth:`~torch_geometric_ddp.ops.uniformity_score` of every subset, :obj:`[n, P]`.

    Args:
        bank (PointCloudBank): The clouds.
        num_subsets (int): The number of subsets :math:`P` of a cloud.
        num_points (int): The number of points of a subset.
        k (int): The number of neighbours.
        progress (bool): Whether to show the progress. (default: :obj:`False`)

    Raises:
        ValueError: If a cloud has too few points, or :obj:`k` is below two.
    """
    subsets = bank.cached(subsets_of, num_subsets, num_points, progress=progress)
    blocks = tqdm(subsets.split(BLOCK), "Uniformity of subsets", disable=not progress)
    scores = [ops.uniformity_score(block.flatten(0, 1), k) for block in blocks]
    return torch.cat(scores).view(-1, num_subsets)
