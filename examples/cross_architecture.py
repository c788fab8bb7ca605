"""Distils with one backbone, trains all of them on the result, and prints a matrix.

    python examples/cross_architecture.py                              # generated shapes
    python examples/cross_architecture.py --data clouds.npz --preset cpu --whole-points 256
    python examples/cross_architecture.py --dataset modelnet10 --device cuda --preset paper
    python examples/cross_architecture.py --task segmentation

Every run is one line of `runs.jsonl` in the folder `--out`. A run that is there is not made again,
and no set is distilled twice: an interrupted matrix goes on when it is started again, and in the
folder of `compare.py` the sets that it has made are taken over.
"""

import argparse

from common import (
    NETWORKS,
    ROWS,
    ROWS_HELP,
    add_data_arguments,
    add_work_arguments,
    heading,
    networks,
    one_line,
    open_lab,
    positive,
    preset_and_seeds,
    print_table,
    row_name,
    share,
)

from torch_geometric_ddp.comparison import (
    plot_transfer,
    transfer_markdown,
    transfer_matrix,
)
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.tasks import TASKS

METHODS = ("random", "SADM", "DDP", "whole")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"{ROWS_HELP}\n\n{NETWORKS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "--methods",
        type=row_name,
        nargs="+",
        metavar="M",
        help=f"the rows ({', '.join(METHODS)}, as far as the task has them)",
    )
    what.add_argument(
        "--ppc", type=share, nargs="+", default=[1], help="storage in clouds per class (1)"
    )
    what.add_argument("--backbones", nargs="+", metavar="B", help="what is trained (all)")
    what.add_argument(
        "--distill-with", nargs="+", metavar="B", help="what sets are distilled with (PointNet's)"
    )
    what.add_argument(
        "--whole-points",
        type=positive,
        metavar="N",
        help="train on the whole set with N points of every cloud, for slow backbones: a row that "
        "says so; test clouds keep all points",
    )
    add_work_arguments(parser, "out/cross")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    columns = networks(args, args.backbones or list(TASKS[args.task].backbones))
    makers = networks(args, args.distill_with)
    lab = open_lab(args, {**columns, **makers})
    _, seeds = preset_and_seeds(args)
    names = args.methods or [name for name in METHODS if ROWS[name].serves(lab.task)]
    entries = [ROWS[name] for name in names]
    if args.whole_points is not None:
        most = lab.bank.dense().size(1)
        if args.whole_points > most:
            raise SystemExit(f"--whole-points must lie in 1..{most}, got {args.whole_points}")
        entries = [e if e.has_budget else e.at(args.whole_points) for e in entries]
    with one_line():
        cells = list(lab.cells(entries, args.ppc, seeds, list(columns), list(makers)))
    rows = transfer_matrix(lab.run(cells), entries)
    title = f"{heading(args, lab)}, {lab.task.metric} % of the backbone that is trained"
    print_table(args, lab, title, transfer_markdown(rows, list(columns)), "matrix.md")
    if rows:
        plot_transfer(rows, list(columns), args.out / "matrix.png", title)
    print(f"The runs, the sets, matrix.md and matrix.png are in {args.out}/.")


if __name__ == "__main__":
    main()
