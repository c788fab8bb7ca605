"""Chunks of classes and ranks: what comes out of a few steps of DDP, and how long they take.

    python benchmarks/chunks.py            # some minutes
    python benchmarks/chunks.py --write    # also the results file of the documentation

The same steps are taken on generated shapes with so many classes at a time (classes_per_chunk), by
one process and shared among two and three, each on one thread. Shown is how far the anchors lie
from those of one process with the same chunks, and from those of one that computes all classes at
once, and the seconds of the processor of the busiest process, in a step, the first one left out.
"""

import argparse
import tempfile
import time
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from common import save

from torch_geometric_ddp import ParametricShapes
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.programs.option_types import positive

CLASSES, STEPS = 10, 3


def process(rank: int, ranks: int, chunk: int | None, points: int, folder: str) -> None:
    """Takes the steps on one rank, and leaves what came out in a file."""
    torch.set_num_threads(1)
    keep_freed_memory()  # As the programs do.
    if ranks > 1:
        dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
    bank = PointCloudBank.from_dataset(ParametricShapes(num_per_class=8, num_points=points))
    loop = ddp().begin(bank.normalize(), classes_per_chunk=chunk, progress=False)
    times: list[float] = []
    loop.run(STEPS, progress=False, callback=lambda _: times.append(time.process_time()))
    loop.share()
    seconds = (times[-1] - times[0]) / (STEPS - 1)
    anchors = loop.parameterization.anchors.detach()
    torch.save({"anchors": anchors, "seconds": seconds}, f"{folder}/{rank}")
    if ranks > 1:
        dist.destroy_process_group()


@cache
def made(ranks: int, chunk: int | None, points: int) -> tuple[torch.Tensor, float]:
    """The anchors after the steps, and the seconds of a step of the busiest rank."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, (ranks, chunk, points, folder), ranks)
        found = [torch.load(f"{folder}/{rank}") for rank in range(ranks)]
    return found[0]["anchors"], max(one["seconds"] for one in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-points", type=positive, default=128)
    parser.add_argument("--chunks", type=positive, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--ranks", type=positive, nargs="+", default=[1, 2, 3])
    parser.add_argument("--write", action="store_true", help="write the results file")
    args = parser.parse_args()
    whole = made(1, None, args.num_points)[0]
    rows: list[dict[str, Any]] = []
    for chunk in (*args.chunks, None):
        alone = made(1, chunk, args.num_points)[0]
        for ranks in args.ranks:
            if chunk is not None and -(-CLASSES // chunk) < ranks:
                continue  # Fewer chunks than ranks.
            anchors, seconds = made(ranks, chunk, args.num_points)
            row = {
                "chunk": "all of a rank" if chunk is None else str(chunk),
                "ranks": ranks,
                "to_alone": float((anchors - alone).abs().max()),
                "to_whole": float((anchors - whole).abs().max()),
                "seconds": round(seconds, 3),
            }
            rows.append(row)
            print(row, flush=True)
    if args.write:
        write(rows, args.num_points)


def write(rows: list[dict[str, Any]], points: int) -> None:
    """The results file of the documentation."""
    far = {"as": "scientific", "digits": 0}
    save(
        "chunks",
        title="DDP with the classes in chunks and shared among ranks",
        data=f"generated shapes, {points} points, {CLASSES} classes",
        commands=["python benchmarks/chunks.py --write"],
        hardware="two cores of an AMD EPYC, on which other programs ran; one thread a rank",
        versions={"torch": torch.__version__},
        seeds="0",
        protocol=f"PPC 1, M=4, L=16, PointNet, {STEPS} steps",
        columns=[
            {"key": "chunk", "head": "classes at a time"},
            {"key": "ranks", "head": "ranks", "as": "integer"},
            {"key": "to_alone", "head": "from one rank with these chunks", **far},
            {"key": "to_whole", "head": "from all classes at once", **far},
            {"key": "seconds", "head": "seconds a step", "as": "decimal", "digits": 2},
        ],
        rows=rows,
        notes=["Largest differences of a coordinate of an anchor; 0 is the same to the last bit."],
    )


if __name__ == "__main__":
    main()
