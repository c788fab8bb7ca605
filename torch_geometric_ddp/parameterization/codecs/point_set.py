"""Points as sets: on a grid in the unit ball, without their order."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_finite, check_flag, check_int
from torch_geometric_ddp.ops import at_least_single
from torch_geometric_ddp.parameterization.codecs.base import Codec
from torch_geometric_ddp.parameterization.codecs.packing import packed_bytes, unpack_digits

__all__ = ["PointSet"]

# More points of a cloud would take hours.
_MOST_POINTS = 2**14


@dataclass(frozen=True)
class PointSet(Codec):
    r"""Stores a cloud as a set of cells of a grid in the unit ball.

    The cube from -1 to 1 is cut into :math:`2^{3b}` cells, of which those count whose middle lies
    in the unit ball, :math:`A \approx \frac{\pi}{6} 2^{3b}`. Every point becomes the nearest of
    these middles; a point outside of the ball is drawn to its surface first. A cloud of :math:`N`
    points is then a multiset of cells, and there are :math:`\binom{A + N - 1}{N}` of these: it is
    stored as the number of its multiset in the combinatorial number system (Knuth, *The Art of
    Computer Programming* 4A, section 7.2.1.3), in

    .. math::
        \left\lceil \log_2 \binom{A + N - 1}{N} \right\rceil \approx N \log_2 A - \log_2 N!

    bits whatever the points: 797 for 64 points at 6 bits, where the cube with the order takes
    1,152. No coder that treats all sets in the ball alike takes less. Points come back sorted by
    their coordinates, and as many as there were, also where several share a cell. Optimisation sees
    the middles, with the gradient of the points (straight-through, arXiv 1308.3432).

    The numbers of sets are long: the time to write or to read a cloud grows nearly with the cube of
    its points. The codec is meant for clouds of up to some hundred.

    Args:
        depth (int): The bits :math:`b` of a coordinate, 1 to 10. (default: :obj:`6`)
        half (bool): Whether only the half of the ball with a positive first coordinate is stored,
            in which there are half as many cells; a point outside is drawn to its border.
            (default: :obj:`False`)

    Raises:
        TypeError: If :obj:`depth` is no integer or :obj:`half` no truth value.
        ValueError: If :obj:`depth` is not from 1 to 10; where a cloud has more than 16,384 points.
    """

    depth: int = 6
    half: bool = False
    keeps_order: ClassVar[bool] = False

    def __post_init__(self) -> None:
        # A number of NumPy too becomes what JSON can hold.
        object.__setattr__(self, "depth", check_int("depth", self.depth))
        if self.depth > 10:
            raise ValueError(f"'depth' must be from 1 to 10 bits, got {self.depth}")
        check_flag("half", self.half)

    def cloud_bits(self, num_points: int) -> int:
        """The bits of one cloud of so many points."""
        return (_count(self._num_cells, num_points) - 1).bit_length()

    @property
    def _num_cells(self) -> int:
        size = _ball(self.depth).size
        return size // 2 if self.half else size

    @property
    def _first_cell(self) -> int:
        """The number of the first cell, as those with a positive first coordinate come last."""
        return _ball(self.depth).size // 2 if self.half else 0

    def bits(self, shape: Sequence[int]) -> int:
        """Those of all clouds :obj:`[G, *, N, 3]`, one after the other, in whole bytes.

        Raises:
            ValueError: If :obj:`shape` is not of clouds.
        """
        _check_clouds(shape)
        return 8 * packed_bytes(math.prod(shape[:-2]), self.cloud_bits(shape[-2]))

    def encode(self, tensor: Tensor) -> dict[str, Tensor]:
        """:obj:`sets` (:obj:`uint8`), the numbers of all sets.

        Raises:
            ValueError: If :obj:`tensor` is not of clouds or not finite.
        """
        _check_clouds(tensor.shape)
        check_finite("tensor", tensor)
        size, ball = tensor.size(-2), _ball(self.depth)
        steps = self._steps(tensor).long().cpu().view(math.prod(tensor.shape[:-2]), size, 3)
        clouds = (ball.number(steps) - self._first_cell).sort(dim=1).values.tolist()
        width = self.cloud_bits(size)
        digits = "".join(f"{_rank(cloud):0{width}b}" for cloud in clouds) if width > 0 else ""
        return {"sets": torch.from_numpy(np.packbits(_ascii(digits)))}

    def decode(self, stored: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
        """The clouds :obj:`[G, *, N, 3]` (:obj:`float32`), each sorted by its coordinates.

        Raises:
            ValueError: If :obj:`stored` has too many or too few bytes, or the number of no set.
        """
        count, size, ball = math.prod(shape[:-2]), shape[-2], _ball(self.depth)
        width, limit = self.cloud_bits(size), _count(self._num_cells, size)
        digits = unpack_digits(stored["sets"], count * width).reshape(count, width) + ord("0")
        clouds = []
        for row in digits:
            rank = int(row.tobytes() or b"0", 2)
            if rank >= limit:
                raise ValueError(
                    f"'sets' must hold numbers of sets of {size} points, got one beyond the last"
                )
            clouds.append(_unrank(rank, size))
        numbers = torch.tensor(clouds, dtype=torch.long).view(count, size)
        return _middle(ball.steps(numbers + self._first_cell), self.depth).view(*shape)

    def rounded(self, tensor: Tensor) -> Tensor:
        """The middles of the cells, in the order of the argument; NaN for what is not finite."""
        return _middle(self._steps(tensor), self.depth)

    def _steps(self, tensor: Tensor) -> Tensor:
        """How many cells the nearest one in the ball lies from the corner, as floats.

        Every operation is one that rounds alike on all devices, so that what is seen on one is what
        is stored on another.
        """
        pos = at_least_single(tensor)
        if self.half:
            pos = torch.cat([pos[..., :1].clamp_min(0), pos[..., 1:]], dim=-1)
        # Twice, for the square of a large number would be infinite.
        pos = pos / pos.abs().amax(dim=-1, keepdim=True).clamp_min(1)
        x, y, z = pos.unbind(dim=-1)
        pos = pos / (x * x + y * y + z * z).sqrt().clamp_min(1)[..., None]
        half = 2 ** (self.depth - 1)
        steps = ((pos + 1) * half).floor().clamp(0, 2 * half - 1)
        # In halves of a cell from the origin a middle is an odd number on each axis, at most one
        # above the point. To come into the ball, it is enough to go at most a cell inwards on each
        # axis: of the subsets of axes that do, the one that leads the least away.
        odd = 2 * steps + 1 - 2 * half
        side, odd = odd.sign(), odd.abs()
        away = torch.where(odd > 1, 4 * (1 + pos * side * (2 * half) - odd), torch.inf)
        x, y, z = odd.unbind(dim=-1)
        outside = x * x + y * y + z * z - 4 * half * half
        enough = _over_subsets(4 * (odd - 1)) >= outside[..., None]
        best = torch.where(enough, _over_subsets(away), torch.inf).argmin(dim=-1)
        inwards = best[..., None] >> torch.arange(2, -1, -1, device=pos.device) & 1
        return steps - inwards * side


def _over_subsets(values: Tensor) -> Tensor:
    """The sums :obj:`[*, 8]` of values :obj:`[*, 3]` over the subsets of the axes.

    A bit of the number of a subset says whether an axis belongs to it, the highest that of the
    first.
    """
    x, y, z = values.unbind(dim=-1)
    return torch.stack([torch.zeros_like(x), z, y, y + z, x, x + z, x + y, x + y + z], dim=-1)


class _Ball:
    """The cells with their middles in the unit ball, numbered by their coordinates.

    Those above a place of the plane are a run of the last coordinate, so that the runs alone are
    kept: their lengths, and how many cells come before them.
    """

    def __init__(self, depth: int) -> None:
        side, half = 2**depth, 2 ** (depth - 1)
        squares = (2 * torch.arange(side) + 1 - side).square()
        room = side * side - squares[:, None] - squares
        # As many on both sides of the middle, those with an odd square up to what is left.
        above = torch.searchsorted(squares[half:].contiguous(), room.flatten(), right=True)
        self.side, self.first = side, half - above
        ends = (2 * above).cumsum(0)
        self.before, self.size = ends - 2 * above, int(ends[-1])

    def number(self, steps: Tensor) -> Tensor:
        """The numbers :obj:`[*]` of cells :obj:`[*, 3]` (:obj:`int64`)."""
        x, y, z = steps.unbind(dim=-1)
        run = x * self.side + y
        return self.before[run] + z - self.first[run]

    def steps(self, number: Tensor) -> Tensor:
        """The cells :obj:`[*, 3]` of numbers :obj:`[*]` (:obj:`int64`)."""
        # Of runs that begin at one number the last is the one that is not empty.
        run = torch.searchsorted(self.before, number, right=True) - 1
        z = number - self.before[run] + self.first[run]
        return torch.stack([run // self.side, run % self.side, z], dim=-1)


@functools.lru_cache(maxsize=4)
def _ball(depth: int) -> _Ball:
    return _Ball(depth)


def _middle(steps: Tensor, depth: int) -> Tensor:
    return ((2 * steps + 1) / 2**depth - 1).float()


def _check_clouds(shape: Sequence[int]) -> None:
    if len(shape) < 3 or shape[-1] != 3:
        raise ValueError(f"a set of points must be of shape [G, *, N, 3], got {list(shape)}")
    if shape[-2] > _MOST_POINTS:
        raise ValueError(
            f"a set of points must have at most {_MOST_POINTS:,} points, since the time to read it "
            f"grows with the cube of their number, got {shape[-2]:,}"
        )


def _ascii(digits: str) -> np.ndarray:
    """Binary digits of a text as numbers."""
    return np.frombuffer(digits.encode(), dtype=np.uint8) - ord("0")


def _count(num_cells: int, num_points: int) -> int:
    """The number of multisets of so many points."""
    return math.comb(num_cells + num_points - 1, num_points)


def _rank(numbers: Sequence[int]) -> int:
    """The number of a multiset, given as its members in ascending order."""
    return sum(math.comb(number + i, i + 1) for i, number in enumerate(numbers))


def _unrank(rank: int, size: int) -> list[int]:
    """The members of a multiset in ascending order, from its number."""
    found = []
    for k in range(size, 0, -1):
        # The largest n with comb(n, k) <= rank, from a guess that is off by a few at most.
        n = k - 1
        if rank > 0:
            guess = (math.log(rank) + math.lgamma(k + 1)) / k
            n = max(k - 1, round(math.exp(guess) + (k - 1) / 2))
        value = math.comb(n, k)
        while value > rank:
            value = value * (n - k) // n
            n -= 1
        while (after := value * (n + 1) // (n + 1 - k) if n >= k else 1) <= rank:
            value, n = after, n + 1
        rank -= value
        found.append(n - k + 1)
    return found[::-1]
