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
    ROWS,
    add_data_arguments,
    add_work_arguments,
    networks,
    open_lab,
    preset_and_seeds,
    print_table,
    source,
)

from torch_geometric_ddp.comparison import ENTRIES
from torch_geometric_ddp.memory import keep_freed_memory


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    what = parser.add_argument_group("what is compared")
    what.add_argument("--methods", nargs="+", choices=ROWS, metavar="M", help="all of the task")
    what.add_argument(
        "--ppc", type=float, nargs="+", default=[1], help="storage in clouds per class"
    )
    what.add_argument("--backbones", nargs="+", metavar="B", help="the networks (PointNet)")
    what.add_argument("--lr", type=float, nargs="+", help="learning rates, a row for each")
    add_work_arguments(parser, "out/compare")
    parser.epilog = f"Methods: {', '.join(ROWS)}."
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
    runs = lab.run(lab.cells(entries, args.ppc, seeds))
    print_table(args, lab, runs, f"{source(args)}, preset {lab.preset.name}")
    print(f"The runs, the distilled sets, the table and its picture are in {args.out}/.")


if __name__ == "__main__":
    main()
