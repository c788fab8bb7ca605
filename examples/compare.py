"""Compares methods of data set distillation under the same storage, and prints a table.

    python examples/compare.py                                         # embedded data, a smoke test
    python examples/compare.py --data clouds.npz --preset cpu --methods random SADM DDP --ppc 1 3
    python examples/compare.py --dataset modelnet10 --device cuda --preset paper

Every run is one line of `runs.jsonl` in the folder `--out`, with all that is needed to repeat it. A
run that is there is not made again, so that an interrupted comparison goes on when it is started
again, and a larger one takes over what a smaller one made.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from common import add_data_arguments, load, source

from torch_geometric_ddp.comparison import (
    ENTRIES,
    PRESETS,
    Distilled,
    Lab,
    markdown,
    plot_comparison,
    summarize,
)
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import BACKBONES
from torch_geometric_ddp.splits import hold_out


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    what = parser.add_argument_group("what is compared")
    what.add_argument("--methods", nargs="+", choices=ENTRIES, default=list(ENTRIES), metavar="M")
    what.add_argument("--ppc", type=int, nargs="+", default=[1], help="storage in clouds per class")
    what.add_argument("--backbones", nargs="+", choices=BACKBONES, default=["PointNet"])
    what.add_argument("--preset", choices=PRESETS, default="smoke", help="how much work to take")
    what.add_argument("--lr", type=float, nargs="+", help="learning rates, a row for each")
    what.add_argument("--steps", type=int, help="steps of every method (as the preset says)")
    what.add_argument("--seeds", type=int, nargs="+", help="the seeds (as many as the preset says)")
    what.add_argument(
        "--validate",
        type=float,
        metavar="SHARE",
        help="test on this share of the training clouds, which are left out of the training set, "
        "and never on the test set: for the choice of settings",
    )
    parser.add_argument("--device", default=None, help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path("out/compare"))
    parser.epilog = "Methods: " + ", ".join(ENTRIES)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    preset = PRESETS[args.preset]
    if args.steps is not None:
        preset = replace(preset, name=f"{preset.name}, {args.steps} steps", steps=args.steps)
    seeds = range(preset.num_seeds) if args.seeds is None else args.seeds
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
