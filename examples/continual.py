"""Learns classes in increments from exemplars: distilled, random, herded and quantised ones.

    python examples/continual.py                                       # generated shapes
    python examples/continual.py --dataset modelnet10 --root data --preset cpu --methods random \
        herding "random 128x6" "PKR 64" DDP whole
    python examples/continual.py --data clouds.npz --num-increments 3 --ppc 3

Of every class exemplars are kept within the same bits, and after every increment a network is
trained from scratch on those of all classes seen. Prints the average and the last accuracy and what
was forgotten (`table.md`) and draws the accuracy over the classes seen (`increments.png`). Every
increment is one line of `runs.jsonl` in the folder `--out`, and one that is there is not made
again.
"""

import argparse

from common import (
    NETWORKS,
    ROWS,
    ROWS_HELP,
    add_data_arguments,
    add_work_arguments,
    heading,
    load,
    networks,
    one_line,
    positive,
    preset_and_seeds,
    print_table,
    row_name,
    share,
    source,
)

from torch_geometric_ddp.comparison import (
    ClassIncremental,
    incremental_markdown,
    plot_increments,
)
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.tasks import TASKS

METHODS = ("random", "herding", "random 64x6", "DDP", "whole")


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
    what.add_argument("--ppc", type=share, default=1, help="storage in clouds per class (1)")
    what.add_argument(
        "--num-increments", type=positive, default=5, help="in how many increments classes come (5)"
    )
    what.add_argument("--backbone", metavar="B", help="the network (PointNet's)")
    add_work_arguments(parser, "out/continual")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    if not TASKS[args.task].one_label:
        raise SystemExit(f"--task must have one label for a cloud, got {args.task}")
    ((name, network),) = networks(args, args.backbone and [args.backbone]).items()
    with one_line():
        preset, seeds = preset_and_seeds(args)
        lab = ClassIncremental(
            *load(args),
            args.out,
            args.num_increments,
            preset,
            network,
            name,
            args.device,
            source(args),
        )
        cells = list(lab.cells([ROWS[method] for method in args.methods], args.ppc, seeds))
    runs = lab.run(cells)
    title = f"{heading(args, lab)}, {name}, PPC {args.ppc}, {lab.num_increments} increments"
    print_table(args, lab, title, incremental_markdown(runs), "table.md")
    if runs:
        plot_increments(runs, args.out / "increments.png", title)
    print(f"The runs, the exemplars, table.md and increments.png are in {args.out}/.")


if __name__ == "__main__":
    main()
