"""Showing: what a program says of its runs, the table that it writes, and the set that it keeps."""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch_geometric_ddp._files import replacing
from torch_geometric_ddp.comparison import (
    Cell,
    ClassIncremental,
    CrossResolution,
    Lab,
    Row,
    cost_markdown,
    markdown,
    paired_markdown,
)
from torch_geometric_ddp.comparison.cells import Figures
from torch_geometric_ddp.comparison.wholes import told_whole
from torch_geometric_ddp.evaluation import Protocol
from torch_geometric_ddp.programs.data import source, splits
from torch_geometric_ddp.programs.presets import preset_and_seeds
from torch_geometric_ddp.visualize import plot_sheets

__all__ = ["announce", "announce_training", "heading", "keep_set", "print_table", "tables_of"]


def heading(args: argparse.Namespace, runs: Iterable[Figures]) -> str:
    """What stands above a table of runs and its picture: the data, and how it was worked on."""
    runs, (preset, seeds) = list(runs), preset_and_seeds(args)
    words = [source(args)]
    if args.num_points is not None:
        words.append(_number(args.num_points, "point"))
    if args.num_per_class is not None:
        words.append(f"{_number(args.num_per_class, 'cloud')} per class")
    if args.categories is not None:
        words.append(f"categories {' '.join(args.categories)}")
    words.append(f"preset {preset.name}")
    if args.steps is not None and any(run["steps"] for run in runs):
        words.append(_number(args.steps, "step"))
    if preset.num_networks > 1:
        words.append(_number(preset.num_networks, "network"))
    if preset.name == "smoke":
        words[-1] += " (its figures mean nothing)"
    if preset.protocol.name != preset.name:
        words.append(f"protocol {preset.protocol.name}")
    if preset.whole.name != preset.name and any(map(told_whole, runs)):
        words.append(f"whole set {preset.whole.name}")
    if len(splits(args)) > 1:
        # Seeds may draw the same split.
        several = len({run["split"] for run in runs}) or len(splits(args))
        words.append(f"{_number(several, 'split')}, {_number(len(seeds), 'seed')} each")
    elif args.resplit:
        words.append(f"split {args.resplit[0]}")
    if args.validate:
        words.append("tested on clouds held out from the training set")
    return ", ".join(words)


def announce(lab: Lab | ClassIncremental | CrossResolution, cells: Sequence[Cell]) -> None:
    """Says how many runs there are to make, and of what, with the runs that they need."""
    to_do = lab.to_do(cells)
    if not to_do.num_runs:
        print(f"{_number(len(cells), 'run')}, all of which are there.")
        return
    made = len(cells) - to_do.num_runs
    there = f", of which {made} are there" if made else ""
    print(f"{_number(len(cells), 'run')}{there}. To do:")
    for count, group in itertools.groupby(sorted(to_do.steps)):
        print(f"- {_number(len(list(group)), 'set')} to distil, {_number(count, 'step')} each")
    for trained, what, protocol in to_do.networks:
        if trained:
            least = f", at least {_number(protocol.min_steps, 'step')}" * (protocol.min_steps > 0)
            print(
                f"- {_number(trained, 'network')} to train on {what}: protocol {protocol.name}, "
                f"{_number(protocol.epochs, 'epoch')}{least}"
            )
    print("How long a bar has to go stands in it after its first step.", flush=True)


def announce_training(name: str, count: int, protocol: Protocol, num_clouds: int) -> None:
    """Says how networks are going to be trained on a set of so many clouds."""
    epochs, steps = protocol.epochs_for(num_clouds), protocol.steps_per_epoch(num_clouds)
    print(
        f"To do: {_number(count, 'network')} ({name}) to train, protocol {protocol.name}: "
        f"{_number(epochs, 'epoch')} of {_number(num_clouds, 'cloud')}, {epochs * steps:,} steps "
        "each. How long that takes stands in the bar after the first epoch.",
        flush=True,
    )


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def tables_of(rows: Sequence[Row]) -> str:
    """The tables of rows: what they reach, what they lie above, and what they cost."""
    texts = markdown(rows), paired_markdown(rows), cost_markdown(rows)
    return "\n".join(filter(None, texts))


def print_table(
    args: argparse.Namespace,
    labs: Sequence[Lab | ClassIncremental],
    title: str,
    table: str,
    runs: Sequence[Figures],
    stem: str,
) -> str:
    """Prints a table and what failed, and writes the table to a file of the folder.

    Args:
        args (Namespace): The options.
        labs (sequence of Lab): The harness, or that of every split.
        title (str): What stands above the table.
        table (str): The table.
        runs (sequence of dict): The lines of its runs.
        stem (str): What its file is called, without a number.

    Returns:
        The stem of its file: one with a number where a table of other or more runs lies already.

    Raises:
        ValueError: If all runs failed.
    """
    identities = sorted(run["id"] for run in runs)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = _free_stem(args.out, stem, identities)
    failed = []
    for lab in labs:
        split = f"{lab.out.name}, " if len(labs) > 1 else ""
        failed += [f"Failed: {split}{run}: {reason}\n" for run, reason in lab.failures.items()]
    table += "".join(["\n", *failed]) if failed else ""
    text = f"{title}\n\n{table}\n<!-- runs: {' '.join(identities)} -->\n"
    with replacing(args.out / f"{stem}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"\n{title}\n\n{table}")
    if not runs:
        raise ValueError("no run was made: the reasons stand above")
    return stem


def _free_stem(folder: Path, stem: str, identities: Iterable[str]) -> str:
    """The first name under which there is no table, or one of no other runs than these."""

    def is_free(name: str) -> bool:
        path = folder / f"{name}.md"
        if not path.exists():
            return True
        found = re.search(r"<!-- runs: (.*) -->", path.read_text(encoding="utf-8"))
        return found is not None and set(found[1].split()) <= set(identities)

    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    return next(filter(is_free, names))


def keep_set(args: argparse.Namespace, lab: Lab, cell: Cell) -> list[Path]:
    """Copies the set of a run to the top of the folder and draws it; no file if the run failed.

    Pictures of a set that was there are removed.
    """
    if str(cell) in lab.failures:
        return []
    synthetic, kept = lab.synthetic(cell), args.out / "distilled.safetensors"
    with replacing(kept) as temporary:
        shutil.copyfile(lab.set_path(cell), temporary)
    pictures = plot_sheets(lab.train_set, synthetic, args.out / "distilled.png", 16)
    for path in {args.out / "distilled.png", *args.out.glob("distilled-[0-9]*.png")} - {*pictures}:
        path.unlink(missing_ok=True)  # Of an earlier set.
    return [kept, *pictures]
