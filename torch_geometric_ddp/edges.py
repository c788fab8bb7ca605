"""Neighbours of points, and PyG's edges between them; no neighbourhood crosses two clouds.

PyG searches neighbours only where pyg-lib is installed. These functions need no more than PyTorch
and SciPy, take clouds as a tensor :obj:`[B, N, F]` of any floating point type on any device, and
clouds of different sizes as :class:`~torch_geometric_ddp.batching.Layout` fills them up.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from torch_geometric_ddp._checks import (
    check_finite_on_cpu,
    check_float,
    check_int,
    check_points,
    check_sizes,
)
from torch_geometric_ddp._threads import thread_map
from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.ops import at_least_single, at_unit, in_blocks

__all__ = ["ball_query", "edge_index", "knn"]

# Pairs of points whose distances are held at a time.
_CPU_PAIRS, _PAIRS = 1 << 22, 1 << 28


def knn(pos: Tensor, k: int, query: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
    r"""The :obj:`k` nearest points of the same cloud, the nearest first.

    .. code-block:: python

        index = knn(torch.rand(8, 1024, 3), k=16)  # [8, 1024, 16]

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, F]`, points in space or in a feature space.
        k (int): The number of neighbours; clouds with fewer points give all of them.
        query (torch.Tensor, optional): The points :obj:`[B, Q, F]` whose neighbours are sought.
            (default: :obj:`pos`, where each point is a neighbour of itself, unless more than
            :obj:`k` lie in its place)
        sizes (torch.Tensor, optional): How many points each cloud of :obj:`pos` has, :obj:`[B]`,
            where it is filled up behind them; what fills up is nobody's neighbour.

    Returns:
        The indices :obj:`[B, Q, min(k, N)]` (:obj:`int64`) into the points of the cloud. A cloud
        of fewer points repeats its nearest in the places from its size on.

    Raises:
        TypeError: If :obj:`k` is no integer, or :obj:`sizes` no tensor.
        ValueError: If :obj:`k` is below one, :obj:`pos` or :obj:`query` no floating point tensor,
            shapes do not fit or, on a CPU, a point is not finite or :obj:`sizes` are not from 1 to
            :obj:`N`.
    """
    pos, query = _check(pos, query, sizes)
    k = min(check_int("k", k), pos.size(1))
    # On a CPU a k-d tree beats all pairs in space.
    if pos.device.type == "cpu" and pos.size(-1) <= 3 and len(pos) > 0:
        counts = [pos.size(1)] * len(pos) if sizes is None else sizes.tolist()

        def search(cloud: tuple[np.ndarray, np.ndarray, int]) -> Tensor:
            tree = KDTree(cloud[0][: cloud[2]])
            return torch.from_numpy(tree.query(cloud[1], k=np.arange(1, k + 1))[1])

        clouds = zip(pos.double().numpy(), query.double().numpy(), counts, strict=True)
        index = torch.stack(thread_map(search, clouds))
    else:
        index = _of_distances(lambda d: d.topk(k, largest=False).indices, pos, query, sizes)
    if sizes is not None:
        there = torch.arange(k, device=pos.device) < sizes[:, None, None]
        index = torch.where(there, index, index[..., :1])
    return index


def ball_query(
    pos: Tensor,
    radius: float,
    k: int,
    query: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    r"""The first :obj:`k` points, in the order of the cloud, within a ball around each query.

    As in `"PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space"
    <https://arxiv.org/abs/1706.02413>`_; in the order of
    :meth:`~torch_geometric_ddp.ops.farthest_point_order`, the first points are spread over the
    ball and do not depend on the order that the points came in.

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, 3]`.
        radius (float): The radius of the ball, whose surface belongs to it.
        k (int): The largest number of neighbours.
        query (torch.Tensor, optional): The centres :obj:`[B, Q, 3]`. (default: :obj:`pos`)
        sizes (torch.Tensor, optional): How many points each cloud of :obj:`pos` has, :obj:`[B]`,
            where it is filled up behind them; what fills up is nobody's neighbour.

    Returns:
        The indices :obj:`[B, Q, min(k, N)]` (:obj:`int64`). A ball of fewer points repeats its
        first; an empty one gives the point that is nearest to its centre.

    Raises:
        TypeError, ValueError: As :meth:`knn`, or if :obj:`radius` is no number above zero.
    """
    pos, query = _check(pos, query, sizes)
    check_points("pos", pos)
    radius = check_float("radius", radius, exclusive=True)
    k = min(check_int("k", k), pos.size(1))
    slots = torch.arange(1, k + 1, dtype=torch.int32, device=pos.device)

    def first_within(dist: Tensor) -> Tensor:
        count = (dist <= radius).cumsum(dim=-1, dtype=torch.int32)
        # The place where the count reaches 1, 2, ... is that of the first point, the second, ...
        index = torch.searchsorted(count, slots.expand(*dist.shape[:2], k).contiguous())
        num, first = count[..., -1:], index[..., :1]
        # A look at another device waits for it.
        if dist.device.type != "cpu" or bool((num == 0).any()):
            first = torch.where(num > 0, first, dist.argmin(dim=-1, keepdim=True))
        return torch.where(slots <= num, index, first)

    return _of_distances(first_within, pos, query, sizes)


def edge_index(index: Tensor, points: Layout, queries: Layout | None = None) -> Tensor:
    """PyG's edges from the neighbours of every point to the point.

    .. code-block:: python

        layout = Layout.of(data)
        edges = edge_index(knn(layout.dense(data.pos), 16, sizes=layout.sizes), layout)
        x = PointNetConv(mlp, add_self_loops=False)(None, data.pos, edges)

    Args:
        index (torch.Tensor): The neighbours :obj:`[B, Q, K]` of :meth:`knn` or
            :meth:`ball_query`.
        points (Layout): The layout of the points among which they were sought.
        queries (Layout, optional): The layout of the queries. (default: that of the points)

    Returns:
        The edges :obj:`[2, E]` (:obj:`int64`) from points to queries, sorted by query, each once.
    """
    index, queries = index.sort(dim=-1).values, queries or points
    new = torch.ones_like(index, dtype=torch.bool)
    new[..., 1:] = index[..., 1:] != index[..., :-1]
    new = queries.flat(new)
    target = torch.arange(len(new), device=new.device)[:, None].expand_as(new)
    return torch.stack([queries.flat(points.rows(index))[new], target[new]])


def _check(pos: Tensor, query: Tensor | None, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
    named = {"pos": pos} if query is None else {"pos": pos, "query": query}
    query = pos if query is None else query
    for name, x in named.items():
        if not isinstance(x, Tensor) or x.dim() != 3 or not x.is_floating_point():
            what = f"{list(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"'{name}' must be a floating point tensor [B, N, F], got {what}")
        if x.size(1) == 0:
            raise ValueError(f"'{name}' must have at least 1 point per cloud, got 0")
        check_finite_on_cpu(name, x)
    if pos.size(0) != query.size(0) or pos.size(2) != query.size(2):
        raise ValueError(
            f"'query' must fit 'pos' of shape {list(pos.shape)}, got {list(query.shape)}"
        )
    check_sizes(pos, sizes)
    dtype = torch.promote_types(pos.dtype, query.dtype)
    return at_least_single(pos.detach().to(dtype)), at_least_single(query.detach().to(dtype))


def _of_distances(
    function: Callable[[Tensor], Tensor], pos: Tensor, query: Tensor, sizes: Tensor | None
) -> Tensor:
    """What is computed, row by row, of distances, or in high dimensions what is ordered like them.

    Args:
        function (callable): Gives :obj:`[b, q, *]` of the distances :obj:`[b, q, N]` of a block.
        pos (torch.Tensor): The clouds :obj:`[B, N, F]`.
        query (torch.Tensor): The queries :obj:`[B, Q, F]`.
        sizes (torch.Tensor, optional): How many points each cloud has.

    Returns:
        All :obj:`[B, Q, *]`.
    """
    most = _CPU_PAIRS if pos.device.type == "cpu" else _PAIRS
    steps = torch.arange(pos.size(1), device=pos.device)

    def block(clouds: slice, rows: slice) -> Tensor:
        x, y = pos[clouds], query[clouds, rows]
        filling = None if sizes is None else steps >= sizes[clouds, None]
        if pos.size(-1) <= 3:
            # The exact differences: the inner-product form loses the nearest distances.
            (x, y), unit = at_unit(x, y)
            dist = torch.cdist(y, x, compute_mode="donot_use_mm_for_euclid_dist").mul_(unit)
        else:
            # About their middle: far from the origin the squares hide the differences.
            there = x if filling is None else x.masked_fill(filling[..., None], 0.0)
            count = pos.size(1) if sizes is None else sizes[clouds, None, None]
            middle = there.sum(dim=1, keepdim=True) / count
            x, y = x - middle, y - middle
            dist = torch.baddbmm(x.square().sum(dim=-1)[:, None], y, x.mT, alpha=-2)
        if filling is not None:
            dist.masked_fill_(filling[:, None], float("inf"))
        return function(dist)

    return in_blocks(block, len(pos), query.size(1), pos.size(1), most)
