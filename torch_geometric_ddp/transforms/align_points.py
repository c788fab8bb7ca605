"""Linear assignment between clouds as a transform."""

import torch
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_tensor
from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.transforms._single import take_points


@functional_transform("align_points")
class AlignPoints(BaseTransform):
    r"""Reorders the points of the clouds of a batch to correspond to those of its first cloud, by
    :meth:`~torch_geometric_ddp.ops.align_points` (functional name: :obj:`align_points`).

    All clouds need the same number of points. Every per-point tensor follows its point; what a
    batch holds as lists stays as it is. A single cloud is its own reference and stays as it is,
    unless :obj:`reference` is given.

    Args:
        reference (torch.Tensor, optional): Points :obj:`[N, 3]` to correspond to instead of
            those of the first cloud. (default: :obj:`None`)
    """  # noqa: D205

    def __init__(self, reference: torch.Tensor | None = None) -> None:
        self.reference = reference
        if reference is not None:
            check_tensor("reference", reference, "N 3")

    def forward(self, data: Data) -> Data:
        """Transforms a batch, or one cloud."""
        layout = Layout.of(data)
        if layout.index is not None:
            raise ValueError("'data' must hold clouds of one size to align, got different sizes")
        clouds = layout.dense(data.pos)
        if self.reference is None:
            index = ops.alignment(clouds)
        else:
            reference = self.reference.to(clouds)[None]
            if reference.shape != clouds[:1].shape:
                raise ValueError(
                    f"'reference' must have as many points as the clouds, got "
                    f"{list(reference.shape[1:])} for clouds of {list(clouds.shape[1:])}"
                )
            index = ops.alignment(torch.cat([reference, clouds]))[1:]
        return take_points(data, layout.rows(index).flatten())
