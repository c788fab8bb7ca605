"""Farthest point sampling as a transform."""

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.transforms._single import points_of, take_points


@functional_transform("farthest_point_sample")
class FarthestPointSample(BaseTransform):
    r"""Keeps :obj:`num` points of a cloud by :meth:`~torch_geometric_ddp.ops.farthest_point_sample`
    (functional name: :obj:`farthest_point_sample`).

    Every per-point attribute follows the points. Clouds with fewer points raise.

    Args:
        num (int): The number of points to keep.
    """  # noqa: D205

    def __init__(self, num: int) -> None:
        self.num = check_int("num", num)

    def forward(self, data: Data) -> Data:
        """Transforms one cloud."""
        return take_points(data, ops.farthest_point_sample(points_of(data)[None], self.num)[0])

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.num})"
