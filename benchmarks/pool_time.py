"""Milliseconds of PointNet there and back, with the gradient of its pools in two ways.

    OMP_NUM_THREADS=1 python benchmarks/pool_time.py

On a CPU the gradient of `linear_max_pool` goes cloud by cloud, elsewhere through all clouds at
once. Both are timed in turn in the same process, in seconds of the processor. Few clouds are a
step of training, many are those of a step of PKR, whose network is frozen.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import PointNet, pool
from torch_geometric_ddp.programs.option_types import positive


def training(clouds: int, points: int) -> Callable[[], None]:
    """A step of training."""
    network, batch = PointNet(10), clouds_of(clouds, points)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(network(batch), batch.y).backward()
        optimizer.step()

    return step


def distilling(clouds: int, points: int) -> Callable[[], None]:
    """The gradient of the points, through a network that is frozen."""
    network, batch = PointNet(10).requires_grad_(False), clouds_of(clouds, points)
    batch.pos.requires_grad_()

    def step() -> None:
        torch.autograd.grad(network.global_features(batch).sum(), batch.pos)

    return step


def clouds_of(clouds: int, points: int):
    return from_dense(torch.randn(clouds, points, 3), y=torch.arange(clouds) % 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=positive, nargs="+", default=[32, 64, 252])
    parser.add_argument("--clouds", type=positive, default=8, help="of a step of training")
    parser.add_argument("--many", type=positive, default=370, help="of a step of distilling")
    parser.add_argument("--repeats", type=positive, default=9)
    args = parser.parse_args()
    keep_freed_memory()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.repeats} repeats")
    for make, clouds in ((training, args.clouds), (distilling, args.many)):
        for points in args.points:
            step, taken = make(clouds, points), {True: [], False: []}
            for _ in range(args.repeats + 1):
                for by_cloud, times in taken.items():
                    pool._cloud_by_cloud = lambda x, way=by_cloud: way
                    began = time.process_time()
                    step()
                    times.append(time.process_time() - began)
            ours, other = (1e3 * statistics.median(times[1:]) for times in taken.values())
            print(
                f"{make.__name__} {clouds} x {points}: {ours:.1f} ms cloud by cloud, {other:.1f} "
                f"at once, ratio {other / ours:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
