"""The interface that every backbone shares."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.batching import Layout


class Backbone(nn.Module, ABC):
    r"""A classifier of point clouds whose per-point feature before the pool can be matched.

    A backbone takes a PyG batch (or a single :obj:`Data`), in :meth:`forward` for the logits and
    in :meth:`point_features` for what the matching losses compare.

    Args:
        num_classes (int): The number of classes.
        point_channels (int): The width :math:`F` of the per-point feature.
    """

    def __init__(self, num_classes: int, point_channels: int) -> None:
        super().__init__()
        self.num_classes = check_int("num_classes", num_classes)
        self.point_channels = check_int("point_channels", point_channels)

    @abstractmethod
    def point_features(self, data: Data) -> Tensor:
        """The feature of every point before the global pool, :obj:`[ΣN, F]`."""

    def global_features(self, data: Data) -> Tensor:
        """The feature of every cloud, the largest over its points, :obj:`[B, F]`."""
        layout = Layout.of(data)
        return layout.dense(self.point_features(data)).amax(dim=1)

    @abstractmethod
    def forward(self, data: Data) -> Tensor:
        """The logits :obj:`[B, num_classes]`."""
