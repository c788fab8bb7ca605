"""Pools over the points of a cloud."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["linear_max_pool"]


def linear_max_pool(x: Tensor, linear: nn.Linear) -> Tensor:
    r"""The maximum over the points of a linear layer, :math:`\max_n (W x_{bn} + c)`.

    Only the point that wins a channel receives a gradient, so the backward pass visits
    :math:`B \cdot C` winners instead of :math:`B \cdot N` points times :math:`C` channels: the
    same gradient as pooling the layer's output, without its two large matrix products.

    Args:
        x (torch.Tensor): The points :obj:`[B, N, K]`.
        linear (torch.nn.Linear): The layer :math:`(W, c)` from :obj:`K` to :obj:`C` channels.

    Returns:
        The pooled output :obj:`[B, C]`.
    """
    weight, bias = linear.weight, linear.bias
    with torch.no_grad():
        # An image of N x 1 pixels with its channels last: torch's fastest maximum with an index.
        image = torch.matmul(x, weight.T).unsqueeze(2).permute(0, 3, 1, 2)
        best, winner = nn.functional.max_pool2d(image, (x.size(1), 1), return_indices=True)
        best, winner = best.flatten(1), winner.flatten(1)  # [B, C]
    if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
        return best + bias
    # One flat index: the gradient of index_select is many times faster than that of indexing.
    winner = winner + torch.arange(0, len(x) * x.size(1), x.size(1), device=x.device)[:, None]
    points = x.flatten(0, 1).index_select(0, winner.flatten()).view(*winner.shape, -1)
    return (points * weight).sum(dim=-1) + bias
