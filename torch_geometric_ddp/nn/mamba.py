"""The Mamba block, a sequence layer of linear cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_geometric_ddp.nn.selective_scan import selective_scan

__all__ = ["Mamba"]


class Mamba(nn.Module):
    r"""The block of `"Mamba: Linear-Time Sequence Modeling with Selective State Spaces"
    <https://arxiv.org/abs/2312.00752>`_, Section 3.4, with the names, the sizes and the
    initialisation of :class:`mamba_ssm.Mamba`.

    A linear layer to twice :obj:`expand * channels`, a causal convolution along the sequence, the
    :meth:`~torch_geometric_ddp.nn.selective_scan.selective_scan` whose steps and weights depend on
    the sequence, a gate and a linear layer. No output sees a later input.

    Args:
        channels (int): The channels that come in and go out.
        num_states (int): The states of every channel. (default: :obj:`16`)
        kernel_size (int): The width of the convolution. (default: :obj:`4`)
        expand (int): How many times more channels are within. (default: :obj:`2`)
    """  # noqa: D205

    def __init__(
        self, channels: int, num_states: int = 16, kernel_size: int = 4, expand: int = 2
    ) -> None:
        super().__init__()
        width, rank = expand * channels, math.ceil(channels / 16)
        self.split = [rank, num_states, num_states]
        self.in_proj = nn.Linear(channels, 2 * width, bias=False)
        self.conv1d = nn.Conv1d(width, width, kernel_size, groups=width, padding=kernel_size - 1)
        self.x_proj = nn.Linear(width, sum(self.split), bias=False)
        self.dt_proj = nn.Linear(rank, width)
        rates = torch.arange(1.0, num_states + 1).log().repeat(width, 1)
        self.A_log, self.D = nn.Parameter(rates), nn.Parameter(torch.ones(width))
        self.out_proj = nn.Linear(width, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():  # So that the steps of a network at its start lie in 0.001 .. 0.1.
            step = torch.exp(torch.empty(width).uniform_(math.log(1e-3), math.log(1e-1)))
            self.dt_proj.bias.copy_(step.clamp_min(1e-4).expm1().log())

    def forward(self, x: Tensor) -> Tensor:
        """Sequences :obj:`[B, T, channels]` to sequences of the same shape."""
        u, gate = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv1d(u.mT)[..., : x.size(1)].mT)
        delta, b, c = self.x_proj(u).split(self.split, dim=-1)
        delta = F.softplus(self.dt_proj(delta))
        y = selective_scan(u, delta, -self.A_log.exp(), b, c) + self.D * u
        return self.out_proj(y * F.silu(gate))
