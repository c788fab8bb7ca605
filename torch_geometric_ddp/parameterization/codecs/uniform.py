"""Numbers on an even grid, in their order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_finite, check_float, check_int
from torch_geometric_ddp.parameterization.codecs.base import Codec
from torch_geometric_ddp.parameterization.codecs.packing import (
    pack_bits,
    packed_bytes,
    unpack_bits,
)

__all__ = ["Uniform"]

# Which of the last dimensions share a range: both of a cloud [N, 3], or the points of an axis.
_SHARED = {"fixed": (), "cloud": (-2, -1), "axis": (-2,)}
# The ends of a range are stored in half precision.
_END_BITS = 16


@dataclass(frozen=True)
class Uniform(Codec):
    r"""Rounds every number to one of :math:`2^b` that lie evenly over a range :math:`[a, z]`.

    .. math::
        x \mapsto a + q \, \frac{z - a}{2^b - 1}, \qquad
        q = \operatorname{round}\!\left(\frac{x - a}{z - a} \, (2^b - 1)\right)

    The range is the same for all numbers, or that of the numbers of a cloud or of each of its axes,
    whose two ends are then stored as half-precision floats and count. Optimisation sees the rounded
    numbers, with the gradient of those that are rounded (straight-through, arXiv 1308.3432). QuADD
    (arXiv 2603.02411) has such a rounding within the loss of image distillation.

    Args:
        depth (int): The bits :math:`b` of a number, 1 to 16.
        span (str): What shares a range: everything (:obj:`"fixed"`), the last two dimensions of
            :obj:`[G, *, N, D]` (:obj:`"cloud"`) or the last but one (:obj:`"axis"`).
            (default: :obj:`"fixed"`)
        reach (float): A fixed range goes from :obj:`-reach` to :obj:`reach`, and what lies beyond
            is stored as its end. (default: :obj:`1.0`, the unit ball)

    Raises:
        TypeError: If :obj:`depth` is no integer or :obj:`reach` no number.
        ValueError: If :obj:`depth` is not from 1 to 16, :obj:`span` is none of the three, or
            :obj:`reach` is not above 0 and finite in single precision.
    """

    depth: int
    span: str = "fixed"
    reach: float = 1.0

    def __post_init__(self) -> None:
        # Numbers of NumPy too become what JSON can hold.
        object.__setattr__(self, "depth", check_int("depth", self.depth))
        object.__setattr__(self, "reach", check_float("reach", self.reach, exclusive=True))
        if self.depth > 16:
            raise ValueError(f"'depth' must be from 1 to 16 bits, got {self.depth}")
        if self.span not in _SHARED:
            raise ValueError(f"'span' must be one of {list(_SHARED)}, got {self.span!r}")
        largest = torch.finfo(torch.float32).max
        if self.reach > largest:
            raise ValueError(f"'reach' must be at most {largest:g}, got {self.reach:g}")

    def bits(self, shape: Sequence[int]) -> int:
        """Those of all numbers, in whole bytes, and of the ends of the ranges.

        Raises:
            ValueError: If ranges are not fixed and :obj:`shape` has fewer than three dimensions.
        """
        ends = 2 * _END_BITS * math.prod(self._ranges(shape)) if self._has_ends else 0
        return 8 * packed_bytes(math.prod(shape), self.depth) + ends

    def encode(self, tensor: Tensor) -> dict[str, Tensor]:
        """:obj:`codes` (:obj:`uint8`) and, unless the range is fixed, :obj:`ends [2, *]`.

        Raises:
            ValueError: If a number is not finite or beyond half precision, or ranges are not fixed
                and :obj:`tensor` has fewer than three dimensions.
        """
        check_finite("tensor", tensor)
        low, high = self._range(tensor)
        if not bool(torch.isfinite(low).all() & torch.isfinite(high).all()):
            largest = torch.finfo(torch.float16).max
            raise ValueError(
                f"'tensor' must lie within ±{largest:g}, as the ends of its ranges are stored in "
                f"half precision, got {tensor.abs().max():g}"
            )
        # Where the grid is finer than single precision, several codes have one value: of that
        # value, once more, as it will be when a file is read and written again.
        codes = self._codes(tensor, low, high)
        codes = self._codes(self._values(codes, low, high), low, high)
        out = {"codes": pack_bits(codes, self.depth)}
        return {**out, "ends": torch.stack([low, high]).half()} if self._has_ends else out

    def decode(self, stored: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
        """The numbers :obj:`[G, *]` (:obj:`float32`).

        Raises:
            ValueError: If :obj:`stored` has too many or too few bytes, or the ends of a range are
                not finite or not in order.
        """
        codes = unpack_bits(stored["codes"], self.depth, math.prod(shape)).view(*shape)
        if not self._has_ends:
            low, high = self._range(codes)
            return self._values(codes, low, high)
        ends = stored["ends"].double()
        if ends.shape != (2, *self._ranges(shape)):
            expected = [2, *self._ranges(shape)]
            raise ValueError(f"'ends' must be of shape {expected}, got {list(ends.shape)}")
        low, high = ends
        if not bool((torch.isfinite(ends).all()) & (low <= high).all()):
            raise ValueError("'ends' must be finite, and the first of a range not above its second")
        return self._values(codes, low, high)

    def rounded(self, tensor: Tensor) -> Tensor:
        """The values on the grid, without packing; not finite where a range is not."""
        low, high = self._range(tensor)
        return self._values(self._codes(tensor, low, high), low, high)

    @property
    def _has_ends(self) -> bool:
        return self.span != "fixed"

    def _ranges(self, shape: Sequence[int]) -> list[int]:
        """The shape of one end of the ranges; as empty as the tensor where that is."""
        if len(shape) < 3:  # A range of a group would be shared with others.
            raise ValueError(
                f"a tensor [G, *, N, D] has a range for every {self.span}, got shape {list(shape)}"
            )
        if 0 in shape:
            return list(shape)
        return [1 if i - len(shape) in _SHARED[self.span] else n for i, n in enumerate(shape)]

    def _range(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends as they are stored, in double precision, in which codes are told apart."""
        if not self._has_ends:
            end = torch.full((), self.reach, dtype=torch.float64, device=tensor.device)
            return -end, end
        if 0 in self._ranges(tensor.shape):
            return tensor.double(), tensor.double()
        shared = _SHARED[self.span]
        low, high = tensor.amin(shared, keepdim=True), tensor.amax(shared, keepdim=True)
        # A sum with zero has no negative zero, which would not be found again.
        return low.half().double() + 0.0, high.half().double() + 0.0

    def _codes(self, tensor: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The codes as floats, so that what is not a number stays so."""
        top, width, numbers = 2**self.depth - 1, high - low, tensor.double()
        share = (numbers - low) / torch.where(width > 0, width, 1.0)
        codes = (share * top).round().clamp(0, top)
        if self._has_ends and tensor.numel() > 0:
            # The least and the largest number are the ends, also where these were rounded, so that
            # a range is found again from what is decoded.
            shared = _SHARED[self.span]
            codes = torch.where(numbers == numbers.amax(shared, keepdim=True), float(top), codes)
            codes = torch.where(numbers == numbers.amin(shared, keepdim=True), 0.0, codes)
            codes = torch.where(width == 0, 0.0, codes)
        return codes

    def _values(self, codes: Tensor, low: Tensor, high: Tensor) -> Tensor:
        top = 2**self.depth - 1
        values = low + codes * ((high - low) / top)
        return torch.where(codes == top, high, values).float()
