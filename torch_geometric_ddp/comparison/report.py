"""The table and the picture of a comparison."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.figure import Figure

from torch_geometric_ddp.comparison.cells import Figures
from torch_geometric_ddp.evaluation import percent
from torch_geometric_ddp.visualize import plain

__all__ = ["Row", "class_markdown", "markdown", "plot_comparison", "summarize"]


@dataclass(frozen=True)
class Row:
    """All runs of one method under one budget and backbone.

    Args:
        method (str): The method.
        backbone (str): The backbone.
        ppc (float, optional): The budget, none for the whole set.
        runs (list of dict): The lines of the runs.
    """

    method: str
    backbone: str
    ppc: float | None
    runs: list[Figures]

    @property
    def values(self) -> list[float]:
        """The figure of every run, in 0..1."""
        return [run["value"] for run in self.runs]

    @property
    def metric(self) -> str:
        """What :attr:`values` are called."""
        return str(self.runs[0]["metric"])

    @property
    def mean(self) -> float:
        """The mean of :attr:`values`, in 0..1."""
        return float(torch.tensor(self.values, dtype=torch.float64).mean())

    @property
    def std(self) -> float:
        """The sample standard deviation, in 0..1; NaN for a single run."""
        values = torch.tensor(self.values, dtype=torch.float64)
        return float(values.std()) if len(values) > 1 else float("nan")

    def __str__(self) -> str:
        return _percent(self.values)

    def median(self, key: str) -> float | None:
        """The median of a figure over the runs that have it."""
        values = [run[key] for run in self.runs if run.get(key) is not None]
        return float(torch.tensor(values, dtype=torch.float64).median()) if values else None


# What runs share that differ in nothing but their seed.
_ALIKE = (
    *("source", "task", "data", "settings", "network", "steps", "protocol", "whole"),
    *("distilled_with", "distilling_network", "num_networks"),
)


def summarize(runs: Iterable[Figures]) -> list[Row]:
    """Gathers the runs that differ in nothing but their seed, in the order in which they come.

    Runs of one method that were not made alike, such as by another protocol, are rows of their own.
    """
    groups: dict[tuple[str, ...], list[Figures]] = {}
    for run in runs:
        made = json.dumps([run.get(key) for key in _ALIKE], sort_keys=True)
        key = (run["method"], run["backbone"], str(_ppc(run)), made)
        groups.setdefault(key, []).append(run)
    firsts = ((group[0], group) for group in groups.values())
    return [Row(run["method"], run["backbone"], _ppc(run), group) for run, group in firsts]


def _ppc(run: Figures) -> float | None:
    return None if run["budget_bits"] is None else run["ppc"]


def markdown(rows: Sequence[Row]) -> str:
    """A table of means, and how far they lie above random clouds and below the whole set.

    Both of these are differences of means in points, under the same budget, backbone,
    protocol and seeds: the improvement over random and the recovery that "DD-Ranking: Rethinking
    the Evaluation of Dataset Distillation" (2025) reports beside accuracies, so that what a
    protocol gives to any data is not taken for better data. :obj:`-` stands for what was not run.

    Args:
        rows (sequence of Row): The rows of a comparison, all of one task.
    """
    if not rows:
        return "No runs.\n"
    random = {(row.backbone, row.ppc): row.mean for row in rows if row.method == "random"}
    whole = {row.backbone: row.mean for row in rows if row.ppc is None}
    head = [
        "method",
        "PPC",
        "backbone",
        f"{rows[0].metric} %",
        f"{rows[0].runs[0]['class_metric']} %",
    ]
    head += ["seeds", "above random", "below whole", "clouds", "bits", "steps", "s/step", "MB/step"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        first = row.runs[0]
        base, top = random.get((row.backbone, row.ppc)), whole.get(row.backbone)
        seconds, size = row.median("step_seconds"), row.median("step_bytes")
        cells = (
            row.method,
            "-" if row.ppc is None else str(row.ppc),
            row.backbone,
            str(row),
            _percent([run["class_mean"] for run in row.runs]),
            str(len(row.values)),
            "-" if base is None else f"{100 * (row.mean - base):+.1f}",
            "-" if top is None else f"{100 * (top - row.mean):.1f}",
            f"{first['num_clouds']:,}",
            f"{first['bits']:,}",
            str(first["steps"] or "-"),
            "-" if seconds is None else f"{seconds:.2f}",
            "-" if size is None else f"{size / 1e6:,.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def class_markdown(rows: Sequence[Row]) -> str:
    """A table of the figure of every class, the mean over the runs, with a column for every row.

    :obj:`-` stands for a class without test clouds.

    Args:
        rows (sequence of Row): The rows of a comparison, all of one data set.
    """
    if not rows:
        return "No runs.\n"
    ppcs = {row.ppc for row in rows if row.ppc is not None}
    several = len({row.backbone for row in rows}) > 1

    def head(row: Row) -> str:
        words = [row.method, *([row.backbone] if several else [])]
        words += [f"PPC {row.ppc}"] if row.ppc is not None and len(ppcs) > 1 else []
        return ", ".join(words)

    def cells(row: Row) -> list[str]:
        classes = zip(*(run["per_class"] for run in row.runs), strict=True)
        return ["-" if None in values else f"{100 * fmean(values):.1f}" for values in classes]

    lines = [
        ["class", *map(head, rows)],
        *zip(rows[0].runs[0]["class_names"], *map(cells, rows), strict=True),
    ]
    texts = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(lines[0]), *texts[1:]]) + "\n"


def plot_comparison(rows: Sequence[Row], path: str | os.PathLike[str], title: str = "") -> None:
    """Draws the means as bars with their standard deviations, a panel for every backbone.

    Args:
        rows (sequence of Row): The rows of the table.
        path (str or path): The picture, usually :obj:`*.png`.
        title (str): What stands above it. (default: nothing)
    """
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    ppcs = sorted({row.ppc for row in rows if row.ppc is not None})
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = Figure(figsize=(max(6, 0.9 * len(methods)), 3.6 * len(backbones)), layout="tight")
    width = 0.8 / max(1, len(ppcs))
    for i, backbone in enumerate(backbones):
        axes = figure.add_subplot(len(backbones), 1, i + 1)
        for k, ppc in enumerate([None, *ppcs]):
            mine = [row for row in rows if row.backbone == backbone and row.ppc == ppc]
            if not mine:
                continue
            shift = 0.0 if ppc is None else (k - 1 - (len(ppcs) - 1) / 2) * width
            at = [methods.index(row.method) + shift for row in mine]
            bars = axes.bar(
                at,
                [100 * row.mean for row in mine],
                width,
                yerr=[100 * row.std for row in mine],  # None for a single run, whose spread is NaN.
                capsize=3,
                color="0.6" if ppc is None else f"C{k - 1}",
                label=None if ppc is None else f"PPC {ppc}",
            )
            axes.bar_label(bars, fmt="%.1f", fontsize=8)
        axes.set_xticks(range(len(methods)), map(plain, methods), rotation=30, ha="right")
        axes.set_ylabel(f"{rows[0].metric} %")
        axes.set_ylim(0, 105)
        axes.set_title(plain(f"{title}, {backbone}" if title else backbone))
        axes.spines[["top", "right"]].set_visible(False)
        if len(ppcs) > 1:
            axes.legend(frameon=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _percent(values: Sequence[float]) -> str:
    """The mean and, of several values, the sample standard deviation, in percent."""
    return percent(torch.tensor(values, dtype=torch.float64)).removesuffix(" %")
