"""Sensitivity: what a method reaches when one of its settings is changed after the other."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from torch_geometric_ddp.comparison.entries import Distilled
from torch_geometric_ddp.comparison.report import Row, counted, formatted, with_lacking
from torch_geometric_ddp.visualize import check_picture, plain, put_title, save_figure

__all__ = ["Sensitivity"]

# Panels of the picture that stand side by side.
_COLUMNS = 3
# The letters that stand below a panel side by side, and those of one line of a value.
_LETTERS, _WRAPPED = 32, 16


@dataclass(frozen=True)
class Sensitivity:
    """Rows that differ from a method in one setting each.

    Args:
        base (Distilled): The method.
        values (dict): The values of every setting that is changed, by its name.

    Raises:
        TypeError, ValueError: If no setting is named, or the method has no such setting, or not
            with such a value.
    """

    base: Distilled
    values: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("'values' must name at least one setting, got none")
        for name in self.values:
            self.of(name)

    @property
    def entries(self) -> list[Distilled]:
        """The method, and a row for every other value of a setting."""
        rows = (row for name in self.values for row in self.of(name).values())
        return list({row.name: row for row in (self.base, *rows)}.values())

    def of(self, name: str) -> dict[str, Distilled]:
        """The row of every value of a setting, by what the value is called, in ascending order.

        The value that the method has by itself is among them, as :obj:`"usual"` where it is what
        the budget or another setting leaves.
        """
        own = _hashable(self.base.all_settings().get(name))
        values = map(_hashable, self.values[name])
        rows = {value: self.base.changed({name: value}) for value in values}
        rows[own] = self.base
        order = sorted(rows, key=_place)
        words = [_word(value) for value in order]
        # What is called the same in short is written out.
        called = [repr(v) if words.count(w) > 1 else w for v, w in zip(order, words, strict=True)]
        return {word: rows[value] for word, value in zip(called, order, strict=True)}

    def markdown(self, rows: Sequence[Row]) -> str:
        """A table with a line for every value of every setting and PPC.

        How many runs a mean has stands under the table, and in brackets behind one of fewer, and
        so do the strongest controls at these bits.

        Args:
            rows (sequence of Row): The rows of :attr:`entries`, as far as they were made.
        """
        lines = [
            (name, value, row)
            for name in self.values
            for value, entry in self.of(name).items()
            for row in rows
            if row.method == entry.name
        ]
        if not lines:
            return "No runs.\n"
        names, values, found = zip(*lines, strict=True)
        base = {(row.ppc, row.backbone): row.mean for row in rows if row.method == self.base.name}

        def above(row: Row) -> str:
            own = base.get((row.ppc, row.backbone))
            itself = row.method == self.base.name
            return formatted(None if own is None or itself else row.mean - own, "{:+z.1f}", 100)

        texts, notes = counted(found)
        columns = {
            "setting": names,
            "value": values,
            "PPC": [str(row.ppc) for row in found],
            f"{rows[0].metric} %": texts,
            "above the method": [above(row) for row in found],
        }
        return with_lacking(columns, rows, notes)

    def plot(self, rows: Sequence[Row], path: str | os.PathLike[str], title: str = "") -> None:
        """Draws a panel for every setting, with a line for every PPC.

        The spread is the sample standard deviation. The method as it is is a larger, hollow mark.

        Args:
            rows (sequence of Row): The rows of :attr:`entries`, all of one backbone.
            path (str or path): The picture, usually :obj:`*.png`.
            title (str): What stands above it. (default: nothing)

        Raises:
            TypeError: If :obj:`path` is no path.
            ValueError: If there are no rows, or nothing can be written to :obj:`path` or in the
                format of its suffix.
        """
        if not rows:
            raise ValueError("'rows' must hold at least one row, got none")
        path = check_picture(path)
        wide = min(_COLUMNS, len(self.values))
        high = -(-len(self.values) // wide)
        figure = Figure(figsize=(1.2 + 3.2 * wide, 0.8 + 2.8 * high), layout="constrained")
        panels = figure.subplots(high, wide, sharey=True, squeeze=False)
        ppcs = sorted({row.ppc for row in rows if row.ppc is not None})
        for axes, name in zip(panels.flat, self.values, strict=False):
            places = {entry.name: i for i, entry in enumerate(self.of(name).values())}
            for k, ppc in enumerate(ppcs):
                mine = [row for row in rows if row.ppc == ppc and row.method in places]
                mine.sort(key=lambda row: places[row.method])
                axes.errorbar(
                    [places[row.method] for row in mine],
                    [100 * row.mean for row in mine],
                    yerr=[100 * row.std for row in mine],  # NaN, no bar, for a single run.
                    marker="o",
                    capsize=3,
                    color=f"C{k}",
                    label=f"PPC {ppc}",
                )
                base = [row for row in mine if row.method == self.base.name]
                axes.plot(
                    [places[row.method] for row in base],
                    [100 * row.mean for row in base],
                    "o",
                    ms=11,
                    mfc="none",
                    color=f"C{k}",
                )
            words = [textwrap.fill(word, _WRAPPED) for word in self.of(name)]
            widths = [max(map(len, word.split("\n"))) for word in words]
            long = sum(widths) + 2 * len(words) > _LETTERS
            turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
            axes.set_xticks(range(len(words)), map(plain, words), **turned)
            axes.set_title(plain(name), fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        for axes in panels.flat[len(self.values) :]:
            axes.set_visible(False)
        for axes in panels[:, 0]:
            axes.set_ylabel(f"{rows[0].metric} %")
        if len(ppcs) > 1:
            panels.flat[0].legend(frameon=False, fontsize=8)
        put_title(title or self.base.name, figure)
        save_figure(figure, path, dpi=150)


def _hashable(value: Any) -> Any:
    """A list, as the command line has it, as a tuple."""
    return tuple(value) if isinstance(value, list) else value


def _place(value: Any) -> tuple[int, float, str]:
    """Numbers in ascending order, then what else there is, and last what is left open."""
    if isinstance(value, int | float):
        return 0, value, ""
    return (1, 0, str(value)) if value is not None else (2, 0, "")


def _word(value: Any) -> str:
    if value is None:
        return "usual"
    return f"{value:g}" if isinstance(value, float) else str(value)
