"""The losses of a run, which stay on the device until they are read."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from torch_geometric_ddp.methods.ranks import Ranks

__all__ = ["Losses"]

# Seconds after which a bar shows another loss, and the steps after which several ranks, whose
# clocks differ, read theirs.
_SHOW_EVERY, _READ_EVERY = 0.1, 10


class Losses:
    """The losses of all steps, the sums over the classes.

    Reading waits for all that a GPU was asked before, and for the other ranks, so that several
    steps are read at once where nobody looks at each.

    Args:
        ranks (Ranks): Who computes the classes.
        shares (sequence of slice): Which each rank has.
    """

    def __init__(self, ranks: Ranks, shares: Sequence[slice]) -> None:
        self.ranks, self.shares = ranks, shares
        #: Those that were read, all finite.
        self.values: list[float] = []
        self._pending: list[Tensor] = []
        self._shown_at = -math.inf

    def __len__(self) -> int:
        return len(self.values) + len(self._pending)

    def is_looked_at(self, watched: bool) -> bool:
        """Whether the loss of the next step is wanted at once.

        Args:
            watched (bool): Whether something is called after every step. Several ranks, which must
                agree, read theirs every ten steps whatever it is.
        """
        if not self.ranks.alone:
            return (len(self) + 1) % _READ_EVERY == 0
        now = time.monotonic()
        if not watched and now - self._shown_at < _SHOW_EVERY:
            return False
        self._shown_at = now
        return True

    def add(self, loss: Tensor) -> None:
        """Takes those of the classes of this rank in a step, :obj:`[own]`."""
        self._pending.append(loss)

    def cut(self, num: int) -> None:
        """Leaves out all but the first ones, of which each was read."""
        self._pending.clear()
        del self.values[num:]

    def forget(self) -> None:
        """Leaves out the last one."""
        (self._pending or self.values).pop()

    def read(self) -> None:
        """Reads all that were taken.

        Raises:
            FloatingPointError: At the first that is not finite; it and what follows are left out.
        """
        if not self._pending:
            return
        rows = torch.stack(self._pending)
        self._pending.clear()
        for value in self.ranks.join(rows, self.shares).sum(dim=1).cpu().tolist():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss of step {len(self.values) + 1} is {value}: lower the learning rates"
                )
            self.values.append(value)
