"""Networks by the names and sizes that the options of a program give."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from torch_geometric_ddp.comparison import Entry
from torch_geometric_ddp.nn import PointMamba, PointNetSegmentation
from torch_geometric_ddp.programs.options import dest_of, is_generated
from torch_geometric_ddp.tasks import TASKS

__all__ = ["check_sizes", "named_makers", "named_network", "named_networks"]

# The options of single networks.
_SIZES = {"--width": "PointNetSegmentation", "--mamba-centers": "PointMamba"}


def named_networks(args: argparse.Namespace, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The backbones of these names, all or the usual one of the task, by what tables call them.

    Raises:
        ValueError: If the task has no backbone of such a name.
    """
    task = TASKS[args.task]
    if names and "all" in names:
        names = list(task.backbones)
    unknown = [name for name in names or () if name not in task.backbones]
    if unknown:
        known = ", ".join(task.backbones)
        raise ValueError(f"a backbone for {task.name} must be one of {known}, got {unknown[0]!r}")
    width = args.width if args.width is not None else 0.25 if is_generated(args) else 1.0
    special: dict[str, tuple[str, Any]] = {}
    if width != 1:
        make = partial(PointNetSegmentation, width=width)
        special["PointNetSegmentation"] = (f"PointNetSegmentation, width {width:g}", make)
    if args.mamba_centers is not None:
        mamba = partial(PointMamba, num_centers=args.mamba_centers)
        special["PointMamba"] = (f"PointMamba, {args.mamba_centers} centres", mamba)
    names = names or [task.network.__name__]
    return dict(special.get(name, (name, task.backbones[name])) for name in names)


def named_makers(args: argparse.Namespace, entries: Iterable[Entry]) -> dict[str, Any]:
    """The backbones that sets are distilled with for all that are trained; none without the option.

    Raises:
        ValueError: If the task has no backbone of such a name, or no row uses a network.
    """
    if args.distill_with is None:
        return {}
    found, entries = named_networks(args, args.distill_with), list(entries)
    if not any(entry.uses_network for entry in entries):
        listed = ", ".join(entry.name for entry in entries)
        raise ValueError(f"--distill-with must go with a row that needs a network, got {listed}")
    return found


def named_network(args: argparse.Namespace) -> tuple[str, Any]:
    """The one network that the options name, or the usual one, and what tables call it.

    Raises:
        ValueError: If the task has no backbone of such a name, or a size is that of another one.
    """
    names = None if args.backbone is None else [args.backbone]
    ((name, make),) = named_networks(args, names).items()
    check_sizes(args, [name])
    return name, make


def check_sizes(args: argparse.Namespace, backbones: Iterable[str]) -> None:
    """Raises if a size is asked for that none of the networks has.

    Args:
        args (Namespace): The options.
        backbones (iterable of str): The networks, as tables call them.
    """
    known = [name.partition(",")[0] for name in backbones]
    for option, name in _SIZES.items():
        if getattr(args, dest_of(option)) is not None and name not in known:
            raise ValueError(f"{option} must go with the network {name}, got {', '.join(known)}")
