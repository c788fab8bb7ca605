"""PointConv, convolutions whose weights are a function of where the neighbours lie."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import BatchNorm

from torch_geometric_ddp.nn.backbone import Backbone
from torch_geometric_ddp.nn.conv import edge_mlp, shared_mlp, take
from torch_geometric_ddp.nn.levels import Level
from torch_geometric_ddp.nn.pool import mean_pool
from torch_geometric_ddp.ops import at_least_single, in_blocks

# Pairs of points whose distances are held at a time.
_PAIRS = 1 << 24


class DensityConv(nn.Module):
    r"""The convolution of PointConv,
    :math:`x'_i = \phi\left(\sum_j s_j \, h(x_j, p_j - p_i) \otimes w(p_j - p_i)\right)`.

    Here :math:`w` gives 16 weights per channel, and :math:`s_j` is a network of the inverse of the
    density around point :math:`j`, a sum of Gaussians over all points of the cloud, relative to
    the largest inverse among the neighbours.

    Args:
        in_channels (int): The channels of :math:`x_j`.
        channels (list of int): The channels of the layers of :math:`h`.
        bandwidth (float): The standard deviation of the Gaussians, in units of the points.
    """  # noqa: D205

    def __init__(self, in_channels: int, channels: list[int], bandwidth: float) -> None:
        super().__init__()
        self.bandwidth = bandwidth
        self.mlp = shared_mlp(in_channels + 3, *channels)
        self.weight_net = shared_mlp(3, 8, 8, 16)
        norm = BatchNorm(1, allow_single_element=True)
        self.density_net = nn.Sequential(shared_mlp(1, 16, 8), nn.Linear(8, 1), norm, nn.Sigmoid())
        self.lin = shared_mlp(16 * channels[-1], channels[-1])

    def sparsity(self, level: Level) -> Tensor:
        """The inverse of the density at every point of a level, :obj:`[ΣN, 1]`."""
        mode = "donot_use_mm_for_euclid_dist"
        pos = at_least_single(level.dense)
        num_clouds, size = pos.shape[:2]

        def inverse(clouds: slice, rows: slice) -> Tensor:
            dist = torch.cdist(pos[clouds, rows], pos[clouds], compute_mode=mode)
            kernel = torch.exp(-0.5 * (dist / self.bandwidth).square())
            if level.layout.mask is not None:
                kernel = kernel * level.layout.mask[clouds, None]
            return kernel.sum(dim=-1, keepdim=True).reciprocal()

        # A gradient keeps all pairs, however few are computed at a time.
        learned = pos.requires_grad and torch.is_grad_enabled()
        most = num_clouds * size**2 if learned else _PAIRS
        every = in_blocks(inverse, num_clouds, size, size, most)
        return level.layout.flat(every.to(level.dense.dtype))

    def pool(self, x: Tensor, offset: Tensor, mask: Tensor | None) -> Tensor:
        """The weighted sum over groups :obj:`[G, K, F]` with :obj:`offset [G, K, 3]`."""
        weight = self.weight_net(offset.flatten(0, 1)).view(*offset.shape[:2], -1)
        if mask is not None:
            weight = weight * mask[..., None]
        return self.lin(torch.bmm(x.mT, weight).flatten(1))

    def forward(self, x: Tensor | None, level: Level, centers: Level, k: int) -> Tensor:
        """Features :obj:`[ΣQ, F']` of the centres from their :obj:`k` nearest points."""
        near = level.knn(k, centers)
        offset = take(level.pos, near.index) - centers.pos[:, None]
        sparsity = take(self.sparsity(level), near.index)
        relative = sparsity / sparsity.amax(dim=1, keepdim=True)
        scale = self.density_net(relative.flatten(0, 1)).view_as(relative)
        return self.pool(edge_mlp(self.mlp, x, offset, near.index) * scale, offset, near.mask)


class PointConv(Backbone):
    r"""PointConv, from `"PointConv: Deep Convolutional Networks on 3D Point Clouds"
    <https://arxiv.org/abs/1811.07246>`_, Sections 3 and 5.1 (not PyG's layer that once had this
    name).

    512 centres with 32 neighbours (64-64-128), 128 centres with 64 neighbours (128-128-256), and
    a convolution over all of these around their mean (256-512-1024); an MLP
    512-256-:obj:`num_classes` with dropout. BatchNorm throughout. 19.6 million parameters for 40
    classes, of which 16.8 million are the layer after the last sum. Densities are taken as the
    paper has them, inverse and relative to the largest of a neighbourhood; the authors' PyTorch
    code differs there, and takes normals as well.

    The feature that is matched is that of the last convolution before its sum, one row per centre:
    128, or as many as the cloud has points where it has fewer.

    Args:
        num_classes (int): The number of classes.
        dropout (float): The dropout probability of the two hidden layers of the head.
            (default: :obj:`0.7`, as in the authors' code)
    """  # noqa: D205

    per_point, num_ordered = False, 512

    def __init__(self, num_classes: int, dropout: float = 0.7) -> None:
        super().__init__(num_classes, point_channels=1024)
        self.conv1 = DensityConv(0, [64, 64, 128], bandwidth=0.1)
        self.conv2 = DensityConv(128, [128, 128, 256], bandwidth=0.2)
        self.conv3 = DensityConv(256, [256, 512, 1024], bandwidth=0.4)
        self.head = shared_mlp(
            1024, 512, 256, num_classes, plain_last=True, dropout=[dropout, dropout, 0.0]
        )

    def _centers(self, data: Data) -> tuple[Tensor, Tensor, Level]:
        """Features, offsets and level of the centres that the last convolution sums."""
        points = Level.of(data, self.num_ordered)
        middle, last = points.first(self.num_ordered), points.first(128)
        x = self.conv1(None, points, middle, k=32)
        x = self.conv2(x, middle, last, k=64)
        layout, conv = last.layout, self.conv3
        mean = mean_pool(last.pos, layout)
        offset = layout.flat(last.dense - mean[:, None])
        sparsity = layout.dense(conv.sparsity(last))  # The groups are the clouds.
        relative = layout.flat(sparsity / sparsity.amax(dim=1, keepdim=True))
        x = conv.mlp(torch.cat([x, offset], dim=1)) * conv.density_net(relative)
        return x, offset, last

    def point_features(self, data: Data) -> Tensor:
        """The feature of every last centre before the global pool, :obj:`[ΣS, 1024]`."""
        return self._centers(data)[0]

    def global_features(self, data: Data) -> Tensor:
        """The sum of the last convolution for every cloud, :obj:`[B, 1024]`."""
        x, offset, level = self._centers(data)
        layout = level.layout
        return self.conv3.pool(layout.dense(x), layout.dense(offset), layout.mask)
