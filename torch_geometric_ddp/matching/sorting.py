"""Sorted per-point features: a representation of a cloud that ignores the order of its points."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_geometric_ddp._threads import thread_map

__all__ = ["sorted_features"]


def sorted_features(x: Tensor, absolute: bool = True, shift: Tensor | None = None) -> Tensor:
    r"""Sorts every channel of a cloud over its points, in descending order.

    Ties keep the order of the points, so that the gradient is repeatable.

    Args:
        x (torch.Tensor): The per-point features :obj:`[B, N, F]`.
        absolute (bool): Whether magnitudes are sorted. (default: :obj:`True`)
        shift (torch.Tensor, optional): A constant :obj:`[F * N]` to subtract from every row,
            which changes no distance between rows and saves their digits in single precision.

    Returns:
        One row per cloud, :obj:`[B, F * N]`, channel by channel.
    """
    return _SortedFeatures.apply(x, absolute, shift).flatten(1)


class _SortedFeatures(torch.autograd.Function):
    """Sort and gather in one, whose gradient goes back where the values came from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, absolute: bool, shift: Tensor | None) -> Tensor:
        channels = x.transpose(1, 2)
        shift = None if shift is None else shift.view(channels.shape[1:])
        keep = ctx.needs_input_grad[0]
        fast = x.device.type == "cpu" and x.dtype == torch.float32 and sys.byteorder == "little"
        sort = _sort_numpy if fast else _sort_torch
        out, index = sort(channels, absolute, shift, keep)
        if keep:
            ctx.save_for_backward(x if absolute else None, index)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, index = ctx.saved_tensors
        out = torch.empty_like(grad).scatter_(-1, index, grad).transpose(1, 2)
        return (out.mul_(x.sign()) if x is not None else out), None, None


Sorted = tuple[Tensor, Tensor | None]


def _sort_torch(x: Tensor, absolute: bool, shift: Tensor | None, keep: bool) -> Sorted:
    out, index = torch.sort(x.abs() if absolute else x, dim=-1, descending=True, stable=True)
    if shift is not None:
        out -= shift
    return out, index if keep else None


def _sort_numpy(x: Tensor, absolute: bool, shift: Tensor | None, keep: bool) -> Sorted:
    """The same by NumPy's vectorised sort, in a fraction of the time of :meth:`torch.sort`.

    Where the order is needed too, value and index share one 64-bit key, so that one sort of
    integers gives both: the bits of a float, read as an integer, are ordered as the magnitudes.
    """
    source = x.detach().numpy()
    offset = None if shift is None else shift.detach().numpy()
    out = np.empty(source.shape, np.float32)
    index = np.empty(source.shape, np.int64) if keep else None

    def sort_values(i: int) -> None:
        row = out[i]
        np.negative(np.abs(source[i], out=row) if absolute else source[i], out=row)
        row.sort(axis=-1)  # The negated values ascending are the values descending.
        np.negative(row, out=row)

    def sort_keys(i: int) -> None:
        row = out[i]
        bits = row.view(np.int32)
        np.abs(source[i], out=row) if absolute else np.copyto(row, source[i])
        if not absolute:
            _order_bits(bits)
        keys = np.empty((*row.shape, 2), np.int32)
        keys[..., 0] = np.arange(row.shape[-1], dtype=np.int32)
        np.invert(bits, out=keys[..., 1])
        both = keys.view(np.int64)[..., 0]
        both.sort(axis=-1)
        np.invert(keys[..., 1], out=bits)
        if not absolute:
            _order_bits(bits)
        np.bitwise_and(both, 0xFFFFFFFF, out=index[i])  # type: ignore[index]

    def sort_cloud(i: int) -> None:
        (sort_keys if keep else sort_values)(i)
        if offset is not None:
            out[i] -= offset

    thread_map(sort_cloud, range(len(source)))
    return torch.from_numpy(out), None if index is None else torch.from_numpy(index)


def _order_bits(bits: np.ndarray) -> None:
    """Makes the bits of floats ordered as integers, in place; its own inverse."""
    bits ^= (bits >> 31) & 0x7FFFFFFF
