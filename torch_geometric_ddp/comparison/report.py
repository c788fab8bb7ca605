"""The table of a comparison."""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

import torch

from torch_geometric_ddp.comparison.cells import Figures, ppc_of
from torch_geometric_ddp.comparison.controls import strongest_control
from torch_geometric_ddp.comparison.metrics import Standing
from torch_geometric_ddp.comparison.wholes import several_ways, wholes_of
from torch_geometric_ddp.evaluation import percent
from torch_geometric_ddp.tasks import find_task

__all__ = [
    "Row",
    "class_markdown",
    "cost_markdown",
    "markdown",
    "pool_splits",
    "summarize",
]

# What figures must have in common to be compared, beside their backbone.
_SETTING = ("source", "task", "data", "network", "num_networks")


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

    @property
    def splits(self) -> set[int | None]:
        """The splits that the runs were made on, of those that :func:`pool_splits` gathered."""
        return {run.get("split") for run in self.runs}

    @property
    def bits_per_class(self) -> float:
        """The bits of the budget per class; NaN for the whole set."""
        first = self.runs[0]
        bits = first["budget_bits"]
        return float("nan") if bits is None else bits / len(first["class_names"])

    def __str__(self) -> str:
        return percents(self.values)

    def alike(self, other: Row, *more: str) -> bool:
        """Whether the figures of another row were made on the same data in the same way.

        Args:
            other (Row): The other row.
            *more (str): What else of the runs must be equal.
        """
        keys, own, its = (*_SETTING, *more), self.runs[0], other.runs[0]
        same = all(own.get(key) == its.get(key) for key in keys)
        return same and self.backbone == other.backbone and self.splits == other.splits

    def median(self, key: str) -> float | None:
        """The median of a figure over the runs that have it."""
        values = [run[key] for run in self.runs if run.get(key) is not None]
        return float(median(values)) if values else None


# What runs share that differ in nothing but their seed.
ALIKE = (
    *("distilled_with", "source", "task", "data", "settings", "network", "steps", "protocol"),
    *("whole", "distilling_network", "num_networks", "quotas"),
)
# What of this the head of a column calls otherwise.
_HEADS = {"num_networks": "networks", "whole": "whole set"}


def summarize(runs: Iterable[Figures], *more: str) -> list[Row]:
    """Gathers the runs that differ in nothing but their seed, in the order in which they come.

    Runs of one method that were not made alike, such as by another protocol, are rows of their own.

    Args:
        runs (iterable of dict): The lines of the runs.
        *more (str): What else the runs of a row have in common.
    """
    groups: dict[tuple[str, ...], list[Figures]] = {}
    for run in runs:
        made = json.dumps(
            [*(_told(run, key) for key in ALIKE), *(run.get(key) for key in more)], sort_keys=True
        )
        key = (run["method"], run["backbone"], str(ppc_of(run)), made)
        groups.setdefault(key, []).append(run)
    firsts = ((group[0], group) for group in groups.values())
    return [Row(run["method"], run["backbone"], ppc_of(run), group) for run, group in firsts]


def pool_splits(runs: Iterable[Figures]) -> list[Figures]:
    """Makes runs on several splits of one data set those of one table.

    The :obj:`data` of every run become the list of those of all splits, and :obj:`split` tells
    which of them it was made on. A row of such runs has all splits and seeds, each run once.

    Args:
        runs (iterable of dict): The lines of the runs of all splits.

    Raises:
        ValueError: If runs are not of one data set.
    """
    # Seeds that happen to draw the same split make the same runs.
    runs = list({run["id"]: run for run in runs}.values())
    for run, key in itertools.product(runs, ("source", "task", "class_names")):
        if run.get(key) != runs[0].get(key):
            raise ValueError(
                f"'runs' must be on splits of one data set, with the same {key}, got "
                f"{runs[0].get(key)} and {run.get(key)}"
            )
    data: list[Figures] = []
    for run in runs:
        data += [] if run["data"] in data else [run["data"]]
    return [{**run, "data": data, "split": data.index(run["data"])} for run in runs]


def markdown(rows: Sequence[Row]) -> str:
    """A table of means, and where they stand between random clouds and the whole set.

    The columns are the figure of the task and its mean over the classes, the share of the whole set
    (:func:`share_of_whole`), and of DD-Ranking :func:`hard_label_recovery` (HLR),
    :func:`improvement_over_random` (IOR), both in points, and :func:`dd_ranking_score`. Random
    clouds are those of the same storage and training, divided among the classes by the same quotas
    if there are such; in less than the room of a whole cloud they are those of
    :func:`strongest_control`, which a line tells. The whole set is that of the same data, backbone
    and number of networks, with all points. Where there is no such row, or several that were
    trained in different ways and nothing tells which one goes with a row, :obj:`-` stands. What all
    rows have in common stands under the table, and so do classes without test clouds, which the
    mean over classes leaves out, and the strongest control where the table lacks it.

    Args:
        rows (sequence of Row): The rows of a comparison, all of one task.
    """
    if not rows:
        return "No runs.\n"
    columns, notes = headings(rows)
    standings = [_standing(row, rows) for row in rows]
    columns[f"{rows[0].metric} %"] = [str(row) for row in rows]
    columns[f"{rows[0].runs[0]['class_metric']} %"] = [
        percents([run["class_mean"] for run in row.runs]) for row in rows
    ]
    columns["of whole"] = [formatted(one.share, "{:.0f} %", 100) for one in standings]
    columns["HLR"] = [formatted(one.recovery, "{:.1f}", 100) for one in standings]
    columns["IOR"] = [formatted(one.improvement, "{:+z.1f}", 100) for one in standings]
    columns["score"] = [formatted(one.score, "{:.2f}") for one in standings]
    notes += [*_untested(rows), *_told_references(rows), *lacking_controls(rows)]
    return "\n".join([aligned(columns), *notes]) + "\n"


def cost_markdown(rows: Sequence[Row]) -> str:
    """A table of what rows store, and what their steps cost.

    Args:
        rows (sequence of Row): The rows of a comparison.
    """
    if not rows:
        return "No runs.\n"
    columns, _ = headings(rows)
    first = [row.runs[0] for row in rows]
    columns["clouds"] = [f"{run['num_clouds']:,}" for run in first]
    columns["bits"] = [f"{run['bits']:,}" for run in first]
    columns["steps"] = [str(run["steps"] or "-") for run in first]
    columns["s/step"] = [formatted(row.median("step_seconds"), "{:.2f}") for row in rows]
    columns["MB/step"] = [formatted(row.median("step_bytes"), "{:,.0f}", 1e-6) for row in rows]
    return aligned(columns)


def headings(rows: Sequence[Row]) -> tuple[dict[str, list[str]], list[str]]:
    """The columns that say which rows they are, and in a line what all of them have in common."""
    columns, common = {"method": [row.method for row in rows]}, []
    splits = ["-" if None in row.splits else str(len(row.splits)) for row in rows]
    seeds = [_seeds(row) for row in rows]
    each = " each" if {*splits} != {"-"} else ""
    for head, cells, words in (
        ("PPC", ["-" if row.ppc is None else str(row.ppc) for row in rows], "PPC {}"),
        ("backbone", [row.backbone for row in rows], "{}"),
        ("splits", splits, "{} split" if {*splits} == {"1"} else "{} splits"),
        ("seeds", seeds, ("{} seed" if {*seeds} == {"1"} else "{} seeds") + each),
    ):
        values = {*cells} - {"-"}
        if len(values) > 1:
            columns[head] = cells
        else:
            common += [words.format(value) for value in values]
    columns |= _telling(rows)
    return columns, [f"All rows: {', '.join(common)}."] if common else []


def _telling(rows: Sequence[Row], keys: Sequence[str] = ALIKE) -> dict[str, list[str]]:
    """A column for everything in which rows of one method, storage and backbone differ."""
    names: list[tuple[Any, ...]] = [(row.method, row.ppc, row.backbone) for row in rows]
    columns = {}
    for key in keys:
        values = [_told(row.runs[0], key) for row in rows]
        groups: dict[tuple[Any, ...], list[Any]] = {}
        for name, value in zip(names, values, strict=True):
            groups.setdefault(name, []).append(value)
        # A set of another network is told also where no row stands beside it.
        foreign = key == "distilled_with" and any(key in row.runs[0] for row in rows)
        if foreign or any(value != group[0] for group in groups.values() for value in group):
            words = [_word(v, groups[name]) for name, v in zip(names, values, strict=True)]
            columns[_head(key)] = words
        if key == "distilled_with":  # What else that differs with it is no news.
            names = [(*name, value) for name, value in zip(names, values, strict=True)]
    return columns


def labelled(rows: Sequence[Row]) -> list[Row]:
    """The rows under names that tell them apart where no column does.

    A set of another network says so, "DDP from PointNet", and see :func:`told_apart`.
    """
    makers = [row.runs[0].get("distilled_with") for row in rows]
    own = [
        row.method if maker is None else f"{row.method} from {maker}"
        for row, maker in zip(rows, makers, strict=True)
    ]
    names = told_apart(rows, own)
    return [replace(row, method=name) for row, name in zip(rows, names, strict=True)]


def told_apart(rows: Sequence[Row], names: Sequence[str], keys: Sequence[str] = ALIKE) -> list[str]:
    """The names of rows; those of one name and backbone say in what they differ, as "steps 100".

    They say it at every storage, where a line joins them.

    Args:
        rows (sequence of Row): The rows.
        names (sequence of str): What they are called.
        keys (sequence of str): What of their runs is told. (default: all that makes a row)
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault((names[i], row.backbone), []).append(i)
    found = [*names]
    for places in groups.values():
        columns = _telling([replace(rows[i], ppc=None) for i in places], keys)
        columns.pop(_head("distilled_with"), None)  # Names have it.
        for head, words in columns.items():
            for i, word in zip(places, words, strict=True):
                found[i] += f", {head} {word}" * (word != "-")
    return found


def numbered(names: Sequence[str], columns: Sequence[Any] | None = None) -> list[str]:
    """The names, of which one that was there has a number: "DDP", "DDP (2)".

    Args:
        names (sequence of str): The names.
        columns (sequence, optional): What else tells them apart, for each. (default: nothing)
    """
    found: dict[tuple[str, Any], None] = {}
    for name, more in zip(names, columns or [None] * len(names), strict=True):
        every = itertools.chain([name], (f"{name} ({i})" for i in itertools.count(2)))
        found[next((one, more) for one in every if (one, more) not in found)] = None
    return [name for name, _ in found]


def _head(key: str) -> str:
    return _HEADS.get(key, key.replace("_", " "))


def _told(run: Figures, key: str) -> Any:
    """What a run is made with, also where its line leaves the usual out."""
    if key == "distilled_with":
        return run.get(key) or (run["backbone"] if run.get("steps") else None)
    return run.get(key, 1 if key == "num_networks" else None)


def _word(value: Any, others: Sequence[Any]) -> str:
    """A value in a column, or that of it in which these others differ from each other."""
    if not isinstance(value, dict):
        return "-" if value is None else str(value)
    parts = [other if isinstance(other, dict) else {} for other in others]
    differ = [key for key in value if any(part.get(key) != value[key] for part in parts)]
    name = value.get("name")
    tells = all(part.get("name") != name for part in parts if part != value)
    if name is not None and tells and ("name" in differ or not differ):
        return str(name)
    return ", ".join(f"{key} {value[key]}" for key in differ) or "-"


def _seeds(row: Row) -> str:
    """How many seeds a row has, of several splits those of each."""
    counts = sorted(Counter(run.get("split") for run in row.runs).values())
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _standing(row: Row, rows: Sequence[Row]) -> Standing:
    random = _references(row, rows)
    whole = [
        other
        for other in rows
        # Fewer points of it are another set.
        if other.ppc is None and not other.runs[0].get("settings") and other.alike(row)
    ]
    firsts = [one.runs[0] for one in whole]
    mine = wholes_of(row.runs[0], firsts, [one.runs[0] for one in rows])
    whole = [] if several_ways(mine) else [one for one in whole if one.runs[0] in mine]
    return Standing(row.mean, *((found[0].mean if found else None) for found in (random, whole)))


def _references(row: Row, rows: Sequence[Row]) -> list[Row]:
    """The random clouds that a row is held against, the most comparable ones first.

    They are whole ones, or where none has room in the storage the strongest control.
    """
    alike = [other for other in rows if other.ppc == row.ppc and other.alike(row, "protocol")]
    # Those first that are divided among the classes as the row is.
    alike.sort(key=lambda other: other.runs[0].get("quotas") != row.runs[0].get("quotas"))
    small = row.ppc is not None and row.ppc < 1
    for name in ("random", *([_control(row)] if small else [])):
        if found := [other for other in alike if without_quotas(other.method) == name]:
            return found
    return []


def _untested(rows: Sequence[Row]) -> list[str]:
    """A line that names the classes of which no test cloud was seen, if any."""
    found: dict[str, None] = {}
    for run in (run for row in rows for run in row.runs):
        figures = zip(run["class_names"], run.get("per_class", ()), strict=False)
        found |= dict.fromkeys(str(name) for name, figure in figures if figure is None)
    return [f"No test clouds of: {', '.join(found)}."] if found else []


def _told_references(rows: Sequence[Row]) -> list[str]:
    """A line that names the random clouds of rows that are held against small ones, if any."""
    found = [(row, _references(row, rows)[:1]) for row in rows]
    small = [row for row, one in found if one and without_quotas(one[0].method) != "random"]
    ppcs = ", ".join(dict.fromkeys(str(row.ppc) for row in small))
    return [f"IOR and score at PPC {ppcs}: over `{_control(small[0])}`."] if small else []


def _control(row: Row) -> str:
    """The strongest control of the task of a row."""
    return strongest_control(find_task(row.runs[0]["task"])).name


def without_quotas(method: str) -> str:
    """The method of a row, however its storage is divided among the classes."""
    return method.partition(", quotas ")[0]


def counted(cells: Sequence[Row | None]) -> tuple[list[str], list[str]]:
    """The means of cells whose runs no column counts, and a line that does.

    A number in brackets stands behind a mean of fewer runs than others have.

    Args:
        cells (sequence of Row): The cells, none where nothing was run, which has no text.
    """
    there = [cell for cell in cells if cell is not None]
    most = max((len(cell.values) for cell in there), default=0)

    def text(cell: Row | None) -> str:
        if cell is None:
            return ""
        return str(cell) if len(cell.values) == most else f"{cell} ({len(cell.values)})"

    splits = {split for cell in there for split in cell.splits} - {None}
    what = f"runs of {len(splits)} splits" if splits else "seed" if most == 1 else "seeds"
    fewer = any(len(cell.values) < most for cell in there)
    note = f"Means over {most} {what}{', or as many as stand in brackets' * fewer}."
    return [*map(text, cells)], [note] if there else []


def with_lacking(
    columns: Mapping[str, Sequence[str]], rows: Iterable[Row], notes: Sequence[str] = ()
) -> str:
    """A table, and under it a line that names the strongest controls which it lacks, if it does.

    Args:
        columns (dict): The columns of the table.
        rows (iterable of Row): What stands in it.
        notes (sequence of str): Lines that come before that one. (default: none)
    """
    lines = [*notes, *lacking_controls(rows)]
    return "\n".join([aligned(columns), *lines]) + ("\n" if lines else "")


def lacking_controls(rows: Iterable[Row]) -> list[str]:
    """A line that names the strongest controls which a table lacks, if it does."""
    rows = [row for row in rows if row.ppc is not None]
    there = {(row.backbone, row.ppc, without_quotas(row.method)) for row in rows}
    lacking: dict[str, dict[str, None]] = {}
    for row in rows:
        control = _control(row)
        if (row.backbone, row.ppc, control) not in there:
            lacking.setdefault(control, {})[str(row.ppc)] = None
    if not lacking:
        return []
    names = ", ".join(f"`{name}` (PPC {', '.join(ppcs)})" for name, ppcs in lacking.items())
    return [f"Left out, though the strongest real clouds known at these bits: {names}."]


def class_markdown(rows: Sequence[Row]) -> str:
    """A table of the figure of every class, the mean over the runs, with a column for every row.

    :obj:`-` stands for a class without test clouds. Columns of runs that were not made alike say in
    what they differ.

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

    heads = numbered(["class", *map(head, labelled(rows))])
    every = [list(rows[0].runs[0]["class_names"]), *map(cells, rows)]
    return aligned(dict(zip(heads, every, strict=True)))


def percents(values: Sequence[float]) -> str:
    """The mean and, of several values, the sample standard deviation, in percent."""
    return percent(torch.tensor(values, dtype=torch.float64)).removesuffix(" %")


def formatted(value: float | None, form: str, factor: float = 1.0) -> str:
    """A number in a table; what is not there or not known is a dash."""
    return "-" if value is None or value != value else form.format(factor * value)


def aligned(columns: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide in a terminal as their widest cell."""
    # A bar in a name would end its cell, and a break its line.
    lines = [
        [" ".join(text.replace("|", r"\|").splitlines()) for text in line]
        for line in ([*columns], *zip(*columns.values(), strict=True))
    ]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    padded = [
        [text + " " * (width - _width(text)) for text, width in zip(line, widths, strict=True)]
        for line in lines
    ]
    texts = [f"| {' | '.join(line)} |" for line in padded]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]]) + "\n"


def _width(text: str) -> int:
    """How many letters wide a text is in a terminal, where those of East Asia take two."""
    return sum(
        1 + (unicodedata.east_asian_width(letter) in "WF") - bool(unicodedata.combining(letter))
        for letter in text
    )
