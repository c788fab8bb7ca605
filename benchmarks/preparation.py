"""Seconds of preparing real clouds for DDP, without and with what an earlier run has kept.

    OMP_NUM_THREADS=1 python benchmarks/preparation.py --data modelnet10_1024.npz

The clouds are normalised, split into subsets and scored, twice in the same new folder. The seconds
are those of the processor, in which programs beside it count less than in those of the clock.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from torch_geometric_ddp import ParametricShapes, PointCloudArrays
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.methods import ddp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=".npz as for examples/distill.py")
    args = parser.parse_args()
    data = PointCloudArrays.from_npz(args.data) if args.data else ParametricShapes(num_points=1024)
    read = PointCloudBank.from_dataset(data)
    print(f"{len(read)} clouds of {read.num_points} points, {torch.get_num_threads()} thread(s)")
    with tempfile.TemporaryDirectory() as folder:
        for what in ("without", "with"):
            began = time.process_time()
            bank = read.normalize()
            bank.keep_in(folder)
            ddp().begin(bank).prepare()
            print(f"{what} what was kept: {time.process_time() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
