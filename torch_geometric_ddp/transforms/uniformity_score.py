"""The uniformity score as a transform."""

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.transforms._single import points_of


@functional_transform("uniformity_score")
class UniformityScore(BaseTransform):
    r"""Writes the :meth:`~torch_geometric_ddp.ops.uniformity_score` of a cloud to
    :obj:`data.uniformity [1]` (functional name: :obj:`uniformity_score`).

    Args:
        k (int): The number of neighbours including the point itself. (default: :obj:`16`)
    """  # noqa: D205

    def __init__(self, k: int = 16) -> None:
        self.k = check_int("k", k, minimum=2)

    def forward(self, data: Data) -> Data:
        """Transforms one cloud."""
        data.uniformity = ops.uniformity_score(points_of(data)[None], self.k)
        return data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(k={self.k})"
