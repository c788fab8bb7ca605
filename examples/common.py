"""What the examples share: which data set, and what their programs call it."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch_geometric_ddp import CPU, PAPER, QUICK, SMOKE, ParametricShapes, PointCloudArrays
from torch_geometric_ddp.comparison import ENTRIES, PRESETS, Preset
from torch_geometric_ddp.datasets import ModelNetMeshes
from torch_geometric_ddp.nn import BACKBONES
from torch_geometric_ddp.transforms import NormalizeSphere

PROTOCOLS = {protocol.name: protocol for protocol in (PAPER, CPU, QUICK, SMOKE)}


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, help=".npz with train_points, train_labels, test_...")
    data.add_argument("--dataset", choices=("shapes", "modelnet10", "modelnet40"), default="shapes")
    data.add_argument(
        "--root", type=Path, default=Path("data"), help="where ModelNet lies, or is downloaded to"
    )
    data.add_argument("--num-points", type=int, help="points of a cloud (256, ModelNet 1024)")
    data.add_argument("--num-per-class", type=int, default=100, help="shapes only: training clouds")


def add_comparison_arguments(
    parser: argparse.ArgumentParser, methods: list[str], backbones: list[str], out: str
):
    """What is compared, by default these methods and backbones; returns the group."""
    what = parser.add_argument_group("what is compared")
    what.add_argument("--methods", nargs="+", choices=ENTRIES, default=methods, metavar="M")
    what.add_argument("--ppc", type=int, nargs="+", default=[1], help="storage in clouds per class")
    what.add_argument("--backbones", nargs="+", choices=BACKBONES, default=backbones, metavar="B")
    what.add_argument("--preset", choices=PRESETS, default="smoke", help="how much work to take")
    what.add_argument("--steps", type=int, help="steps of every method (as the preset says)")
    what.add_argument(
        "--whole-epochs", type=int, help="epochs on the whole set (as the preset says)"
    )
    what.add_argument("--seeds", type=int, nargs="+", help="the seeds (as many as the preset says)")
    parser.add_argument("--device", default=None, help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.epilog = f"Methods: {', '.join(ENTRIES)}. Backbones: {', '.join(BACKBONES)}."
    return what


def preset_and_seeds(args: argparse.Namespace) -> tuple[Preset, Sequence[int]]:
    """How much work to take, and for which seeds."""
    preset = PRESETS[args.preset]
    if args.steps is not None:
        preset = replace(preset, name=f"{preset.name}, {args.steps} steps", steps=args.steps)
    if args.whole_epochs is not None:
        epochs = f"{args.whole_epochs} epochs"
        whole = replace(preset.whole, name=epochs, epochs=args.whole_epochs, min_steps=0)
        preset = replace(preset, name=f"{preset.name}, whole set {epochs}", whole=whole)
    return preset, range(preset.num_seeds) if args.seeds is None else args.seeds


def source(args: argparse.Namespace) -> str:
    return args.data.stem if args.data else args.dataset


def load(args: argparse.Namespace):
    """The training and the test set."""
    if args.data is not None:
        sample = {"num_points": args.num_points, "sampling": "fps"}
        return [PointCloudArrays.from_npz(args.data, s, **sample) for s in ("train", "test")]
    if args.dataset == "shapes":
        num_points = args.num_points or 256
        sizes = {True: args.num_per_class, False: max(1, args.num_per_class // 2)}
        return [ParametricShapes(train, sizes[train], num_points) for train in (True, False)]
    name, num_points = args.dataset.removeprefix("modelnet"), args.num_points or 1024
    return [
        ModelNetMeshes(args.root, name, split, num_points, pre_transform=NormalizeSphere())
        for split in ("train", "test")
    ]


def print_sets(results, bits: dict[str, int], score: str) -> None:
    """A row for every training set: its size, what it stores and what networks reach on it."""
    print(f"\n| {'set':13} | {'clouds':>6} | {'points':>9} | {'bits':>12} | {score}")
    print(f"|{'-' * 15}|{'-' * 8}|{'-' * 11}|{'-' * 14}|{'-' * 40}")
    for name, result in results.items():
        size = f"{result.num_clouds:6,} | {result.num_points:9,} | {bits[name]:12,}"
        print(f"| {name:13} | {size} | {result}")


def write_results(out: Path, results, bits: dict[str, int], **summary) -> None:
    """Writes `results.json` and says what is in the folder."""
    figures = {name: {"bits": bits[name], **result.to_dict()} for name, result in results.items()}
    text = json.dumps({"results": figures, **summary}, indent=1)
    (out / "results.json").write_text(text + "\n")
    distilled, total = summary["distill_seconds"], summary["seconds"]
    print(f"\nDistilled in {distilled:.0f} s, everything in {total:.0f} s.")
    print(f"The set, its picture and the figures are in {out}/:")
    print(*(f"  {path.name}" for path in sorted(out.iterdir())), sep="\n")
