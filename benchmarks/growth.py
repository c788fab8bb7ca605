"""How the time of a step grows with classes and PPC: as operations are counted, and as it is.

    python benchmarks/growth.py                        # counts, in seconds
    python benchmarks/growth.py --measure --write      # minutes on one thread

Every step is one of DDP with PointNet, with clouds of 64 points so that 156 classes take seconds
(M=4, N2=15, L=16, eight real clouds a class). Counted are the floating point operations of all
matrix products and the bytes that all operations write, on the device "meta", where nothing is
computed. Measured is the time of the processor, which programs beside it change less than that of
the clock, the best of up to three steps. With --write the table goes to docs/results/growth.json,
of which the documentation makes its own, and the picture of docs/make_gallery.py.
"""

import argparse
import json
import platform
import time
from typing import Any

import torch
from common import ANCHORS, BATCH, MORPHS, loop_of, save
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from torch_geometric_ddp.matching import UniformityAwareSADM
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.parameterization import ShapeMorphing

CLASSES, PPCS = (10, 40, 55, 156), (1, 3, 10)
POINTS, SIZE = 15, 64
# After so many another step is not taken.
MOST_SECONDS = 2.0


class Written(TorchDispatchMode):
    """Counts the bytes of what operations give that is no view of what they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(x.nbytes for x in tree_leaves(out) if isinstance(x, torch.Tensor))
        return out


def counted(num_classes: int, ppc: int, points: int = POINTS, size: int = SIZE) -> dict[str, float]:
    """The operations of matrix products in a step, and the bytes that it writes.

    Anchors have :obj:`points` points and real clouds :obj:`size`.
    """
    with torch.device("meta"):
        network = PointNet(num_classes).requires_grad_(False)
        anchors = torch.empty(num_classes * ppc, ANCHORS, points, 3)
        parts = size // points
        real = {
            "subset_pos": torch.empty(num_classes, BATCH, parts, points, 3),
            "uniformity": torch.empty(num_classes, BATCH),
            "subset_uniformity": torch.empty(num_classes, BATCH, parts),
        }
    shape = ShapeMorphing(anchors, num_classes, MORPHS)
    with FlopCounterMode(display=False) as flops, Written() as written:
        UniformityAwareSADM()(network, real, shape()).sum().backward()
    return {"gflop": flops.get_total_flops() / 1e9, "gb": written.bytes / 1e9}


def measured(num_classes: int, ppc: int) -> float:
    """The shortest step of so many classes, in seconds of the processor."""
    loop = loop_of(num_classes, ppc, POINTS, SIZE)
    seconds = []
    while len(seconds) < 3 and sum(seconds) < MOST_SECONDS:
        began = time.process_time()
        loop.step()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="also take the time of steps")
    parser.add_argument("--write", action="store_true", help="write the results file")
    args = parser.parse_args()
    if args.write and not args.measure:
        parser.error("--write must come with --measure, as the results file has the times")
    torch.manual_seed(0)
    keep_freed_memory()  # As the programs do.
    rows: list[dict[str, Any]] = []
    for ppc in PPCS:
        for num_classes in CLASSES:
            found = counted(num_classes, ppc)
            took = measured(num_classes, ppc) if args.measure else None
            row = {"ppc": ppc, "classes": num_classes, **found, "seconds": took}
            first = rows[0] if rows else row
            row["gflop_ratio"], row["gb_ratio"], row["ratio"] = (
                None if row[key] is None else row[key] / first[key]
                for key in ("gflop", "gb", "seconds")
            )
            rows.append(row)
            print(json.dumps(row), flush=True)
    if args.write:
        write(rows)


def write(rows: list[dict[str, Any]]) -> None:
    """The results file of the documentation."""

    def column(key: str, head: str, digits: int | None = None) -> dict[str, Any]:
        kind = {"as": "integer"} if digits is None else {"as": "decimal", "digits": digits}
        return {"key": key, "head": head, **kind}

    columns = [
        column("ppc", "PPC"),
        column("classes", "classes"),
        column("gflop", "GFLOP", 1),
        column("gb", "GB written", 2),
        column("seconds", "seconds", 2),
        column("gflop_ratio", "FLOP, times row 1", 1),
        column("gb_ratio", "bytes, times", 1),
        column("ratio", "seconds, times", 1),
    ]
    kept = [{k: v if v is None else round(v, 3) for k, v in row.items()} for row in rows]
    save(
        "growth",
        title="Growth of a step of DDP with classes and PPC",
        data=f"generated shapes, {SIZE} points",
        commands=["OMP_NUM_THREADS=1 python benchmarks/growth.py --measure --write"],
        hardware=f"{torch.get_num_threads()} thread(s) of an {platform.machine()} CPU, on which "
        "other programs ran",
        versions={"torch": torch.__version__},
        seeds=f"0; time of the processor, the best of three steps, or of fewer that took together "
        f"{MOST_SECONDS:g} s",
        protocol=f"M={ANCHORS}, N2={POINTS}, L={MORPHS}, PointNet, {BATCH} real clouds a class",
        columns=columns,
        rows=kept,
        notes=[
            "GFLOP are those of matrix products; GB are what all operations write. Both are "
            "counted for all classes at once, without computing.",
            f"What takes more than {MOST_SECONDS:g} s was taken once, as a first step with fresh "
            "memory.",
        ],
    )
    from make_gallery import growth  # Of docs/, as what was saved.

    growth()


if __name__ == "__main__":
    main()
