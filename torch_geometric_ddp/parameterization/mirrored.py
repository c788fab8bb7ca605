"""Halves of clouds that unfold with their mirror images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_finite, check_int, check_points, check_tensor
from torch_geometric_ddp.budget import BudgetError, StorageBudget
from torch_geometric_ddp.parameterization.base import Parameterization
from torch_geometric_ddp.parameterization.codecs import FLOAT32, Codec, Uniform
from torch_geometric_ddp.parameterization.division import groups_per_class
from torch_geometric_ddp.parameterization.form import Form, same

__all__ = ["Mirrored", "check_even"]

# The plane of a cloud takes a bit: -1 says that x is mirrored, 1 that y is.
_PLANE = Uniform(1)
# Points of a cloud that are compared with their mirror images, and clouds at a time.
_COMPARED, _BLOCK = 256, 64


class Mirrored(Parameterization):
    r"""Stores half of every cloud, and unfolds it with its mirror image.

    Most made objects, and many grown ones, are symmetric about an upright plane. A cloud of
    :math:`N` points is stored as :math:`N / 2` points on one side of such a plane and a bit that
    says which of two planes it is, :math:`x = 0` or :math:`y = 0`:

    .. math::
        (u, v, z) \mapsto \{(u, v, z), (-u, v, z)\}
        \quad \text{or} \quad \{(v, u, z), (v, -u, z)\}, \qquad u > 0

    Args:
        halves (torch.Tensor): The points :obj:`(u, v, z)` of the halves, :obj:`[C * K, N / 2, 3]`,
            class by class.
        planes (torch.Tensor): Which plane each has, :obj:`[C * K, 1]`, -1 for :math:`x = 0` and 1
            for :math:`y = 0`.
        num_classes (int): The number of classes :math:`C`.
        lr (float): The default learning rate. (default: :obj:`0.01`)
        codec (Codec): How the halves are stored. (default: :class:`Float32`)

    Raises:
        TypeError: If a tensor or a number is of another type.
        ValueError: If a shape does not fit, :obj:`planes` holds other numbers than -1 and 1, or
            :obj:`lr` is negative.
    """

    # A cloud is a set: any order of its points will do.
    forms: ClassVar[Mapping[str, Form]] = {"halves": Form(in_order=same)}

    halves: nn.Parameter
    planes: nn.Parameter

    def __init__(
        self,
        halves: Tensor,
        planes: Tensor,
        num_classes: int,
        lr: float = 0.01,
        codec: Codec = FLOAT32,
    ) -> None:
        halves = check_points("halves", halves)
        ppc = groups_per_class("halves", halves, num_classes, "clouds")
        planes = check_tensor("planes", planes, f"{len(halves)} 1")
        if planes.shape != (len(halves), 1) or not bool(((planes == 1) | (planes == -1)).all()):
            raise ValueError(
                f"'planes' must hold -1 or 1 for each of {len(halves)} clouds, of shape "
                f"[{len(halves)}, 1], got {planes.tolist()}"
            )
        super().__init__(num_classes, ppc, 2 * halves.size(1))
        self.keep("halves", halves, lr, codec)
        self.keep("planes", planes.to(halves), 0.0, _PLANE)

    @classmethod
    def from_clouds(
        cls,
        pos: Tensor,
        num_classes: int,
        num_points: int,
        lr: float = 0.01,
        codec: Codec = FLOAT32,
    ) -> Self:
        """Starts from real clouds.

        Each is centred at the middle of its bounding box and scaled to the unit ball. Of the two
        planes it gets the one whose mirror image lies nearer to it (mean distance to the nearest
        point), and of the two sides the one with more points, from which so many are taken that
        they and their images lie as far apart as may be.

        Args:
            pos (torch.Tensor): The clouds :obj:`[C * K, N1, 3]`, class by class.
            num_classes (int): The number of classes :math:`C`.
            num_points (int): The number of points :math:`N` of an unfolded cloud, even.
            lr (float): See above. (default: :obj:`0.01`)
            codec (Codec): See above. (default: :class:`Float32`)

        Raises:
            TypeError: If :obj:`num_points` is no integer.
            ValueError: If :obj:`num_points` is odd or below two, a shape does not fit, or a point
                is not finite.
        """
        check_even("num_points", num_points)
        check_finite("pos", check_points("pos", pos))
        blocks = ops.at_least_single(pos).split(_BLOCK)
        pairs = [_folded(some, num_points // 2) for some in blocks]
        halves, planes = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return cls(halves.to(pos), planes, num_classes, lr, codec)

    def clouds(self, halves: Tensor, planes: Tensor) -> Tensor:
        """The halves and their images, :obj:`[G, N, 3]`."""
        clouds = torch.cat([halves, _image(halves)], dim=1)
        return torch.where(planes[..., None] > 0, clouds[..., [1, 0, 2]], clouds)

    @classmethod
    def clouds_that_fit(cls, budget: StorageBudget, num_points: int, codec: Codec) -> int:
        """The largest number of clouds per class that fits.

        Args:
            budget (StorageBudget): What may be stored.
            num_points (int): The number of points of an unfolded cloud, even.
            codec (Codec): How the halves are stored.

        Raises:
            TypeError: If :obj:`num_points` is no integer.
            BudgetError: If not even one cloud fits.
            TooFewPointsError: If an original has fewer points.
            ValueError: If :obj:`num_points` is odd or below two, or the size of what :obj:`codec`
                stores depends on the values.
        """
        size = budget.check_points("num_points", check_even("num_points", num_points)) // 2

        def bits(num: int) -> int:
            clouds = budget.num_classes * num
            return codec.sure_bits((clouds, size, 3)) + _PLANE.sure_bits((clouds, 1))

        most = budget.largest(bits)
        if most < 1:
            raise BudgetError(
                f"'num_points'={num_points} does not fit the storage of ppc={budget.ppc} clouds of "
                f"{budget.num_points} points per class: as {codec} a mirrored cloud of every class "
                f"takes {bits(1)} of {budget.bits} bits"
            )
        return most


def check_even(name: str, num: int) -> int:
    """Returns the number of points of an unfolded cloud, even and at least two."""
    num = check_int(name, num, minimum=2)
    if num % 2:
        raise ValueError(f"'{name}' must be even, got {num}")
    return num


def _image(pos: Tensor) -> Tensor:
    """The mirror image of points :obj:`[*, 3]`."""
    return torch.cat([-pos[..., :1], pos[..., 1:]], dim=-1)


def _folded(pos: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The halves :obj:`[B, size, 3]` and planes :obj:`[B, 1]` of clouds."""
    low, high = pos.aminmax(dim=1, keepdim=True)
    (pos,), _ = ops.at_unit(pos - (low + high) / 2)
    pos = pos / pos.norm(dim=-1).amax(dim=1)[:, None, None].clamp_min(torch.finfo(pos.dtype).tiny)
    gaps = torch.stack([_asymmetry(pos, axis) for axis in (0, 1)])
    swapped = gaps[1] < gaps[0]
    pos = torch.where(swapped[:, None, None], pos[..., [1, 0, 2]], pos)
    u = pos[..., 0]
    side = torch.where(2 * (u >= 0).sum(dim=1) >= u.size(1), 1.0, -1.0).to(pos)
    pos = torch.cat([pos[..., :1] * side[:, None, None], pos[..., 1:]], dim=-1)
    return _farthest_with_images(pos, size), 2.0 * swapped[:, None].to(pos) - 1


def _asymmetry(pos: Tensor, axis: int) -> Tensor:
    """The mean distance of clouds to their mirror images along an axis, :obj:`[B]`."""
    some = pos[:, :: max(1, pos.size(1) // _COMPARED)]
    sign = pos.new_ones(3)
    sign[axis] = -1
    return torch.cdist(some, some * sign).amin(dim=2).mean(dim=1)


def _farthest_with_images(pos: Tensor, size: int) -> Tensor:
    """Points :obj:`[B, size, 3]` with a positive first coordinate, far from each other's images."""
    images = _image(pos)
    near = torch.where(pos[..., 0] >= 0, torch.inf, -1.0).to(pos)
    each = torch.arange(len(pos), device=pos.device)
    chosen = []
    for _ in range(size):
        last = pos[each, near.argmax(dim=1)]
        chosen.append(last)
        for points in (pos, images):
            away = (points - last[:, None]).square().sum(dim=-1)
            near = torch.where(near < 0, near, near.minimum(away))
    return torch.stack(chosen, dim=1)
