"""The Hilbert curve, which orders points in space so that neighbours in the order lie close."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hilbert_index", "hilbert_order"]

# The bits of a coordinate of the cells in which points are put in order.
_BITS = 10


def hilbert_index(grid: Tensor, bits: int) -> Tensor:
    r"""How far along the Hilbert curve each cell of a cubic grid lies.

    J. Skilling, *Programming the Hilbert curve*, AIP Conference Proceedings 707 (2004).

    Args:
        grid (torch.Tensor): The cells :obj:`[*, 3]` (:obj:`int64`), each coordinate in
            :math:`0 \ldots 2^{bits} - 1`.
        bits (int): The bits of a coordinate, at most 21.

    Returns:
        The positions :obj:`[*]` (:obj:`int64`), :math:`0 \ldots 2^{3 bits} - 1`.
    """
    axes = list(grid.unbind(dim=-1))
    for bit in range(bits - 1, 0, -1):  # Undo the rotations of the levels.
        low = (1 << bit) - 1
        for i, axis in enumerate(axes):
            high = (axis >> bit & 1).bool()
            swap = (axes[0] ^ axis) & low
            axes[i] = torch.where(high, axis, axis ^ swap)
            axes[0] = torch.where(high, axes[0] ^ low, axes[0] ^ swap)
    axes[1] = axes[1] ^ axes[0]
    axes[2] = axes[2] ^ axes[1]
    flip = torch.zeros_like(axes[2])
    for bit in range(bits - 1, 0, -1):
        flip = torch.where((axes[2] >> bit & 1).bool(), flip ^ ((1 << bit) - 1), flip)
    index = torch.zeros_like(flip)
    for bit in range(bits - 1, -1, -1):
        for axis in axes:
            index = index << 1 | ((axis ^ flip) >> bit & 1)
    return index


def hilbert_order(pos: Tensor, sizes: Tensor | None = None) -> Tensor:
    r"""The order of points along the Hilbert curve through the bounding cube of their cloud.

    The curve has :math:`2^{10}` cells along each axis; points in one cell keep their order.

    Args:
        pos (torch.Tensor): The clouds :obj:`[B, N, 3]`.
        sizes (torch.Tensor, optional): How many points each cloud has, :obj:`[B]`, where it is
            filled up with copies behind them, which stay there.

    Returns:
        The permutations :obj:`[B, N]` (:obj:`int64`).
    """
    pos = pos.detach()
    low = pos.amin(dim=1, keepdim=True)
    extent = (pos.amax(dim=1, keepdim=True) - low).amax(dim=2, keepdim=True)
    tiny = torch.finfo(pos.dtype).tiny
    scaled = (pos - low) / extent.clamp_min(tiny) * (1 << _BITS)
    index = hilbert_index(scaled.long().clamp_(0, (1 << _BITS) - 1), _BITS)
    if sizes is not None:
        filling = torch.arange(pos.size(1), device=pos.device) >= sizes[:, None]
        index = index.masked_fill(filling, 1 << 3 * _BITS)
    return index.argsort(dim=1, stable=True)
