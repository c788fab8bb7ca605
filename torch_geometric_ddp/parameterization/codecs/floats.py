"""Floating point numbers of several widths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from torch_geometric_ddp.parameterization.codecs.base import Codec

__all__ = ["FLOAT32", "Float16", "Float32", "Float64", "float_codec"]


class _Float(Codec):
    """Floating point numbers of one type, one tensor without anything beside it."""

    dtype: ClassVar[torch.dtype]

    def bits(self, shape: Sequence[int]) -> int:
        """As many for every number."""
        return 8 * self.dtype.itemsize * math.prod(shape)

    def encode(self, tensor: Tensor) -> dict[str, Tensor]:
        """The nearest numbers of the type, ties to even.

        Raises:
            ValueError: If a finite number has none, as it is too large.
        """
        stored = tensor.to(self.dtype)
        lost = tensor[~torch.isfinite(stored) & torch.isfinite(tensor)]
        if lost.numel() > 0:
            largest = torch.finfo(self.dtype).max
            raise ValueError(
                f"'tensor' must lie within ±{largest:g} to be stored as {self}, got "
                f"{lost.abs().max():g}"
            )
        return {"": stored}

    def decode(self, stored: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
        """The numbers, in single precision if they were stored in less."""
        values = stored[""]
        return values.to(torch.promote_types(values.dtype, torch.float32))

    def exact(self, dtype: torch.dtype) -> bool:
        """For types that hold no number that this one lacks."""
        return torch.promote_types(dtype, self.dtype) == self.dtype

    def rounded(self, tensor: Tensor) -> Tensor:
        """The numbers of the type; infinite where they are too large, which the loop notices."""
        return tensor.to(self.dtype)


class Float16(_Float):
    """Half precision: 16 bits a number, up to 65,504, about three digits (IEEE 754 binary16).

    Optimisation sees the rounded numbers, with the gradient of those that are rounded. A number
    that is too large is refused where it is stored, and infinite where it is seen, so that a
    distillation stops.
    """

    dtype = torch.float16


class Float32(_Float):
    """Single precision, the default: 32 bits a number (IEEE 754 binary32).

    Optimisation in single or half precision sees the parameters themselves.
    """

    dtype = torch.float32


class Float64(_Float):
    """Double precision: 64 bits a number (IEEE 754 binary64). Every parameter is seen itself."""

    dtype = torch.float64


#: The codec of everything that nothing else is said about.
FLOAT32 = Float32()

_CODECS: dict[torch.dtype, Codec] = {c.dtype: c for c in (Float16(), FLOAT32, Float64())}


def float_codec(dtype: torch.dtype) -> Codec:
    """The codec that writes numbers of a type as they are.

    Raises:
        ValueError: If there is none.
    """
    if dtype not in _CODECS:
        raise ValueError(f"'dtype' must be one of {[*map(str, _CODECS)]}, got {dtype}")
    return _CODECS[dtype]
