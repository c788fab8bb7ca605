"""The picture of a comparison: a bar for every method and storage."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torch_geometric_ddp.comparison.report import Row, labelled
from torch_geometric_ddp.visualize import check_picture, plain, put_title, save_figure

__all__ = ["plot_comparison"]

# The least width of a bar in inches, with its figure written upright or, of one storage, across.
_NARROW, _WIDE = 0.26, 0.6
# The most letters of a line under a bar.
_LETTERS = 24


def plot_comparison(rows: Sequence[Row], path: str | os.PathLike[str], title: str = "") -> None:
    """Draws the means as bars with their standard deviations, a panel for every backbone.

    What has no budget, such as the whole set, is a dashed line, and random clouds of every storage
    are a dotted one beside their bar.

    Args:
        rows (sequence of Row): The rows of the table.
        path (str or path): The picture, usually :obj:`*.png`.
        title (str): What stands above it. (default: nothing)

    Raises:
        TypeError: If :obj:`path` is no path.
        ValueError: If there are no rows, or nothing can be written to :obj:`path` or in the format
            of its suffix.
    """
    if not rows:
        raise ValueError("'rows' must hold at least one row, got none")
    path, rows = check_picture(path), labelled(rows)
    backbones = list(dict.fromkeys(row.backbone for row in rows))
    budgets = sorted({row.ppc for row in rows if row.ppc is not None})
    barred = [row for row in rows if row.ppc is not None] or list(rows)
    methods = list(dict.fromkeys(row.method for row in barred))
    ppcs: list[float | None] = [*budgets] or [None]
    least = _WIDE if len(ppcs) == 1 else _NARROW * len(ppcs)
    figure = Figure(
        figsize=(max(6, 1.2 + len(methods) * least / 0.8), 3.8 * len(backbones)), layout="tight"
    )
    for i, backbone in enumerate(backbones):
        axes = figure.add_subplot(len(backbones), 1, i + 1)
        mine = [row for row in barred if row.backbone == backbone]
        for k, ppc in enumerate(ppcs):
            found = [row for row in mine if row.ppc == ppc]
            _draw_bars(axes, found, methods, k, len(ppcs))
        for row in rows:
            if row.backbone == backbone and row not in mine:
                label = plain(f"{row.method} {100 * row.mean:.1f}")
                axes.axhline(100 * row.mean, color="0.3", ls="--", lw=1, label=label, zorder=0)
        axes.set_xticks(range(len(methods)), map(_wrapped, methods), rotation=30, ha="right")
        axes.set_xlim(-0.6, len(methods) - 0.4)
        axes.set_ylabel(f"{rows[0].metric} %")
        axes.set_ylim(0, 108 if len(ppcs) == 1 else 120)
        axes.set_yticks(range(0, 101, 20))
        axes.set_title(plain(backbone), fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    put_title(title, figure)
    save_figure(figure, path, dpi=150)


def _wrapped(name: str) -> str:
    """A name in lines of some letters, so that a long one stays in the picture."""
    return plain(textwrap.fill(name, _LETTERS, break_long_words=False, break_on_hyphens=False))


def _draw_bars(axes: Axes, rows: Sequence[Row], methods: Sequence[str], k: int, num: int) -> None:
    """The bars of one storage, the one with number `k` of so many."""
    if not rows:
        return
    width = 0.8 / num
    shift = (k - (num - 1) / 2) * width
    ppc = rows[0].ppc
    bars = axes.bar(
        [methods.index(row.method) + shift for row in rows],
        [100 * row.mean for row in rows],
        width,
        yerr=[100 * row.std for row in rows],  # NaN, no bar, for a single run.
        capsize=2,
        error_kw={"lw": 1},
        color=f"C{k % 10}" if ppc is not None else "0.6",
        label=f"PPC {ppc:g}" if ppc is not None and num > 1 else None,
    )
    angle, box = 0 if num == 1 else 90, {"fc": "white", "ec": "none", "pad": 0.8}
    axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=3, rotation=angle, bbox=box)
    for row in rows:
        if row.runs[0]["method"] == "random" and ppc is not None:  # Whatever it is called here.
            label = row.method if num == 1 else f"{row.method}, PPC {ppc:g}"
            axes.axhline(100 * row.mean, color=f"C{k % 10}", ls=":", lw=1.2, label=label, zorder=0)
