"""The options that programs share, with one word for one thing."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from torch_geometric_ddp.programs import names
from torch_geometric_ddp.programs.option_types import (
    above_zero,
    finite,
    natural,
    network_name,
    network_or_all,
    positive,
    row_or_all,
    share,
)

__all__ = [
    "BEGINS_ANEW",
    "GOES_ON",
    "METHOD_OPTIONS",
    "MIRROR",
    "NETWORKS_HELP",
    "ROWS_EPILOG",
    "add_backbone_argument",
    "add_cache_argument",
    "add_data_arguments",
    "add_memory_arguments",
    "add_method_arguments",
    "add_network_arguments",
    "add_quotas_argument",
    "add_row_arguments",
    "add_together_argument",
    "add_training_arguments",
    "add_work_arguments",
    "add_workers_argument",
    "dest_of",
    "is_generated",
]

#: The options of single methods, by the settings that they are.
METHOD_OPTIONS: dict[str, dict[str, str]] = {
    "ddp": {
        "num_anchors": "--num-anchors",
        "anchor_points": "--anchor-points",
        "num_morphs": "--num-morphs",
        "uniformity_lambda": "--uniformity-lambda",
        "anchor_lr": "--anchor-lr",
        "weight_lr": "--weight-lr",
        "grouped": "--ungrouped",
    },
    "sadm": {"lr": "--lr"},
    "dm": {"lr": "--lr"},
    "dc": {"lr": "--lr"},
    "pkr": {
        "num_points": "--cloud-points",
        "depth": "--depth",
        "mirror": "--mirror",
        "lr": "--lr",
        "ridge": "--ridge",
    },
}
#: What the words of ``--mirror`` mean.
MIRROR = {"always": True, "never": False}


def _wrapped(text: str, first: str = "") -> str:
    rest = " " * len(first)
    return textwrap.fill(
        text, 88, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


#: What :obj:`--help` says of the networks.
NETWORKS_HELP = _wrapped(
    "Networks: "
    + "; ".join(f"{', '.join(known)} ({task})" for task, known in names.NETWORKS.items())
    + "."
)
#: What :obj:`--help` says of the rows: the controls family by family, as they are many.
ROWS_HELP = "\n\n".join(
    (
        _wrapped(
            f"Methods: {', '.join(names.ENTRIES)}. After one that is distilled, settings may stand "
            "in brackets: 'DDP(num_morphs=4, anchor_lr=1.0)'."
        ),
        _wrapped(
            "Controls, which say what codecs alone are worth, with N points of a cloud or an "
            "anchor (32, 64, 128) and B bits of a coordinate (8, 6, 5, 4):"
        ),
        "\n".join(_wrapped(f"{form}: {about}", "* ") for form, about in names.FAMILIES.items()),
    )
)

#: What the end of :obj:`--help` says where rows can be named.
ROWS_EPILOG = f"{ROWS_HELP}\n\n{NETWORKS_HELP}"
#: How to go on with a program whose folder keeps what is finished, and with one that keeps nothing.
GOES_ON = "The same command goes on from there: what is finished is in {out}/."
BEGINS_ANEW = "Nothing is kept: the same command begins anew."


def dest_of(option: str) -> str:
    """What the value of an option is called."""
    return "grouped" if option == "--ungrouped" else option.lstrip("-").replace("-", "_")


def is_generated(args: argparse.Namespace) -> bool:
    """Whether the data are the generated shapes, which get small settings for a first look."""
    return args.data is None and args.dataset in (None, "shapes")


def add_data_arguments(parser: argparse.ArgumentParser, task: str = "classification") -> None:
    """Which real clouds to read."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        help="a file of clouds (.npz), or a folder with train and test",
    )
    data.add_argument("--dataset", choices=names.DATASETS, help="or a data set (generated shapes)")
    data.add_argument("--root", type=Path, help="where a data set lies (data)")
    data.add_argument("--num-points", type=positive, help="points of a cloud (shapes 256)")
    data.add_argument(
        "--num-per-class", type=positive, help="shapes only: training clouds (100, with parts 50)"
    )
    data.add_argument(
        "--task", choices=list(names.NETWORKS), default=task, help=f"what networks learn ({task})"
    )
    data.add_argument(
        "--categories", nargs="+", help="of labelled clouds: which to keep, or: recommended (all)"
    )
    data.add_argument(
        "--resplit",
        type=natural,
        nargs="+",
        metavar="S",
        help="labelled .npz: a seed for new splits; compare and cross take several, make the runs "
        "of each in OUT/split_S, and pool them in one table",
    )
    data.add_argument(
        "--validate",
        type=finite,
        metavar="SHARE",
        help="test on this share of the training clouds, which are left out of the training set, "
        "and never on the test set: for the choice of settings",
    )


def add_method_arguments(parser: argparse.ArgumentParser, task: str = "classification") -> None:
    """How to distil."""
    method = parser.add_argument_group("distillation")
    known = names.PART_METHODS if task == "segmentation" else names.METHODS
    method.add_argument("--method", choices=known, default="ddp", help="the method (ddp)")
    method.add_argument("--ppc", type=share, default=1, help="storage in clouds per class (1)")
    method.add_argument(
        "--lr", type=finite, help="learning rate of methods other than ddp (theirs)"
    )
    method.add_argument(
        "--classes-per-chunk",
        type=positive,
        metavar="N",
        help="classes that are computed at a time, of methods other than pkr: with the same N any "
        "number of ranks makes the same set to the last bit (as many as 4 GiB hold)",
    )
    ddp = parser.add_argument_group("distillation by DDP, and by no other method")
    ddp.add_argument("--num-anchors", type=positive, help="anchors per group, M (4)")
    ddp.add_argument("--anchor-points", type=positive, help="points per anchor, N2 (what fits)")
    ddp.add_argument("--num-morphs", type=natural, help="morphs per group, L (16, shapes 4)")
    ddp.add_argument("--uniformity-lambda", type=finite, help="sharpness λ (1000)")
    ddp.add_argument("--anchor-lr", type=finite, help="learning rate (2.5, shapes 0.5)")
    ddp.add_argument("--weight-lr", type=finite, help="of the weights (a tenth of the anchors')")
    ddp.add_argument(
        "--ungrouped",
        dest="grouped",
        action="store_const",
        const=False,
        help="of labelled clouds: match without regard to parts, as PointNet2Segmentation needs",
    )
    pkr = parser.add_argument_group("distillation by PKR, and by no other method")
    pkr.add_argument(
        "--cloud-points", type=positive, help="points of a stored cloud (32 to 128, by the budget)"
    )
    pkr.add_argument(
        "--depth", type=positive, help="bits of a coordinate (6, of up to 32 points 5)"
    )
    pkr.add_argument("--mirror", choices=MIRROR, help="whether halves are stored (always)")
    pkr.add_argument("--ridge", type=finite, help="ridge of the regression (0.01)")


def add_quotas_argument(group: argparse._ActionsContainer, difficulty: bool = False) -> None:
    """How a storage is divided among the classes."""
    more = ", or by how often the network of the first seed forgets them" if difficulty else ""
    group.add_argument(
        "--quotas",
        choices=[*names.QUOTAS, *(["difficulty"] if difficulty else [])],
        nargs="+",
        default=["uniform"],
        help="how the storage is divided among the classes, a row for each: as much for all, or in "
        f"proportion to their real clouds or to the square root of their number{more} (uniform)",
    )


def add_memory_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the real clouds are, and what is computed of them, while sets are distilled."""
    memory = parser.add_argument_group("memory")
    memory.add_argument(
        "--stream",
        action="store_true",
        help="leave the real clouds in the memory of the host, and bring those of a step to "
        "--device: for sets larger than it, and for methods other than pkr",
    )
    add_cache_argument(memory)


def add_cache_argument(group: argparse._ActionsContainer) -> None:
    """Where what is computed of the real clouds is kept."""
    group.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep there what is computed of the real clouds before the first step, for later runs "
        "(nowhere)",
    )


def add_row_arguments(parser: argparse.ArgumentParser, rows: str, backbones: str) -> None:
    """What is compared, and which rows and backbones that is without these options."""
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "--methods", type=row_or_all, nargs="+", metavar="M", help=f"the rows, or: all ({rows})"
    )
    what.add_argument(
        "--ppc", type=share, nargs="+", default=[1], help="storage in clouds per class (1)"
    )
    what.add_argument(
        "--backbones",
        type=network_or_all,
        nargs="+",
        metavar="B",
        help=f"what is trained, or: all ({backbones})",
    )


def add_distill_with_argument(parser: argparse.ArgumentParser, usual: str) -> None:
    """What sets are made with that other networks are trained on."""
    parser.add_argument(
        "--distill-with",
        type=network_or_all,
        nargs="+",
        metavar="B",
        help=f"what sets are distilled with, or: all ({usual})",
    )


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes of networks, and where they are computed."""
    network = parser.add_argument_group("networks")
    network.add_argument(
        "--width",
        type=above_zero,
        help="share of the channels of PointNetSegmentation (shapes 0.25)",
    )
    network.add_argument(
        "--mamba-centers",
        type=positive,
        metavar="N",
        help="PointMamba with N centres instead of 64, which its name says: the paper takes one "
        "for 16 points, and its time is that of its centres",
    )
    network.add_argument("--device", help="cpu, cuda, ... (cpu)")


def add_backbone_argument(
    group: argparse._ActionsContainer, usual: str = "the network (PointNet's)"
) -> None:
    """Which network, where there is one."""
    group.add_argument("--backbone", type=network_name, metavar="B", help=usual)


def add_together_argument(group: argparse._ActionsContainer) -> None:
    """How many networks are trained in the operations of one."""
    group.add_argument(
        "--together",
        type=positive,
        default=1,
        metavar="N",
        help="seeds trained in the operations of one, for a GPU; PointNet can be (1)",
    )


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    """How many seeds are run side by side."""
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="seeds run side by side, each by a process with one thread; their bars are in "
        "OUT/workers (1)",
    )


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """How networks are trained, and by which preset without these options."""
    training = parser.add_argument_group("training")
    training.add_argument("--preset", choices=names.PRESETS, help="how much work to take (quick)")
    training.add_argument("--epochs", type=positive, help="epochs (as the preset says)")
    training.add_argument("--min-steps", type=natural, help="the least steps (likewise)")
    training.add_argument("--train-lr", type=above_zero, help="learning rate (likewise)")
    training.add_argument("--rotate", action="store_true", help="turn clouds at random")


def add_work_arguments(
    parser: argparse.ArgumentParser, out: str, steps: str = "as the preset says"
) -> None:
    """How much work to take, and what the program does without these options."""
    add_training_arguments(parser)
    add_network_arguments(parser)
    work = parser.add_argument_group("work")
    work.add_argument("--steps", type=natural, help=f"optimisation steps ({steps})")
    work.add_argument("--seeds", type=natural, nargs="+", help="the seeds (as the preset says)")
    work.add_argument(
        "--num-networks", type=positive, help="networks trained on the set of every seed (1)"
    )
    work.add_argument(
        "--whole-epochs", type=positive, help="epochs on the whole set (as the preset says)"
    )
    work.add_argument("--out", type=Path, default=Path(out), help=f"folder of results ({out})")
