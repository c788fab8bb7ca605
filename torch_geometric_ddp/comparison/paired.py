"""Paired differences: how far distilled sets lie above the strongest that was not, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from torch_geometric_ddp.comparison.report import Row, aligned, headings

__all__ = ["paired_differences", "paired_markdown"]


def paired_differences(row: Row, other: Row) -> list[float]:
    r"""How far a row lies above another, :math:`a_s - b_s` for every seed :math:`s` of both.

    A seed says which clouds are drawn and how networks begin: what it does to both rows cancels,
    and the spread of the differences is what a lead is to be measured by.

    Args:
        row (Row): The row.
        other (Row): The one that it is held against.

    Returns:
        A difference for every seed, and where :func:`pool_splits` gathered several splits for every
        split and seed, that both have, in -1..1.
    """
    known = {(run.get("split"), run["seed"]): run["value"] for run in other.runs}
    pairs = [(run, known.get((run.get("split"), run["seed"]))) for run in row.runs]
    return [run["value"] - value for run, value in pairs if value is not None]


def paired_markdown(rows: Sequence[Row]) -> str:
    """A table of how far distilled sets lie above the strongest that was not distilled.

    That is the row of the largest mean among those of the same data, budget, backbone and training
    which took no steps, such as quantised real clouds. Rows without one have no line, and a table
    without lines is empty. Beside the mean of :func:`paired_differences` and their sample standard
    deviation, in points, stands how many of the seeds lie above.

    Args:
        rows (sequence of Row): The rows of a comparison, all of one task.
    """
    found = [(row, strongest) for row in rows if (strongest := _strongest(row, rows)) is not None]
    if not found:
        return ""
    columns, _ = headings([row for row, _ in found])
    pairs = [paired_differences(row, strongest) for row, strongest in found]
    columns["strongest not distilled"] = [strongest.method for _, strongest in found]
    columns["above it"] = [_signed(differences) for differences in pairs]
    columns["seeds above"] = [f"{sum(d > 0 for d in each)} of {len(each)}" for each in pairs]
    return aligned(columns)


def _strongest(row: Row, rows: Sequence[Row]) -> Row | None:
    """The strongest row without steps that a distilled one is held against, if there is any."""
    if not row.runs[0]["steps"] or row.ppc is None:
        return None
    alike = [
        other
        for other in rows
        if not other.runs[0]["steps"]
        and other.ppc == row.ppc
        and other.alike(row, "protocol")
        and paired_differences(row, other)
    ]
    return max(alike, key=lambda other: other.mean, default=None)


def _signed(differences: Sequence[float]) -> str:
    """The mean and, of several, the sample standard deviation, in points."""
    points = [100 * value for value in differences]
    return f"{fmean(points):+z.1f}" + (f" ± {stdev(points):.1f}" if len(points) > 1 else "")
