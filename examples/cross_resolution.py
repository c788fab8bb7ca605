"""Trains on clouds of some points, tests on clouds of others, and prints the matrix.

    python examples/cross_resolution.py                                # generated shapes
    python examples/cross_resolution.py --data clouds.npz --preset cpu --methods random DDP whole \
        --train-points 64 128 252 512 1024 --test-points 64 128 256 512 1024

Clouds are reduced by farthest point sampling; a set has no row of more points than its clouds have.
Every row is one line of `resolutions.jsonl` in the folder `--out`, and one that is there is not
made again. In the folder of `compare.py` the sets that it has made are taken over.
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
    CrossResolution,
    plot_transfer,
    resolution_markdown,
    resolution_matrix,
)
from torch_geometric_ddp.memory import keep_freed_memory

METHODS = ("random", "DDP", "whole")


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
        default=METHODS,
        help=f"the rows ({', '.join(METHODS)})",
    )
    what.add_argument(
        "--ppc", type=share, nargs="+", default=[1], help="storage in clouds per class (1)"
    )
    what.add_argument("--backbone", metavar="B", help="the network (PointNet's)")
    for name in ("train", "test"):
        what.add_argument(
            f"--{name}-points",
            type=positive,
            nargs="+",
            metavar="N",
            help=f"points of a {name} cloud (64, 128, ... up to those that it has)",
        )
    add_work_arguments(parser, "out/resolution")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    lab = open_lab(args, networks(args, args.backbone and [args.backbone]))
    _, seeds = preset_and_seeds(args)
    with one_line():
        sizes = [num for num in (64, 128, 256, 512, 1024) if num <= lab.bank.dense().size(1)]
        matrix = CrossResolution(lab, args.train_points or sizes, args.test_points or sizes)
        cells = list(lab.cells([ROWS[name] for name in args.methods], args.ppc, seeds))
    rows = resolution_matrix(matrix.run(cells))
    title = f"{heading(args, lab)}, {lab.task.metric} % by points of test clouds"
    print_table(args, lab, title, resolution_markdown(rows), "matrix.md")
    if rows:
        plot_transfer(rows, list(rows[0].cells), args.out / "matrix.png", title)
    print(f"The runs, the sets, matrix.md and matrix.png are in {args.out}/.")


if __name__ == "__main__":
    main()
