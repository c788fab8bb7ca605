"""Sorted per-point features: a representation of a cloud that ignores the order of its points."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_indices, check_tensor
from torch_geometric_ddp._threads import thread_map

__all__ = ["sorted_features"]

# The largest group that fits beside the place of a point.
_MOST_GROUPS = 32767


def sorted_features(
    x: Tensor, absolute: bool = True, shift: Tensor | None = None, group: Tensor | None = None
) -> Tensor:
    r"""Sorts every channel of a cloud over its points, in ascending order.

    The papers sort in descending order, which swaps the columns of all rows alike and changes no
    distance between them. Ties keep the order of the points, so that gradients are repeatable.

    Args:
        x (torch.Tensor): The per-point features :obj:`[B, N, F]`.
        absolute (bool): Whether magnitudes are sorted. (default: :obj:`True`)
        shift (torch.Tensor, optional): A constant :obj:`[F * N]` to subtract from every row,
            which changes no distance between rows and saves their digits in single precision.
        group (torch.Tensor, optional): The group of every point, :obj:`[B, N]` (integers from 0
            up to 32767), such as its part: channels are then sorted within the groups, which
            follow each other in ascending order. (default: one group)

    Returns:
        One row per cloud, :obj:`[B, F * N]`, channel by channel.

    Raises:
        TypeError: If :obj:`x` is no floating point tensor, :obj:`shift` no tensor, or :obj:`group`
            none of integers.
        ValueError: If a shape is another one or, on a CPU, a group is out of range.
    """
    if check_tensor("x", x, "B, N, F").dim() != 3:
        raise ValueError(f"'x' must have shape [B, N, F], got {list(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"'x' must be floating point, got {x.dtype}")
    wanted = x.size(1) * x.size(2)
    if shift is not None and list(check_tensor("shift", shift, "F * N").shape) != [wanted]:
        raise ValueError(f"'shift' must have shape [{wanted}], got {list(shift.shape)}")
    if group is not None:
        _check_groups(group, x)
    return _SortedFeatures.apply(x, absolute, shift, group).flatten(1)


def _check_groups(group: Tensor, x: Tensor) -> None:
    if check_tensor("group", group, "B, N").shape != x.shape[:2]:
        raise ValueError(f"'group' must have shape {list(x.shape[:2])}, got {list(group.shape)}")
    check_indices("group", group)
    if group.device.type == "cpu" and group.numel():  # A look at another device waits for it.
        low, high = (int(value) for value in group.aminmax())
        if low < 0 or high > _MOST_GROUPS:
            raise ValueError(f"'group' must lie in 0..{_MOST_GROUPS}, got {low}..{high}")


class _SortedFeatures(torch.autograd.Function):
    """Sort and gather in one, whose gradient goes back where the values came from."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, absolute: bool, shift: Tensor | None, group: Tensor | None
    ) -> Tensor:
        channels = x.transpose(1, 2)
        shift = None if shift is None else shift.view(channels.shape[1:])
        keep = ctx.needs_input_grad[0]
        fast = x.device.type == "cpu" and x.dtype == torch.float32 and sys.byteorder == "little"
        if group is None:
            sort = _sort_numpy if fast else _sort_torch
            out, index = sort(channels, absolute, shift, keep)
        else:
            fast = fast and channels.size(-1) < 1 << 16
            sort_groups = _sort_groups_numpy if fast else _sort_groups_torch
            out, index = sort_groups(channels, absolute, shift, keep, group)
        if keep:
            ctx.absolute = absolute
            ctx.save_for_backward(x, index)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, index = ctx.saved_tensors
        # Laid out as the features are, so that what comes before needs no copy.
        result = torch.empty_like(x)
        # One cloud at a time on a CPU, so that what is scattered to stays in the cache.
        size = 1 if grad.device.type == "cpu" else max(1, len(grad))
        place = torch.empty_like(index[:size], dtype=torch.int64)
        values = torch.empty_like(grad[:size])
        for i in range(0, len(grad), size):
            block = slice(i, i + size)
            values.scatter_(-1, place.copy_(index[block]), grad[block])
            if ctx.absolute:
                values.mul_(x[block].transpose(1, 2).sign())
            result[block] = values.transpose(1, 2)
        return result, None, None, None


Sorted = tuple[Tensor, Tensor | None]

# The channels that are sorted at a time on a CPU, so that they stay in the cache.
_CHANNELS = 256


def _sort_torch(x: Tensor, absolute: bool, shift: Tensor | None, keep: bool) -> Sorted:
    out, index = torch.sort(x.abs() if absolute else x, dim=-1, stable=True)
    if shift is not None:
        out -= shift
    return out, index if keep else None


def _sort_numpy(x: Tensor, absolute: bool, shift: Tensor | None, keep: bool) -> Sorted:
    """The same by NumPy's vectorised sort, in a fraction of the time of :meth:`torch.sort`.

    Where the order is needed too, value and index share one 64-bit key, so that one sort gives
    both: a single-precision number leaves the last 29 bits of a double free, which then rounds
    back to the very same number.
    """
    source, num = x.detach().numpy(), x.size(-1)
    offset = None if shift is None else shift.detach().numpy()
    out = np.empty(source.shape, np.float32)
    # As narrow as it can be, for the memory takes longer than the sort.
    index = np.empty(source.shape, np.int16 if num < 1 << 15 else np.int64) if keep else None
    steps = np.arange(num)
    mask = (1 << num.bit_length()) - 1

    def sort_values(row: np.ndarray, values: np.ndarray) -> None:
        np.abs(values, out=row) if absolute else np.copyto(row, values)
        row.sort(axis=-1)

    def sort_keys(row: np.ndarray, values: np.ndarray, order: np.ndarray) -> None:
        wide = values.astype(np.float64)
        wide = np.abs(wide, out=wide) if absolute else np.add(wide, 0.0, out=wide)
        keys = wide.view(np.int64)
        keys |= steps
        if absolute:
            keys.sort(axis=-1)  # Doubles without a sign are ordered as their bits.
        else:
            keys ^= (keys >> 63) & mask  # A negative number grows as its last bits shrink.
            wide.sort(axis=-1)
        np.copyto(row, wide, casting="same_kind")
        if not absolute:
            keys ^= (keys >> 63) & mask
        np.bitwise_and(keys, mask, out=order, casting="unsafe")

    def sort_cloud(i: int) -> None:
        for start in range(0, source.shape[1], _CHANNELS):
            block = slice(start, start + _CHANNELS)
            row = out[i, block]
            if index is None:
                sort_values(row, source[i, block])
            else:
                sort_keys(row, source[i, block], index[i, block])
            if offset is not None:
                row -= offset[block]

    thread_map(sort_cloud, range(len(source)))
    return torch.from_numpy(out), None if index is None else torch.from_numpy(index)


def _sort_groups_torch(
    x: Tensor, absolute: bool, shift: Tensor | None, keep: bool, group: Tensor
) -> Sorted:
    """Sorts by the group first, then by the value, then by the place."""
    values = x.abs() if absolute else x
    order = values.argsort(dim=-1, stable=True)
    groups = group[:, None].expand(values.shape).gather(-1, order)
    order = order.gather(-1, groups.argsort(dim=-1, stable=True))
    out = values.gather(-1, order)
    return out if shift is None else out - shift, order if keep else None


def _sort_groups_numpy(
    x: Tensor, absolute: bool, shift: Tensor | None, keep: bool, group: Tensor
) -> Sorted:
    """The same by one sort of 64-bit keys that hold the group, the value and the place."""
    source, num = x.detach().numpy(), x.size(-1)
    offset = None if shift is None else shift.detach().numpy()
    out = np.empty(source.shape, np.float32)
    index = np.empty(source.shape, np.int16 if num < 1 << 15 else np.int64) if keep else None
    groups = group.to(torch.int64).numpy()
    heads = (groups << 48) + np.arange(num)
    groups = np.sort(groups, axis=-1) << 32

    def flip(bits: np.ndarray) -> None:
        bits ^= (bits >> 31) & 0x7FFFFFFF  # A negative number grows as its bits shrink.

    def sort_cloud(i: int) -> None:
        for start in range(0, source.shape[1], _CHANNELS):
            block = slice(start, start + _CHANNELS)
            row = out[i, block]
            bits = row.view(np.int32)
            # Of two zeros, both become the positive one.
            np.abs(source[i, block], out=row) if absolute else np.add(source[i, block], 0.0, row)
            flip(bits)
            keys = bits.astype(np.int64)
            keys <<= 16
            keys += heads[i]
            keys.sort(axis=-1)
            if index is not None:
                np.bitwise_and(keys, 0xFFFF, out=index[i, block], casting="unsafe")
            keys >>= 16
            keys -= groups[i]
            np.copyto(bits, keys, casting="unsafe")
            flip(bits)
            if offset is not None:
                row -= offset[block]

    thread_map(sort_cloud, range(len(source)))
    return torch.from_numpy(out), None if index is None else torch.from_numpy(index)
