"""Trains on clouds of some points, tests on clouds of others, and prints the matrix.

    distill3d resolution                                # generated shapes
    distill3d resolution --data clouds.npz --preset cpu --methods random DDP whole \
        --train-points 64 128 252 512 1024 --test-points 64 128 256 512 1024
    distill3d resolution --distill-with PointNet --backbones DGCNN PointNet2SSG

Clouds are reduced by farthest point sampling; a set has no row of more points than its clouds have,
and without `--train-points` one of as many as they have.
Every row is one line of `resolutions.jsonl` in the folder `--out`, and one that is there is not
made again. In the folder of `compare` the sets that it has made are taken over.
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
METHODS = ("random", "DDP", "whole")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_data_arguments(parser)
    add_row_arguments(parser, ", ".join(METHODS), "PointNet's")
    add_distill_with_argument(parser, "each with the network that is trained on it")
    for name, more in (("train", ", and all of these"), ("test", "")):
        parser.add_argument(
            f"--{name}-points",
            type=positive,
            nargs="+",
            metavar="N",
            help=f"points of a {name} cloud (64, 128, ... up to those that it has{more})",
        )
    add_work_arguments(parser, "out/resolution")
    add_workers_argument(parser)
    add_memory_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Makes the runs and shows them."""
    from torch_geometric_ddp.comparison import (
        CrossResolution,
        plot_transfer,
        resolution_markdown,
        resolution_matrix,
    )
    from torch_geometric_ddp.programs.labs import open_lab
    from torch_geometric_ddp.programs.networks import named_makers, named_networks
    from torch_geometric_ddp.programs.presets import preset_and_seeds
    from torch_geometric_ddp.programs.rows import named_rows
    from torch_geometric_ddp.programs.showing import announce, heading, print_table

    entries = named_rows(args, METHODS)
    columns, makers = named_networks(args, args.backbones), named_makers(args, entries)
    lab = open_lab(args, {**columns, **makers})
    _, seeds = preset_and_seeds(args)
    smallest = int(lab.task.read(lab.test_set).sizes.min())
    train_points = args.train_points or _usual(lab.bank.dense().size(1))
    test_points = args.test_points or _usual(smallest)
    matrix = CrossResolution(lab, train_points, test_points, own_points=args.train_points is None)
    cells = list(lab.cells(entries, args.ppc, seeds, list(columns), list(makers)))
    announce(matrix, cells)
    runs = matrix.run(cells, args.workers)
    rows = resolution_matrix(runs)
    title = f"{heading(args, runs)}, {lab.task.metric} % by points of test clouds"
    if len(columns) == 1:  # The rows of several networks name theirs.
        title += f", {next(iter(columns))}"
    stem = print_table(args, [lab], title, resolution_markdown(rows), runs, "matrix")
    word = "points of the test clouds"
    plot_transfer(rows, list(rows[0].cells), args.out / f"{stem}.png", title, word)
    print(f"The runs, the sets, {stem}.md and {stem}.png are in {args.out}/.")


def _usual(most: int) -> list[int]:
    """The points of clouds of so many without the options."""
    return [num for num in (64, 128, 256, 512, 1024) if num <= most] or [most]
