"""Labs: the harness of a program, one for every split, and the runs that it makes there."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

from torch_geometric_ddp.comparison import Cell, Lab, pool_splits
from torch_geometric_ddp.comparison.cells import Figures
from torch_geometric_ddp.programs.data import load, source, splits
from torch_geometric_ddp.programs.networks import check_sizes
from torch_geometric_ddp.programs.presets import preset_and_seeds
from torch_geometric_ddp.programs.showing import announce

__all__ = ["open_lab", "open_labs", "provenance", "run_splits"]


def open_lab(args: argparse.Namespace, backbones: dict[str, Any]) -> Lab:
    """The harness for the data and the work that the options name.

    Raises:
        ValueError: If an option is not for these data or none of these networks.
    """
    check_sizes(args, backbones)
    preset, _ = preset_and_seeds(args)
    train_set, test_set = load(args)
    device, name = args.device, source(args)
    rest = device, name, args.task, args.stream, args.cache
    lab = Lab(train_set, test_set, args.out, preset, backbones, *rest)
    lab.told = provenance(args)
    return lab


def open_labs(args: argparse.Namespace, backbones: dict[str, Any]) -> list[Lab]:
    """The harness of every split (:func:`splits`), all of them before the first run."""
    return [open_lab(one, backbones) for one in splits(args)]


def run_splits(labs: Sequence[Lab], cells: Iterable[Sequence[Cell]], workers: int) -> list[Figures]:
    """Announces and makes the runs of every split, and gives those of all for one table.

    Args:
        labs (sequence of Lab): The harness of every split.
        cells (iterable of sequence of Cell): The runs of every split.
        workers (int): How many seeds are run side by side.
    """
    runs: list[Figures] = []
    for number, (lab, mine) in enumerate(zip(labs, cells, strict=True), start=1):
        if len(labs) > 1:
            print(f"{lab.out}, {number} of {len(labs)} splits:")
        announce(lab, mine)
        runs += lab.run(mine, workers)
    return pool_splits(runs) if len(labs) > 1 else runs


def provenance(args: argparse.Namespace) -> dict[str, Any]:
    """What the file of a set tells of the program that made it, if a command line started it."""
    command = getattr(args, "command", None)
    return {} if command is None else {"command": command}
