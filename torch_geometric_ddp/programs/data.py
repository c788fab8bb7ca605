"""Data: the real clouds and the distilled sets that the options of a program name."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_geometric_ddp.clouds import hold_out
from torch_geometric_ddp.clouds.splits import check_share
from torch_geometric_ddp.datasets import READERS, read_file
from torch_geometric_ddp.datasets.parametric_shapes import CLASSES
from torch_geometric_ddp.programs.options import dest_of, is_generated
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import find_task

__all__ = ["check_data", "has_data", "load", "load_test_set", "open_set", "source", "splits"]


def load(args: argparse.Namespace) -> Sequence[Any]:
    """The training and the test set.

    Raises:
        ValueError: If an option is not for these data, or the data do not fit the options.
    """
    if len({*(args.resplit or ())}) > 1:
        given = " ".join(map(str, args.resplit))
        raise ValueError(f"--resplit must be one number, but for compare and cross, got {given}")
    check_data(args)
    if args.validate is not None:
        check_share("validate", args.validate)
    kept = "recommended" if args.categories == ["recommended"] else args.categories
    options = {"categories": kept, "resplit": args.resplit and args.resplit[0]}
    if args.data is not None:
        sets = read_file(args.data, args.task, args.num_points, **options)
    else:
        few = 50 if args.task == "segmentation" else 100
        options["num_per_class"] = (args.num_per_class or few) if is_generated(args) else None
        root = Path("data") if args.root is None else args.root
        reader = READERS[args.dataset or "shapes"]
        sets = reader.load(root, args.num_points, args.task, **options)
    return sets if args.validate is None else hold_out(sets[0], args.validate)


def splits(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The options of every split, with a folder for each where ``--resplit`` names several."""
    seeds = dict.fromkeys(args.resplit or ())
    if len(seeds) < 2:
        return [args]
    return [_of_split(args, seed) for seed in seeds]


def _of_split(args: argparse.Namespace, seed: int) -> argparse.Namespace:
    out = args.out / f"split_{seed}"
    own: dict[str, Any] = {"resplit": [seed], "out": out}
    if "command" in args:
        # Of an option that comes twice the last one counts: this makes the split alone.
        more = shlex.join(["--resplit", str(seed), "--out", str(out)])
        own["command"] = f"{args.command} {more}"
    return argparse.Namespace(**{**vars(args), **own})


def check_data(args: argparse.Namespace) -> None:
    """Raises if an option is not for the data that the others name."""
    if args.data is None:
        got = "the generated shapes" if is_generated(args) else f"'--dataset {args.dataset}'"
    else:
        got = f"'--data {args.data}'"
    own = args.data is not None
    labelled = own and args.task == "segmentation"
    for option, fits, what in (
        ("--dataset", not own, "no '--data'"),
        ("--root", not own and not is_generated(args), "the '--dataset' of files that lie there"),
        ("--num-per-class", is_generated(args), "the generated shapes"),
        ("--resplit", labelled, "labelled clouds of '--data' and '--task segmentation'"),
        (
            "--categories",
            labelled or args.categories is None or "categories" in _options(args),
            "labelled clouds and '--task segmentation'",
        ),
    ):
        if getattr(args, dest_of(option)) is not None and not fits:
            raise ValueError(f"{option} must go with {what}, got {got}")


def _options(args: argparse.Namespace) -> tuple[str, ...]:
    """What the data set that is named takes beside what all take."""
    return READERS[args.dataset or "shapes"].options if args.data is None else ()


def open_set(args: argparse.Namespace) -> SyntheticPointCloudDataset:
    """The distilled set of a file, which also says what its labels are for."""
    synthetic = SyntheticPointCloudDataset(args.file)
    args.task = find_task(synthetic.provenance.get("task", args.task)).name
    return synthetic


def has_data(args: argparse.Namespace, synthetic: SyntheticPointCloudDataset) -> bool:
    """Whether the options name data, or the set is of the classes of the generated shapes."""
    return bool(args.data or args.dataset) or synthetic.class_names == list(CLASSES)


def load_test_set(args: argparse.Namespace, synthetic: SyntheticPointCloudDataset) -> Any:
    """The test set for what a distilled set trains.

    Raises:
        ValueError: If no option names one and the set is not of the generated shapes, or as
            :func:`load` does.
    """
    if not has_data(args, synthetic):
        raise ValueError(
            f"--data or --dataset must name the test clouds of {args.file}, whose classes are not "
            "those of the generated shapes, got none"
        )
    return load(args)[1]


def source(args: argparse.Namespace) -> str:
    """What the data are called."""
    return str(args.data.stem if args.data else args.dataset or "shapes")
