"""The ranks that help the first one of a comparison to distil."""

from __future__ import annotations

from contextlib import suppress

from torch_geometric_ddp.budget import BudgetError
from torch_geometric_ddp.comparison.cells import Bench
from torch_geometric_ddp.methods.ranks import Ranks

__all__ = ["assist"]


def assist(lab: Bench) -> None:
    """Distils what the first rank distils, with it, until that one has no more to do.

    Everything else, such as training and writing, is left to the first rank.

    Args:
        lab (Bench): The same as that of the first rank.

    Raises:
        ConnectionError: If another rank has stopped.
    """
    ranks = Ranks.here()
    while (cell := ranks.from_first()) is not None:
        # What goes wrong alike on every rank; the first one notes it and goes on.
        with suppress(BudgetError, FloatingPointError):
            cell.entry.distil(lab, cell)
