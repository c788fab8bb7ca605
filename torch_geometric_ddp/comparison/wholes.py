"""Which runs on the whole set go with a run, where there are several ways to train on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from torch_geometric_ddp.comparison.cells import Figures
from torch_geometric_ddp.comparison.presets import PRESETS

__all__ = ["as_compared", "several_ways", "told_whole", "wholes_of"]


def told_whole(run: Figures) -> Figures | None:
    """How networks are trained on the whole set, if a run tells it: one on it or one that observes.

    Args:
        run (dict): Its line.
    """
    own: Figures | None = run.get("whole")
    # Class-incremental learning has the protocol of every run in one place.
    return run.get("protocol") if own is None and run["budget_bits"] is None else own


def as_compared(run: Figures) -> Figures:
    """A run of increments or resolutions, with its protocol where a run of a comparison has it.

    Args:
        run (dict): Its line.
    """
    if run["budget_bits"] is not None:
        return run
    return {**run, "protocol": None, "whole": run["protocol"]}


def wholes_of(run: Figures, wholes: Iterable[Figures], runs: Iterable[Figures]) -> list[Figures]:
    """The runs on the whole set that go with a run.

    Where they were trained in several ways, it is that which the run tells itself, then that which
    others of its protocol tell, and then that of the preset with its protocol. They stay of several
    ways where nothing tells one of these.

    Args:
        run (dict): The line of the run.
        wholes (iterable of dict): Those of runs on the whole set, of the same data.
        runs (iterable of dict): Those of all runs beside it.
    """
    wholes, protocol = list(wholes), run.get("protocol")
    alike = [one for one in runs if one["budget_bits"] and one.get("protocol") == protocol]
    presets = [one for one in PRESETS.values() if _as_json(one.protocol.to_dict()) == protocol]
    for told in (
        [told_whole(run)],
        [told_whole(one) for one in alike],
        [_as_json(one.whole.to_dict()) for one in presets],
    ):
        wholes = [one for one in wholes if told_whole(one) in told] or wholes
    return wholes


def several_ways(wholes: Sequence[Figures]) -> bool:
    """Whether runs on the whole set were trained in more than one way."""
    return any(told_whole(one) != told_whole(wholes[0]) for one in wholes)


def _as_json(values: Figures) -> Figures:
    """As a line holds them."""
    found: Figures = json.loads(json.dumps(values))
    return found
