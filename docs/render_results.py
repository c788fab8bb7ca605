"""Renders the tables of the documentation from the results in `docs/results/`.

    python docs/render_results.py                              # docs/_tables/NAME.rst, for all
    python docs/render_results.py markdown published --where data=ModelNet10
    python docs/render_results.py fill README.md               # the tables between its markers
    python docs/render_results.py import out/mn10/runs.jsonl modelnet10-new --title "..." \
        --data "..." --hardware "..." --command "python examples/compare.py ..."

The documentation runs the first by itself whenever it is built. `import` turns the `runs.jsonl` of
`examples/compare.py` into a results file, or adds its runs to one that was made the same way, so
that no figure is typed.

A results file is JSON with these keys; those in brackets may be left out:

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
    (fingerprint)  hashes of the clouds, written by `import`, which compares them
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
                {"method": "random"}, among those that have the same values of the keys "same"
    below       the same the other way round
    share       the mean in percent of that of the row "row"
    score       the DD-Ranking score: "row" is the whole set, and "random" the random clouds, among
                those that also have the same "ppc"

The last six compute what they show, unless a row has a value of its own there: one that was
computed from figures before they were rounded. With "across": KEY a column becomes several, one for
every value of that key, and rows that are alike in the other columns become one.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import statistics
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch_geometric_ddp.comparison import dd_ranking_score

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
TABLES = HERE / "_tables"
#: The tables there that are made of several results, by others.
OTHERS = ("leaderboard.rst",)

Row = dict[str, Any]

COMPARED = frozenset(("above", "below", "share", "score"))
COMPUTED = COMPARED | {"each", "count"}
KINDS = COMPUTED | {"text", "integer", "decimal", "scientific", "mean", "median"}
_BLOCK = re.compile(r"(<!-- results: (.+?) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)


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
    """A results file, see the top of this file."""

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
    fingerprint: dict[str, str] | None = None

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads a file and checks it.

        Raises:
            ValueError: If a key is missing, empty or unknown, or a column has no values.
        """
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name: field for field in fields(cls) if field.name != "name"}
        optional = {"spread", "date", "commit", "notes", "fingerprint"}
        missing = [key for key in known if key not in optional and not values.get(key)]
        unknown = sorted(values.keys() - known.keys())
        if missing or unknown:
            raise ValueError(f"{path.name}: missing or empty {missing}, unknown {unknown}")
        results = cls(path.stem, **values)
        for column in results.shown():
            if not any(column.source in row for row in results.rows):
                raise ValueError(f"{path.name}: no row has a value {column.source!r} to show")
        return results

    def save(self, folder: Path) -> Path:
        """Writes the file with one line a row and a column, so that changes are easy to read."""
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "name" or not value:
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

    def lines(
        self,
        columns: Sequence[str] = (),
        where: Mapping[str, Any] | None = None,
        folder: Path = RESULTS,
    ) -> list[list[str]]:
        """The head and what stands in every row, as plain text.

        Args:
            columns (sequence of str): The keys of the columns. (default: all)
            where (dict, optional): The values that a row must have. (default: all rows)
            folder (path): Where the files lie whose values this one takes.

        Raises:
            ValueError: If a column is unknown or no row has these values.
        """
        shown = self.shown(columns)
        rows = [row for row in self.rows if _matches(row, where or {})]
        if not rows:
            raise ValueError(f"{self.name} has no row with {where}")
        spread: list[tuple[Column, Mapping[str, Any]]] = []
        for column in shown:
            if column.across:
                values = dict.fromkeys(row[column.across] for row in rows)
                spread += [(replace(column, head=str(v)), {column.across: v}) for v in values]
            else:
                spread.append((column, {}))
        # Rows become one where they are alike in the columns that are not spread.
        groups: dict[tuple[str | int, ...], list[Row]] = {}
        for i, row in enumerate(rows):
            fixed = [_cell(one, row, self.rows, folder) for one in shown if not one.across]
            groups.setdefault(tuple(fixed) if len(fixed) < len(shown) else (i,), []).append(row)

        def cell(group: Sequence[Row], column: Column, at: Mapping[str, Any]) -> str:
            found = (row for row in group if _matches(row, at))
            return next((_cell(column, row, self.rows, folder) for row in found), "-")

        cells = [[cell(group, *one) for one in spread] for group in groups.values()]
        return [[column.head for column, _ in spread], *cells]


def find(name: str, folder: Path = RESULTS) -> Results:
    """The results of that name."""
    return Results.load(folder / f"{name}.json")


def load_all(folder: Path = RESULTS) -> list[Results]:
    """All results, by name."""
    return [Results.load(path) for path in sorted(folder.glob("*.json"))]


def _matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a row has these values; as text, since they may come from a command line."""
    return all(str(row.get(key)) == str(value) for key, value in where.items())


def _value(row: Mapping[str, Any], key: str, folder: Path) -> Any:
    """The value of a row, looked up in another file where it lies there."""
    value = row.get(key)
    if not (isinstance(value, dict) and "from" in value):
        return value
    other = find(value["from"], folder)
    rows = [row for row in other.rows if _matches(row, value["where"])]
    if len(rows) != 1:
        raise ValueError(f"{len(rows)} rows of {other.name} have {value['where']}, expected one")
    return _value(rows[0], value["key"], folder)


def _list(value: Any) -> list[float]:
    return value if isinstance(value, list) else [value]


def _count(value: Any) -> int:
    """How many values there are; none where that is not known."""
    if value is None:
        return 0
    if isinstance(value, dict):
        return len(value["each"]) if "each" in value else int(value.get("count", 0))
    return len(_list(value))


def _mean(value: Any) -> float:
    return float(value["mean"]) if isinstance(value, dict) else statistics.fmean(_list(value))


def _std(value: Any) -> float | None:
    """The sample standard deviation; none for a single value."""
    if isinstance(value, dict):
        return value.get("std")
    return statistics.stdev(value) if len(_list(value)) > 1 else None


def _cell(column: Column, row: Row, rows: Sequence[Row], folder: Path) -> str:
    digits = column.digits
    if column.kind in COMPUTED and column.key not in row:
        value = _computed(column, row, rows, folder)
    else:
        value = _value(row, column.key if column.key in row else column.source, folder)
    if value is None:
        return "-"
    match column.kind:
        case "mean":
            std, count = _std(value), _count(value)
            most = max(_count(_value(other, column.source, folder)) for other in rows)
            return (
                f"{_mean(value):.{digits}f}"
                + ("" if std is None else f" ± {std:.{digits}f}")
                + (f" ({count})" if 1 < count < most else "")
            )
        case "each":
            return ", ".join(f"{one:.{digits}f}" for one in value)
        case "median":
            return f"{statistics.median(_list(value)):,.{digits}f}"
        case "above":
            return f"{value:+.{digits}f}"
        case "below" | "decimal" | "share" | "score":
            return f"{value:,.{digits}f}"
        case "scientific":
            return f"{value:.{digits}e}"
        case "integer" | "count":
            return f"{value:,}"
    return str(value)


def _computed(column: Column, row: Row, rows: Sequence[Row], folder: Path) -> Any:
    """The value of a column that is computed from another one."""
    mine = _value(row, column.source, folder)
    if mine is None:
        return None
    if column.kind == "count":
        return _count(mine)
    if column.kind == "each":
        return mine.get("each") if isinstance(mine, dict) else _list(mine)

    def mean_of(which: Mapping[str, Any] | None, same: Sequence[str]) -> float | None:
        where = {**(which or {}), **{key: row.get(key) for key in same}}
        base = next((other for other in rows if _matches(other, where)), None)
        value = None if base is None else _value(base, column.source, folder)
        return None if value is None else _mean(value)

    own, other = _mean(mine), mean_of(column.row, column.same)
    random = mean_of(column.random, [*column.same, "ppc"]) if column.kind == "score" else own
    if other is None or random is None:
        return None
    match column.kind:
        case "above":
            return own - other
        case "below":
            return other - own
        case "share":
            return 100 * own / other
    return dd_ranking_score((other - own) / 100, (own - random) / 100)


def markdown(
    results: Results,
    columns: Sequence[str] = (),
    where: Mapping[str, Any] | None = None,
    folder: Path = RESULTS,
) -> str:
    """The table alone, in Markdown; the arguments are those of :meth:`Results.lines`."""
    lines = results.lines(columns, where, folder)
    text = ["| " + " | ".join(line) + " |" for line in lines]
    text.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join(text).replace("``", "`") + "\n"


def rst(results: Results, folder: Path = RESULTS) -> str:
    """The commands, the table and what it was made with, in reStructuredText."""
    lines = [".. code-block:: console", ""]
    for command in results.commands:
        prompt = "    $ "
        for line in _wrapped(command):
            lines.append(prompt + line)
            prompt = "          "
    lines += [
        "",
        f".. _table-{results.name}:",
        "",
        f".. list-table:: {results.title}",
        "    :header-rows: 1",
        "",
    ]
    for cells in results.lines(folder=folder):
        for i, cell in enumerate(cells):
            # A lone dash would begin a list.
            text = "\\-" if cell == "-" else cell
            lines.append(f"    {'* -' if i == 0 else '  -'} {text}")
    lines.append("")
    lines += [f":{head}: {text}" for head, text in _provenance(results)]
    return "\n".join(lines) + "\n"


def _wrapped(command: str) -> list[str]:
    if command.startswith("#"):
        return [command]
    # An option stays on the line of its first value.
    glued = re.sub(r"( --[\w-]+) (?!--)", "\\1\0", command)
    lines = textwrap.wrap(glued, 96, break_long_words=False, break_on_hyphens=False)
    lines = [line.replace("\0", " ") for line in lines]
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def _provenance(results: Results) -> list[tuple[str, str]]:
    seeds = results.seeds if isinstance(results.seeds, str) else ", ".join(map(str, results.seeds))
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    found = (
        ("Data", results.data),
        ("Protocol", results.protocol),
        ("Seeds", seeds),
        ("Spread", results.spread),
        ("Hardware", results.hardware),
        ("Versions", versions),
        ("Date", results.date),
        ("Commit", results.commit),
        ("Notes", " ".join(results.notes or [])),
    )
    return [(head, text) for head, text in found if text]


def render_all(folder: Path = RESULTS, out: Path = TABLES) -> list[Path]:
    """Renders all results and removes the tables of those that are gone.

    A table that stays the same is not written, so that pages that show it are not built again.
    """
    out.mkdir(parents=True, exist_ok=True)
    texts = {out / f"{results.name}.rst": rst(results, folder) for results in load_all(folder)}
    for path in set(out.glob("*.rst")) - texts.keys() - {out / name for name in OTHERS}:
        path.unlink()
    for path, text in texts.items():
        write_changed(path, text)
    return list(texts)


def write_changed(path: Path, text: str) -> None:
    """Writes a file that is not there yet or says something else."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def fill(text: str, folder: Path = RESULTS) -> str:
    """Renders the tables of a Markdown text anew.

    A table stands between `<!-- results: NAME --columns KEY ... --where KEY=VALUE -->`, in which
    both options may be left out, and `<!-- end of results -->`.
    """

    def table(match: re.Match[str]) -> str:
        args = _parser().parse_args(["markdown", *shlex.split(match[2])])
        # A table must have an empty line above and below it.
        return "\n".join([match[1], *_tables(args, folder), match[4]])

    return _BLOCK.sub(table, text)


def _tables(args: argparse.Namespace, folder: Path) -> list[str]:
    chosen = [find(name, folder) for name in args.names] or load_all(folder)
    return [markdown(one, args.columns, _pairs(args.where), folder) for one in chosen]


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    return dict(text.partition("=")[::2] for text in texts)


#: The columns of runs, of which `import` shows those that are asked for.
RUN_COLUMNS: tuple[dict[str, Any], ...] = (
    {"key": "method", "head": "method"},
    {"key": "distilled_with", "head": "distilled with"},
    {"key": "backbone", "head": "backbone"},
    {"key": "ppc", "head": "PPC"},
    {"key": "accuracy", "head": "accuracy %", "as": "mean"},
    {
        "key": "accuracy_by_backbone",
        "head": "accuracy %",
        "as": "mean",
        "of": "accuracy",
        "across": "backbone",
    },
    {"key": "every_seed", "head": "every seed", "as": "each"},
    {"key": "mean_class_accuracy", "head": "mean class accuracy %", "as": "mean"},
    {
        "key": "above_random",
        "head": "above random",
        "as": "above",
        "row": {"method": "random"},
        "same": ["backbone", "ppc"],
    },
    {
        "key": "below_whole",
        "head": "below whole",
        "as": "below",
        "row": {"method": "whole"},
        "same": ["backbone"],
    },
    {
        "key": "of_whole",
        "head": "of whole %",
        "as": "share",
        "digits": 0,
        "row": {"method": "whole"},
        "same": ["backbone"],
    },
    {
        "key": "score",
        "head": "score",
        "as": "score",
        "digits": 2,
        "row": {"method": "whole"},
        "random": {"method": "random"},
        "same": ["backbone"],
    },
    {"key": "num_seeds", "head": "seeds", "as": "count"},
    {"key": "clouds", "head": "clouds", "as": "integer"},
    {"key": "points", "head": "points", "as": "integer"},
    {"key": "bits", "head": "bits", "as": "integer"},
    {"key": "steps", "head": "steps", "as": "integer"},
    {"key": "step_seconds", "head": "s/step", "as": "median", "digits": 2},
    {"key": "step_megabytes", "head": "MB/step", "as": "median", "digits": 0},
    {"key": "distill_seconds", "head": "s to distil", "as": "median", "digits": 0},
    {"key": "evaluate_seconds", "head": "s to train and test", "as": "median", "digits": 0},
)
_DEFAULT_COLUMNS = (
    *("method", "ppc", "backbone", "accuracy", "of_whole", "above_random", "below_whole"),
    *("score", "num_seeds"),
    *("clouds", "bits", "steps", "step_seconds", "step_megabytes"),
)
# What makes two runs of different seeds the same row.
_ROW_KEY = ("method", "distilled_with", "backbone", "ppc", "steps")


def rows_of_runs(runs: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Gathers the lines of a `runs.jsonl` that differ in nothing but their seed.

    Raises:
        ValueError: If runs of the same row differ in their settings or their network.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        # The whole set has no budget, and takes part in every one.
        ppc = None if run["budget_bits"] is None else run["ppc"]
        # A set that was made with the backbone that is trained does not say so.
        uses_network = run["steps"] or (run["whole"] and ppc is not None)
        maker = run.get("distilled_with", run["backbone"] if uses_network else None)
        key = (run["method"], maker, run["backbone"], ppc, run["steps"] or None)
        groups.setdefault(key, []).append(run)
    rows = []
    for key, group in groups.items():
        group.sort(key=lambda run: run["seed"])
        for what in ("settings", "network"):
            if any(run.get(what) != group[0].get(what) for run in group):
                raise ValueError(f"runs of {key[0]} have different {what}: import them apart")

        def each(
            get: Callable[[Mapping[str, Any]], float | None],
            group: Sequence[Mapping[str, Any]] = group,
        ) -> list[float] | None:
            values = [value for run in group if (value := get(run)) is not None]
            return [round(value, 6) for value in values] or None

        row = {
            **dict(zip(_ROW_KEY, key, strict=True)),
            "seeds": [run["seed"] for run in group],
            "accuracy": each(lambda run: 100 * run["value"]),
            "mean_class_accuracy": each(_mean_class_accuracy),
            "device": _common(group, "device"),
            "threads": _common(group, "threads"),
            "clouds": group[0]["num_clouds"],
            "points": group[0].get("num_points"),
            "bits": group[0]["bits"],
            "step_seconds": each(lambda run: run.get("step_seconds")),
            "step_megabytes": each(lambda run: _times(run.get("step_bytes"), 1e-6)),
            "distill_seconds": each(lambda run: run.get("distill_seconds")),
            "evaluate_seconds": each(lambda run: run.get("evaluate_seconds")),
        }
        rows.append(row)
    return rows


def _common(runs: Sequence[Mapping[str, Any]], key: str) -> Any:
    """What all runs say of themselves; nothing where they differ."""
    first = runs[0].get(key)
    return first if all(run.get(key) == first for run in runs) else None


def _wanted(run: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    """Whether a run has these values; protocols go by their names.

    The whole set has no PPC and no protocol of small sets, and takes part in all of them.
    """
    named = {key: run[key] and run[key]["name"] for key in ("protocol", "whole")}
    row = {**run, **named, "ppc": None if run["budget_bits"] is None else run["ppc"]}
    free = {key for key in ("ppc", "protocol", "whole") if row[key] is None}
    return _matches(row, {key: value for key, value in where.items() if key not in free})


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _mean_class_accuracy(run: Mapping[str, Any]) -> float | None:
    """The mean over the classes that have test clouds, in percent."""
    return _times(run.get("class_mean"), 100)


def import_runs(
    runs: Iterable[Mapping[str, Any]],
    name: str,
    folder: Path = RESULTS,
    columns: Sequence[str] = (),
    **described: Any,
) -> Path:
    """Makes a results file of the lines of a `runs.jsonl`, or adds them to one.

    A row that is there grows by the seeds that it lacks, and those that it has are replaced.

    Args:
        runs (iterable of dict): The lines.
        name (str): What the file is called.
        folder (path): Where it lies.
        columns (sequence of str): The keys of the columns, see :obj:`RUN_COLUMNS`.
        **described: Other keys of the file; for one that is there, those that are new.

    Raises:
        ValueError: If there are no runs, if they differ in data, protocol or versions, among
            themselves or from those of the file, if a file that is new is not described, or if
            what a row stores differs between seeds.
    """
    runs = list(runs)
    if not runs:
        raise ValueError("there are no runs to import")
    protocols = [key for key in ("protocol", "whole") if any(run[key] for run in runs)]
    made: dict[str, Any] = {
        "protocol": "; ".join(_protocol(key, _one(runs, key)) for key in protocols),
        "versions": _one(runs, "versions"),
        "fingerprint": _one(runs, "data"),
        "rows": rows_of_runs(runs),
        **{key: value for key, value in described.items() if value},
    }
    path = folder / f"{name}.json"
    if columns or not path.exists():
        # The key is that of accuracy for every task, the head says which figure it is.
        heads = {key: f"{_one(runs, key)} %" for key in ("metric", "class_metric")}
        made["columns"] = _columns(columns or _DEFAULT_COLUMNS, **heads)
    results = _added(Results.load(path), made) if path.exists() else _begun(name, made)
    seeds = sorted({seed for row in results.rows for seed in row.get("seeds", ())})
    return replace(results, seeds=seeds).save(folder)


def _begun(name: str, made: Mapping[str, Any]) -> Results:
    """A new file."""
    if missing := [key for key in ("title", "data", "hardware", "commands") if key not in made]:
        raise ValueError(f"a new file needs {', '.join(missing)}")
    spread = "sample standard deviation over the seeds"
    return Results(
        name,
        **{"seeds": [], "spread": spread, **made},
    )


def _added(old: Results, made: Mapping[str, Any]) -> Results:
    """A file with more rows."""
    for key in ("data", "hardware", "versions", "fingerprint"):
        known = getattr(old, key)
        if key in made and made[key] != known:
            raise ValueError(
                f"{old.name} has other {key}: {known!r}, got {made[key]!r}. "
                "Give the new runs a file of their own"
            )
    new = {tuple(row.get(key) for key in _ROW_KEY): row for row in made["rows"]}
    rows = []
    for row in old.rows:
        newer = new.pop(tuple(row.get(key) for key in _ROW_KEY), row)
        rows.append(_grown(row, newer))
    changed = {
        "protocol": _joined(old.protocol, made["protocol"]),
        "commands": list(dict.fromkeys([*old.commands, *made.get("commands", ())])),
        "notes": list(dict.fromkeys([*(old.notes or ()), *made.get("notes", ())])),
        "rows": [*rows, *new.values()],
    }
    return replace(old, **{**made, **changed})


def _grown(row: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the runs of a newer one, and those of its other seeds."""
    kept = [i for i, seed in enumerate(row["seeds"]) if seed not in newer["seeds"]]
    if not kept:
        return dict(newer)
    grown = {}
    for key, value in newer.items():
        own, counts = row.get(key), (len(row["seeds"]), len(newer["seeds"]))
        if isinstance(own, list) and isinstance(value, list):
            if (len(own), len(value)) != counts:
                raise ValueError(
                    f"{row['method']} has no {key} for every seed: join the files of runs and "
                    "import them together"
                )
            value = [*(own[i] for i in kept), *value]
        elif own != value:
            raise ValueError(f"{row['method']} has another {key}: {own!r}, got {value!r}")
        grown[key] = value
    order = sorted(range(len(grown["seeds"])), key=grown["seeds"].__getitem__)
    return {k: [v[i] for i in order] if isinstance(v, list) else v for k, v in grown.items()}


def _joined(old: str, new: str) -> str:
    """Both protocols, each of small sets, of the whole set, or of both."""
    parts: dict[bool, str] = {}
    for part in (*old.split("; "), *new.split("; ")):
        known = parts.setdefault(part.startswith("whole set: "), part)
        if known != part:
            raise ValueError(
                f"the file has another protocol: {known!r}, got {part!r}. "
                "Give the new runs a file of their own"
            )
    return "; ".join(parts[whole] for whole in sorted(parts))


def _columns(keys: Sequence[str], metric: str, class_metric: str) -> list[dict[str, Any]]:
    """The columns of these keys, with the heads of the two figures of the task."""
    heads = {"accuracy %": metric, "mean class accuracy %": class_metric}
    known = {
        one["key"]: {**one, "head": heads.get(one["head"], one["head"])} for one in RUN_COLUMNS
    }
    if unknown := [key for key in keys if key not in known]:
        raise ValueError(f"no columns {unknown}, the columns of runs are {', '.join(known)}")
    return [known[key] for key in keys]


def _one(runs: Sequence[Mapping[str, Any]], key: str) -> Any:
    """What all runs that have a key have there."""
    found = [run[key] for run in runs if run[key]]
    if any(value != found[0] for value in found):
        raise ValueError(f"the runs differ in their {key}: choose some of them by --where")
    return found[0]


def _protocol(key: str, values: Mapping[str, Any]) -> str:
    """A protocol in words."""
    text = ", ".join(f"{name} {value}" for name, value in values.items() if name != "name")
    return f"{'whole set: ' if key == 'whole' else ''}{values['name']} ({text})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the files")
    commands = parser.add_subparsers(dest="action")
    commands.add_parser("rst", help="render all tables to docs/_tables (the default)")

    table = commands.add_parser("markdown", help="print tables in Markdown")
    table.add_argument("names", nargs="*", help="results (default: all)")
    table.add_argument("--columns", nargs="+", default=[], metavar="KEY")
    table.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE")

    file = commands.add_parser("fill", help="render the tables between the markers of a file")
    file.add_argument("file", type=Path)

    runs = commands.add_parser("import", help="make a results file of a runs.jsonl, or add to it")
    runs.add_argument("runs", type=Path)
    runs.add_argument("name", help="the results file is called NAME.json")
    runs.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help="of the runs")
    runs.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="KEY",
        help=f"of {', '.join(column['key'] for column in RUN_COLUMNS)}",
    )
    runs.add_argument("--command", nargs="+", default=[], dest="commands")
    runs.add_argument("--note", nargs="+", default=[], dest="notes")
    for key in ("title", "data", "hardware", "date", "commit"):
        runs.add_argument(f"--{key}")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = _parser().parse_args(argv)
    if args.action == "markdown":
        print("\n".join(_tables(args, args.results)), end="")
    elif args.action == "fill":
        text = args.file.read_text(encoding="utf-8")
        args.file.write_text(fill(text, args.results), encoding="utf-8")
    elif args.action == "import":
        # Only here, so that rendering needs nothing but Python.
        from torch_geometric_ddp.comparison.runs import RunLog

        where = _pairs(args.where)
        runs = [run for run in RunLog(args.runs).read().values() if _wanted(run, where)]
        described = ("commands", "notes", "title", "data", "hardware", "date", "commit")
        chosen = {key: getattr(args, key) for key in described}
        print(import_runs(runs, args.name, args.results, args.columns, **chosen))
    else:
        print(f"{len(render_all(args.results))} tables are in {TABLES.name}/.")


if __name__ == "__main__":
    main()
