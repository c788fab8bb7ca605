"""Seconds of preparing real clouds for DDP, without and with what an earlier run has kept.

    OMP_NUM_THREADS=1 python benchmarks/preparation.py --data modelnet10_1024.npz
    OMP_NUM_THREADS=1 python benchmarks/preparation.py --data modelnet10_1024.npz --clouds 50000

The clouds are normalised, split into subsets and scored, twice in the same new folder. The seconds
are those of the processor, in which programs beside it count less than in those of the clock. With
--clouds the clouds are repeated, each time with other noise, until there are so many.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from torch_geometric_ddp import ParametricShapes, PointCloudArrays
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.programs.option_types import positive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=".npz as for examples/distill.py")
    parser.add_argument("--clouds", type=positive, help="how many (default: those of the data)")
    args = parser.parse_args()
    data = PointCloudArrays.from_npz(args.data) if args.data else ParametricShapes(num_points=1024)
    read = repeated(PointCloudBank.from_dataset(data), args.clouds or len(data))
    print(f"{len(read)} clouds of {read.num_points} points, {torch.get_num_threads()} thread(s)")
    with tempfile.TemporaryDirectory() as folder:
        for what in ("without", "with"):
            began = time.process_time()
            bank = read.normalize()
            bank.keep_in(folder)
            ddp().begin(bank).prepare()
            print(f"{what} what was kept: {time.process_time() - began:.1f} s", flush=True)


def repeated(bank: PointCloudBank, num_clouds: int) -> PointCloudBank:
    """So many clouds, of which those beyond the first are noisy copies."""
    index = torch.arange(num_clouds) % len(bank)
    pos = bank.dense()[index]
    noise = torch.Generator().manual_seed(0)
    for copies in pos[len(bank) :].split(len(bank)):  # A part at a time, for they fill gigabytes.
        copies += 1e-3 * torch.randn(copies.shape, generator=noise)
    sizes = torch.full((num_clouds,), pos.size(1))
    return PointCloudBank(pos.flatten(0, 1), sizes, bank.y[index], bank.class_names)


if __name__ == "__main__":
    main()
