"""PointNet as the papers on point-cloud distillation use it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import Data
from torch_geometric.nn import MLP

from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.pool import linear_by_channel, linear_max_pool


class PointNet(Backbone):
    r"""PointNet without BatchNorm, from `"PointNet: Deep Learning on Point Sets for 3D
    Classification and Segmentation" <https://arxiv.org/abs/1612.00593>`_ in the version of the
    DDP paper (ICLR 2026).

    An input transform net (shared MLP 3-64-128-1024, max pool, MLP 512-256-9, added to the
    identity), a shared MLP 3-64-128-1024 without activation after the last layer (the feature
    that is matched), max pool, and an MLP 512-256-:obj:`num_classes` with dropout on the second
    layer.

    Args:
        num_classes (int): The number of classes.
        dropout (float): The dropout probability. (default: :obj:`0.3`)
    """  # noqa: D205

    def __init__(self, num_classes: int, dropout: float = 0.3) -> None:
        super().__init__(num_classes, point_channels=1024)
        self.transform_mlp = MLP([3, 64, 128], norm=None, plain_last=False)
        self.transform_lift = Linear(128, 1024)
        self.transform_head = MLP([1024, 512, 256, 9], norm=None)
        self.mlp = MLP([3, 64, 128], norm=None, plain_last=False)
        self.lift = Linear(128, 1024)
        self.head = MLP([1024, 512, 256, num_classes], norm=None, dropout=[0.0, dropout, 0.0])

    def _points(self, data: Data, layout: Layout) -> Tensor:
        """The points after the input transform and the first two layers, :obj:`[B, N, 128]`."""
        pos = layout.dense(data.pos)
        pooled = linear_max_pool(self.transform_mlp(pos), self.transform_lift).relu()
        matrix = self.transform_head(pooled).view(-1, 3, 3)
        matrix = matrix + torch.eye(3, dtype=pos.dtype, device=pos.device)
        return self.mlp(torch.bmm(pos, matrix))

    def point_features(self, data: Data) -> Tensor:
        """The feature of every point before the global pool, :obj:`[ΣN, 1024]`."""
        layout = Layout.of(data)
        return linear_by_channel(layout.flat(self._points(data, layout)), self.lift)

    def global_features(self, data: Data) -> Tensor:
        """The feature of every cloud, the largest over its points, :obj:`[B, 1024]`."""
        return linear_max_pool(self._points(data, Layout.of(data)), self.lift)

    def cloud_layers(self, data: Data) -> list[Tensor]:
        """The global feature and the hidden layers of the head, without dropout."""
        layers = [self.global_features(data)]
        for linear in self.head.lins[:-1]:
            layers.append(linear(layers[-1]).relu())
        return layers
