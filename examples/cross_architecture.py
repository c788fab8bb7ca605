"""Distils with one backbone, trains all of them on the result, and prints a matrix.

    python examples/cross_architecture.py                              # embedded data, a smoke test
    python examples/cross_architecture.py --data clouds.npz --preset cpu --whole-points 256
    python examples/cross_architecture.py --dataset modelnet10 --device cuda --preset paper

Every run is one line of `runs.jsonl` in the folder `--out`. A run that is there is not made again,
and no set is distilled twice: an interrupted matrix goes on when it is started again, and in the
folder of `compare.py` the sets that it has made are taken over.
"""

import argparse
from functools import partial

from common import add_comparison_arguments, add_data_arguments, load, preset_and_seeds, source

from torch_geometric_ddp.comparison import (
    ENTRIES,
    Lab,
    Whole,
    plot_transfer,
    transfer_markdown,
    transfer_matrix,
)
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import BACKBONES, PointMamba


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    methods = ["random", "SADM", "DDP", "whole"]
    what = add_comparison_arguments(parser, methods, list(BACKBONES), "out/cross")
    what.add_argument(
        "--distill-with",
        nargs="+",
        choices=BACKBONES,
        default=["PointNet"],
        metavar="B",
        help="the backbones that sets are distilled with (PointNet)",
    )
    what.add_argument(
        "--whole-points",
        type=int,
        metavar="N",
        help="train on the whole set with N points of every cloud, for slow backbones: a row that "
        "says so; test clouds keep all points",
    )
    what.add_argument(
        "--mamba-centers",
        type=int,
        metavar="N",
        help="PointMamba with N centres instead of 64, a column that says so: the paper takes one "
        "for 16 points, and its time is that of its centres",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    preset, seeds = preset_and_seeds(args)
    networks = dict(BACKBONES)
    if args.mamba_centers is not None:
        if args.mamba_centers < 1:
            raise SystemExit(f"--mamba-centers must be at least 1, got {args.mamba_centers}")
        name = f"PointMamba, {args.mamba_centers} centres"
        networks[name] = partial(PointMamba, num_centers=args.mamba_centers)
        for given in (args.backbones, args.distill_with):
            given[:] = [name if backbone == "PointMamba" else backbone for backbone in given]
    names = dict.fromkeys([*args.backbones, *args.distill_with])
    lab = Lab(
        *load(args),
        args.out,
        preset,
        {name: networks[name] for name in names},
        args.device,
        source(args),
    )
    entries = [ENTRIES[name] for name in args.methods]
    if args.whole_points is not None:
        most = lab.bank.dense().size(1)
        if not 1 <= args.whole_points <= most:
            raise SystemExit(f"--whole-points must lie in 1..{most}, got {args.whole_points}")
        entries = [e.at(args.whole_points) if isinstance(e, Whole) else e for e in entries]
    runs = lab.run(lab.cells(entries, args.ppc, seeds, args.backbones, args.distill_with))
    rows = transfer_matrix(runs, entries)
    table = transfer_markdown(rows, args.backbones)
    heading = f"{source(args)}, preset {preset.name}, accuracy % of the backbone that is trained"
    if rows:
        (args.out / "matrix.md").write_text(f"{heading}\n\n{table}")
        plot_transfer(rows, args.backbones, args.out / "matrix.png", heading)
    print(f"\n{heading}: {preset.protocol.name} protocol, whole set {preset.whole.name}\n")
    print(table)
    for run, reason in lab.failures.items():
        print(f"Failed: {run}: {reason}")
    print(f"The runs, the sets, matrix.md and matrix.png are in {args.out}/.")


if __name__ == "__main__":
    main()
