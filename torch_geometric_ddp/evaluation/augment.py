"""Random changes of the clouds of a batch, for training."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Batch

from torch_geometric_ddp._checks import check_int, check_points
from torch_geometric_ddp.batching import Layout

__all__ = ["RandomRotation"]


@dataclass(frozen=True)
class RandomRotation:
    r"""Turns every cloud of a batch about the origin, by a rotation of its own.

    A rotation is a unit quaternion :math:`(w, v)`, which turns a point by

    .. math::
        R = (w^2 - v^\top v) I + 2 v v^\top + 2 w [v]_\times.

    Four normal numbers, scaled to length one, are uniform over all rotations (Shoemake, *Uniform
    Random Rotations*, Graphics Gems III, 1992). A turn by the angle :math:`\theta` about an axis
    :math:`e` is :math:`(\cos \theta/2, e \sin \theta/2)`.

    .. code-block:: python

        augment = RandomRotation(axis=2)
        generator = torch.Generator().manual_seed(0)
        for batch in loader:
            out = model(augment(batch, generator))

    Args:
        axis (int, optional): The axis :obj:`0`, :obj:`1` or :obj:`2` to turn about, by a uniform
            angle. (default: any rotation, uniform over :math:`SO(3)`)

    Raises:
        TypeError, ValueError: If there is no such axis.
    """

    axis: int | None = None

    def __post_init__(self) -> None:
        if self.axis is None:
            return
        if (axis := check_int("axis", self.axis, 0)) > 2:
            raise ValueError(f"'axis' must be 0, 1, 2 or None, got {self.axis}")
        object.__setattr__(self, "axis", axis)  # As Python has it, for JSON.

    def __call__(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """Turns the clouds of a batch, of any sizes.

        Args:
            batch (Batch): Clouds with :obj:`pos [ΣN, 3]`; a :obj:`Data` is one cloud.
            generator (torch.Generator, optional): Where the rotations come from, usually on the
                CPU, so that a seed means the same on every device. (default: the global one)

        Returns:
            A batch with other :obj:`pos`, of the same type and device. Whatever else it holds is
            that of the batch given, which stays as it is.

        Raises:
            TypeError: If :obj:`pos` is no floating point tensor.
            ValueError: If :obj:`pos` is of another shape, or the batch is not laid out by clouds.
        """
        layout = Layout.of(batch)
        check_points("pos", batch.pos, "ΣN 3")
        turn = self.rotations(layout.num_clouds, generator, batch.pos)
        batch = copy.copy(batch)
        batch.pos = layout.flat(layout.dense(batch.pos) @ turn.mT)
        return batch

    def rotations(self, num: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
        """Draws rotations of column vectors.

        Args:
            num (int): How many.
            generator (torch.Generator, optional): Where they come from.
            like (torch.Tensor): A floating point tensor of the type and on the device to return.

        Returns:
            The matrices :obj:`[num, 3, 3]`.
        """
        # Drawn alike for every type and device, and exact to the last digit of each.
        device = torch.device("cpu") if generator is None else generator.device
        if self.axis is None:
            q = torch.randn(num, 4, generator=generator, dtype=torch.float64, device=device)
            q = q / q.norm(dim=1, keepdim=True)
        else:
            half = torch.rand(num, generator=generator, dtype=torch.float64, device=device)
            half = math.pi * half
            q = half.new_zeros(num, 4)
            q[:, 0], q[:, 1 + self.axis] = half.cos(), half.sin()
        w, v = q[:, :1, None], q[:, 1:]
        eye = torch.eye(3, dtype=q.dtype, device=device).expand(num, 3, 3)
        # Row i of [v]_x is e_i x v.
        cross = torch.linalg.cross(eye, v[:, None].expand(num, 3, 3))
        outer = v[:, :, None] * v[:, None]
        turn = (w.square() - v.square().sum(dim=1)[:, None, None]) * eye + 2 * outer + 2 * w * cross
        return turn.to(like)
