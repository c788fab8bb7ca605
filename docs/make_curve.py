"""Makes the picture of accuracy over stored bits from the results in `docs/results/`.

    python docs/make_curve.py        # docs/images/bits.png

Every point is a row of one of their tables, which say how it was made. Of real clouds the best is
taken; PKR has the points that it takes by itself.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from render_results import find

from torch_geometric_ddp import StorageBudget
from torch_geometric_ddp.comparison import Row, plot_bits
from torch_geometric_ddp.methods import packed_size

PATH = Path(__file__).resolve().parent / "images" / "bits.png"
FILES = [f"modelnet10-{name}" for name in ("sixteenth", "eighth", "quarter", "half", "one")]
CLASSES, POINTS = 10, 1024
# What a line is called, and the rows that are on it.
LINES = {
    "PKR": ("PKR {size}",),
    "real clouds, mirrored, 5 or 6 bits": ("mirrored 32x5", "mirrored 64x6", "mirrored 128x6"),
    "DDP, single precision": ("DDP",),
    "real clouds, single precision": ("random", "random 64x32"),
    "whole set": ("whole, 256 points",),
}


def rows() -> list[Row]:
    """The points of all lines."""
    found: dict[tuple[str, float | None], Row] = {}
    for results in map(find, FILES):
        for run in results.rows:
            budget = None if run["ppc"] is None else StorageBudget(POINTS, CLASSES, run["ppc"])
            size = None if budget is None else packed_size(budget)[0]
            for line, methods in LINES.items():
                if run["method"] not in [method.format(size=size) for method in methods]:
                    continue
                told = {
                    "budget_bits": None if budget is None else budget.bits,
                    "class_names": range(CLASSES),
                    "metric": "accuracy",
                }
                values = [{**told, "value": value / 100} for value in run["accuracy"]]
                row = Row(line, run["backbone"], run["ppc"], values)
                best = found.setdefault((line, run["ppc"]), row)
                found[line, run["ppc"]] = max(best, row, key=lambda one: one.mean)
    order = list(LINES)
    return sorted(found.values(), key=lambda row: order.index(row.method))


def main() -> None:
    plot_bits(rows(), PATH, "ModelNet10")
    Image.open(PATH).convert("RGB").quantize(48).save(PATH, optimize=True)


if __name__ == "__main__":
    main()
