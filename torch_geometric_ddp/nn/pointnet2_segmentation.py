"""PointNet++ for part segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.nn.conv import after_first, shared_mlp, take
from torch_geometric_ddp.nn.levels import Level
from torch_geometric_ddp.nn.pointnet2 import Scale, abstract, abstractions
from torch_geometric_ddp.nn.pool import max_pool
from torch_geometric_ddp.nn.segmenter import Segmenter
from torch_geometric_ddp.ops import at_least_single, at_unit


@dataclass(frozen=True)
class Interpolation:
    r"""Features of the points of a level from those of few centres,
    :math:`x_i = \sum_j w_{ij} x_j`.

    Args:
        index (torch.Tensor): The rows :obj:`[ΣQ, K]` of the centres of every point.
        weight (torch.Tensor): The weights :obj:`[ΣQ, K]`, which sum to one.
    """  # noqa: D205

    index: Tensor
    weight: Tensor

    @classmethod
    def between(cls, centers: Level, points: Level) -> Interpolation:
        """From the three nearest centres, by the inverse of the squared distance."""
        near = centers.knn(3, points)
        with torch.no_grad():
            offset = take(centers.pos, near.index) - points.pos[:, None]
            # At any scale, since only the ratios of the weights matter.
            (offset,), _ = at_unit(at_least_single(offset))
            # A few times the inverse of the smallest number is still finite.
            square = offset.square().sum(dim=-1).clamp_min(torch.finfo(offset.dtype).tiny)
            weight = square.reciprocal()
            if near.mask is not None:
                weight = weight * near.mask
            return cls(near.index, weight / weight.sum(dim=1, keepdim=True))

    @classmethod
    def of_clouds(cls, points: Level) -> Interpolation:
        """To every point that which its cloud has."""
        layout = points.layout
        index = torch.arange(layout.num_clouds, device=points.dense.device)
        index = layout.flat(index[:, None].expand(-1, layout.num_points))[:, None]
        return cls(index, torch.ones_like(index, dtype=points.dense.dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """Features :obj:`[ΣS, F]` of the centres to those of the points, :obj:`[ΣQ, F]`."""
        return F.embedding_bag(
            self.index, x, mode="sum", per_sample_weights=self.weight.to(x.dtype)
        )


class FeaturePropagation(nn.Module):
    """A shared MLP on features interpolated from the level below and those of the level itself.

    Args:
        below (int): The channels that come from below.
        beside (int): The channels of the level itself.
        hidden (int): The channels of the layers.
    """

    def __init__(self, below: int, beside: int, *hidden: int) -> None:
        super().__init__()
        self.channels = [below, beside]
        self.mlp = shared_mlp(below + beside, *hidden)

    def forward(self, below: Tensor, beside: Tensor, interpolation: Interpolation) -> Tensor:
        """Features :obj:`[ΣQ, F']` of the points from :obj:`[ΣS, F]` and :obj:`[ΣQ, F'']`."""
        first = self.mlp.lins[0]
        weight, own = first.weight.split(self.channels, dim=1)
        # To interpolate is linear, and so is the layer: it comes first, where there are fewer rows.
        hidden = interpolation(F.linear(below, weight)).add_(F.linear(beside, own, first.bias))
        return after_first(self.mlp, hidden)


class PointNet2Segmentation(Segmenter):
    r"""PointNet++ with a single scale per level for part segmentation, from `"PointNet++: Deep
    Hierarchical Feature Learning on Point Sets in a Metric Space"
    <https://arxiv.org/abs/1706.02413>`_, Section 3.4 and Appendix B.1.

    The encoder is that of :class:`~torch_geometric_ddp.nn.PointNet2`: 512 centres with up to 64
    points within 0.2 (64-64-128), 128 centres with up to 64 points within 0.4 (128-128-256), and a
    last MLP 256-512-1024 (the feature that is matched, of up to 128 centres) with a maximum over
    them. Then back, from the maximum to the 128 centres (256-256), to the 512 (256-128) and to all
    points (128-128-128): a shared MLP on the features of the level below, interpolated among the
    three nearest centres by

    .. math::
        x_i = \sum_j w_{ij} x_j / \sum_j w_{ij}, \qquad w_{ij} = \lVert p_i - p_j \rVert^{-2}

    (no gradient through :math:`w`, as in the authors' code and PyG's :obj:`knn_interpolate`), and
    on what the encoder knew there. What it knows of a point is its position, to which the category
    of the cloud comes as a one-hot vector. A head 128-:obj:`num_parts` with dropout follows.
    BatchNorm and ReLU throughout. 1.4 million parameters for 50 parts of 16 categories. The paper
    has normals as well, and no category in this single-scale form.

    Args:
        num_parts (int): The number of parts of all categories.
        num_categories (int): The number of categories.
        dropout (float): The dropout probability of the hidden layer of the head.
            (default: :obj:`0.5`)
    """  # noqa: D205

    per_point = False
    _LEVELS: tuple[tuple[int, list[Scale]], ...] = (
        (512, [(0.2, 64, [64, 64, 128])]),
        (128, [(0.4, 64, [128, 128, 256])]),
    )

    def __init__(self, num_parts: int, num_categories: int, dropout: float = 0.5) -> None:
        super().__init__(num_parts, num_categories, point_channels=1024)
        self.convs, channels = abstractions(self._LEVELS)
        self.mlp = shared_mlp(channels + 3, 256, 512, 1024)
        self.to_few = FeaturePropagation(1024, 256, 256, 256)
        self.to_many = FeaturePropagation(256, 128, 256, 128)
        self.to_points = FeaturePropagation(128 + num_categories, 3, 128, 128, 128)
        self.head = shared_mlp(128, 128, num_parts, plain_last=True, dropout=[dropout, 0.0])

    def _levels(self, data: Data) -> tuple[list[tuple[Level, Tensor]], Tensor]:
        """The centres of both levels with their features, and the feature that is matched."""
        first, (level, x) = abstract(data, self._LEVELS, self.convs)
        return [first, (level, x)], self.mlp(torch.cat([x, level.pos], dim=1))

    def point_features(self, data: Data) -> Tensor:
        """The feature of every last centre before the global pool, :obj:`[ΣS, 1024]`."""
        return self._levels(data)[1]

    def global_features(self, data: Data) -> Tensor:
        """The feature of every cloud, the largest over its last centres, :obj:`[B, 1024]`."""
        (_, (level, _)), x = self._levels(data)
        return max_pool(x, level.layout)

    def forward(self, data: Data) -> Tensor:
        """The logits :obj:`[ΣN, num_parts]`, in the order of the points."""
        layout = Layout.of(data)
        category = self.categories(data, layout)
        ((many, x_many), (few, x_few)), x = self._levels(data)
        x = self.to_few(max_pool(x, few.layout), x_few, Interpolation.of_clouds(few))
        x = self.to_many(x, x_many, Interpolation.between(few, many))
        # What all centres of a cloud have is what is interpolated among them.
        one_hot = F.one_hot(category, self.num_categories).to(x.dtype)
        x = torch.cat([x, Interpolation.of_clouds(many)(one_hot)], dim=1)
        # The points in the order that they came in, which is not that of the levels.
        points = Level(layout.dense(data.pos), layout)
        x = self.to_points(x, data.pos, Interpolation.between(many, points))
        return self.head(x)
