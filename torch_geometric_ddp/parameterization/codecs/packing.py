"""Whole numbers of a few bits each, one after the other in bytes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["pack_bits", "packed_bytes", "unpack_bits", "unpack_digits"]

# The bits of the words that numbers are taken apart in, which is the most that one may have.
_WORD = 32


def packed_bytes(count: int, width: int) -> int:
    """The bytes of :obj:`count` numbers of :obj:`width` bits."""
    return -(-count * width // 8)


def pack_bits(numbers: Tensor, width: int) -> Tensor:
    """Writes numbers one after the other, the highest bit first.

    Args:
        numbers (torch.Tensor): Whole numbers :obj:`[*]` from 0 to :obj:`2**width - 1`.
        width (int): The bits of a number, up to 32.

    Returns:
        The bytes :obj:`[ceil(n * width / 8)]` (:obj:`uint8`), filled up with zeros.
    """
    words = numbers.detach().cpu().flatten().numpy().astype(">u4")
    digits = np.unpackbits(words[:, None].view(np.uint8), axis=1)[:, _WORD - width :]
    return torch.from_numpy(np.packbits(digits.reshape(-1)))


def unpack_bits(stored: Tensor, width: int, count: int) -> Tensor:
    """Reads :obj:`count` numbers that :func:`pack_bits` wrote, as :obj:`[count]` (:obj:`int64`).

    Raises:
        ValueError: If :obj:`stored` has more or fewer bytes or is not filled up with zeros.
    """
    digits = unpack_digits(stored, width * count).reshape(count, width)
    padded = np.zeros((count, _WORD), dtype=np.uint8)
    padded[:, _WORD - width :] = digits
    words = np.packbits(padded, axis=1).view(">u4").reshape(-1)
    return torch.from_numpy(words.astype(np.int64))


def unpack_digits(stored: Tensor, count: int) -> np.ndarray:
    """The first :obj:`count` binary digits of bytes, behind which there are only zeros.

    Raises:
        ValueError: If :obj:`stored` has more or fewer bytes or is not filled up with zeros.
    """
    size = packed_bytes(count, 1)
    if stored.dtype != torch.uint8 or stored.shape != (size,):
        raise ValueError(
            f"'stored' must be {count} binary digits in {size} bytes (uint8), got {stored.dtype} "
            f"of shape {list(stored.shape)}"
        )
    digits = np.unpackbits(stored.cpu().numpy())
    if digits[count:].any():
        raise ValueError(f"'stored' must be zero behind its {count} binary digits, got other bits")
    return digits[:count]
