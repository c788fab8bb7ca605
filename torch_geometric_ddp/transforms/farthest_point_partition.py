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
    r"""Writes to :obj:`data.part` which of the disjoint parts of
    :meth:`~torch_geometric_ddp.ops.farthest_point_partition` a point belongs to
    (functional name: :obj:`farthest_point_partition`).

    :obj:`part [N]` (:obj:`int64`) counts from 0; points that no part holds have -1.

    Args:
        num_parts (int): The number of parts.
        num_points (int): The number of points of a part.
    """  # noqa: D205

    def __init__(self, num_parts: int, num_points: int) -> None:
        self.num_parts = check_int("num_parts", num_parts)
        self.num_points = check_int("num_points", num_points)

    def forward(self, data: Data) -> Data:
        """Transforms one cloud."""
        pos = points_of(data)
        index = ops.farthest_point_partition(pos[None], self.num_parts, self.num_points)[0]
        part = torch.full((pos.size(0),), -1, dtype=torch.long, device=pos.device)
        part[index] = torch.arange(self.num_parts, device=pos.device)[:, None]
        data.part = part
        return data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.num_parts}, {self.num_points})"
