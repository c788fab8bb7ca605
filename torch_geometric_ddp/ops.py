"""Geometry of dense batches of point clouds, with one door to whichever backend is installed.

Most functions take clouds of one size as a tensor :obj:`[B, N, 3]`, all of any floating point type
on any device, and need no more than PyTorch and SciPy. Where pyg-lib or torch-cluster is installed
its nearest neighbours on the CPU are used, which are faster than SciPy's; its farthest point
sampling is not.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from torch import Tensor

from torch_geometric_ddp._checks import (
    check_finite,
    check_finite_on_cpu,
    check_int,
    check_points,
    check_sizes,
    check_tensor,
)
from torch_geometric_ddp._threads import thread_map

__all__ = [
    "align_points",
    "alignment",
    "farthest_point_order",
    "farthest_point_partition",
    "farthest_point_sample",
    "gather_points",
    "knn_distance",
    "morph",
    "uniformity_score",
]

# Points of a block of clouds, whose coordinates and distances (24 bytes a point) fit the cache.
_BLOCK_POINTS = 1 << 16
# Pairs of points whose distances are held at a time where all pairs are compared.
_PAIRS = 1 << 26
# Coordinates between these can be squared and added up in single precision.
_SMALLEST, _LARGEST = 1e-12, 1e15

# Gives the rows [2, N * k] of the queries and of their nearest neighbours.
_Knn = Callable[[Tensor, Tensor, int], Tensor]


def _find_knn() -> _Knn | None:
    """The search of a compiled package: that of pyg-lib, or else of torch-cluster, alike."""
    for name in ("pyg_lib.ops", "torch_cluster"):
        try:
            found: _Knn = import_module(name).knn
        except (ImportError, OSError, AttributeError):
            continue  # Not installed, built for another torch, or older than its search.
        return found
    return None


_compiled_knn = _find_knn()


def farthest_point_sample(pos: Tensor, num: int) -> Tensor:
    r"""Farthest point sampling of every cloud, starting at point 0.

    Repeatedly takes the point that is farthest from all points taken before,
    :math:`\operatorname{arg\,max}_i \min_{j \in S} \lVert p_i - p_j \rVert`, from `"PointNet++:
    Deep Hierarchical Feature Learning on Point Sets in a Metric Space"
    <https://arxiv.org/abs/1706.02413>`_. Ties go to the lowest index and no index comes twice,
    also where points coincide.

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, 3]`, any floating point type.
        num (int): The number of points to take from each cloud, at most :obj:`N`.

    Returns:
        The indices :obj:`[B, num]` (:obj:`int64`) in the order in which they were taken.

    Raises:
        TypeError: If :obj:`pos` is no floating point tensor, or :obj:`num` no integer.
        ValueError: If :obj:`pos` has another shape or is not finite, or :obj:`num` is not 1 to
            :obj:`N`.

    .. code-block:: python

        index = farthest_point_sample(torch.rand(8, 1024, 3), num=256)  # [8, 256]
    """
    pos = check_points("pos", pos)
    check_finite("pos", pos)
    num = _check_num("num", num, pos.size(1), 1)
    return torch.cat([_sample_block(block, num) for block, _ in _blocks(pos)])


def farthest_point_order(pos: Tensor, num: int, sizes: Tensor | None = None) -> Tensor:
    r"""Orders the points of every cloud from coarse to fine, whatever order they came in.

    First come :obj:`num` points by farthest point sampling that starts at the point farthest from
    the origin, then the others, those farthest from the sampled ones first. Every beginning of the
    order is thus spread over the whole cloud, and that of its first :obj:`num` points is the very
    farthest point sample of that size: one run serves all levels of a hierarchy.

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, 3]`, any floating point type.
        num (int): The number of points to take by farthest point sampling; all where a cloud has
            fewer.
        sizes (torch.Tensor, optional): How many points each cloud has, :obj:`[B]`, where
            :obj:`pos` is filled up behind them; what fills up keeps its place.

    Returns:
        The permutations :obj:`[B, N]` (:obj:`int64`).

    Raises:
        TypeError: If :obj:`pos` is no floating point tensor, :obj:`num` no integer, or :obj:`sizes`
            no tensor.
        ValueError: If :obj:`pos` has another shape or, on a CPU, is not finite, :obj:`num` is below
            one, or :obj:`sizes` is not :obj:`B` numbers, on a CPU from 1 to :obj:`N`.
    """
    pos = check_points("pos", pos)
    check_finite_on_cpu("pos", pos)
    num = min(check_int("num", num), pos.size(1))
    check_sizes(pos, sizes)
    return torch.cat([_order_block(block, num, own) for block, own in _blocks(pos, sizes)])


def farthest_point_partition(
    pos: Tensor, num_subsets: int, num_points: int, sizes: Tensor | None = None
) -> Tensor:
    r"""Splits every cloud into disjoint subsets by iterative farthest point sampling.

    The first subset holds :obj:`num_points` points by farthest point sampling from the first point
    of the cloud, the second those of what remains (starting at the point which would have come
    next), and so on: the subsets :math:`C_1, \ldots, C_P` of the DDP paper (ICLR 2026,
    uniformity-aware matching).

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, 3]`, any floating point type.
        num_subsets (int): The number of subsets :math:`P`.
        num_points (int): The number of points of a subset; :math:`P` times it is at most
            :obj:`N`.
        sizes (torch.Tensor, optional): How many points each cloud has, :obj:`[B]`, where
            :obj:`pos` is filled up behind them. A cloud with fewer points than the subsets need
            then starts again with those it gave first. (default: all have :obj:`N`)

    Returns:
        The indices :obj:`[B, num_subsets, num_points]` (:obj:`int64`), no index twice in a cloud
        that has enough points.

    Raises:
        TypeError: If :obj:`pos` is no floating point tensor, a number no integer, or :obj:`sizes`
            no tensor.
        ValueError: If :obj:`pos` has another shape or is not finite, :obj:`num_subsets` or
            :obj:`num_points` is below one or their product above :obj:`N`, or :obj:`sizes` is not
            :obj:`B` numbers, on a CPU from 1 to :obj:`N`.
    """
    pos = check_points("pos", pos)
    check_finite("pos", pos)
    num_subsets = check_int("num_subsets", num_subsets)
    available = num_subsets * num_points if sizes is not None else pos.size(1)
    num_points = _check_num("num_points", num_points, available, num_subsets)
    check_sizes(pos, sizes)
    pairs = _blocks(pos, sizes)
    return torch.cat([_partition_block(b, num_subsets, num_points, own) for b, own in pairs])


def knn_distance(pos: Tensor, k: int) -> Tensor:
    """Distances from every point to its :obj:`k` nearest neighbours in its cloud, itself included.

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, 3]`, any floating point type.
        k (int): The number of neighbours, at most :obj:`N`; the first is the point itself.

    Returns:
        The distances :obj:`[B, N, k]` in ascending order, of the type of :obj:`pos`.

    Raises:
        TypeError: If :obj:`pos` is no floating point tensor, or :obj:`k` no integer.
        ValueError: If :obj:`pos` has another shape or is not finite, or :obj:`k` is not 1 to
            :obj:`N`.
    """
    pos = check_points("pos", pos)
    k = _check_num("k", k, pos.size(1), 1)
    check_finite("pos", pos)
    if len(pos) == 0:
        return pos.new_zeros(0, pos.size(1), k)
    (wide,), unit = at_unit(at_least_single(pos.detach()))
    if pos.device.type == "cpu":  # A k-d tree, cloud by cloud, beats all pairs there.
        tree = _scipy_knn_distance if _compiled_knn is None else _compiled_knn_distance
        dist = torch.stack(thread_map(lambda cloud: tree(cloud, k), wide))
    else:
        dist = _dense_knn_distance(wide, k)
    return (dist * unit).to(pos.dtype)


def _dense_knn_distance(pos: Tensor, k: int, most: int = _PAIRS) -> Tensor:
    """By all pairs, of which at most so many are held at a time."""

    def nearest(clouds: slice, rows: slice) -> Tensor:
        of = pos[clouds]
        # The exact differences: the inner-product form of cdist loses the nearest distances.
        every = torch.cdist(of[:, rows], of, compute_mode="donot_use_mm_for_euclid_dist")
        return every.topk(k, dim=-1, largest=False).values

    return in_blocks(nearest, len(pos), pos.size(1), pos.size(1), most)


def in_blocks(
    function: Callable[[slice, slice], Tensor], clouds: int, queries: int, points: int, most: int
) -> Tensor:
    """Joins what is computed of all pairs of a query and a point of a cloud, some at a time.

    Args:
        function (callable): Gives :obj:`[b, q, *]` of some clouds and some of their queries.
        clouds (int): The number of clouds :obj:`B`.
        queries (int): The number of queries :obj:`Q` of a cloud.
        points (int): The number of points of a cloud.
        most (int): How many pairs are held at a time; a query has those of its whole cloud.

    Returns:
        All :obj:`[B, Q, *]`.
    """
    step, row_step = max(1, most // (queries * points)), max(1, most // points)
    rows = [slice(j, j + row_step) for j in range(0, queries, row_step)]
    blocks = [slice(i, i + step) for i in range(0, max(1, clouds), step)]  # One of no clouds.
    return torch.cat([torch.cat([function(i, j) for j in rows], dim=1) for i in blocks])


def _scipy_knn_distance(cloud: Tensor, k: int) -> Tensor:
    points = cloud.double().numpy()
    return torch.from_numpy(KDTree(points).query(points, k=np.arange(1, k + 1))[0])


def _compiled_knn_distance(cloud: Tensor, k: int) -> Tensor:
    assert _compiled_knn is not None
    row, col = _compiled_knn(cloud, cloud, k)
    return (cloud[row] - cloud[col]).norm(dim=1).view(-1, k).sort(dim=1).values


def uniformity_score(pos: Tensor, k: int = 16) -> Tensor:
    r"""How unevenly the points of each cloud are spread; 0 is perfectly even.

    .. math::
        \nu(D) = \frac{1}{N} \sum_{i=1}^{N}
        \frac{\operatorname{std}(d_{i1}, \ldots, d_{ik})}
        {\operatorname{mean}(d_{i1}, \ldots, d_{ik})}

    with :math:`d_{ij}` the distance from point :math:`i` to its :math:`j`-th nearest neighbour,
    :math:`d_{i1} = 0` being the point itself, and the unbiased standard deviation (DDP, ICLR
    2026, uniformity-aware matching).

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, 3]`, any floating point type.
        k (int): The number of neighbours including the point itself, at least 2; clouds with
            fewer points use all of them. (default: :obj:`16`)

    Returns:
        The scores :obj:`[B]`, of the type of :obj:`pos`; 0 for a cloud of one point and for
        points whose neighbours all coincide with them.

    Raises:
        TypeError: If :obj:`pos` is no floating point tensor, or :obj:`k` no integer.
        ValueError: If :obj:`pos` has another shape or is not finite, or :obj:`k` is below two.
    """
    pos = check_points("pos", pos)
    check_finite("pos", pos)
    k = min(check_int("k", k, minimum=2), pos.size(1))
    if k == 1:
        return pos.new_zeros(pos.size(0))
    (wide,), _ = at_unit(at_least_single(pos.detach()))
    dist = knn_distance(wide, k).to(pos.dtype)
    dist = dist if dist.dtype == torch.float64 else dist.float()
    mean = dist.mean(dim=-1)
    # The published code adds 1e-8 to the mean, which is below the rounding of any real cloud of
    # size one. A mean of zero, where all neighbours coincide, has no deviation either.
    # Many times as fast on a CPU as Tensor.std of so few numbers.
    std = torch.linalg.vector_norm(dist - mean[..., None], dim=-1) / (k - 1) ** 0.5
    score = std / mean.clamp_min(torch.finfo(mean.dtype).tiny)
    return score.mean(dim=-1).to(pos.dtype)


def align_points(pos: Tensor, part: Tensor | None = None) -> Tensor:
    r"""Reorders the points of clouds :math:`2 \ldots M` to correspond to those of the first.

    Solves the linear assignment problem :math:`\min_\pi \sum_n \lVert a_{1,n} - a_{m,\pi(n)}
    \rVert` exactly (SciPy), so that convex combinations of the clouds are meaningful (DDP, ICLR
    2026, learnable shape morphing).

    Args:
        pos (torch.Tensor): The clouds :obj:`[M, N, 3]`, any floating point type.
        part (torch.Tensor, optional): The part of every point :obj:`[N]`, the same in all clouds:
            a point then corresponds to one of its own part. (default: one part)

    Returns:
        The reordered clouds :obj:`[M, N, 3]`; the first as it was.

    Raises:
        TypeError: If :obj:`pos` is no floating point tensor, or :obj:`part` no tensor.
        ValueError: If :obj:`pos` has another shape or is not finite, or :obj:`part` has another
            shape.
    """
    return gather_points(pos, alignment(pos, part))


def alignment(pos: Tensor, part: Tensor | None = None) -> Tensor:
    """The permutations :obj:`[M, N]` that :meth:`align_points` applies; it raises the same."""
    pos = check_points("pos", pos, "M N 3")
    check_finite("pos", pos)
    clouds = pos.detach().double().cpu().numpy()
    if part is not None and check_tensor("part", part, "N").shape != pos.shape[1:2]:
        raise ValueError(f"'part' must have shape [{pos.size(1)}], got {list(part.shape)}")
    owner = np.zeros(pos.size(1)) if part is None else part.cpu().numpy()
    index = [np.empty(pos.size(1), np.int64) for _ in clouds[1:]]
    for value in np.unique(owner):
        rows = np.flatnonzero(owner == value)
        for order, cloud in zip(index, clouds[1:], strict=True):
            order[rows] = rows[linear_sum_assignment(cdist(clouds[0][rows], cloud[rows]))[1]]
    index = [np.arange(pos.size(1)), *index][: len(clouds)]
    return torch.from_numpy(np.array(index, np.int64).reshape(clouds.shape[:2])).to(pos.device)


def morph(anchors: Tensor, weights: Tensor) -> Tensor:
    r"""Convex combinations :math:`x_l = \sum_m w_{lm} a_m` of aligned clouds.

    Args:
        anchors (torch.Tensor): The aligned clouds :obj:`[*, M, N, 3]`.
        weights (torch.Tensor): The weights :obj:`[*, L, M]`, used as they are.

    Returns:
        The morphs :obj:`[*, L, N, 3]`.

    Raises:
        ValueError: If the weights are not of as many clouds.
    """
    if anchors.dim() < 3 or weights.dim() < 2 or weights.size(-1) != anchors.size(-3):
        raise ValueError(
            "'anchors' and 'weights' must have shapes [*, M, N, 3] and [*, L, M], got "
            f"{list(anchors.shape)} and {list(weights.shape)}"
        )
    return torch.matmul(weights, anchors.flatten(-2)).unflatten(-1, anchors.shape[-2:])


def gather_points(pos: Tensor, index: Tensor) -> Tensor:
    """Takes the points :obj:`index [B, ...]` of the clouds :obj:`pos [B, N, 3]`.

    Raises:
        IndexError: If there are other clouds or, on a CPU, no such points.
    """
    rows = torch.arange(pos.size(0), device=pos.device).view(-1, *[1] * (index.dim() - 1))
    return pos[rows, index]


def at_least_single(x: Tensor) -> Tensor:
    """In single precision what is of less, as distances are measured in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def unit_of(largest: Tensor) -> Tensor:
    """The largest power of two up to each number, by which division is exact; 1 for zero."""
    return (largest / (2 * largest.frexp().mantissa)).where(largest > 0, 1.0)


def at_unit(*clouds: Tensor) -> tuple[list[Tensor], Tensor]:
    """Clouds :obj:`[B, *, 3]`, divided by a unit where their squares would be zero or infinite.

    Returns:
        The clouds, and the units :obj:`[B, 1, 1]` of :func:`shared_unit`.
    """
    unit = shared_unit(*clouds)
    return [pos / unit for pos in clouds], unit


def shared_unit(*clouds: Tensor) -> Tensor:
    """The units :obj:`[B, 1, 1]` that a row of all clouds :obj:`[B, *, D]` shares.

    They are powers of two, by which division is exact, and one where the clouds can be squared as
    they are.
    """
    largest = torch.stack([pos.abs().amax(dim=(1, 2)) for pos in clouds]).amax(dim=0)
    plain = (largest > _SMALLEST) & (largest < _LARGEST) | (largest == 0)
    return unit_of(largest).masked_fill(plain, 1.0)[:, None, None]


def _check_num(name: str, value: int, available: int, subsets: int) -> int:
    value = check_int(name, value)
    if value * subsets > available:
        what = f"{subsets} subsets of {value}" if subsets > 1 else f"{value}"
        raise ValueError(f"'{name}' asks for {what} points, but the clouds have {available}")
    return value


def _blocks(pos: Tensor, sizes: Tensor | None = None) -> list[tuple[Tensor, Tensor | None]]:
    """Splits the batch into blocks to work on at a time; one on other devices than the CPU.

    Each comes with the sizes of its clouds, if they are given.
    """
    if pos.device.type != "cpu":
        return [(pos, sizes)]
    step = max(1, _BLOCK_POINTS // pos.size(1))
    blocks = pos.detach().split(step)
    each = [None] * len(blocks) if sizes is None else sizes.split(step)
    return [*zip(blocks, each, strict=True)]


def _farthest(dist: Tensor) -> Tensor:
    """The first of the largest distances in every row, :obj:`[B, 1]`."""
    if dist.device.type != "cpu":
        return dist.argmax(dim=1, keepdim=True)
    # NumPy's search takes a tenth of the time.
    return torch.from_numpy(dist.numpy().argmax(axis=1, keepdims=True))


class _FarthestPoints:
    """The sweep of farthest point sampling, on three contiguous rows x, y, z and in place."""

    def __init__(self, pos: Tensor) -> None:
        (xyz,), _ = at_unit(at_least_single(pos.detach()))
        self.x, self.y, self.z = xyz.permute(2, 0, 1).contiguous()
        self.dist = torch.full_like(self.x, float("inf"))
        self.square, self.delta = torch.empty_like(self.x), torch.empty_like(self.x)
        self.current = torch.zeros(pos.size(0), 1, dtype=torch.long, device=pos.device)

    def take(self, num: int, out: Tensor) -> None:
        """Writes the next :obj:`num` points to :obj:`out [B, num]`; ``current`` is the one after.

        Taken points carry a distance of minus infinity, so that duplicates never bring them back.
        """
        for i in range(num):
            out[:, i : i + 1] = self.current
            torch.sub(self.x, self.x.gather(1, self.current), out=self.square).square_()
            torch.sub(self.y, self.y.gather(1, self.current), out=self.delta)
            self.square.addcmul_(self.delta, self.delta)
            torch.sub(self.z, self.z.gather(1, self.current), out=self.delta)
            self.square.addcmul_(self.delta, self.delta)
            torch.minimum(self.dist, self.square, out=self.dist)
            self.dist.scatter_(1, self.current, -float("inf"))
            self.current = _farthest(self.dist)

    def restart(self) -> None:
        """Forgets the distances, but not which points were taken."""
        self.dist.masked_fill_(self.dist != -float("inf"), float("inf"))


def _sample_block(pos: Tensor, num: int) -> Tensor:
    out = torch.empty(pos.size(0), num, dtype=torch.long, device=pos.device)
    _FarthestPoints(pos).take(num, out)
    return out


def _order_block(pos: Tensor, num: int, sizes: Tensor | None) -> Tensor:
    out = torch.empty(pos.size(0), num, dtype=torch.long, device=pos.device)
    steps = torch.arange(pos.size(1), device=pos.device)
    sweep = _FarthestPoints(pos)
    # Each from its own coordinates alone, so that no order of summation can move the start.
    norm = sweep.x.square() + sweep.y.square() + sweep.z.square()
    if sizes is not None:
        filling = steps >= sizes[:, None]
        norm.masked_fill_(filling, -float("inf"))
        sweep.dist.masked_fill_(filling, -float("inf"))
    sweep.current = _farthest(norm)
    sweep.take(num, out)
    # What is taken or fills up is infinitely near.
    rest = sweep.dist.argsort(dim=1, descending=True, stable=True)
    order = torch.cat([out, rest[:, : pos.size(1) - num]], dim=1)
    return order if sizes is None else torch.where(filling, steps, order)


def _partition_block(
    pos: Tensor, num_subsets: int, num_points: int, sizes: Tensor | None
) -> Tensor:
    shape = (pos.size(0), num_subsets, num_points)
    out = torch.empty(shape, dtype=torch.long, device=pos.device)
    sweep = _FarthestPoints(pos)
    if sizes is not None:
        filling = torch.arange(pos.size(1), device=pos.device) >= sizes[:, None]
        sweep.dist.masked_fill_(filling, -float("inf"))
    for subset in range(num_subsets):
        sweep.take(num_points, out[:, subset])
        sweep.restart()
    if sizes is None:
        return out
    again = torch.arange(num_subsets * num_points, device=pos.device) % sizes[:, None]
    return out.flatten(1).gather(1, again).view(shape)
