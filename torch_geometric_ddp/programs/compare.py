"""Compares methods of data set distillation under the same storage, and prints a table.

    distill3d compare                                         # generated shapes
    distill3d compare --data clouds.npz --preset cpu --methods random SADM DDP --ppc 1 3
    distill3d compare --dataset modelnet10 --device cuda --preset paper --methods all
    distill3d compare --task segmentation
    distill3d compare --task segmentation --data parts.npz --resplit 0 1 2 --seeds 0 1 2

Every run is one line of `runs.jsonl` in the folder `--out`, with all that is needed to repeat it. A
run that is there is not made again, so that an interrupted comparison goes on when it is started
again, and a larger one takes over what a smaller one made. Of several splits each has a folder of
its own there, and the table has the runs of all.
"""

from __future__ import annotations

import argparse

from torch_geometric_ddp.programs.option_types import finite
from torch_geometric_ddp.programs.options import (
    GOES_ON,
    ROWS_EPILOG,
    add_data_arguments,
    add_memory_arguments,
    add_quotas_argument,
    add_row_arguments,
    add_work_arguments,
    add_workers_argument,
)

EPILOG, GO_ON = ROWS_EPILOG, GOES_ON
METHODS = ("random", "herding", "SADM", "DDP", "whole")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_data_arguments(parser)
    usual = f"{', '.join(METHODS)}, as far as the task has them"
    add_row_arguments(parser, usual, "PointNet's")
    parser.add_argument(
        "--lrs",
        "--lr",
        dest="lrs",
        type=finite,
        nargs="+",
        help="learning rates, a row for each (those of the methods)",
    )
    add_quotas_argument(parser, difficulty=True)
    add_work_arguments(parser, "out/compare")
    add_workers_argument(parser)
    add_memory_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Makes the runs and shows them."""
    from torch_geometric_ddp.comparison import (
        plot_bits,
        plot_comparison,
        summarize,
    )
    from torch_geometric_ddp.programs.labs import open_labs, run_splits
    from torch_geometric_ddp.programs.networks import named_networks
    from torch_geometric_ddp.programs.presets import preset_and_seeds
    from torch_geometric_ddp.programs.rows import at_quotas, named_rows
    from torch_geometric_ddp.programs.showing import heading, print_table, tables_of

    entries = named_rows(args, METHODS)
    if args.lrs:
        rated = [row for entry in entries for row in entry.at_rates(args.lrs)]
        if rated == entries:
            names = ", ".join(entry.name for entry in entries)
            raise ValueError(f"--lrs must go with a row that is distilled, got {names}")
        entries = rated
    labs = open_labs(args, named_networks(args, args.backbones))
    _, seeds = preset_and_seeds(args)
    list(labs[0].cells(entries, args.ppc, seeds))  # Raises before a network is trained for quotas.
    # Those by difficulty are for data of one label, which have one split.
    entries = at_quotas(entries, args.quotas, labs[0], seeds[0], args.workers)
    cells = [list(lab.cells(entries, args.ppc, seeds)) for lab in labs]
    runs = run_splits(labs, cells, args.workers)
    rows, title = summarize(runs), heading(args, runs)
    stem = print_table(args, labs, title, tables_of(rows), runs, "table")
    plot_comparison(rows, args.out / f"{stem}.png", title)
    if len({row.ppc for row in rows if row.ppc is not None}) > 1:
        plot_bits(rows, args.out / f"{stem.replace('table', 'bits')}.png", title)
    print(f"The runs, the distilled sets, {stem}.md and its pictures are in {args.out}/.")
