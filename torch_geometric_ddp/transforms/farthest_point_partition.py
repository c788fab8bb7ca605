"""Iterative farthest point sampling as a transform."""

import torch
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.transforms._single import points_of


@functional_transform("farthest_point_partition")
class FarthestPointPartition(BaseTransform):
    r"""Writes to :obj:`data.subset` which of the disjoint subsets of
    :meth:`~torch_geometric_ddp.ops.farthest_point_partition` a point belongs to
    (functional name: :obj:`farthest_point_partition`).

    :obj:`subset [N]` (:obj:`int64`) counts from 0; points that no subset holds have -1.

    Args:
        num_subsets (int): The number of subsets.
        num_points (int): The number of points of a subset.

    Raises:
        TypeError: If :obj:`num_subsets` or :obj:`num_points` is no integer.
        ValueError: If one of them is below one or, when a cloud is transformed, the subsets need
            more points than it has.
    """  # noqa: D205

    def __init__(self, num_subsets: int, num_points: int) -> None:
        self.num_subsets = check_int("num_subsets", num_subsets)
        self.num_points = check_int("num_points", num_points)

    def forward(self, data: Data) -> Data:
        """Transforms one cloud."""
        pos = points_of(data)
        index = ops.farthest_point_partition(pos[None], self.num_subsets, self.num_points)[0]
        subset = torch.full((pos.size(0),), -1, dtype=torch.long, device=pos.device)
        subset[index] = torch.arange(self.num_subsets, device=pos.device)[:, None]
        data.subset = subset
        return data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.num_subsets}, {self.num_points})"
