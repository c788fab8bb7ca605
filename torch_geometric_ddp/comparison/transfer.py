"""Sets that are made with one backbone and trained on by others: the matrix and its picture."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from torch_geometric_ddp.comparison.cells import Entry, Figures
from torch_geometric_ddp.comparison.report import (
    ALIKE,
    Row,
    counted,
    numbered,
    summarize,
    told_apart,
    with_lacking,
)
from torch_geometric_ddp.visualize import check_picture, plain, put_title, save_figure

__all__ = [
    "TransferRow",
    "matrix_markdown",
    "plot_transfer",
    "transfer_markdown",
    "transfer_matrix",
    "with_numbers",
]

# What the runs of a row have in common, whichever backbone is trained.
_MADE = [key for key in ALIKE if key not in ("network", "distilled_with", "distilling_network")]


@dataclass(frozen=True)
class TransferRow:
    """What every backbone learns from the sets of one method under one budget.

    Args:
        method (str): The method.
        distilled_with (str, optional): The backbone that the sets were made with, none for a
            method that uses no network.
        ppc (float, optional): The budget, none for the whole set.
        cells (dict): The runs of every backbone that was trained, by its name.
    """

    method: str
    distilled_with: str | None
    ppc: float | None
    cells: dict[str, Row]

    def __str__(self) -> str:
        made = "" if self.distilled_with is None else f" from {self.distilled_with}"
        return f"{self.method}{made}" + ("" if self.ppc is None else f", PPC {self.ppc}")


def transfer_matrix(runs: Iterable[Figures], entries: Sequence[Entry]) -> list[TransferRow]:
    """Gathers runs by the sets that were trained on.

    Runs of one method that were not made alike, such as by another protocol, are rows of their own,
    whose names say in what they differ.

    Args:
        runs (iterable of dict): The lines of the runs, see :meth:`Lab.run`.
        entries (sequence of Entry): What was compared; it gives the order of the methods.

    Returns:
        The rows, budget by budget and the whole set last.

    Raises:
        ValueError: If a run is of none of :obj:`entries`.
    """
    methods = {entry.name: entry for entry in entries}
    makers: dict[str | None, list[Figures]] = {}
    for run in runs:
        if run["method"] not in methods:
            raise ValueError(
                f"'entries' must have the row of every run, {', '.join(methods)} have not "
                f"{run['method']!r}"
            )
        # A set that was made with the backbone that is trained has an ordinary run.
        own = run["backbone"] if methods[run["method"]].uses_network else None
        makers.setdefault(run.get("distilled_with", own), []).append(run)
    rows: dict[tuple[str, ...], list[TransferRow]] = {}
    for maker, group in makers.items():
        for cell in summarize(group):
            made = json.dumps([cell.runs[0].get(key) for key in _MADE], sort_keys=True)
            alike = rows.setdefault((cell.method, str(maker), str(cell.ppc), made), [])
            # Another network of the same name, such as of another size, is in a row of its own.
            if all(cell.backbone in row.cells for row in alike):
                alike.append(TransferRow(cell.method, maker, cell.ppc, {}))
            next(row for row in alike if cell.backbone not in row.cells).cells[cell.backbone] = cell
    order = list(methods)
    found = sorted(
        itertools.chain.from_iterable(rows.values()),
        key=lambda row: (row.ppc is None, row.ppc or 0, order.index(row.method)),
    )
    # A row has no backbone that is trained.
    firsts = [replace(next(iter(row.cells.values())), backbone="") for row in found]
    names = told_apart(firsts, [row.method for row in found], [*_MADE, "distilled_with"])
    named = [replace(row, method=name) for row, name in zip(found, names, strict=True)]
    return with_numbers(named)


def with_numbers(rows: Sequence[TransferRow]) -> list[TransferRow]:
    """The rows, of which one that is called as another has a number: "DDP (2)"."""
    names = numbered([row.method for row in rows], [(row.distilled_with, row.ppc) for row in rows])
    return [replace(row, method=name) for row, name in zip(rows, names, strict=True)]


def transfer_markdown(rows: Sequence[TransferRow], backbones: Sequence[str]) -> str:
    """A table of the means in percent, a column for every backbone that is trained.

    :obj:`-` stands for what was not run, and a number in brackets for the runs of a mean that has
    fewer of them than others. How many these have stands under the table, with the strongest
    controls that are left out.

    Args:
        rows (sequence of TransferRow): The rows.
        backbones (sequence of str): The columns.
    """
    columns = {
        "method": [row.method for row in rows],
        "distilled with": [row.distilled_with or "-" for row in rows],
        "PPC": ["-" if row.ppc is None else str(row.ppc) for row in rows],
    }
    return matrix_markdown(columns, rows, backbones)


def matrix_markdown(
    columns: Mapping[str, Sequence[str]],
    rows: Sequence[TransferRow],
    heads: Sequence[str],
    common: Sequence[str] = (),
) -> str:
    """A table of the means of a matrix, behind the columns that say what its rows are.

    Args:
        columns (dict): These columns.
        rows (sequence of TransferRow): The rows.
        heads (sequence of str): The columns of the matrix.
        common (sequence of str): What stands under it of all rows. (default: nothing)
    """
    texts, notes = _texts(rows, heads)
    means = {name: [line[i] or "-" for line in texts] for i, name in enumerate(heads)}
    every = (cell for row in rows for cell in row.cells.values())
    return with_lacking({**columns, **means}, every, [*common, *notes])


def plot_transfer(
    rows: Sequence[TransferRow],
    backbones: Sequence[str],
    path: str | os.PathLike[str] | None = None,
    title: str = "",
    column_word: str = "backbone that is trained and tested",
) -> Figure:
    """Draws the matrix as a heat map with the means in its cells.

    What was not run is grey; a frame marks a set that was made with the backbone that is trained.

    Args:
        rows (sequence of TransferRow): The rows.
        backbones (sequence of str): The columns.
        path (str or path, optional): Where to save the picture, usually :obj:`*.png`.
        title (str): What stands above it. (default: nothing)
        column_word (str): What the columns are. (default: backbones)

    Returns:
        The figure.

    Raises:
        TypeError: If :obj:`path` is no path.
        ValueError: If there are no rows or no columns, or nothing can be written to :obj:`path` or
            in the format of its suffix.
    """
    if not rows or not backbones:
        raise ValueError(
            f"the matrix must have rows and columns, got {len(rows)} and {len(backbones)}"
        )
    path = None if path is None else check_picture(path)
    texts, _ = _texts(rows, backbones)
    means = [[row.cells[b].mean if b in row.cells else np.nan for b in backbones] for row in rows]
    values = 100 * np.array(means)
    size = (3.8 + 1.15 * len(backbones), 2.2 + 0.45 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["viridis"].with_extremes(bad="0.85")
    image = axes.imshow(values, colors, vmin=0, vmax=100, aspect="auto")
    for i, row in enumerate(rows):
        for j, backbone in enumerate(backbones):
            color = "white" if values[i, j] < 60 else "black"
            axes.text(j, i, texts[i][j], ha="center", va="center", fontsize=9, color=color)
            if row.distilled_with == backbone:
                frame = Rectangle((j - 0.47, i - 0.45), 0.94, 0.9, fill=False, ec="red", lw=1.5)
                axes.add_patch(frame)
    axes.set_xticks(
        range(len(backbones)), map(plain, backbones), rotation=30, ha="left", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(rows)), [plain(str(row)) for row in rows])
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel(plain(column_word))
    axes.set_ylabel("set that is trained on")
    if axes.patches:
        label = "distilled with the backbone that is trained"
        frame = Rectangle((0, 0), 1, 1, fill=False, ec="red", lw=1.5, label=label)
        figure.legend(handles=[frame], loc="outside lower center", frameon=False, fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    metric = next(cell.metric for row in rows for cell in row.cells.values())
    figure.colorbar(image, ax=axes, label=f"{metric} %", pad=0.02)
    put_title(title, figure)
    if path is not None:
        save_figure(figure, path, dpi=150)
    return figure


def _texts(rows: Sequence[TransferRow], heads: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """What stands in every cell, nothing where nothing was run, and the line that counts runs."""
    texts, notes = counted([row.cells.get(head) for row in rows for head in heads])
    return [texts[i : i + len(heads)] for i in range(0, len(texts), len(heads))], notes
