"""Distils a data set of 3D point clouds and shows what the result is worth.

    python examples/distill.py                                  # generated shapes, 5 minutes
    python examples/distill.py --data clouds.npz --out out/mine
    python examples/distill.py --dataset modelnet10 --root data --device cuda

Compares networks trained on random clouds of the same storage, on the anchors and morphs before
any optimisation, on the distilled set and on the whole set; every seed is a draw, a distillation
and a network of its own. Writes the table, the distilled sets and pictures to the folder `--out`. A
run that is there is not made again: started with the same options, an interrupted program goes on.
"""

import argparse

from common import (
    add_data_arguments,
    add_method_arguments,
    add_work_arguments,
    ddp_settings,
    four_entries,
    keep_set,
    networks,
    open_lab,
    preset_and_seeds,
    print_table,
    source,
)

from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import BACKBONES


def parse_args(task: str = "classification", out: str = "out/distill", description=__doc__):
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser, task)
    add_method_arguments(parser)
    parser.add_argument("--backbone", help=f"the network (PointNet; {', '.join(BACKBONES)}, ...)")
    parser.add_argument("--skip-whole", action="store_true", help="leave out the whole set")
    add_work_arguments(parser, out)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    keep_freed_memory()
    lab = open_lab(args, networks(args, args.backbone and [args.backbone]))
    _, seeds = preset_and_seeds(args)
    entries = four_entries(ddp_settings(args))
    if args.skip_whole:
        entries.pop()
    cells = list(lab.cells(entries, [args.ppc], seeds))
    runs = lab.run(cells)
    print_table(args, lab, runs, f"{source(args)}, preset {lab.preset.name}", classes=True)
    keep_set(args, lab, next(cell for cell in cells if cell.entry.name == "DDP"))
    print(f"The first distilled set, its picture, the table and all runs are in {args.out}/.")


if __name__ == "__main__":
    main(parse_args())
