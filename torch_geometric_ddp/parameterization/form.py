"""Forms: what is stored of a tensor where that is not what is optimised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_geometric_ddp.parameterization.codecs import Codec

__all__ = ["Form", "order_of_file", "read", "same", "seen", "taken"]


def same(tensor: Tensor) -> Tensor:
    """What it is given; a lambda could not be sent to the workers of a loader."""
    return tensor


@dataclass(frozen=True)
class Form:
    """How the stored form of a tensor differs from the one that is optimised.

    Args:
        pack (callable): Gives what is stored, :obj:`[G, *]`, of what is optimised, :obj:`[G, *]`,
            group by group. (default: the same)
        unpack (callable): Gives what is optimised of what is stored. (default: the same)
        in_order (callable, optional): Puts the points of clouds :obj:`[G, *, N, D]` that a codec
            gave back without their order, sorted by their coordinates, into an order that
            :meth:`Parameterization.clouds` can do with. What is packed must then be as many points
            as what is optimised. (default: there is none, and codecs that do not keep the order
            are refused)
    """

    pack: Callable[[Tensor], Tensor] = same
    unpack: Callable[[Tensor], Tensor] = same
    in_order: Callable[[Tensor], Tensor] | None = None


def seen(tensor: Tensor, codec: Codec, form: Form) -> Tensor:
    """What optimisation sees of a tensor :obj:`[G, *]` that is stored by a codec."""
    if codec.exact(tensor.dtype):
        return tensor  # Not packed and unpacked either, which would round.
    return form.unpack(codec.seen(form.pack(tensor)))


def read(tensor: Tensor, codec: Codec, form: Form) -> Tensor:
    """What is optimised of a tensor :obj:`[G, *]` that a codec gave back."""
    tensor = form.unpack(tensor)
    if codec.keeps_order or form.in_order is None:
        return tensor
    return form.in_order(taken(tensor, _by_coordinates(tensor)))


def order_of_file(pos: Tensor, in_order: Callable[[Tensor], Tensor]) -> Tensor:
    """The order :obj:`[*, N]` that :meth:`read` gives points :obj:`[*, N, D]` in any order."""
    order = _by_coordinates(pos)
    target = in_order(taken(pos, order))
    return order.gather(-1, _by_coordinates(target).argsort(dim=-1))


def taken(pos: Tensor, order: Tensor) -> Tensor:
    """The points :obj:`[*, N, D]` in an order :obj:`[*, N]`."""
    return pos.gather(-2, order[..., None].expand_as(pos))


def _by_coordinates(pos: Tensor) -> Tensor:
    """The order :obj:`[*, N]` of points :obj:`[*, N, D]` by their coordinates, the first first."""
    order = torch.arange(pos.size(-2), device=pos.device).expand(pos.shape[:-1])
    for values in reversed(pos.unbind(dim=-1)):
        order = order.gather(-1, values.gather(-1, order).argsort(dim=-1, stable=True))
    return order
