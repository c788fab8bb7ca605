"""Lets Optuna choose the settings of DDP or PKR for a data set under a storage budget.

    distill3d tune                                   # generated shapes, some minutes
    distill3d tune --data clouds.npz --trials 50 --preset cpu --out out/mine
    distill3d tune --dataset modelnet10 --gpus 4 --trials 200 --trial-runs 3 --preset cpu
    distill3d tune --objectives score,bits --storage sqlite:///study.db
    distill3d tune --task segmentation
    distill3d tune --method pkr --ppc 0.25

Every trial distils a part of the training set and is judged on the other part. The test set is
seen once, at the end: by the winner and by the published settings. A search that was interrupted
goes on when it is started again; more processes, also on other machines, join it by being started
with the same options and the same `--storage`.

The best set and its picture stand beside the study in Optuna's dashboard:
`optuna-dashboard out/tune/study.journal --artifact-dir out/tune/artifacts`.
"""

from __future__ import annotations

import argparse
from typing import Any

from torch_geometric_ddp.programs.option_types import finite, natural, positive, share
from torch_geometric_ddp.programs.options import (
    MIRROR,
    NETWORKS_HELP,
    add_backbone_argument,
    add_cache_argument,
    add_data_arguments,
    add_work_arguments,
    is_generated,
)
from torch_geometric_ddp.programs.tunables import RANGES

EPILOG = NETWORKS_HELP
GO_ON = "The same command goes on with the study in {storage}."

#: The samplers, as the library has them.
SAMPLERS = ("tpe", "gp", "auto", "random")
# The seeds that the test of the other pruner needs, and one that it can save.
_LEAST_RUNS = 5
# What else belongs to one method only.
_CHOICES = {"ddp": ("no_penalty", "ungrouped"), "pkr": ("mirror",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_data_arguments(parser)
    what = parser.add_argument_group("search")
    what.add_argument("--method", choices=RANGES, default="ddp", help="what is tuned (ddp)")
    what.add_argument("--ppc", type=share, default=1, help="storage in clouds per class (1)")
    what.add_argument("--trials", type=positive, help="trials of the study (30, shapes 6)")
    what.add_argument(
        "--trial-runs",
        "--trial-seeds",
        dest="trial_runs",
        type=positive,
        default=1,
        metavar="N",
        help="runs of a trial, each with a seed of its own (1)",
    )
    what.add_argument(
        "--objectives",
        type=lambda text: tuple(text.split(",")),
        default=("score",),
        help="score, or with a second one: score,bits or score,seconds (score)",
    )
    looks = "when the pruner sees a trial, in shares of its steps (0.5, shapes never)"
    what.add_argument("--looks", type=finite, nargs="*", metavar="SHARE", help=looks)
    what.add_argument(
        "--sampler", choices=SAMPLERS, default="tpe", help="how settings are chosen (tpe)"
    )
    pruner = "who gives trials up: the median at looks, or a test seed by seed (median)"
    what.add_argument("--pruner", choices=("median", "wilcoxon"), default="median", help=pruner)
    held = "share of the training clouds that trials are judged on (0.2)"
    what.add_argument("--hold-out", type=finite, default=0.2, metavar="SHARE", help=held)
    what.add_argument("--seed", type=natural, default=0, help="of that split and the sampler (0)")
    ends: dict[str, Any] = {"nargs": 2, "metavar": ("LOW", "HIGH")}
    ddp = parser.add_argument_group("ranges of the settings of DDP")
    ddp.add_argument("--num-anchors", type=positive, **ends, help="M (2 8)")
    ddp.add_argument("--num-morphs", type=natural, **ends, help="L (0 32, shapes 0 4)")
    ddp.add_argument("--anchor-share", type=finite, **ends, help="N2, of the largest (0.25 1)")
    ddp.add_argument("--uniformity-lambda", type=finite, **ends, help="λ (10 100000)")
    ddp.add_argument("--no-penalty", action="store_true", help="also try λ = 0")
    ddp.add_argument("--anchor-lr", type=finite, **ends, help="search it (2.5, shapes 0.5)")
    ddp.add_argument("--weight-lr", type=finite, **ends, help="search it (0.25, shapes 0.05)")
    ungrouped = "match labelled points without regard to parts, as PointNet2Segmentation needs"
    ddp.add_argument("--ungrouped", action="store_true", help=ungrouped)
    pkr = parser.add_argument_group("ranges of the settings of PKR")
    pkr.add_argument("--cloud-points", type=positive, **ends, help="points of a cloud (16 256)")
    pkr.add_argument("--depth", type=positive, **ends, help="bits of a coordinate (4 8)")
    pkr.add_argument("--mirror", choices=("both", *MIRROR), help="whether halves are stored (both)")
    pkr.add_argument("--lr", type=finite, **ends, help="search it (0.005)")
    pkr.add_argument("--ridge", type=finite, **ends, help="search it (0.01)")
    run = parser.add_argument_group("run")
    run.add_argument("--storage", help="journal file or URL (study.journal in --out)")
    run.add_argument("--study", default="tune", help="name of the study in the storage (tune)")
    run.add_argument("--gpus", type=natural, default=0, help="GPUs, each with its own process (0)")
    run.add_argument("--workers", type=positive, default=1, help="processes, for each GPU (1)")
    add_backbone_argument(run)
    add_cache_argument(run)
    run.add_argument("--worker", type=natural, help=argparse.SUPPRESS)  # Of the processes, which.
    add_work_arguments(parser, "out/tune", steps="200, shapes 10")


def complete(args: argparse.Namespace) -> None:
    """Fills in what was not given.

    Raises:
        ValueError: If an option of another method was given.
    """
    for method in RANGES:
        for name in (*RANGES[method], *_CHOICES[method]) if method != args.method else ():
            if getattr(args, name):
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} is no option of --method {args.method}")
    if args.pruner == "wilcoxon" and len(args.objectives) > 1:
        raise ValueError(
            "--pruner wilcoxon must go with one objective, got "
            f"'--objectives {','.join(args.objectives)}'"
        )
    if args.pruner == "wilcoxon" and args.trial_runs < _LEAST_RUNS:
        raise ValueError(
            f"--pruner wilcoxon needs --trial-runs {_LEAST_RUNS} or more, got {args.trial_runs}"
        )
    if args.looks and (args.pruner == "wilcoxon" or len(args.objectives) > 1):
        raise ValueError(
            "--looks must go with '--pruner median' and one objective, got "
            f"'--pruner {args.pruner} --objectives {','.join(args.objectives)}'"
        )
    if args.gpus and args.device not in (None, "cuda"):
        raise ValueError(f"--gpus must go with '--device cuda' or none, got '{args.device}'")
    # The generated shapes are for a first look at a CPU: few trials, steps and morphs.
    shapes = is_generated(args)
    usual: dict[str, Any] = (
        {"trials": 6, "steps": 10, "looks": ()}
        if shapes
        else {"trials": 30, "steps": 200, "looks": (0.5,)}
    )
    if shapes and args.method == "ddp":
        usual["num_morphs"] = (0, 4)
    for name, value in usual.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.storage = args.storage or str(args.out / "study.journal")
    args.device = "cuda" if args.gpus else args.device


def run(args: argparse.Namespace) -> None:
    """Searches, and shows what was found."""
    if args.whole_epochs is not None:
        raise ValueError("--whole-epochs must go with a row on the whole set, which no search has")
    complete(args)
    from torch_geometric_ddp.programs import searching

    searching.run(args)
