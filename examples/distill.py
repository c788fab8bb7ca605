"""Distils a data set of 3D point clouds and shows what the result is worth.

    python examples/distill.py                                  # generated shapes, 5 minutes
    python examples/distill.py --data clouds.npz --out out/mine
    python examples/distill.py --dataset modelnet10 --root data --device cuda
    python examples/distill.py --method pkr

Compares networks trained on random clouds of the same storage, on what the method starts from (for
DDP anchors and morphs), on the distilled set and on the whole set; every seed is a draw, a
distillation and a network of its own. Writes the table, the distilled sets and pictures to the
folder `--out`. A run that is there is not made again: started with the same options, an interrupted
program goes on.
"""

import argparse

from common import (
    NETWORKS,
    add_data_arguments,
    add_method_arguments,
    add_work_arguments,
    heading,
    keep_set,
    method_settings,
    networks,
    one_line,
    open_lab,
    preset_and_seeds,
    print_table,
)

from torch_geometric_ddp.comparison import (
    ENTRIES,
    Distilled,
    Initial,
    class_markdown,
    cost_markdown,
    markdown,
    plot_comparison,
    summarize,
)
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import METHODS
from torch_geometric_ddp.tasks import TASKS


def parse_args(task="classification", out="out/distill", description=__doc__) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description,
        epilog=NETWORKS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser, task)
    add_method_arguments(parser)
    add_work_arguments(parser, out)
    parser.add_argument("--backbone", metavar="B", help="the network (PointNet's)")
    parser.add_argument("--skip-whole", action="store_true", help="leave out the whole set")
    return parser.parse_args()


def rows_of(args: argparse.Namespace) -> tuple[Initial, Distilled]:
    """What the method starts from, and what it distils."""
    with one_line():
        settings, build = method_settings(args), METHODS[args.method]
    name = build().name
    kwargs = {"settings": settings, "one_label": ENTRIES[name].one_label, "build": build}
    distilled = Distilled(name, **kwargs)
    if not distilled.serves(TASKS[args.task]):
        raise SystemExit(
            f"'--method {args.method}' needs clouds with one label each, which the task "
            f"'{args.task}' has not"
        )
    return Initial("initial", **kwargs), distilled


def main(args: argparse.Namespace) -> None:
    keep_freed_memory()
    initial, distilled = rows_of(args)
    lab = open_lab(args, networks(args, args.backbone and [args.backbone]))
    _, seeds = preset_and_seeds(args)
    entries = [ENTRIES["random"], initial, distilled]
    if not args.skip_whole:
        entries.append(ENTRIES["whole"])
    with one_line():
        cells = list(lab.cells(entries, [args.ppc], seeds))
    rows = summarize(lab.run(cells))
    title = heading(args, lab)
    tables = "\n".join([markdown(rows), cost_markdown(rows), class_markdown(rows)])
    print_table(args, lab, title, tables, "table.md")
    if rows:
        plot_comparison(rows, args.out / "table.png", title)
    keep_set(args, lab, next(cell for cell in cells if cell.entry == distilled))
    print(f"The first distilled set, its picture, the tables and all runs are in {args.out}/.")


if __name__ == "__main__":
    main(parse_args())
