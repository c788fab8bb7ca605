"""The operations of a training step of every backbone, as many as a GPU would be asked for.

    python benchmarks/operations.py

Once with clouds as they come, of which networks with centres look for the farthest points in every
step, and once in the order of these, in which `evaluate` puts them before.
"""

import argparse
import time

from together_time import Operations

from torch_geometric_ddp import ParametricShapes, Protocol
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.views import in_order_for
from torch_geometric_ddp.evaluation import fit
from torch_geometric_ddp.nn import BACKBONES
from torch_geometric_ddp.programs.option_types import positive


def of_step(make, bank: PointCloudBank) -> tuple[float, float]:
    """The operations of a step, and its milliseconds of the processor."""
    counts, taken = [], []
    for epochs in (1, 2):
        with Operations() as operations:
            fit(make(bank.num_classes), bank, Protocol("counted", epochs))
        counts.append(operations.counts.total())
        began = time.process_time()
        fit(make(bank.num_classes), bank, Protocol("timed", epochs))
        taken.append(time.process_time() - began)
    steps = -(-len(bank) // 8)  # Without what a training takes once.
    return (counts[1] - counts[0]) / steps, 1e3 * (taken[1] - taken[0]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-points", type=positive, default=1024)
    parser.add_argument("--only", nargs="+", default=[*BACKBONES], choices=BACKBONES, metavar="B")
    args = parser.parse_args()
    shapes = ParametricShapes(num_per_class=2, num_points=args.num_points)
    bank = PointCloudBank.from_dataset(shapes).normalize()
    for name in args.only:
        make = BACKBONES[name]
        count, took = of_step(make, bank)
        text = f"{name}: {count:.0f} operations, {took:.0f} ms"
        num = make(bank.num_classes).num_ordered
        if num is not None:
            fewer, less = of_step(make, in_order_for(bank, num))
            text += f"; in order {fewer:.0f}, {less:.0f} ms"
        print(text, flush=True)


if __name__ == "__main__":
    main()
