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
    if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
        return torch.matmul(x, weight.T).amax(dim=1) + bias
    with torch.no_grad():
        winner = torch.matmul(x, weight.T).max(dim=1).indices  # [B, C]
    rows = torch.arange(x.size(0), device=x.device)[:, None]
    return torch.einsum("bck,ck->bc", x[rows, winner], weight) + bias
