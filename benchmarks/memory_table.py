"""Bytes of a step by classes and PPC: as the memory plan calculates them, and as they are.

    python benchmarks/memory_table.py                  # calculates, in a second
    python benchmarks/memory_table.py --measure 1 3 10 50 --write

Every step is one of DDP with PointNet at 1,024 points (M=4, N2=252, L=16, eight real clouds a
class). What is calculated takes no memory, as all tensors lie on the device "meta". What is
measured is the peak of the first step of one chunk of classes after it was prepared, before the
optimiser has its momentum, on generated shapes. With --write
the table goes to docs/results/memory.json, of which the documentation makes its own.
"""

import argparse
import json
import platform

import torch
from common import ANCHORS, BATCH, MORPHS, loop_of, save

from torch_geometric_ddp.memory import PeakMemory
from torch_geometric_ddp.methods.memory_plan import MemoryPlan, class_bytes
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.parameterization import ShapeMorphing
from torch_geometric_ddp.programs.option_types import positive

CLASSES, PPCS = (10, 40, 55, 156, 216), (1, 3, 10, 50)
POINTS, SIZE = 252, 1024
# Real clouds of a class, as many as ModelNet10 has on average.
REAL = 400


def calculated(num_classes: int, ppc: int) -> dict[str, float]:
    """What a step takes, and what is held beside it, in bytes."""
    with torch.device("meta"):
        network = PointNet(num_classes).requires_grad_(False)
        anchors = torch.empty(num_classes * ppc, ANCHORS, POINTS, 3)
        views = {"subset_pos": torch.empty(1, SIZE // POINTS, POINTS, 3)}
    shape = ShapeMorphing(anchors, num_classes, MORPHS)
    each = class_bytes(network, shape, views, BATCH)
    together = min(num_classes, MemoryPlan.together(each))
    return {
        "class": each,
        "together": together,
        "step": together * each,
        # The clouds and their subsets.
        "real": 2 * num_classes * REAL * SIZE * 3 * 4,
        # Parameters, gradients and momentum.
        "synthetic": 3 * 4 * sum(p.numel() for p in shape.parameters()),
    }


def measured(num_classes: int, ppc: int) -> int | None:
    """The peak of the first step of so many classes, in which there is no momentum yet."""
    loop = loop_of(num_classes, ppc, POINTS, SIZE, classes_per_chunk=num_classes)
    with PeakMemory(loop.bank.device) as memory:
        loop.step()
    return memory.bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--measure", type=positive, nargs="+", default=[], metavar="PPC", help="also measure these"
    )
    parser.add_argument("--write", action="store_true", help="write the results file")
    args = parser.parse_args()
    torch.manual_seed(0)
    peaks: dict[tuple[int, int], int | None] = {}
    rows = []
    for ppc in PPCS:
        for num_classes in CLASSES:
            found = calculated(num_classes, ppc)
            # All chunks of a step are alike.
            key = int(found["together"]), ppc
            if ppc in args.measure and key not in peaks:
                peaks[key] = measured(*key)
            peak = peaks.get(key)
            rows.append(
                {
                    "ppc": ppc,
                    "classes": num_classes,
                    **{name: round(value / 1e6) for name, value in found.items()},
                    "together": key[0],
                    "measured": None if peak is None else round(peak / 1e6),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    if args.write:
        write(rows)


def write(rows: list[dict[str, float | None]]) -> None:
    """The results file of the documentation."""

    def column(key: str, head: str) -> dict[str, str]:
        return {"key": key, "head": head, "as": "integer"}

    columns = [
        column("ppc", "PPC"),
        column("classes", "classes"),
        column("class", "MB a class"),
        column("together", "classes at a time"),
        column("step", "MB a step, calculated"),
        column("measured", "measured"),
        column("real", "MB of real clouds"),
        column("synthetic", "of synthetic ones"),
    ]
    save(
        "memory",
        title="Memory of a step of DDP by classes and PPC",
        data="generated shapes, 1,024 points",
        commands=["python benchmarks/memory_table.py --measure 1 3 10 50 --write"],
        hardware=f"{torch.get_num_threads()} thread(s) of an {platform.machine()} CPU",
        versions={"torch": torch.__version__},
        seeds="0; one step each",
        protocol="M=4, N2=252, L=16, PointNet, eight real clouds a class and step",
        columns=columns,
        rows=rows,
        notes=[
            "The peak of one chunk of classes is measured; all chunks of a step are alike.",
            f"Real clouds are {REAL} a class and their subsets; several ranks share the latter.",
        ],
    )


if __name__ == "__main__":
    main()
