"""What class-incremental learning reached: its metrics, their table and their picture."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from torch_geometric_ddp.comparison.cells import Figures
from torch_geometric_ddp.comparison.report import (
    labelled,
    numbered,
    percents,
    summarize,
    with_lacking,
)
from torch_geometric_ddp.comparison.wholes import as_compared
from torch_geometric_ddp.visualize import check_picture, line_of, plain, put_title, save_figure

__all__ = [
    "average_accuracy",
    "incremental_markdown",
    "joined_increments",
    "mean_forgetting",
    "plot_increments",
]


def average_accuracy(accuracies: Sequence[float]) -> float:
    r"""The average incremental accuracy :math:`\frac{1}{T} \sum_t A_t`.

    From `"iCaRL: Incremental Classifier and Representation Learning"
    <https://arxiv.org/abs/1611.07725>`_ (CVPR 2017).

    Args:
        accuracies (sequence of float): The accuracy :math:`A_t` on the test clouds of all classes
            seen, after each of :math:`T` increments.

    Raises:
        ValueError: If there is none.
    """
    if len(accuracies) == 0:
        raise ValueError("'accuracies' must hold that of at least one increment, got none")
    return sum(accuracies) / len(accuracies)


def mean_forgetting(matrix: Sequence[Sequence[float]]) -> float:
    r"""How much of what was known of earlier classes is lost in the end; less is better.

    .. math::
        F = \frac{1}{T - 1} \sum_{j=1}^{T-1} \left( \max_{l < T} a_{lj} - a_{Tj} \right)

    From `"Riemannian Walk for Incremental Learning" <https://arxiv.org/abs/1801.10112>`_ (ECCV
    2018). It is 0 for a single increment.

    Args:
        matrix (sequence of sequences): The accuracy :math:`a_{lj}` on the test clouds of the
            classes of increment :math:`j \le l`, after increment :math:`l`: a triangle.

    Raises:
        ValueError: If there is no increment, or a row is not of all increments up to its own.
    """
    sizes = [len(row) for row in matrix]
    if not sizes or any(size < number for number, size in enumerate(sizes, start=1)):
        raise ValueError(
            "'matrix' must have a row for each of at least one increment, of one accuracy, of two "
            f"and so on, got rows of {sizes}"
        )
    *before, last = matrix
    lost = [max(row[j] for row in before[j:]) - last[j] for j in range(len(before))]
    return sum(lost) / len(lost) if lost else 0.0


def incremental_markdown(runs: Sequence[Figures]) -> str:
    """A table of average and last accuracy and forgetting, in percent, one line for every row.

    See :func:`average_accuracy` and :func:`mean_forgetting`; *last* is the accuracy on all classes
    after the last increment. A run that lacks increments is left out; where runs had different
    numbers of them, the rows say how many.

    Args:
        runs (sequence of dict): The figures of :meth:`ClassIncremental.run`.
    """
    rows = joined_increments(runs)
    if not rows:
        return "No runs.\n"
    last = [*rows.values()]
    columns = {
        "method": [*rows],
        "average %": [percents([one["average"] for one in seeds]) for seeds in last],
        "last %": [percents([one["value"] for one in seeds]) for seeds in last],
        "forgetting": [percents([one["forgetting"] for one in seeds]) for seeds in last],
        "seeds": [str(len(seeds)) for seeds in last],
        "clouds": [f"{seeds[0]['num_clouds']:,}" for seeds in last],
        "bits": [f"{seeds[0]['bits']:,}" for seeds in last],
    }
    return with_lacking(columns, summarize(one for seeds in last for one in seeds))


def joined_increments(runs: Sequence[Figures]) -> dict[str, list[Figures]]:
    """One run for every row and seed: its last increment, with the metrics of all of them.

    These are :obj:`accuracies` (that after every increment), :obj:`average`
    (:func:`average_accuracy`) and :obj:`forgetting` (:func:`mean_forgetting`). A run that lacks
    increments is left out.

    Args:
        runs (sequence of dict): The figures of :meth:`ClassIncremental.run`.
    """

    def joined(increments: Sequence[Figures]) -> Figures:
        accuracies = [one["value"] for one in increments]
        return {
            **as_compared(increments[-1]),
            "accuracies": accuracies,
            "average": average_accuracy(accuracies),
            "forgetting": mean_forgetting([one["increment_accuracies"] for one in increments]),
        }

    return {name: [*map(joined, seeds)] for name, seeds in _triangles(runs).items()}


def plot_increments(runs: Sequence[Figures], path: str | os.PathLike[str], title: str = "") -> None:
    """Draws the accuracy on all classes seen over their number, a line for every row.

    Args:
        runs (sequence of dict): The figures of :meth:`ClassIncremental.run`.
        path (str or path): The picture, usually :obj:`*.png`.
        title (str): What stands above it. (default: nothing)

    Raises:
        TypeError: If :obj:`path` is no path.
        ValueError: If no run has all of its increments, or nothing can be written to :obj:`path` or
            in the format of its suffix.
    """
    rows = _triangles(runs)
    if not rows:
        raise ValueError("'runs' must hold at least one run with all of its increments, got none")
    path = check_picture(path)
    figure = Figure(figsize=(7, 4.2), layout="tight")
    axes = figure.add_subplot()
    ticks: set[int] = set()
    for i, (name, seeds) in enumerate(rows.items()):
        values = 100 * np.array([[one["value"] for one in increments] for increments in seeds])
        seen = seeds[0][-1]["classes_seen"]
        ticks |= {*seen}
        spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
        upper = seeds[0][-1]["budget_bits"] is None
        style = {"color": "0.4", "linestyle": "-."} if upper else line_of(i)
        axes.errorbar(
            seen,
            values.mean(axis=0),
            yerr=spread,
            marker="o",
            capsize=3,
            **style,
            label=plain(name),
        )
    axes.set_xticks(sorted(ticks))
    axes.set(xlabel="classes seen", ylabel="accuracy %", ylim=(0, 105))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    put_title(title, figure)
    save_figure(figure, path, dpi=150)


def _triangles(runs: Sequence[Figures]) -> dict[str, list[list[Figures]]]:
    """The increments of every seed of every row, of those that have all of them.

    Runs of one method that were not made alike, or in other increments, are rows of their own,
    whose names say so.
    """
    complete = [run for run in runs if run["classes_seen"][-1] == len(run["class_names"])]
    schedules = list(dict.fromkeys(tuple(run["classes_seen"]) for run in complete))
    numbers = {len(schedule) for schedule in schedules}
    found: list[tuple[str, list[list[Figures]]]] = []
    rows = labelled(summarize(runs))
    ppcs = {row.ppc for row in rows} - {None}
    backbones = {row.backbone for row in rows}
    for schedule, row in itertools.product(schedules, rows):
        seeds: dict[int, list[Figures]] = {}
        for run in sorted(row.runs, key=lambda run: len(run["classes_seen"])):
            if schedule[: len(run["classes_seen"])] == tuple(run["classes_seen"]):
                seeds.setdefault(run["seed"], []).append(run)
        num = len(schedule)
        whole = [increments for increments in seeds.values() if len(increments) == num]
        if whole:
            name = row.method + f", {row.backbone}" * (len(backbones) > 1)
            name += f", PPC {row.ppc}" * (row.ppc is not None and len(ppcs) > 1)
            if len(numbers) < len(schedules):
                name += f", after {', '.join(map(str, schedule))} classes"
            elif len(numbers) > 1:
                name += f", {num} increment{'s' * (num > 1)}"
            found.append((name, whole))
    names = numbered([name for name, _ in found])
    return dict(zip(names, (one for _, one in found), strict=True))
