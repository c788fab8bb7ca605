"""PyG's point-cloud layers, where every centre has as many neighbours: gathers and no scatters.

The layers take PyG's arguments and hold its weights under its names, and give what PyG's message
passing gives on the edges of the same neighbours (benchmarks/backbone_time.py times both).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric import nn as pyg
from torch_geometric.nn import MLP

from torch_geometric_ddp.nn.levels import Neighbors
from torch_geometric_ddp.nn.pool import group_max_pool

__all__ = [
    "EdgeConv",
    "PointNetConv",
    "PointTransformerConv",
    "after_first",
    "edge_mlp",
    "shared_mlp",
    "take",
]


def shared_mlp(*channels: int, **kwargs: Any) -> MLP:
    """PyG's MLP with BatchNorm and ReLU after every layer, also where there is a single row."""
    kwargs = {
        "act_kwargs": {"inplace": True},
        "norm_kwargs": {"allow_single_element": True},
        "plain_last": False,
        **kwargs,
    }
    return MLP(list(channels), **kwargs)


def take(x: Tensor, index: Tensor) -> Tensor:
    """The rows :obj:`index [*]` of :obj:`x [N, F]`, as :obj:`[*, F]`."""
    # The gradient of index_select is many times faster than that of indexing.
    return x.index_select(0, index.flatten()).view(*index.shape, x.size(1))


def after_first(mlp: MLP, x: Tensor) -> Tensor:
    """What an MLP computes after its first linear layer."""
    for i, (norm, dropout) in enumerate(zip(mlp.norms, mlp.dropout, strict=False)):
        x = mlp.act(norm(mlp.lins[i](x) if i else x))
        x = F.dropout(x, dropout, mlp.training)
    return mlp.lins[-1](x) if mlp.plain_last else x


def edge_mlp(mlp: MLP, x: Tensor | None, offset: Tensor, index: Tensor) -> Tensor:
    r"""An MLP on :math:`[x_j, p_j - p_i]` for every neighbour, :obj:`[ΣQ, K, F']`.

    The part of the first layer that sees :math:`x_j` is computed once per point and not once per
    neighbour.

    Args:
        mlp (MLP): The MLP.
        x (torch.Tensor, optional): The features :math:`x_j` of the points :obj:`[ΣN, F]`.
        offset (torch.Tensor): The offsets :math:`p_j - p_i`, :obj:`[ΣQ, K, 3]`.
        index (torch.Tensor): The neighbours :obj:`[ΣQ, K]`.
    """
    first, flat = mlp.lins[0], offset.flatten(0, 1)
    if x is None:
        hidden = first(flat)
    else:
        hidden = take(F.linear(x, first.weight[:, :-3], first.bias), index).flatten(0, 1)
        # Under autocast, which leaves what works in place alone, the product is of a lower type.
        hidden = hidden.addmm_(*(x.to(hidden.dtype) for x in (flat, first.weight[:, -3:].T)))
    return after_first(mlp, hidden).view(*index.shape, -1)


class PointNetConv(pyg.PointNetConv):
    r""":class:`torch_geometric.nn.PointNetConv` with an :class:`~torch_geometric.nn.MLP`,
    :math:`x'_i = \max_{j \in \mathcal{N}(i)} h_\Theta(x_j, p_j - p_i)`.

    Args:
        local_nn (MLP): The network :math:`h_\Theta`.
    """  # noqa: D205

    def __init__(self, local_nn: MLP) -> None:
        super().__init__(local_nn, add_self_loops=False)

    def forward(self, x: Tensor | None, pos: Tensor, centers: Tensor, near: Neighbors) -> Tensor:
        """Features :obj:`[ΣQ, F']` of the centres :obj:`[ΣQ, 3]`, of points :obj:`[ΣN, F]`."""
        offset = take(pos, near.index) - centers[:, None]
        return group_max_pool(edge_mlp(self.local_nn, x, offset, near.index))


class EdgeConv(pyg.EdgeConv):
    r""":class:`torch_geometric.nn.EdgeConv` with a single layer and the maximum,
    :math:`x'_i = \max_{j \in \mathcal{N}(i)} \sigma(\mathrm{BN}(W_1 x_i + W_2 (x_j - x_i)))`.

    A layer that is the sum of a term of :math:`i` and a term of :math:`j` needs no matrix product
    per edge; BatchNorm and activation keep or reverse the order of the edges of a channel, so that
    the maximum may come first; and the moments that BatchNorm needs follow from sums over
    neighbours. No tensor has a row per edge. Where a cloud has fewer points than neighbours are
    asked for, and another of the batch more, these moments count a neighbour as often as it is
    repeated, and PyG's do not.

    Args:
        nn (MLP): One linear layer, BatchNorm, and an activation that never falls.
    """  # noqa: D205

    def __init__(self, nn: MLP) -> None:
        if nn.num_layers != 1 or nn.plain_last:
            raise ValueError(f"'nn' must have one layer with BatchNorm and activation, got {nn}")
        super().__init__(nn)

    def forward(self, x: Tensor, near: Neighbors) -> Tensor:
        """Features :obj:`[ΣN, F']` of the points :obj:`[ΣN, F]`."""
        lin, norm, index = self.nn.lins[0], self.nn.norms[0].module, near.index
        own, other = lin.weight.chunk(2, dim=1)
        own, other = F.linear(x, own - other, lin.bias), F.linear(x, other)
        own, other = (y.to(norm.weight.dtype) for y in (own, other))  # Autocast gives a lower one.
        mean, var = self._moments(norm, own, other, index)
        scale = norm.weight * (var + norm.eps).rsqrt()
        sign = torch.where(scale < 0, -1.0, 1.0).to(x.dtype)
        best = F.embedding_bag(index, other * sign, mode="max") * sign
        return self.nn.act((own + best - mean) * scale + norm.bias)

    @staticmethod
    def _moments(norm: Any, own: Tensor, other: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """What BatchNorm takes for mean and variance over all edges, and its running statistics."""
        if not norm.training or index.numel() == 1:
            return norm.running_mean, norm.running_var
        num = index.numel()
        # Not by bincount, which reads its largest number back from the device.
        times = index.new_zeros(len(other))
        times.scatter_add_(0, index.flatten(), index.new_ones(1).expand(num))
        times = times.to(other.dtype)
        mean_own, mean_other = own.mean(dim=0), times @ other / num
        own, other = own - mean_own, other - mean_other
        mixed = (own * F.embedding_bag(index, other, mode="sum")).sum(dim=0)
        var = own.square().mean(dim=0) + (times @ other.square() + 2 * mixed) / num
        mean, var = mean_own + mean_other, var.clamp_min(0)
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(var * (num / (num - 1)), norm.momentum)
            norm.num_batches_tracked.add_(1)
        return mean, var


class PointTransformerConv(pyg.PointTransformerConv):
    r""":class:`torch_geometric.nn.PointTransformerConv`, vector attention over the neighbours,
    :math:`x'_i = \sum_j \alpha_{ij} (W_3 x_j + \delta_{ij})` with :math:`\alpha_{ij} =
    \operatorname{softmax}_j \gamma_\Theta(W_1 x_i - W_2 x_j + \delta_{ij})` and
    :math:`\delta_{ij} = h_\Theta(p_i - p_j)`.

    Args:
        channels (int): The channels that come in and go out.
        pos_nn (torch.nn.Module): The network :math:`h_\Theta`.
        attn_nn (torch.nn.Module): The network :math:`\gamma_\Theta`.
    """  # noqa: D205

    def __init__(self, channels: int, pos_nn: nn.Module, attn_nn: nn.Module) -> None:
        super().__init__(channels, channels, pos_nn, attn_nn, add_self_loops=False)

    def forward(self, x: Tensor, pos: Tensor, near: Neighbors) -> Tensor:
        """Features :obj:`[ΣN, F]` of the points :obj:`[ΣN, F]`."""
        index, shape = near.index, (*near.index.shape, x.size(1))
        delta = self.pos_nn((pos[:, None] - take(pos, index)).flatten(0, 1)).view(shape)
        alpha = self.lin_dst(x)[:, None] - take(self.lin_src(x), index) + delta
        alpha = self.attn_nn(alpha.flatten(0, 1)).view(shape)
        if near.mask is not None:
            alpha = alpha.masked_fill(~near.mask[..., None], -float("inf"))
        return (alpha.softmax(dim=1) * (take(self.lin(x), index) + delta)).sum(dim=1)
