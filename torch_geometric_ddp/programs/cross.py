"""Distils with one backbone, trains all of them on the result, and prints a matrix.

    distill3d cross                              # generated shapes
    distill3d cross --data clouds.npz --preset cpu --whole-points 256
    distill3d cross --dataset modelnet10 --device cuda --preset paper --backbones all
    distill3d cross --task segmentation
    distill3d cross --task segmentation --data parts.npz --resplit 0 1 2 --seeds 0 1 2

Every run is one line of `runs.jsonl` in the folder `--out`. A run that is there is not made again,
and no set is distilled twice: an interrupted matrix goes on when it is started again, and in the
folder of `compare` the sets that it has made are taken over. Of several splits each has a folder of
its own there, and the matrix has the runs of all.
"""

from __future__ import annotations

import argparse

from torch_geometric_ddp.programs.option_types import positive
from torch_geometric_ddp.programs.options import (
    GOES_ON,
    ROWS_EPILOG,
    add_data_arguments,
    add_distill_with_argument,
    add_memory_arguments,
    add_row_arguments,
    add_work_arguments,
    add_workers_argument,
)

EPILOG, GO_ON = ROWS_EPILOG, GOES_ON
METHODS = ("random", "SADM", "DDP", "whole")
# Those that train in minutes on a CPU.
BACKBONES = ("PointNet", "PointNet2MSG", "PointTransformer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_data_arguments(parser)
    usual = f"{', '.join(METHODS)}, as far as the task has them"
    add_row_arguments(parser, usual, f"{', '.join(BACKBONES)}, with parts all")
    add_distill_with_argument(parser, "PointNet's")
    parser.add_argument(
        "--whole-points",
        type=positive,
        metavar="N",
        help="train on the whole set with N points of every cloud, for slow backbones: a row that "
        "says so; test clouds keep all points",
    )
    add_work_arguments(parser, "out/cross")
    add_workers_argument(parser)
    add_memory_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Makes the runs and shows them."""
    from torch_geometric_ddp.comparison import (
        Whole,
        plot_transfer,
        transfer_markdown,
        transfer_matrix,
    )
    from torch_geometric_ddp.programs.labs import open_labs, run_splits
    from torch_geometric_ddp.programs.networks import named_makers, named_networks
    from torch_geometric_ddp.programs.presets import preset_and_seeds
    from torch_geometric_ddp.programs.rows import named_rows
    from torch_geometric_ddp.programs.showing import heading, print_table
    from torch_geometric_ddp.tasks import TASKS

    known = TASKS[args.task].backbones
    usual = [name for name in BACKBONES if name in known] or list(known)
    columns = named_networks(args, args.backbones or usual)
    entries = named_rows(args, METHODS)
    makers = named_makers(args, entries) or named_networks(args)
    listed = ", ".join(entry.name for entry in entries)
    if args.whole_points is not None and not any(isinstance(entry, Whole) for entry in entries):
        raise ValueError(f"--whole-points must go with the row 'whole', got {listed}")
    labs = open_labs(args, {**columns, **makers})
    _, seeds = preset_and_seeds(args)
    if args.whole_points is not None:
        most = labs[0].bank.dense().size(1)
        if args.whole_points > most:
            raise ValueError(f"--whole-points must lie in 1..{most}, got {args.whole_points}")
        entries = [e.at(args.whole_points) if isinstance(e, Whole) else e for e in entries]
    what = entries, args.ppc, seeds, list(columns), list(makers)
    cells = [list(lab.cells(*what)) for lab in labs]
    runs = run_splits(labs, cells, args.workers)
    rows = transfer_matrix(runs, entries)
    metric = labs[0].task.metric
    title = f"{heading(args, runs)}, {metric} % of the backbone that is trained"
    table = transfer_markdown(rows, list(columns))
    stem = print_table(args, labs, title, table, runs, "matrix")
    plot_transfer(rows, list(columns), args.out / f"{stem}.png", title)
    print(f"The runs, the sets, {stem}.md and {stem}.png are in {args.out}/.")
