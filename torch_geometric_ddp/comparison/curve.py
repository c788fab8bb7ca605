"""The curve of a comparison: what methods reach over the bits that they may store."""

from __future__ import annotations

import os
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from torch_geometric_ddp.comparison.report import Row, labelled
from torch_geometric_ddp.visualize import check_picture, line_of, plain, put_title, save_figure

__all__ = ["plot_bits"]


def plot_bits(rows: Sequence[Row], path: str | os.PathLike[str], title: str = "") -> None:
    """Draws means and standard deviations over the bits per class, a line for every method.

    The bits are those of the budget, on a logarithmic scale. The whole set is a dashed line. There
    is a panel for every backbone.

    Args:
        rows (sequence of Row): The rows of the table.
        path (str or path): The picture, usually :obj:`*.png`.
        title (str): What stands above it. (default: nothing)

    Raises:
        TypeError: If :obj:`path` is no path.
        ValueError: If no row has a budget, or nothing can be written to :obj:`path` or in the
            format of its suffix.
    """
    rows = labelled(rows)
    within = [row for row in rows if row.ppc is not None]
    if not within:
        raise ValueError("'rows' must hold at least one row with a budget, got none")
    path = check_picture(path)
    backbones = list(dict.fromkeys(row.backbone for row in within))
    methods = list(dict.fromkeys(row.method for row in within))
    figure = Figure(figsize=(8, 4.2 * len(backbones)), layout="tight")
    for i, backbone in enumerate(backbones):
        axes = figure.add_subplot(len(backbones), 1, i + 1)
        for k, method in enumerate(methods):
            mine = [row for row in within if (row.method, row.backbone) == (method, backbone)]
            mine.sort(key=lambda row: row.bits_per_class)
            # Side by side, since methods have the same budgets.
            aside = ScaledTranslation((k - (len(methods) - 1) / 2) / 24, 0, figure.dpi_scale_trans)
            axes.errorbar(
                [row.bits_per_class for row in mine],
                [100 * row.mean for row in mine],
                yerr=[100 * row.std for row in mine],  # NaN, no bar, for a single run.
                marker="o",
                capsize=3,
                **line_of(k),
                label=plain(method),
                transform=axes.transData + aside,
            )
        for row in rows:
            if row.ppc is None and row.backbone == backbone:
                axes.axhline(100 * row.mean, color="0.4", linestyle="--", label=plain(row.method))
        axes.set_xscale("log", base=2)
        ticks = sorted({row.bits_per_class for row in within if row.backbone == backbone})
        # Points that are moved aside do not count for the limits by themselves.
        every = [row for row in rows if row.backbone == backbone]
        ends = [
            100 * (row.mean + sign * (row.std if len(row.values) > 1 else 0.0))
            for row in every
            for sign in (-1, 1)
        ]
        margin = 0.05 * (max(ends) - min(ends)) or 1.0
        axes.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
        axes.set_ylim(min(ends) - margin, max(ends) + margin)
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], rotation=30, ha="right")
        axes.minorticks_off()
        axes.set(xlabel="bits per class", ylabel=f"{rows[0].metric} %")
        axes.set_title(plain(backbone), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    put_title(title, figure)
    save_figure(figure, path, dpi=150)
