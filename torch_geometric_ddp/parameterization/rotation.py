"""Learnable orientations of stored clouds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_ddp._checks import check_float, check_int

__all__ = ["Rotation"]


class Rotation(nn.Module):
    r"""Turns every stored cloud by three learnable angles, :math:`x R_1 R_2 R_3`.

    *Dataset Distillation of 3D Point Clouds via Distribution Matching* (SADM, NeurIPS 2025) learns
    how its clouds are oriented beside where their points lie: an angle about the up axis, and two
    about the others with a tenth of its learning rate, all of which halve every hundred steps.

    Args:
        pos (torch.Tensor): The clouds :obj:`[*, N, 3]` that will be turned, for their number, type
            and device.
        lr (float): The learning rate about the up axis, in radians. (default: :obj:`0.01`)
        up (int): The up axis; 2 is that of ModelNet's meshes. (default: :obj:`2`)
        halve_every (int): Steps after which the learning rates halve. (default: :obj:`100`)
    """

    def __init__(self, pos: Tensor, lr: float = 0.01, up: int = 2, halve_every: int = 100) -> None:
        super().__init__()
        self.lr = check_float("rotation_lr", lr)
        if up not in (0, 1, 2):
            raise ValueError(f"'up' must be 0, 1 or 2, got {up!r}")
        self.up, self.halve_every = up, check_int("halve_every", halve_every)
        self.angle = nn.Parameter(pos.new_zeros(pos.shape[:-2]))
        self.tilt = nn.Parameter(pos.new_zeros((*pos.shape[:-2], 2)))

    def forward(self, pos: Tensor, groups: slice = slice(None)) -> Tensor:
        """The clouds :obj:`[G, *, N, 3]` of some groups, turned about the origin."""
        a, b = (self.up + 1) % 3, (self.up + 2) % 3
        angle, tilt = self.angle[groups], self.tilt[groups]
        matrix = _about(self.up, angle) @ _about(a, tilt[..., 0]) @ _about(b, tilt[..., 1])
        return pos @ matrix

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The angles for an optimiser, with their learning rates and when these halve."""
        pairs = ((self.angle, self.lr), (self.tilt, self.lr / 10))
        return [{"params": [p], "lr": lr, "halve_every": self.halve_every} for p, lr in pairs]


def _about(axis: int, angle: Tensor) -> Tensor:
    """The matrices :obj:`[*, 3, 3]` that turn row vectors about an axis."""
    cos, sin, zero, one = angle.cos(), angle.sin(), 0 * angle, 1 + 0 * angle
    rows = [[one, zero, zero], [zero, cos, sin], [zero, -sin, cos]]
    matrix = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    return matrix.roll((axis, axis), dims=(-2, -1))
