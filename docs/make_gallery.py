"""Makes the pictures of the gallery that are not on the start page.

    python docs/make_gallery.py        # docs/images/gallery/*.png

Bars, curve and matrix show the figures of `docs/results/`. The search, the confusion and the parts
are those of small runs with generated shapes; all takes about two minutes on one core of a CPU.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from rendering import as_list, find
from torch_geometric.data import Data
from torch_geometric.nn import MLP, global_max_pool

from torch_geometric_ddp import (
    ParametricShapes,
    Protocol,
    StorageBudget,
    SyntheticPointCloudDataset,
    distill,
    evaluate,
)
from torch_geometric_ddp.comparison import (
    ENTRIES,
    Row,
    Sensitivity,
    TransferRow,
    plot_bits,
    plot_comparison,
    plot_increments,
    plot_transfer,
)
from torch_geometric_ddp.comparison.report import labelled
from torch_geometric_ddp.methods import ddp, packed_size
from torch_geometric_ddp.nn import HookedBackbone
from torch_geometric_ddp.programs.option_types import row_and_settings
from torch_geometric_ddp.tuning import SearchSpace, plot_tuning, tune
from torch_geometric_ddp.visualize import plot_confusion, plot_distilled

FOLDER = Path(__file__).resolve().parent / "images" / "gallery"
CLASSES = 10
# The tables of the page on bits, and what its curve calls their rows.
BUDGETS = [
    f"modelnet10-{name}"
    for name in (
        *("sixteenth", "eighth", "quarter", "one", "more", "codecs", "codecs-quarter"),
        *("ddp-codecs", "ddp-codecs-sixteenth"),
    )
]
PACKED = ("PKR 32", "PKR 64", "PKR 128")
LINES = {
    **dict.fromkeys(
        ("mirrored 32x5", "mirrored 64x6", "mirrored 128x6"), "real clouds, 5 or 6 bits, mirrored"
    ),
    "DDP": "DDP, single precision",
    "DDP 64x6": "DDP, 6 bits, sets of 64 points",
    "random 128x6": "real clouds of 128 points, 6 bits",
    "random 64x32": "real clouds of 64 points, single precision",
    "random": "real clouds of 1,024 points, single precision",
    "whole, 256 points": "whole set, 256 points",
}


def rows_of(*names: str, methods: Iterable[str] = ()) -> list[Row]:
    """The rows of results files, as a comparison has them; a row that several files have, once.

    Raises:
        ValueError: If rows of the same set and backbone have different figures.
    """
    wanted = [*methods]
    rows: list[Row] = []
    known: dict[tuple[Any, ...], Any] = {}
    for name in names:
        for row in find(name).rows:
            if row["accuracy"] is None or (wanted and row["method"] not in wanted):
                continue
            key = (*_set(row), row["backbone"])
            if key not in known:
                rows.append(_row(row))
            elif known[key] != row["accuracy"]:
                raise ValueError(f"{name} has a second row of {row['method']}: {key[1:]}")
            known[key] = row["accuracy"]
    return rows


def matrix_of(name: str) -> list[TransferRow]:
    """The rows of a results file, with a column for every backbone or number of test points.

    Raises:
        ValueError: If there are two of the same set and column.
    """
    rows: dict[tuple[Any, ...], TransferRow] = {}
    found = find(name).rows
    cells = [_row(row) for row in found]
    several = len({cell.backbone for cell in cells}) > 1
    for row, cell, named in zip(found, cells, labelled(cells), strict=True):
        points = row.get("train_points")
        if points is None:
            column, line, key = cell.backbone, (cell.method, row["distilled_with"]), _set(row)
        else:
            words = [named.method, *([cell.backbone] if several else []), f"{points} points"]
            column, line = str(row["test_points"]), (", ".join(words), None)
            key = (*_set(row), points, cell.backbone)
        known = rows.setdefault(key, TransferRow(*line, cell.ppc, {}))
        if column in known.cells:
            raise ValueError(f"{name} has a second row of {known}, {column}")
        known.cells[column] = cell
    return list(rows.values())


def increments_of(name: str) -> list[dict[str, Any]]:
    """The runs of a results file after every increment, as class-incremental learning has them."""
    runs: list[dict[str, Any]] = []
    for row in find(name).rows:
        seen = [int(key.removeprefix("after_")) for key in row if key.startswith("after_")]
        for i, num in enumerate(seen):
            own = {**_run(row), "classes_seen": seen[: i + 1]}
            each = zip(row["seeds"], row[f"after_{num}"], strict=True)
            runs += [{**own, "seed": seed, "value": value / 100} for seed, value in each]
    return runs


def _set(row: dict[str, Any]) -> tuple[Any, ...]:
    """What tells the set of a row from all others."""
    return row["method"], row.get("distilled_with"), row["ppc"], row.get("steps")


def _row(row: dict[str, Any]) -> Row:
    """A row of a results file as a comparison has it."""
    runs = [{**_run(row), "value": value / 100} for value in _each(row["accuracy"])]
    return Row(row["method"], row["backbone"], row["ppc"], runs)


def _run(row: dict[str, Any]) -> dict[str, Any]:
    """What the runs of a row of a results file have in common."""
    ppc, maker = row["ppc"], row.get("distilled_with")
    foreign = {} if maker in (None, row["backbone"]) else {"distilled_with": maker}
    return {
        **foreign,
        **{key: row[key] for key in ("method", "backbone", "ppc")},
        "metric": "accuracy",
        "budget_bits": None if ppc is None else 98304 * CLASSES * ppc,
        "class_names": [str(i) for i in range(CLASSES)],
    }


def _each(accuracy: Any) -> list[float]:
    """The figures of the seeds; where only mean and spread were kept, figures that have them."""
    if not isinstance(accuracy, dict):
        return as_list(accuracy)
    if "each" in accuracy:
        return list(accuracy["each"])
    mean, std, count = accuracy["mean"], accuracy["std"], accuracy["count"]
    step = std * math.sqrt((count - 1) / 2)
    return [mean - step, *[mean] * (count - 2), mean + step]


def tables() -> None:
    """What was measured."""
    data = "ModelNet10"
    rows = rows_of("modelnet10-methods", "modelnet10-methods-ppc3")
    plot_comparison(rows, FOLDER / "bars.png", data)
    plot_bits(curve(), FOLDER / "bits.png", data)
    matrix = matrix_of("modelnet10-cross")
    columns = dict.fromkeys(backbone for line in matrix for backbone in line.cells)
    title = f"{data}, PPC 1: what backbones learn from a set"
    plot_transfer(matrix, list(columns), FOLDER / "matrix.png", title)
    resolutions = matrix_of("modelnet10-resolution")
    title = f"{data}, PPC 1: PointNet on sets and test clouds of fewer points"
    tested = list(resolutions[0].cells)
    plot_transfer(
        resolutions, tested, FOLDER / "resolution.png", title, "points of the test clouds"
    )
    rows, values = rows_of("modelnet10-sensitivity"), defaultdict(list)
    for row in rows:
        for name, value in row_and_settings(row.method)[1].items():
            values[name].append(value)
    title = f"{data}, 256 points, PPC 1: DDP on held-out clouds"
    Sensitivity(ENTRIES["DDP"], values).plot(rows, FOLDER / "sensitivity.png", title)
    title = f"{data}, a quarter of a cloud per class: classes two by two"
    plot_increments(increments_of("modelnet10-increments"), FOLDER / "increments.png", title)


def growth() -> None:
    """How the time of a step grows with classes and PPC, counted and measured."""
    rows = find("growth").rows
    figure = Figure(figsize=(7, 4), layout="tight")
    axes = figure.add_subplot()
    for k, ppc in enumerate(dict.fromkeys(row["ppc"] for row in rows)):
        mine = [row for row in rows if row["ppc"] == ppc]
        classes = [row["classes"] for row in mine]
        for key, style, what in (
            ("ratio", "o-", "time"),
            ("gflop_ratio", ":", "FLOP"),
            ("gb_ratio", "--", "bytes"),
        ):
            ratios = [row[key] for row in mine]
            axes.plot(classes, ratios, style, color=f"C{k}", label=f"PPC {ppc}, {what}")
    axes.set(xscale="log", yscale="log", xlabel="classes", ylabel="times 10 classes, PPC 1")
    axes.set_xticks(classes, map(str, classes))
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    path = FOLDER / "growth.png"
    figure.savefig(path, dpi=150)
    lighten(path)


def lighten(path: Path) -> None:
    """Writes a picture again in few colours."""
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def curve() -> list[Row]:
    """Accuracy over bits: PKR with the points that it takes by itself, and what it has to beat.

    Of real clouds that are mirrored, the best of all sizes stands for every budget.
    """
    best: dict[tuple[str, float | None], Row] = {}
    for row in rows_of(*BUDGETS, methods=(*LINES, *PACKED)):
        budget = None if row.ppc is None else StorageBudget(1024, CLASSES, row.ppc)
        own = None if budget is None else f"PKR {packed_size(budget)[0]}"
        line = "PKR" if row.method == own else LINES.get(row.method)
        if line is not None:
            named = replace(row, method=line)
            known = best.setdefault((line, row.ppc), named)
            best[line, row.ppc] = max(known, named, key=lambda one: one.mean)
    order = ["PKR", *dict.fromkeys(LINES.values())]
    return sorted(best.values(), key=lambda row: order.index(row.method))


def shapes() -> None:
    """Parts in their colours, and what networks take for what."""
    sizes = {"num_per_class": 6, "num_points": 512, "segmentation": True}
    real = ParametricShapes(train=True, **sizes)
    method = ddp(num_anchors=4, num_morphs=4)
    small = distill(real, 1, method, steps=0, task="segmentation", source="generated shapes")
    chosen = ["airplane", "chair", "lamp", "table"]
    plot_distilled(real, small, FOLDER / "parts.png", 2, 3, 3, classes=chosen)
    test = ParametricShapes(train=False, num_per_class=30, num_points=256)
    protocol = Protocol("short", epochs=1, min_steps=600)
    result = evaluate(SyntheticPointCloudDataset.example(), test, protocol=protocol, seeds=1)
    title = f"PointNet on the set of the package: {100 * result.mean:.0f} %"
    scores = result.scores
    plot_confusion(scores.confusion, scores.class_names, FOLDER / "confusion.png", title)


class Net(torch.nn.Module):
    """A small network, which leaves chance within a few steps."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.points = MLP([3, 64, 128])
        self.cloud = MLP([128, 64, num_classes])

    def forward(self, data: Data) -> torch.Tensor:
        return self.cloud(global_max_pool(self.points(data.pos), data.batch))


def network(num_classes: int) -> HookedBackbone:
    """The same as a backbone."""
    return HookedBackbone(Net(num_classes), "points", num_classes=num_classes, point_channels=128)


def search() -> None:
    """A small search, for accuracy alone and for accuracy and few bits."""
    real = ParametricShapes(train=True, num_per_class=10, num_points=64)
    space = SearchSpace((2, 6), (0, 8), anchor_lr=(0.1, 10.0))
    settings: dict[str, Any] = {"steps": 20, "looks": (), "n_trials": 16, "storage": None}
    settings["network"] = network
    protocol = Protocol("short", epochs=1, min_steps=150)
    for objectives, names in (
        (("score",), ("history", "importances", "parallel")),
        (("score", "bits"), ("pareto",)),
    ):
        result = tune(real, 1, space=space, objectives=objectives, protocol=protocol, **settings)
        with tempfile.TemporaryDirectory() as folder:
            for path in plot_tuning(result, folder):
                if path.stem in names:
                    (FOLDER / f"tuning-{path.name}").write_bytes(path.read_bytes())


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    tables()
    growth()
    shapes()
    search()
    for path in FOLDER.glob("*.png"):
        lighten(path)


if __name__ == "__main__":
    main()
