"""Compares methods of data set distillation under the same storage, and prints a table.

    python examples/compare.py                                         # embedded data, a smoke test
    python examples/compare.py --data clouds.npz --preset cpu --methods random SADM DDP --ppc 1 3
    python examples/compare.py --dataset modelnet10 --device cuda --preset paper

Every run is one line of `runs.jsonl` in the folder `--out`, with all that is needed to repeat it. A
run that is there is not made again, so that an interrupted comparison goes on when it is started
again, and a larger one takes over what a smaller one made.
"""

import argparse

from common import (
    add_comparison_arguments,
    add_data_arguments,
    load,
    preset_and_seeds,
    source,
)

from torch_geometric_ddp.clouds.splits import hold_out
from torch_geometric_ddp.comparison import (
    ENTRIES,
    Distilled,
    Lab,
    markdown,
    plot_comparison,
    summarize,
)
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import BACKBONES


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    what = add_comparison_arguments(parser, list(ENTRIES), ["PointNet"], "out/compare")
    what.add_argument("--lr", type=float, nargs="+", help="learning rates, a row for each")
    what.add_argument(
        "--validate",
        type=float,
        metavar="SHARE",
        help="test on this share of the training clouds, which are left out of the training set, "
        "and never on the test set: for the choice of settings",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    preset, seeds = preset_and_seeds(args)
    entries = [ENTRIES[name] for name in args.methods]
    if args.lr:
        entries = [
            row
            for entry in entries
            for row in (
                [entry.at(lr) for lr in args.lr] if isinstance(entry, Distilled) else [entry]
            )
        ]
    train_set, test_set = load(args)
    if args.validate:
        train_set, test_set = hold_out(train_set, args.validate)
    lab = Lab(
        train_set,
        test_set,
        args.out,
        preset,
        {name: BACKBONES[name] for name in args.backbones},
        args.device,
        source(args),
    )
    runs = lab.run(lab.cells(entries, args.ppc, seeds))
    rows = summarize(runs)
    table = markdown(rows)
    heading = f"{source(args)}, preset {preset.name}"
    if args.validate:
        heading += ", tested on clouds held out from the training set"
    (args.out / "table.md").write_text(f"{heading}\n\n{table}")
    plot_comparison(rows, args.out / "table.png", heading)
    print(f"\n{heading}: {preset.protocol.name} protocol, whole set {preset.whole.name}\n")
    print(table)
    for run, reason in lab.failures.items():
        print(f"Failed: {run}: {reason}")
    print(f"The runs, the distilled sets, the table and its picture are in {args.out}/.")


if __name__ == "__main__":
    main()
