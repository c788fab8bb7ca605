"""PointNet with BatchNorm, as the published code of the DDP paper trains it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Dropout, Linear, ReLU, Sequential
from torch_geometric.data import Data
from torch_geometric.nn import BatchNorm

from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.conv import shared_mlp
from torch_geometric_ddp.nn.pool import max_pool


class PointNetBN(Backbone):
    r"""PointNet with BatchNorm, from `"PointNet: Deep Learning on Point Sets for 3D Classification
    and Segmentation" <https://arxiv.org/abs/1612.00593>`_ as the published code of the DDP paper
    (ICLR 2026) makes it.

    The layers of :class:`PointNet`, each but the last of a head with BatchNorm: an input transform
    net (shared MLP 3-64-128-1024, max pool, MLP 512-256-9, added to the identity), a shared MLP
    3-64-128-1024 without activation after the last layer (the feature that is matched, after its
    BatchNorm), max pool, and an MLP 512-256-:obj:`num_classes`. Dropout stands before the
    BatchNorm of the second layer of the head.

    The text of the paper has no BatchNorm, and neither has :class:`PointNet`.

    Args:
        num_classes (int): The number of classes.
        dropout (float): The dropout probability. (default: :obj:`0.3`)
    """  # noqa: D205

    def __init__(self, num_classes: int, dropout: float = 0.3) -> None:
        super().__init__(num_classes, point_channels=1024)
        self.transform_mlp = shared_mlp(3, 64, 128, 1024)
        self.transform_head = shared_mlp(1024, 512, 256, 9, plain_last=True)
        self.mlp = shared_mlp(3, 64, 128)
        self.lift = Linear(128, 1024)
        self.lift_norm = BatchNorm(1024, allow_single_element=True)
        self.head = Sequential(
            shared_mlp(1024, 512),
            Linear(512, 256),
            Dropout(dropout),
            BatchNorm(256, allow_single_element=True),
            ReLU(),
            Linear(256, num_classes),
        )

    def point_features(self, data: Data) -> Tensor:
        """The feature of every point before the global pool, :obj:`[ΣN, 1024]`."""
        layout = Layout.of(data)
        pooled = max_pool(self.transform_mlp(data.pos), layout)
        matrix = self.transform_head(pooled).view(-1, 3, 3)
        matrix = matrix + torch.eye(3, dtype=matrix.dtype, device=matrix.device)
        pos = layout.flat(torch.bmm(layout.dense(data.pos), matrix))
        return self.lift_norm(self.lift(self.mlp(pos)))

    def global_features(self, data: Data) -> Tensor:
        """The feature of every cloud, the largest over its points, :obj:`[B, 1024]`."""
        return max_pool(self.point_features(data), Layout.of(data))

    def cloud_layers(self, data: Data) -> list[Tensor]:
        """The global feature and the hidden layers of the head, without dropout."""
        pooled = self.global_features(data)
        first = self.head[0](pooled)
        return [pooled, first, self.head[3:5](self.head[1](first))]
