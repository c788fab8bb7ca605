"""The levels of a network that goes from many points to few centres."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp import edges, ops
from torch_geometric_ddp.batching import Layout

__all__ = ["Level", "Neighbors"]


@dataclass(frozen=True)
class Neighbors:
    """The neighbours among the points of one level of each centre of another.

    Args:
        index (torch.Tensor): The rows :obj:`[ΣQ, K]` of the neighbours.
        mask (torch.Tensor, optional): Which of them are there, :obj:`[ΣQ, K]`; where a cloud has
            fewer than :obj:`K` points, a neighbour is repeated. (default: all are)
    """

    index: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Level:
    r"""The centres of a level: of every cloud, those that come first.

    The clouds are put in the order of :meth:`~torch_geometric_ddp.ops.farthest_point_order`, so
    that the first points of a cloud are its farthest point sample, on every level, and no network
    depends on the order that the points came in. (The published networks draw a random first
    point instead, or take the first one that comes.)

    Args:
        dense (torch.Tensor): The centres :obj:`[B, S, 3]`, filled up where a cloud has fewer.
        layout (Layout): Their layout.
    """

    dense: Tensor
    layout: Layout

    @classmethod
    def of(cls, data: Data, num_centers: int) -> Level:
        """All points of a batch, in an order of which :obj:`num_centers` are the most taken.

        A batch that says :obj:`in_order_for` so many has them in that order.
        """
        layout = Layout.of(data)
        pos = layout.dense(data.pos)
        if data.get("in_order_for") == num_centers:
            return cls(pos, layout)
        order = ops.farthest_point_order(pos, num_centers, layout.sizes)
        return cls(ops.gather_points(pos, order), layout)

    @property
    def pos(self) -> Tensor:
        """The centres of all clouds :obj:`[ΣS, 3]`."""
        return self.layout.flat(self.dense)

    def first(self, num: int) -> Level:
        """The first :obj:`num` centres of every cloud, or all that it has."""
        layout = self.layout.first(num)
        return Level(self.dense[:, : layout.num_points], layout)

    def knn(self, k: int, centers: Level | None = None) -> Neighbors:
        """The nearest points of the centres of another level (or of this one)."""
        centers = centers or self
        sizes = self.layout.sizes
        index = edges.knn(self.dense, k, centers.dense, sizes)
        mask = None
        if sizes is not None and int(sizes.min()) < index.size(-1):
            mask = torch.arange(index.size(-1), device=index.device) < sizes[:, None, None]
            mask = centers.layout.flat(mask.expand_as(index))
        return Neighbors(centers.layout.flat(self.layout.rows(index)), mask)

    def ball(self, radius: float, k: int, centers: Level) -> Neighbors:
        """The points around the centres of another level; those repeated count as there."""
        index = edges.ball_query(self.dense, radius, k, centers.dense, self.layout.sizes)
        return Neighbors(centers.layout.flat(self.layout.rows(index)))
