"""What stands in the cells of a table, as plain text."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rendering.results import COMPUTED, Column, Results, Row, matches, places, quotas_of
from torch_geometric_ddp.comparison import dd_ranking_score
from torch_geometric_ddp.comparison.report import without_quotas


def lines(
    results: Results, columns: Sequence[str] = (), where: Mapping[str, Any] | None = None
) -> list[list[str]]:
    """The head of a table and what stands in every row.

    Args:
        results (Results): What is shown.
        columns (sequence of str): The keys of the columns. (default: all)
        where (dict, optional): The values that a row must have. (default: all rows)

    Raises:
        ValueError: If a column is unknown, no row has these values, or several rows would stand in
            one cell of a column that is spread.
    """
    shown = results.shown(columns)
    rows = [row for row in results.rows if matches(row, where or {})]
    if not rows:
        raise ValueError(f"{results.name} has no row with {where}")
    # Rows become one where they are alike in the columns that are not spread.
    fixed = [column for column in shown if not column.across]
    groups: dict[tuple[str | int, ...], list[Row]] = {}
    for i, row in enumerate(rows):
        alike = (i,) if fixed == shown else tuple(cell(results, column, row) for column in fixed)
        groups.setdefault(alike, []).append(row)
    table = []
    for column in shown:
        values = dict.fromkeys(row[column.across] for row in rows) if column.across else [None]
        for value in values:
            at = {column.across: value} if column.across else {}
            cells = []
            for one in groups.values():
                found = [row for row in one if matches(row, at)]
                if column.across and len(found) > 1:
                    raise ValueError(
                        f"{len(found)} rows of {results.name} have {column.across} {value} and are "
                        f"alike in {[other.key for other in fixed]}: show what they differ in"
                    )
                cells.append(cell(results, column, found[0]) if found else "-")
            table.append([str(value) if column.across else column.head, *cells])
    return [list(line) for line in zip(*table, strict=True)]


def cell(results: Results, column: Column, row: Row) -> str:
    """What a column shows of a row."""
    digits = column.digits
    if column.kind in COMPUTED and column.key not in row:
        value = compute(results, column, row)
    else:
        value = results.value(row, column.key if column.key in row else column.source)
    if value is None:
        return "-"
    match column.kind:
        case "mean":
            num = count(value)
            most = max(count(results.value(other, column.source)) for other in results.rows)
            return _spread(value, f".{digits}f") + (f" ({num})" if 1 < num < most else "")
        case "paired":
            num = len(value)
            return _spread(value, f"+z.{digits}f") + (
                f" ({num})" if num < len(row["seeds"]) else ""
            )
        case "each":
            return ", ".join(f"{one:.{digits}f}" for one in value)
        case "median":
            return f"{statistics.median(as_list(value)):,.{digits}f}"
        case "above":
            return f"{value:+z.{digits}f}"
        case "below" | "decimal" | "share" | "score":
            return f"{value:,.{digits}f}"
        case "scientific":
            return f"{value:.{digits}e}"
        case "integer" | "count":
            return f"{value:,}"
    return str(value)


def _spread(value: Any, form: str) -> str:
    """A mean, and behind it the sample standard deviation where there is one."""
    spread = std(value)
    return f"{mean(value):{form}}" + ("" if spread is None else f" ± {spread:{form.lstrip('+z')}}")


def compute(results: Results, column: Column, row: Row) -> Any:
    """The value of a column that is computed from another one; none where one is missing."""
    mine = results.value(row, column.source)
    if mine is None:
        return None
    if column.kind == "count":
        return count(mine)
    if column.kind == "each":
        return mine.get("each") if isinstance(mine, dict) else as_list(mine)

    def meant(which: Mapping[str, Any] | None, same: Sequence[str]) -> Row | None:
        where = {**(which or {}), **{key: row.get(key) for key in same}}
        found = [other for other in results.rows if _is_meant(other, where)]
        # Those first that are divided among the classes as the row is, as programs do.
        found.sort(key=lambda other: quotas_of(other) != quotas_of(row))
        return found[0] if found else None

    def mean_of(which: Mapping[str, Any] | None, same: Sequence[str]) -> float | None:
        found = meant(which, same)
        value = None if found is None else results.value(found, column.source)
        return None if value is None else mean(value)

    if column.kind == "paired":
        found = meant(column.row, column.same)
        return None if found is None or found is row else _differences(row, found, column.source)
    own, other = mean(mine), mean_of(column.row, column.same)
    if other is None:
        return None
    match column.kind:
        case "above":
            return own - other
        case "below":
            return other - own
        case "share":
            return 100 * own / other
    random = mean_of(column.random, [*column.same, "ppc"])
    return None if random is None else dd_ranking_score((other - own) / 100, (own - random) / 100)


def _differences(row: Row, other: Row, key: str) -> list[float] | None:
    """How far a row lies above another at every seed of both; none if they share none."""
    known = dict(zip(places(other), other[key], strict=True))
    pairs = zip(places(row), row[key], strict=True)
    return [value - known[place] for place, value in pairs if place in known] or None


def _is_meant(row: Row, where: Mapping[str, Any]) -> bool:
    """Whether a row has these values, or has them but for its quotas."""
    undivided = {**row, "method": without_quotas(str(row.get("method")))}
    return matches(row, where) or matches(undivided, where)


def as_list(value: Any) -> list[float]:
    """The numbers of a value that is no more than these."""
    return value if isinstance(value, list) else [value]


def count(value: Any) -> int:
    """How many values there are; none where that is not known."""
    if value is None:
        return 0
    if isinstance(value, dict):
        return len(value["each"]) if "each" in value else int(value.get("count", 0))
    return len(as_list(value))


def mean(value: Any) -> float:
    """The mean."""
    return float(value["mean"]) if isinstance(value, dict) else statistics.fmean(as_list(value))


def std(value: Any) -> float | None:
    """The sample standard deviation; none for a single value."""
    if isinstance(value, dict):
        return value.get("std")
    return statistics.stdev(value) if len(as_list(value)) > 1 else None
