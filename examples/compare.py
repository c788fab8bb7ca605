"""Compares methods of data set distillation under the same storage, and prints a table.

    python examples/compare.py                                         # generated shapes
    python examples/compare.py --data clouds.npz --preset cpu --methods random SADM DDP --ppc 1 3
    python examples/compare.py --dataset modelnet10 --device cuda --preset paper
    python examples/compare.py --task segmentation

Every run is one line of `runs.jsonl` in the folder `--out`, with all that is needed to repeat it. A
run that is there is not made again, so that an interrupted comparison goes on when it is started
again, and a larger one takes over what a smaller one made.
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
    preset_and_seeds,
    print_table,
    row_name,
    share,
)

from torch_geometric_ddp.comparison import (
    ENTRIES,
    cost_markdown,
    markdown,
    plot_bits,
    plot_comparison,
    summarize,
)
from torch_geometric_ddp.memory import keep_freed_memory


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
        help="the rows, methods and controls (all methods of the task)",
    )
    what.add_argument(
        "--ppc", type=share, nargs="+", default=[1], help="storage in clouds per class (1)"
    )
    what.add_argument("--backbones", nargs="+", metavar="B", help="the networks (PointNet's)")
    what.add_argument("--lr", type=float, nargs="+", help="learning rates, a row for each")
    add_work_arguments(parser, "out/compare")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    lab = open_lab(args, networks(args, args.backbones))
    _, seeds = preset_and_seeds(args)
    names = args.methods or [name for name, entry in ENTRIES.items() if entry.serves(lab.task)]
    entries = [ROWS[name] for name in names]
    if args.lr:
        entries = [row for entry in entries for row in entry.at_rates(args.lr)]
    with one_line():
        cells = list(lab.cells(entries, args.ppc, seeds))
    rows = summarize(lab.run(cells))
    title = heading(args, lab)
    print_table(args, lab, title, f"{markdown(rows)}\n{cost_markdown(rows)}", "table.md")
    if rows:
        plot_comparison(rows, args.out / "table.png", title)
    if len({row.ppc for row in rows if row.ppc is not None}) > 1:
        plot_bits(rows, args.out / "bits.png", title)
    print(f"The runs, the distilled sets, the table and its picture are in {args.out}/.")


if __name__ == "__main__":
    main()
