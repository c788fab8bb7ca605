"""Seconds per step of DDP with anchors and weights in several codecs.

    python benchmarks/codec_time.py --data modelnet10_1024.npz

All have the anchors that single precision leaves room for, so that only the codec differs, and are
timed in turn on the same networks. Beside the step stands what is in it to see the anchors and
morphs as they are stored, and what is not in it: a new correspondence of all anchors, which codecs
without order need every ten steps.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import torch
from common import seconds

from torch_geometric_ddp import ParametricShapes, PointCloudArrays
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import Distillation, ddp
from torch_geometric_ddp.parameterization import (
    FLOAT32,
    Float16,
    PointSet,
    ShapeMorphing,
    Uniform,
)
from torch_geometric_ddp.programs.option_types import natural, positive

CODECS = {
    "float32": (FLOAT32, FLOAT32),
    "float16": (Float16(), Float16()),
    "8 bits": (Uniform(8), Uniform(8, "cloud")),
    "8 bits, range per axis": (Uniform(8, "axis"), Uniform(8, "cloud")),
    "6 bits, sets": (PointSet(6), Uniform(8, "cloud")),
    "8 bits, sets": (PointSet(8), Uniform(8, "cloud")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=".npz as for examples/distill.py")
    parser.add_argument("--num-anchors", type=positive, default=4)
    parser.add_argument("--num-morphs", type=natural, default=16)
    parser.add_argument("--clouds", type=positive, default=300, help="real clouds to draw from")
    parser.add_argument("--repeats", type=positive, default=7)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    keep_freed_memory()
    data = PointCloudArrays.from_npz(args.data) if args.data else ParametricShapes(num_points=1024)
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: args.clouds]
    bank = PointCloudBank.from_dataset(data[chosen], args.device).normalize()
    sizes = args.num_anchors, args.num_morphs
    points = ShapeMorphing.largest_anchor_points(bank.budget(1), *sizes)
    loops: dict[str, Distillation] = {}
    for name, (codec, weight_codec) in CODECS.items():
        method = ddp(sizes[0], points, sizes[1], codec=codec, weight_codec=weight_codec)
        loops[name] = method.begin(bank)
        loops[name].step()  # Measures the memory, and computes a first correspondence.

    times: dict[str, list[float]] = {name: [] for name in loops}
    orders: dict[str, list[float]] = {name: [] for name in loops}
    unfolds: dict[str, list[float]] = {name: [] for name in loops}
    timed = partial(seconds, device=args.device)
    for _ in range(args.repeats):
        network = loops["float32"].networks.fresh()
        for name, loop in loops.items():
            orders[name].append(timed(loop.parameterization.reorder))
            unfolds[name].append(timed(loop.parameterization.unfold))
            update = partial(loop._update, network, read=True)
            update()
            times[name].append(timed(update))
    print(f"{loops['float32'].parameterization.describe()}, {torch.get_num_threads()} threads\n")
    print("| codec                  | median s | min s | median of ratio | unfold ms | order ms |")
    print("|------------------------|----------|-------|-----------------|-----------|----------|")
    for name, own in times.items():
        ratios = [mine / base for mine, base in zip(own, times["float32"], strict=True)]
        row = statistics.median(own), min(own), statistics.median(ratios)
        beside = 1e3 * min(unfolds[name]), 1e3 * min(orders[name])
        line = "| {:22} | {:8.3f} | {:5.3f} | {:15.3f} | {:9.1f} | {:8.1f} |"
        print(line.format(name, *row, *beside))


if __name__ == "__main__":
    main()
