"""What the example programs share: their options, their data, and how they end."""

import argparse
import math
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch_geometric_ddp.clouds import hold_out
from torch_geometric_ddp.comparison import (
    CONTROL_FAMILIES,
    CONTROLS,
    ENTRIES,
    PRESETS,
    Cell,
    Lab,
    Preset,
)
from torch_geometric_ddp.datasets import READERS, read_file, readers_of
from torch_geometric_ddp.evaluation import Protocol, RandomRotation
from torch_geometric_ddp.methods import METHODS
from torch_geometric_ddp.nn import PointMamba, PointNetSegmentation
from torch_geometric_ddp.tasks import TASKS
from torch_geometric_ddp.visualize import plot_distilled


def _wrapped(text: str, first: str = "") -> str:
    rest = " " * len(first)
    return textwrap.fill(
        text, 88, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


#: Every row of a comparison by name.
ROWS = {**ENTRIES, **CONTROLS}
#: The data sets that either task can read by name.
DATASETS = sorted({name for task in TASKS for name in readers_of(task)})
#: The options that only DDP has, by the settings that they are.
DDP_OPTIONS = {
    "num_anchors": "--num-anchors",
    "anchor_points": "--anchor-points",
    "num_morphs": "--num-morphs",
    "uniformity_lambda": "--uniformity-lambda",
    "anchor_lr": "--anchor-lr",
    "weight_lr": "--weight-lr",
    "grouped": "--ungrouped",
}
#: What methods take for the generated shapes, for a first look at a CPU.
SMALL: dict[str, dict[str, Any]] = {
    "ddp": {"num_morphs": 4, "anchor_lr": 0.5},
    "pkr": {"visits": 20, "ages": (0, 20, 40), "num_trained": 2, "real_per_class": 30},
}
#: What :obj:`--help` says of the networks.
NETWORKS = _wrapped(
    "Networks: "
    + "; ".join(f"{', '.join(task.backbones)} ({task.name})" for task in TASKS.values())
    + "."
)
#: What :obj:`--help` says of the rows: those of :obj:`CONTROLS` family by family, as they are many.
ROWS_HELP = "\n\n".join(
    (
        _wrapped(f"Methods: {', '.join(ENTRIES)}."),
        _wrapped(
            "Controls, which say what codecs alone are worth, with N points of a cloud or an "
            "anchor (32, 64, 128) and B bits of a coordinate (8, 6, 5, 4):"
        ),
        "\n".join(_wrapped(f"{one.form}: {one.about}", "* ") for one in CONTROL_FAMILIES),
    )
)


def positive(text: str) -> int:
    """The type of an option that is a whole number of at least one."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def natural(text: str) -> int:
    """The type of an option that is a whole number of at least zero."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {value}")
    return value


def share(text: str) -> float:
    """The type of an option that is a storage in clouds per class, also in parts of one."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, got {value:g}")
    return int(value) if value == int(value) else value


def row_name(text: str) -> str:
    """The type of an option that is the name of a row."""
    if text not in ROWS:
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (--help says which there are)")
    return text


@contextmanager
def one_line() -> Iterator[None]:
    """Ends the program with one line where options or data do not fit, before any long work."""
    try:
        yield
    except (OSError, TypeError, ValueError) as error:
        raise SystemExit(str(error)) from None


def add_data_arguments(parser: argparse.ArgumentParser, task: str = "classification") -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, help="a file of clouds (.npz)")
    data.add_argument(
        "--dataset", choices=DATASETS, default="shapes", help="a data set (generated shapes)"
    )
    data.add_argument("--root", type=Path, default=Path("data"), help="where a data set lies")
    data.add_argument("--num-points", type=positive, help="points of a cloud (shapes 256)")
    data.add_argument(
        "--num-per-class", type=positive, help="shapes only: training clouds (100, with parts 50)"
    )
    data.add_argument("--task", choices=TASKS, default=task, help=f"what networks learn ({task})")
    data.add_argument(
        "--categories", nargs="+", help="of labelled clouds: which to keep, or: recommended (all)"
    )
    data.add_argument("--resplit", type=natural, help="labelled .npz: a seed for new splits")
    data.add_argument(
        "--validate",
        type=float,
        metavar="SHARE",
        help="test on this share of the training clouds, which are left out of the training set, "
        "and never on the test set: for the choice of settings",
    )


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    method = parser.add_argument_group("distillation")
    method.add_argument("--method", choices=METHODS, default="ddp", help="the method (ddp)")
    method.add_argument("--ppc", type=share, default=1, help="storage in clouds per class (1)")
    ours = parser.add_argument_group("distillation by DDP, and by no other method")
    ours.add_argument("--num-anchors", type=positive, help="anchors per group, M (4)")
    ours.add_argument("--anchor-points", type=positive, help="points per anchor, N2 (what fits)")
    ours.add_argument("--num-morphs", type=natural, help="morphs per group, L (16, shapes 4)")
    ours.add_argument("--uniformity-lambda", type=float, help="sharpness λ (1000)")
    ours.add_argument("--anchor-lr", type=float, help="learning rate (2.5, shapes 0.5)")
    ours.add_argument("--weight-lr", type=float, help="of the weights (a tenth of the anchors')")
    ours.add_argument(
        "--ungrouped",
        dest="grouped",
        action="store_const",
        const=False,
        help="of labelled clouds: match without regard to parts, as PointNet2Segmentation needs",
    )


def add_work_arguments(
    parser: argparse.ArgumentParser,
    out: str,
    preset: str = "paper",
    steps: str = "as the preset says",
) -> None:
    """How much work to take, and what the program does without these options."""
    work = parser.add_argument_group("work")
    work.add_argument(
        "--preset", choices=PRESETS, help=f"how much work to take ({preset}, shapes quick)"
    )
    work.add_argument("--steps", type=natural, help=f"optimisation steps ({steps})")
    work.add_argument("--seeds", type=natural, nargs="+", help="the seeds (as the preset says)")
    work.add_argument(
        "--num-networks", type=positive, help="networks trained on the set of every seed (1)"
    )
    work.add_argument("--epochs", type=positive, help="epochs of training (as the preset says)")
    work.add_argument("--min-steps", type=natural, help="the least steps of training (likewise)")
    work.add_argument("--train-lr", type=float, help="learning rate of training (likewise)")
    work.add_argument("--whole-epochs", type=positive, help="epochs on the whole set (likewise)")
    work.add_argument("--rotate", action="store_true", help="turn clouds at random in training")
    work.add_argument(
        "--width", type=float, help="share of the channels of PointNetSegmentation (shapes 0.25)"
    )
    work.add_argument(
        "--mamba-centers",
        type=positive,
        metavar="N",
        help="PointMamba with N centres instead of 64, which its name says: the paper takes one "
        "for 16 points, and its time is that of its centres",
    )
    work.add_argument("--device", help="cpu, cuda, ... (cpu)")
    work.add_argument("--out", type=Path, default=Path(out), help=f"folder of results ({out})")
    parser.set_defaults(usual_preset=preset)


def generated(args: argparse.Namespace) -> bool:
    """Whether the data are the generated shapes, which get small settings for a first look."""
    return args.data is None and args.dataset == "shapes"


def source(args: argparse.Namespace) -> str:
    """What the data are called."""
    return args.data.stem if args.data else args.dataset


def preset_and_seeds(args: argparse.Namespace) -> tuple[Preset, Sequence[int]]:
    """How much work to take, and for which seeds; what is changed is part of the name."""
    preset = PRESETS[args.preset or ("quick" if generated(args) else args.usual_preset)]
    if args.steps is not None:
        preset = replace(preset, name=f"{preset.name}, {args.steps} steps", steps=args.steps)
    if args.num_networks is not None and args.num_networks > 1:
        name = f"{preset.name}, {args.num_networks} networks"
        preset = replace(preset, name=name, num_networks=args.num_networks)
    both = {"lr": args.train_lr, "augment": RandomRotation() if args.rotate else None}
    protocol = changed(preset.protocol, epochs=args.epochs, min_steps=args.min_steps, **both)
    # Epochs of the whole set that are asked for are not prolonged.
    least = None if args.whole_epochs is None else 0
    whole = changed(preset.whole, epochs=args.whole_epochs, min_steps=least, **both)
    preset = replace(preset, protocol=protocol, whole=whole)
    return preset, range(preset.num_seeds) if args.seeds is None else args.seeds


def changed(protocol: Protocol, **changes: Any) -> Protocol:
    """A protocol with the values that are not :obj:`None`, which its name says."""
    changes = {key: value for key, value in changes.items() if value is not None}
    words = [key if key == "augment" else f"{key} {value}" for key, value in changes.items()]
    return replace(protocol, name=", ".join([protocol.name, *words]), **changes)


def networks(args: argparse.Namespace, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The backbones of these names, or the usual one of the task, by what tables call them."""
    task = TASKS[args.task]
    unknown = [name for name in names or () if name not in task.backbones]
    if unknown:
        known = ", ".join(task.backbones)
        raise SystemExit(f"a backbone for {task.name} must be one of {known}, got {unknown[0]!r}")
    width = args.width if args.width is not None else 0.25 if generated(args) else 1.0
    special = {}
    if width != 1:
        make = partial(PointNetSegmentation, width=width)
        special["PointNetSegmentation"] = (f"PointNetSegmentation, width {width:g}", make)
    if args.mamba_centers is not None:
        mamba = partial(PointMamba, num_centers=args.mamba_centers)
        special["PointMamba"] = (f"PointMamba, {args.mamba_centers} centres", mamba)
    names = names or [task.network.__name__]
    return dict(special.get(name, (name, task.backbones[name])) for name in names)


def open_lab(args: argparse.Namespace, backbones: dict[str, Any]) -> Lab:
    """The harness for the data and the work that the options name."""
    with one_line():
        preset, _ = preset_and_seeds(args)
        sets = load(args)
        return Lab(*sets, args.out, preset, backbones, args.device, source(args), args.task)


def method_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the method that the options name; the generated shapes have smaller ones.

    Raises:
        ValueError: If they are of another method.
    """
    given = {name: getattr(args, name) for name in DDP_OPTIONS}
    given = {name: value for name, value in given.items() if value is not None}
    if given and args.method != "ddp":
        options = ", ".join(DDP_OPTIONS[name] for name in given)
        raise ValueError(f"{options} must go with '--method ddp', got '--method {args.method}'")
    usual = {"num_anchors": 4, "uniformity_lambda": 1e3} if args.method == "ddp" else {}
    return usual | (SMALL.get(args.method, {}) if generated(args) else {}) | given


def heading(args: argparse.Namespace, lab: Lab) -> str:
    """What stands above a table."""
    held = ", tested on clouds held out from the training set" if args.validate else ""
    return f"{source(args)}, preset {lab.preset.name}{held}"


def print_table(args: argparse.Namespace, lab: Lab, title: str, table: str, name: str) -> None:
    """Prints a table and what failed, and writes the table to a file of the folder."""
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / name).write_text(f"{title}\n\n{table}", encoding="utf-8")
    preset = lab.preset
    print(f"\n{title}: {preset.protocol.name} protocol, whole set {preset.whole.name}\n")
    print(table)
    for run, reason in lab.failures.items():
        print(f"Failed: {run}: {reason}")


def keep_set(args: argparse.Namespace, lab: Lab, cell: Cell) -> None:
    """Copies the set of a run to the top of the folder and draws it, unless the run failed."""
    if str(cell) not in lab.failures:
        synthetic = lab.synthetic(cell)
        shutil.copyfile(lab.set_path(cell), args.out / "distilled.safetensors")
        plot_distilled(lab.train_set, synthetic, args.out / "distilled.png")


def load(args: argparse.Namespace) -> Sequence[Any]:
    """The training and the test set."""
    kept = "recommended" if args.categories == ["recommended"] else args.categories
    options = {"categories": kept, "resplit": args.resplit}
    if args.data is not None:
        sets = read_file(args.data, args.task, args.num_points, **options)
    else:
        few = 50 if args.task == "segmentation" else 100
        options["num_per_class"] = (args.num_per_class or few) if generated(args) else None
        sets = READERS[args.dataset].load(args.root, args.num_points, args.task, **options)
    return sets if args.validate is None else hold_out(sets[0], args.validate)
