"""The leaderboard of the page of the benchmarks: what sets of ModelNet10 reach for their bits.

It is computed of the files in `docs/results/` whenever the documentation is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rendering import RESULTS, TABLES, count, find, list_table, mean, std, write_changed

#: The files whose rows take part: the same data and network, training of their own.
FILES = (
    "modelnet10-sixteenth",
    "modelnet10-four-bits",
    "modelnet10-codecs",
    "modelnet10-ablation",
    "modelnet10-ddp-codecs-sixteenth",
    "modelnet10-eighth",
    "modelnet10-quarter",
    "modelnet10-codecs-quarter",
    "modelnet10-ddp-codecs",
    "modelnet10-one",
    "modelnet10-codecs-one",
    "modelnet10-methods",
    "modelnet10-variants",
    "modelnet10-methods-ppc3",
    "modelnet10-paper",
)
CLASSES = 10
HEADS = ("method", "bits a class", "accuracy %", "seeds", "% per kilobit", "front", "table")


class Place(NamedTuple):
    """A row of the leaderboard."""

    method: str
    bits: int
    accuracy: Any
    file: str

    @property
    def mean(self) -> float:
        return mean(self.accuracy)

    @property
    def rate(self) -> float:
        """Percent of accuracy for a thousand bits of a class."""
        return 1000 * self.mean * CLASSES / self.bits


def places(folder: Path = RESULTS) -> list[Place]:
    """All rows, the most accuracy for a bit first; of a set in several files that of most seeds."""
    found: dict[tuple[str, int, str], Place] = {}
    for name in FILES:
        results = find(name, folder)
        for row in results.rows:
            accuracy, bits = results.value(row, "accuracy"), results.value(row, "bits")
            if accuracy is None or bits is None:
                continue
            place = Place(row["method"], bits, accuracy, name)
            # Rows of one training only: the same set may be trained on for longer elsewhere.
            key = place.method, bits, results.protocol.split(";")[0]
            if key not in found or count(found[key].accuracy) < count(accuracy):
                found[key] = place
    return sorted(found.values(), key=lambda place: -place.rate)


def is_front(place: Place, others: list[Place]) -> bool:
    """Whether no other set reaches as much with as few bits."""
    return not any(
        (other.bits, -other.mean) != (place.bits, -place.mean)
        and other.bits <= place.bits
        and other.mean >= place.mean
        for other in others
    )


def cells(folder: Path = RESULTS) -> list[list[str]]:
    """What stands in every row."""
    every = places(folder)
    lines = []
    for place in every:
        deviation = std(place.accuracy)
        spread = "" if deviation is None else f" ± {deviation:.1f}"
        front = "yes" if is_front(place, every) else "-"
        seeds, bits = str(count(place.accuracy)), f"{place.bits / CLASSES:,.0f}"
        accuracy = f"{place.mean:.1f}{spread}"
        rate = f"{place.rate:#.3g}" if place.rate >= 1e-3 else f"{place.rate:.5f}"
        lines.append([place.method, bits, accuracy, seeds, rate, front, place.file])
    return lines


def render(out: Path = TABLES) -> Path:
    """Writes the table, with links to the tables that its rows are from."""
    linked = [[*line, f":ref:`{name} <table-{name}>`"] for *line, name in cells()]
    lines = list_table([HEADS, *linked])
    path = out / "leaderboard.rst"
    out.mkdir(parents=True, exist_ok=True)
    write_changed(path, "\n".join(lines) + "\n")
    return path
