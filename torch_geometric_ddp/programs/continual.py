"""Learns classes in increments from exemplars: distilled, random, herded and quantised ones.

    distill3d continual                                       # generated shapes
    distill3d continual --dataset modelnet10 --root data --preset cpu --methods random herding \
        "random 128x6" "PKR 64" DDP whole
    distill3d continual --data clouds.npz --num-increments 3 --ppc 3

Of every class exemplars are kept within the same bits, and after every increment a network is
trained from scratch on those of all classes seen. Prints the average and the last accuracy and what
was forgotten, and draws the accuracy over the classes seen. Every increment is one line of
`runs.jsonl` in the folder `--out`, and one that is there is not made again.
"""

from __future__ import annotations

import argparse

from torch_geometric_ddp.programs.option_types import positive, row_or_all, share
from torch_geometric_ddp.programs.options import (
    GOES_ON,
    ROWS_EPILOG,
    add_backbone_argument,
    add_data_arguments,
    add_work_arguments,
    add_workers_argument,
)

EPILOG, GO_ON = ROWS_EPILOG, GOES_ON
METHODS = ("random", "herding", "random 64x6", "DDP", "whole")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_data_arguments(parser)
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "--methods",
        type=row_or_all,
        nargs="+",
        metavar="M",
        help=f"the rows, or: all ({', '.join(METHODS)})",
    )
    what.add_argument("--ppc", type=share, default=1, help="storage in clouds per class (1)")
    what.add_argument(
        "--num-increments", type=positive, default=5, help="in how many increments classes come (5)"
    )
    add_backbone_argument(what)
    add_work_arguments(parser, "out/continual")
    add_workers_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Makes the runs and shows them."""
    from torch_geometric_ddp.comparison import (
        ClassIncremental,
        incremental_markdown,
        plot_increments,
    )
    from torch_geometric_ddp.programs.data import load, source
    from torch_geometric_ddp.programs.labs import provenance
    from torch_geometric_ddp.programs.networks import named_network
    from torch_geometric_ddp.programs.presets import preset_and_seeds
    from torch_geometric_ddp.programs.rows import named_rows
    from torch_geometric_ddp.programs.showing import announce, heading, print_table
    from torch_geometric_ddp.tasks import TASKS

    if not TASKS[args.task].one_label:
        raise ValueError(f"--task must have one label for a cloud, got {args.task}")
    name, network = named_network(args)
    preset, seeds = preset_and_seeds(args)
    entries = named_rows(args, METHODS)
    train_set, test_set = load(args)
    lab = ClassIncremental(
        train_set,
        test_set,
        args.out,
        args.num_increments,
        preset,
        network,
        name,
        args.device,
        source(args),
    )
    lab.told = provenance(args)
    cells = list(lab.cells(entries, args.ppc, seeds))
    announce(lab, cells)
    runs = lab.run(cells, args.workers)
    increments = f"{lab.num_increments} increments"
    title = f"{heading(args, runs)}, {name}, PPC {args.ppc}, {increments}"
    stem = print_table(args, [lab], title, incremental_markdown(runs), runs, "table")
    picture = f"{stem.replace('table', 'increments')}.png"
    plot_increments(runs, args.out / picture, title)
    print(f"The runs, the exemplars, {stem}.md and {picture} are in {args.out}/.")
