"""Rows of a comparison by the names, settings and quotas that the options of a program give."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch_geometric_ddp.comparison import CONTROLS, ENTRIES, Entry, Lab
from torch_geometric_ddp.coreset import difficulty_quotas
from torch_geometric_ddp.programs.option_types import row_and_settings
from torch_geometric_ddp.programs.options import (
    METHOD_OPTIONS,
    MIRROR,
    dest_of,
    is_generated,
)
from torch_geometric_ddp.programs.showing import announce
from torch_geometric_ddp.quotas import Quotas
from torch_geometric_ddp.tasks import TASKS

__all__ = [
    "ROWS",
    "SMALL",
    "at_quotas",
    "check_whole",
    "method_settings",
    "named_row",
    "named_rows",
]

#: Every row of a comparison by name.
ROWS: dict[str, Entry] = {**ENTRIES, **CONTROLS}
#: What methods take for the generated shapes, for a first look at a CPU.
SMALL: dict[str, dict[str, Any]] = {
    "ddp": {"num_morphs": 4, "anchor_lr": 0.5},
    "pkr": {"visits": 20, "ages": (0, 20, 40), "num_trained": 2, "real_per_class": 30},
}


def named_rows(args: argparse.Namespace, usual: Sequence[str]) -> list[Entry]:
    """The rows that the options name, each once, or of the usual ones those of the task.

    The word :obj:`all` stands for all methods of the task.

    Raises:
        ValueError: As :func:`check_whole` does.
    """
    task = TASKS[args.task]

    def served(names: Iterable[str]) -> list[Entry]:
        return [ROWS[name] for name in names if ROWS[name].serves(task)]

    found: list[Entry] = [] if args.methods else served(usual)
    for text in args.methods or ():
        found += served(ENTRIES) if text == "all" else [named_row(text)]
    found = list({entry.name: entry for entry in found}.values())
    check_whole(args, found)
    return found


def check_whole(args: argparse.Namespace, entries: Iterable[Entry]) -> None:
    """Raises if epochs on the whole set are asked for, and no network of the rows is trained on it.

    It is for its own row, those that choose by what its network learned, and quotas of that kind.
    """
    entries = list(entries)
    trained = any(not entry.has_budget or entry.observes for entry in entries)
    if args.whole_epochs is None or trained or "difficulty" in getattr(args, "quotas", ()):
        return
    listed = ", ".join(entry.name for entry in entries)
    raise ValueError(
        "--whole-epochs must go with a row on the whole set, or one that is chosen by its network, "
        f"got {listed}"
    )


def named_row(text: str) -> Entry:
    """The row of a name, with the settings that stand after it."""
    name, settings = row_and_settings(text)
    return ROWS[name].changed(settings) if settings else ROWS[name]


def at_quotas(
    entries: Iterable[Entry], quotas: Iterable[str], lab: Lab, seed: int, workers: int = 1
) -> list[Entry]:
    """Rows with the storage divided in every one of these ways, each once.

    Where a way gives every class as much, as by the sizes of classes of one size, the row is that
    of uniform quotas.

    Args:
        entries (iterable of Entry): The rows.
        quotas (iterable of str): Names of quotas, or :obj:`difficulty`, for which the first
            backbone is trained on the whole set (:func:`difficulty_quotas`).
        lab (Lab): The harness.
        seed (int): That of the training.
        workers (int): Those of the comparison, so that this training is as all of them. (default:
            :obj:`1`)

    Raises:
        ValueError: If difficulty is asked for where clouds have several labels.
    """
    weights: dict[str, Quotas] = {name: name for name in quotas}
    if "difficulty" in weights:
        backbone = next(iter(lab.backbones))
        if not lab.task.one_label:
            raise ValueError(f"--quotas difficulty must go with one label, got {lab.task.name}")
        whole = list(lab.cells([ENTRIES["whole"]], [1], [seed], [backbone]))
        announce(lab, whole)
        lab.run(whole, workers)
        weights["difficulty"] = difficulty_quotas(lab.observation(backbone, seed))
    found = []
    for entry in entries:
        for name, one in weights.items():
            rows = entry.at_quotas([one if lab.bank.budget(1, one).weights else "uniform"])
            called = f"{entry.name}, quotas {name}"
            found += [replace(row, name=called) if row.quotas != "uniform" else row for row in rows]
    return list({entry.name: entry for entry in found}.values())


def method_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the method that the options name; the generated shapes have smaller ones.

    Raises:
        ValueError: If they are of another method.
    """
    own = METHOD_OPTIONS.get(args.method, {})
    every = dict.fromkeys(o for options in METHOD_OPTIONS.values() for o in options.values())
    given = [option for option in every if getattr(args, dest_of(option)) is not None]
    wrong = [option for option in given if option not in own.values()]
    if wrong:
        having = [name for name, known in METHOD_OPTIONS.items() if wrong[0] in known.values()]
        alike = [o for o in wrong if o in METHOD_OPTIONS[having[0]].values()]
        methods = " or ".join(f"'--method {name}'" for name in having)
        raise ValueError(f"{', '.join(alike)} must go with {methods}, got '--method {args.method}'")
    settings = {name: getattr(args, dest_of(option)) for name, option in own.items()}
    settings = {name: value for name, value in settings.items() if value is not None}
    if "mirror" in settings:
        settings["mirror"] = MIRROR[settings["mirror"]]
    usual = {"num_anchors": 4, "uniformity_lambda": 1e3} if args.method == "ddp" else {}
    return usual | (SMALL.get(args.method, {}) if is_generated(args) else {}) | settings
