"""What the example programs share: their options, their data, and how they end."""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch_geometric_ddp.clouds import hold_out
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    PRESETS,
    Distilled,
    Entry,
    Initial,
    Lab,
    Preset,
    class_markdown,
    markdown,
    plot_comparison,
    summarize,
)
from torch_geometric_ddp.datasets import (
    ModelNetMeshes,
    ParametricShapes,
    PartArrays,
    PointCloudArrays,
    ShapeNetPart,
)
from torch_geometric_ddp.evaluation import Protocol, RandomRotation
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.nn import PointNetSegmentation
from torch_geometric_ddp.tasks import TASKS
from torch_geometric_ddp.transforms import NormalizeSphere
from torch_geometric_ddp.visualize import plot_distilled

#: Every row by name.
ROWS = {**ENTRIES, **CONTROLS}


def add_data_arguments(parser: argparse.ArgumentParser, task: str = "classification") -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, help="a file of clouds (.npz)")
    names = ("shapes", "modelnet10", "modelnet40", "shapenetpart")
    data.add_argument("--dataset", choices=names, default="shapes")
    data.add_argument("--root", type=Path, default=Path("data"), help="where a data set lies")
    data.add_argument("--num-points", type=int, help="points of a cloud (shapes 256, else all)")
    data.add_argument(
        "--num-per-class", type=int, help="shapes only: training clouds (100, with parts 50)"
    )
    data.add_argument("--task", choices=TASKS, default=task, help="what networks learn")
    data.add_argument("--categories", nargs="+", help="categories to keep (of labelled files)")
    data.add_argument("--resplit", type=int, help="labelled .npz: a seed that draws splits anew")
    data.add_argument(
        "--validate",
        type=float,
        metavar="SHARE",
        help="test on this share of the training clouds, which are left out of the training set, "
        "and never on the test set: for the choice of settings",
    )


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    method = parser.add_argument_group("distillation by DDP")
    method.add_argument("--ppc", type=float, default=1, help="storage in clouds per class")
    method.add_argument("--num-anchors", type=int, default=4, help="anchors per group, M")
    method.add_argument("--anchor-points", type=int, help="points per anchor, N2 (all that fit)")
    method.add_argument("--num-morphs", type=int, help="morphs per group, L (shapes 4, else 16)")
    method.add_argument("--uniformity-lambda", type=float, default=1000.0, help="sharpness λ")
    method.add_argument("--anchor-lr", type=float, help="learning rate (shapes 0.5, else 2.5)")
    method.add_argument("--weight-lr", type=float, help="of the weights (a tenth of the anchors')")


def add_work_arguments(parser: argparse.ArgumentParser, out: str) -> None:
    work = parser.add_argument_group("work")
    work.add_argument(
        "--preset", choices=PRESETS, help="how much work to take (shapes quick, otherwise paper)"
    )
    work.add_argument("--steps", type=int, help="optimisation steps (as the preset says)")
    work.add_argument("--seeds", type=int, nargs="+", help="the seeds (as the preset says)")
    work.add_argument("--epochs", type=int, help="epochs of training (as the preset says)")
    work.add_argument("--min-steps", type=int, help="the least steps of training (likewise)")
    work.add_argument("--train-lr", type=float, help="learning rate of training (likewise)")
    work.add_argument("--whole-epochs", type=int, help="epochs on the whole set (likewise)")
    work.add_argument("--rotate", action="store_true", help="turn clouds at random in training")
    work.add_argument(
        "--width", type=float, help="share of the channels of PointNetSegmentation (shapes 0.25)"
    )
    work.add_argument("--device", default=None, help="cpu, cuda, ... (default: cpu)")
    work.add_argument("--out", type=Path, default=Path(out), help=f"folder of results ({out})")


def generated(args: argparse.Namespace) -> bool:
    """Whether the data are the generated shapes, which get small settings for a first look."""
    return args.data is None and args.dataset == "shapes"


def source(args: argparse.Namespace) -> str:
    return args.data.stem if args.data else args.dataset


def preset_and_seeds(args: argparse.Namespace) -> tuple[Preset, Sequence[int]]:
    """How much work to take, and for which seeds; what is changed is part of the name."""
    preset = PRESETS[args.preset or ("quick" if generated(args) else "paper")]
    if args.steps is not None:
        preset = replace(preset, name=f"{preset.name}, {args.steps} steps", steps=args.steps)
    changes = {
        "epochs": args.epochs,
        "min_steps": args.min_steps,
        "lr": args.train_lr,
        "augment": RandomRotation() if args.rotate else None,
    }
    protocol = changed(preset.protocol, changes)
    whole = changed(preset.whole, {**changes, "epochs": None, "min_steps": None})
    if args.whole_epochs is not None:
        whole = changed(whole, {"epochs": args.whole_epochs, "min_steps": 0})
    preset = replace(preset, protocol=protocol, whole=whole)
    return preset, range(preset.num_seeds) if args.seeds is None else args.seeds


def changed(protocol: Protocol, changes: dict) -> Protocol:
    """A protocol with other values, which its name says."""
    changes = {key: value for key, value in changes.items() if value is not None}
    words = [key if key == "augment" else f"{key} {value}" for key, value in changes.items()]
    return replace(protocol, name=", ".join([protocol.name, *words]), **changes)


def networks(args: argparse.Namespace, names: Sequence[str] | None = None) -> dict:
    """The backbones of the task by the names that tables call them."""
    task = TASKS[args.task]
    found = {name: task.backbones[name] for name in names or [task.network.__name__]}
    width = args.width or (0.25 if generated(args) else 1.0)
    if found.get("PointNetSegmentation") is PointNetSegmentation and width != 1:
        del found["PointNetSegmentation"]
        name = f"PointNetSegmentation, width {width:g}"
        found[name] = partial(PointNetSegmentation, width=width)
    return found


def open_lab(args: argparse.Namespace, backbones: dict | None = None) -> Lab:
    """The harness for the data and the work that the options name."""
    preset, _ = preset_and_seeds(args)
    backbones = backbones or networks(args)
    return Lab(*load(args), args.out, preset, backbones, args.device, source(args), args.task)


def ddp_settings(args: argparse.Namespace) -> dict:
    """The settings of DDP that the options name; the generated shapes have smaller ones."""
    small = {"num_morphs": 4, "anchor_lr": 0.5} if generated(args) else {}
    names = ("num_anchors", "anchor_points", "num_morphs", "uniformity_lambda")
    given = {name: getattr(args, name) for name in (*names, "anchor_lr", "weight_lr")}
    return small | {name: value for name, value in given.items() if value is not None}


def four_entries(settings: dict) -> list[Entry]:
    """Random clouds, what DDP starts from, what it makes, and the whole set."""
    return [
        ENTRIES["random"],
        Initial("initial", settings, build=ddp),
        Distilled("DDP", settings, build=ddp),
        ENTRIES["whole"],
    ]


def print_table(
    args: argparse.Namespace, lab: Lab, runs: list, heading: str, classes: bool = False
) -> None:
    """Prints the table, by wish also that of the classes, and writes it and its picture."""
    rows = summarize(runs)
    table = markdown(rows)
    if args.validate:
        heading += ", tested on clouds held out from the training set"
    if rows:
        (args.out / "table.md").write_text(f"{heading}\n\n{table}", encoding="utf-8")
        plot_comparison(rows, args.out / "table.png", heading)
    preset = lab.preset
    print(f"\n{heading}: {preset.protocol.name} protocol, whole set {preset.whole.name}\n")
    print(table)
    if classes:
        print(class_markdown(rows, lab.bank.class_names))
    for run, reason in lab.failures.items():
        print(f"Failed: {run}: {reason}")


def keep_set(args: argparse.Namespace, lab: Lab, cell) -> None:
    """Copies the set of a run to the top of the folder and draws it."""
    synthetic = lab.synthetic(cell)
    shutil.copyfile(lab.set_path(cell), args.out / "distilled.safetensors")
    plot_distilled(lab.train_set, synthetic, args.out / "distilled.png")


def load(args: argparse.Namespace):
    """The training and the test set."""
    parts = args.task == "segmentation"
    if args.data is not None:
        sample = {"num_points": args.num_points, "sampling": "fps"}
        if parts:
            kept = "recommended" if args.categories == ["recommended"] else args.categories
            sets = [
                PartArrays.from_npz(args.data, split, kept, args.resplit, **sample)
                for split in ("train", "test")
            ]
        else:
            sets = [PointCloudArrays.from_npz(args.data, s, **sample) for s in ("train", "test")]
    elif args.dataset == "shapes":
        each = args.num_per_class or (50 if parts else 100)
        sizes = {True: each, False: max(1, each // 2)}
        sets = [
            ParametricShapes(train, sizes[train], args.num_points or 256, segmentation=parts)
            for train in (True, False)
        ]
    elif args.dataset == "shapenetpart":
        options = {"num_points": args.num_points or 2048, "pre_transform": NormalizeSphere()}
        sets = [
            ShapeNetPart(args.root, args.categories, split, **options)
            for split in ("trainval", "test")
        ]
    else:
        name, num_points = args.dataset.removeprefix("modelnet"), args.num_points or 1024
        sets = [
            ModelNetMeshes(args.root, name, split, num_points, pre_transform=NormalizeSphere())
            for split in ("train", "test")
        ]
    return hold_out(sets[0], args.validate) if args.validate else sets
