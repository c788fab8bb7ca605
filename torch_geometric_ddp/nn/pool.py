"""Pools over the points of a cloud."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_ddp.batching import Layout

__all__ = ["group_max_pool", "linear_by_channel", "linear_max_pool", "max_pool", "mean_pool"]


def group_max_pool(x: Tensor) -> Tensor:
    """The maximum over the members of every group, :obj:`[G, K, F]` to :obj:`[G, F]`."""
    return _GroupMax.apply(x)


class _GroupMax(torch.autograd.Function):
    """The maximum by the fastest of torch's kernels, with a gradient that writes the winners."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return x.amax(dim=1)
        best, winner = _max_with_index(x)
        ctx.save_for_backward(winner)
        ctx.size = x.size(1)
        return best

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (winner,) = ctx.saved_tensors
        out = grad.new_zeros(grad.size(0), ctx.size, grad.size(1))
        return out.scatter_(1, winner[:, None], grad[:, None])


def _max_with_index(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum of :obj:`x [G, K, F]` over K, and where it first is, both :obj:`[G, F]`."""
    # An image of K x 1 pixels with its channels last: torch's fastest maximum with an index.
    image = x.unsqueeze(2).permute(0, 3, 1, 2)
    best, winner = nn.functional.max_pool2d(image, (x.size(1), 1), return_indices=True)
    return best.flatten(1), winner.flatten(1)


def max_pool(x: Tensor, layout: Layout) -> Tensor:
    """The maximum over the points of every cloud, :obj:`[ΣN, F]` to :obj:`[B, F]`."""
    return group_max_pool(layout.dense(x))


def mean_pool(x: Tensor, layout: Layout) -> Tensor:
    """The mean over the points of every cloud, :obj:`[ΣN, F]` to :obj:`[B, F]`."""
    dense = layout.dense(x)
    if layout.mask is None:
        return dense.mean(dim=1)
    weight = layout.mask.to(x.dtype)
    weight = weight / weight.sum(dim=1, keepdim=True)
    return torch.matmul(weight[:, None], dense).squeeze(1)


def linear_max_pool(x: Tensor, linear: nn.Linear) -> Tensor:
    r"""The maximum over the points of a linear layer, :math:`\max_n (W x_{bn} + c)`.

    Only the point that wins a channel receives a gradient, so the backward pass visits
    :math:`B \cdot C` winners instead of :math:`B \cdot N` points times :math:`C` channels: the
    same gradient as pooling the layer's output, without its two large matrix products. On a CPU it
    goes cloud by cloud, so that what is gathered stays in the cache.

    Args:
        x (torch.Tensor): The points :obj:`[B, N, K]`.
        linear (torch.nn.Linear): The layer :math:`(W, c)` from :obj:`K` to :obj:`C` channels, with
            or without a bias.

    Returns:
        The pooled output :obj:`[B, C]`.
    """
    best, _ = _LinearMax.apply(x, linear.weight)
    return best if linear.bias is None else best + linear.bias


def _cloud_by_cloud(x: Tensor) -> bool:
    """Whether what is gathered of all clouds at once would leave the cache, and needs no graph."""
    return x.device.type == "cpu" and not torch.is_grad_enabled()


class _LinearMax(torch.autograd.Function):
    """The maximum of a product, and where it is, with a gradient of the winners.

    Made of operations that can be vectorised and differentiated again.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return _max_with_index(torch.matmul(x, weight.T))

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]
    ) -> None:
        _, winner = output
        ctx.mark_non_differentiable(winner)
        ctx.save_for_backward(*inputs, winner)
        ctx.save_for_forward(*inputs, winner)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight, winner = ctx.saved_tensors
        to_x, to_weight = ctx.needs_input_grad
        of_x = grad.new_zeros(x.shape, dtype=x.dtype) if to_x else None
        of_weight = None
        back, index = grad[..., None], winner[..., None].expand(*winner.shape, x.size(2))
        if _cloud_by_cloud(x):
            of_weight = grad.new_zeros(weight.shape, dtype=weight.dtype) if to_weight else None
            for b, won in enumerate(winner):
                if of_weight is not None:
                    of_weight += x[b].index_select(0, won) * back[b]
                if of_x is not None:
                    of_x[b].scatter_add_(0, index[b], (weight * back[b]).to(x.dtype))
            return of_x, of_weight
        if to_weight:
            of_weight = (_won(x, winner) * back).sum(dim=0)
        if of_x is not None:
            of_x = of_x.scatter_add(1, index, (weight * back).to(x.dtype))
        return of_x, of_weight

    @staticmethod
    def jvp(ctx: Any, of_x: Tensor | None, of_weight: Tensor | None) -> tuple[Tensor, None]:
        x, weight, winner = ctx.saved_tensors
        parts = [] if of_x is None else [_won(of_x, winner) * weight]
        parts += [] if of_weight is None else [_won(x, winner) * of_weight]
        return torch.stack([part.sum(dim=-1) for part in parts]).sum(dim=0), None


def _won(x: Tensor, winner: Tensor) -> Tensor:
    """The points of :obj:`x [B, N, K]` that won every channel, :obj:`[B, C, K]`."""
    # One flat index: index_select is many times faster than gather.
    first = torch.arange(0, len(x) * x.size(1), x.size(1), device=x.device)
    index = (winner + first[:, None]).flatten()
    return x.flatten(0, 1).index_select(0, index).view(*winner.shape, -1)


def linear_by_channel(x: Tensor, linear: nn.Linear) -> Tensor:
    """A linear layer on points :obj:`[ΣN, K]`, channel by channel in memory, :obj:`[ΣN, C]`.

    What is sorted, or pooled, later are the points of a channel.
    """
    if linear.bias is None:
        return (linear.weight @ x.T).T
    return torch.addmm(linear.bias[:, None], linear.weight, x.T).T
