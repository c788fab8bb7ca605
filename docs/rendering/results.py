"""A results file is JSON with these keys; those in brackets may be left out:

    title       what the table shows, in one line
    data        what was trained and tested on, with split, sampling and number of points
    commands    the commands that made it; a line that starts with # is a comment
    hardware    the machine and its threads
    versions    the versions that the figures depend on, by package
    seeds       the seeds, or in words what was repeated
    protocol    how networks were distilled and trained
    (spread)    what lies behind a ±
    (date)      the day when the figures were written down
    (commit)    the commit that made them
    (notes)     sentences without which the figures are misread
    (fingerprint)  hashes of the clouds, written by `import`, which compares them; where splits are
                pooled a list of those of each, and rows have a list of the splits of their seeds
    columns     what is shown, see below
    rows        one object a row, with a value for every key

A value is a number, a text, or a list with a number for every seed; null was not run and shows as a
dash. Shares are in percent. Rows may hold keys that no column shows. Three more values are

    {"mean": 48.1, "std": 7.6, "count": 3}
                where the single seeds were not kept
    {"mean": 46.6, "std": 2.0, "each": [44.3, 47.3, 48.0]}
                where they were kept in so few digits that mean or spread would come out otherwise
    {"from": NAME, "where": {KEY: VALUE}, "key": KEY}
                the value of a row of another file

A column is {"key": KEY, "head": TEXT, "as": KIND, "digits": 1}. The kinds are

    text        as it stands (the default)
    integer     with commas between thousands
    decimal     with so many digits
    scientific  with so many digits and an exponent
    mean        mean ± sample standard deviation, with the number of values in brackets where they
                are several but fewer than in other rows
    median      the median
    each        every value of the key "of" (if it is left out, of accuracy)
    count       how many these are
    above       how far the mean of the key "of" lies above that of the row "row", such as
                {"method": "random"}, among those that have the same values of the keys "same"; of
                methods that are divided by quotas, the one that is divided like the row comes first
    below       the same the other way round
    paired      the same seed by seed, over the seeds of both: mean ± sample standard deviation of
                the differences, with their number in brackets where it has fewer of them than seeds
    share       the mean in percent of that of the row "row"
    score       the DD-Ranking score: "row" is the whole set, and "random" the random clouds, among
                those that also have the same "ppc"

The last seven compute what they show, unless a row has a value of its own there: one that was
computed from figures before they were rounded. With "across": KEY a column becomes several, one for
every value of that key, and rows that are alike in the other columns become one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"

Row = dict[str, Any]

COMPARED = frozenset(("above", "below", "paired", "share", "score"))
COMPUTED = COMPARED | {"each", "count"}
KINDS = COMPUTED | {"text", "integer", "decimal", "scientific", "mean", "median"}
# What is no key of a file.
_PLACE = ("name", "folder")
_OPTIONAL = ("spread", "date", "commit", "notes", "fingerprint")


@dataclass(frozen=True)
class Column:
    """What a column shows, see the top of this file."""

    key: str
    head: str
    kind: str = "text"
    digits: int = 1
    of: str = ""
    across: str = ""
    row: Mapping[str, Any] | None = None
    same: Sequence[str] = ()
    random: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Column:
        """Reads a column, whose kind stands under `as`.

        Raises:
            ValueError: If a key or the kind is unknown, or the row to compare with is missing.
        """
        settings = {"kind" if key == "as" else key: value for key, value in values.items()}
        unknown = settings.keys() - {field.name for field in fields(cls)}
        if unknown or not {"key", "head"} <= settings.keys():
            raise ValueError(f"a column needs a key and a head, and knows no {sorted(unknown)}")
        column = cls(**settings)
        if column.kind not in KINDS:
            raise ValueError(f"a column is shown as one of {sorted(KINDS)}, got {column.kind!r}")
        named = column.row and (column.random or column.kind != "score")
        if column.kind in COMPARED and not named:
            raise ValueError(f"the column {column.key!r} must name the row that it compares with")
        return column

    @property
    def source(self) -> str:
        """The key of the values that it shows or computes from."""
        return self.of or ("accuracy" if self.kind in COMPUTED else self.key)


@dataclass(frozen=True)
class Results:
    """A results file, see the top of this file, and the folder of those whose values it takes."""

    name: str
    title: str
    data: str
    commands: list[str]
    hardware: str
    versions: dict[str, str]
    seeds: list[int] | str
    protocol: str
    columns: list[dict[str, Any]]
    rows: list[Row]
    spread: str = ""
    date: str = ""
    commit: str = ""
    notes: list[str] | None = None
    fingerprint: dict[str, str] | list[dict[str, str]] | None = None
    folder: Path = RESULTS

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads a file and checks it.

        Raises:
            ValueError: If a key is missing, empty or unknown, or a column has no values.
        """
        values = json.loads(path.read_text(encoding="utf-8"))
        known = [field.name for field in fields(cls) if field.name not in _PLACE]
        missing = [key for key in known if key not in _OPTIONAL and not values.get(key)]
        unknown = sorted(values.keys() - known)
        if missing or unknown:
            raise ValueError(f"{path.name}: missing or empty {missing}, unknown {unknown}")
        results = cls(path.stem, **values, folder=path.parent)
        for column in results.shown():
            if not any(column.source in row for row in results.rows):
                raise ValueError(f"{path.name}: no row has a value {column.source!r} to show")
        return results

    def save(self, folder: Path) -> Path:
        """Writes the file with one line a row and a column, so that changes are easy to read."""
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _PLACE or not value:
                continue
            if isinstance(value, list) and not all(isinstance(item, int) for item in value):
                lines = ",\n    ".join(json.dumps(item, ensure_ascii=False) for item in value)
                text = f"[\n    {lines}\n  ]"
            else:
                text = json.dumps(value, ensure_ascii=False)
            parts.append(f"  {json.dumps(field.name)}: {text}")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
        return path

    def shown(self, keys: Sequence[str] = ()) -> list[Column]:
        """The columns of these keys in their order, otherwise all.

        Raises:
            ValueError: If a key is unknown.
        """
        known = {values["key"]: Column.from_json(values) for values in self.columns}
        if unknown := [key for key in keys if key not in known]:
            raise ValueError(f"{self.name} has no columns {unknown}, it has {list(known)}")
        return [known[key] for key in keys or known]

    def value(self, row: Mapping[str, Any], key: str) -> Any:
        """The value of a row, looked up in another file where it lies there.

        Raises:
            ValueError: If not exactly one row of the other file is meant.
        """
        value = row.get(key)
        if not (isinstance(value, dict) and "from" in value):
            return value
        other = find(value["from"], self.folder)
        rows = [row for row in other.rows if matches(row, value["where"])]
        if len(rows) != 1:
            raise ValueError(
                f"{len(rows)} rows of {other.name} have {value['where']}, expected one"
            )
        return other.value(rows[0], value["key"])


def find(name: str, folder: Path = RESULTS) -> Results:
    """The results of that name."""
    return Results.load(folder / f"{name}.json")


def load_all(folder: Path = RESULTS) -> list[Results]:
    """All results, by name."""
    return [Results.load(path) for path in sorted(folder.glob("*.json"))]


def quotas_of(row: Mapping[str, Any]) -> str | None:
    """How a row is divided among the classes; older files tell it in the name alone."""
    told: str | None = row.get("quotas")
    return told or str(row.get("method")).partition(", quotas ")[2] or None


def matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a row has these values; as text, since they may come from a command line."""
    return all(str(row.get(key)) == str(value) for key, value in where.items())


def places(row: Row) -> list[tuple[int, int]]:
    """The split and the seed of every figure of a row."""
    seeds = row["seeds"]
    return list(zip(row.get("splits") or [0] * len(seeds), seeds, strict=True))
