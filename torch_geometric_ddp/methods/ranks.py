"""Ranks: the processes that distil one set together, each some of its classes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Ranks"]


class Ranks:
    """The processes of torch's default process group, which call every method here together.

    A class touches its own parameters only, so that ranks exchange no gradients: each has the
    whole synthetic set, computes some of its classes, and hands them to the others where the whole
    is needed.

    Args:
        rank (int): The number of this process. (default: :obj:`0`)
        size (int): How many there are. (default: :obj:`1`)
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def here(cls) -> Ranks:
        """Those of the process group that is initialised, or this process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def alone(self) -> bool:
        """Whether there is only this process, for which every method does nothing."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def split(self, num_classes: int, together: int = 1) -> list[slice]:
        """The classes of every rank, as many as possible alike, in their order.

        Args:
            num_classes (int): The number of classes.
            together (int): The classes of a chunk, which no two ranks share. (default: :obj:`1`)

        Raises:
            ValueError: If there are fewer chunks than ranks.
        """
        chunks = -(-num_classes // together)
        if chunks < self.size:
            of = f" in chunks of {together}" if together > 1 else ""
            raise ValueError(
                f"each of {self.size} ranks must have classes of its own, got {num_classes}{of}: "
                "start fewer processes"
            )
        ends = [together * (i * chunks // self.size) for i in range(self.size + 1)]
        return [slice(a, min(b, num_classes)) for a, b in itertools.pairwise(ends)]

    def join(self, rows: Tensor, shares: Sequence[slice]) -> Tensor:
        """The columns of all ranks.

        Args:
            rows (torch.Tensor): Those of this rank, :obj:`[T, own]`.
            shares (sequence of slice): Which each rank has.

        Returns:
            The whole, :obj:`[T, C]`, on every rank.
        """
        if self.alone:
            return rows
        whole = rows.new_zeros(len(rows), shares[-1].stop)
        whole[:, shares[self.rank]] = rows
        with self._heard():
            dist.all_reduce(whole)  # Every number and zeros: the very number.
        return whole

    @torch.no_grad()
    def share(self, tensor: Tensor, shares: Sequence[slice]) -> None:
        """Gives every rank the rows of the others, in place.

        Args:
            tensor (torch.Tensor): The rows, :obj:`[G, *]`.
            shares (sequence of slice): Which each rank has.
        """
        if self.alone:
            return
        for owner, rows in enumerate(shares):
            part = tensor[rows].contiguous()
            with self._heard():
                dist.broadcast(part, owner)
            if owner != self.rank:
                tensor[rows] = part

    def largest(self, number: int) -> int:
        """The largest of the numbers of all ranks."""
        return max(self._every(number))

    def check_same(self, name: str, value: Any) -> None:
        """Raises a ValueError unless all ranks have the same value."""
        values = self._every(value)
        if any(other != values[0] for other in values):
            raise ValueError(f"{name} must be the same on all {self.size} ranks, got {values!r}")

    def from_first(self, value: Any = None) -> Any:
        """The value of the first rank, for which all others wait."""
        box = [value]
        if not self.alone:
            with self._heard():
                dist.broadcast_object_list(box)
        return box[0]

    def _every(self, value: Any) -> list[Any]:
        values = [value] * self.size
        if not self.alone:
            with self._heard():
                dist.all_gather_object(values, value)
        return values

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Says what it means when the others do not answer."""
        try:
            yield
        except RuntimeError as error:  # As torch raises for a closed connection and a timeout.
            reason = str(error).partition("\n")[0]
            raise ConnectionError(
                f"rank {self.rank} of {self.size} stops, as another has stopped or cannot be "
                f"reached ({reason:.200}): what it said stands above or in its log. Started again, "
                "by any number of ranks, a run goes on from its checkpoint"
            ) from error
