"""Makes results files of runs, and adds runs to them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rendering.results import RESULTS, Results, Row, matches, places, quotas_of
from torch_geometric_ddp.comparison.cells import ppc_of
from torch_geometric_ddp.comparison.incremental_report import joined_increments
from torch_geometric_ddp.comparison.report import pool_splits
from torch_geometric_ddp.comparison.resolution import spread_resolutions
from torch_geometric_ddp.comparison.runs import RunLog
from torch_geometric_ddp.programs.rows import ROWS

# What rows that are compared have in common; points are told by matrices of resolutions only.
_SAME = ["backbone", "train_points", "test_points"]
_RANDOM = {"row": {"method": "random"}, "same": [*_SAME, "ppc"]}
_WHOLE = {"row": {"method": "whole"}, "same": _SAME}
_BOTH = {"row": {"method": "whole"}, "random": {"method": "random"}, "same": _SAME}
_ACROSS = {"of": "accuracy", "across": "backbone"}
_ACROSS_POINTS = {"of": "accuracy", "across": "test_points"}
#: The columns of runs, of which `import` shows those that are asked for.
RUN_COLUMNS: tuple[dict[str, Any], ...] = (
    {"key": "method", "head": "method"},
    {"key": "distilled_with", "head": "distilled with"},
    {"key": "backbone", "head": "backbone"},
    {"key": "ppc", "head": "PPC"},
    {"key": "train_points", "head": "trained on points", "as": "integer"},
    {"key": "test_points", "head": "tested on points", "as": "integer"},
    {"key": "accuracy", "head": "accuracy %", "as": "mean"},
    {"key": "accuracy_by_backbone", "head": "accuracy %", "as": "mean", **_ACROSS},
    {"key": "accuracy_by_test_points", "head": "accuracy %", "as": "mean", **_ACROSS_POINTS},
    {"key": "average", "head": "average %", "as": "mean"},
    {"key": "forgetting", "head": "forgetting", "as": "mean"},
    {"key": "every_seed", "head": "every seed", "as": "each"},
    {"key": "mean_class_accuracy", "head": "mean class accuracy %", "as": "mean"},
    {"key": "above_random", "head": "above random", "as": "above", **_RANDOM},
    {"key": "below_whole", "head": "below whole", "as": "below", **_WHOLE},
    {"key": "of_whole", "head": "of whole %", "as": "share", "digits": 0, **_WHOLE},
    {"key": "score", "head": "score", "as": "score", "digits": 2, **_BOTH},
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
    *("score", "num_seeds", "clouds", "bits", "steps", "step_seconds", "step_megabytes"),
)
_MATRIX_COLUMNS = (
    *("method", "distilled_with", "ppc", "backbone", "steps", "train_points"),
    *("accuracy_by_test_points", "num_seeds", "clouds", "bits"),
)
#: What makes two runs of different seeds the same row.
ROW_KEY = ("method", "distilled_with", "backbone", "ppc", "steps", "train_points", "test_points")
# What runs of a row have in common beside that.
_SHARED = (
    *("settings", "network", "distilling_network", "num_networks", "quotas"),
    *("num_clouds", "num_points", "bits", "classes_seen"),
)

# What stands behind the name of a row that was changed.
_CHANGES = re.compile(r"\(|, lr |, quotas ")

Run = Mapping[str, Any]

# Of which tables tell the median. A run that went on from a checkpoint may not know them.
_COSTS = ("step_seconds", "step_megabytes", "distill_seconds")


def read_runs(path: Path) -> list[Run]:
    """The runs of a log: of increments the last one, of resolutions one for every test."""
    runs: list[Run] = [*RunLog(path).read().values()]
    if runs and "classes_seen" in runs[0]:
        return [run for seeds in joined_increments(runs).values() for run in seeds]
    return [*spread_resolutions(runs)] if runs and "at_points" in runs[0] else runs


def read_together(
    paths: Sequence[Path], where: Mapping[str, str] | None = None, splits: bool = False
) -> list[Run]:
    """The runs of several logs that have these values, pooled if they are said to be of splits."""
    runs = [run for path in paths for run in read_runs(path) if is_wanted(run, where or {})]
    return [*pool_splits(runs)] if splits else runs


def rows_of_runs(runs: Iterable[Run]) -> list[Row]:
    """Gathers runs that differ in nothing but their seed, as the lines of a `runs.jsonl` tell them.

    Of runs that are pooled over splits a row also tells the split of every seed.

    Raises:
        ValueError: If runs of the same row differ in more than their seed, or have the same one.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        # A set that was made with the backbone that is trained does not say so.
        maker = run.get("distilled_with", run["backbone"] if _uses_network(run) else None)
        key = (run["method"], maker, run["backbone"], ppc_of(run), run["steps"] or None)
        key += (run.get("train_points"), run.get("test_points"))
        groups.setdefault(key, []).append(run)
    return [
        dict(zip(ROW_KEY, key, strict=True)) | _row(sorted(group, key=_place))
        for key, group in groups.items()
    ]


def _uses_network(run: Run) -> bool:
    """Whether a set depends on the backbone, as the row says whose name begins that of the run."""
    entry = ROWS.get(_CHANGES.split(run["method"])[0])
    if entry is not None:
        return entry.uses_network
    # Of a row that is not known: what is optimised, or chosen by what a network learned.
    return bool(run["steps"] or (run["whole"] and ppc_of(run) is not None))


def _place(run: Run) -> tuple[int, int]:
    """The split of a run, the only one where they are not pooled, and its seed."""
    return run.get("split", 0), run["seed"]


def _row(runs: Sequence[Run]) -> Row:
    """What runs of several seeds have in common, and the figures of every seed."""
    first = runs[0]

    def alike(key: str) -> bool:
        return all(run.get(key) == first.get(key) for run in runs)

    def each(key: str, factor: float = 1) -> list[float] | None:
        values = [factor * run[key] for run in runs if run.get(key) is not None]
        return [round(value, 6) for value in values] or None

    for what in _SHARED:
        if not alike(what):
            raise ValueError(f"runs of {first['method']} have different {what}: import them apart")
    seeds = [run["seed"] for run in runs]
    if len({*map(_place, runs)}) < len(runs):
        raise ValueError(
            f"several runs of {first['method']} have the same seed, of {seeds}: choose by --where"
        )
    num_networks = first.get("num_networks", 1)
    return {
        "seeds": seeds,
        **({"splits": [run["split"] for run in runs]} if "split" in first else {}),
        **({"num_networks": num_networks} if num_networks > 1 else {}),
        **({"quotas": _in_name(first["quotas"])} if first.get("quotas") else {}),
        "accuracy": each("value", 100),
        "mean_class_accuracy": each("class_mean", 100),
        "average": each("average", 100),
        "forgetting": each("forgetting", 100),
        **{
            f"after_{num}": [round(100 * run["accuracies"][i], 6) for run in runs]
            for i, num in enumerate(first.get("classes_seen", ()))
        },
        "device": first.get("device") if alike("device") else None,
        "threads": first.get("threads") if alike("threads") else None,
        "clouds": first["num_clouds"],
        "points": first.get("num_points"),
        "bits": first["bits"],
        "step_seconds": each("step_seconds"),
        "step_megabytes": each("step_bytes", 1e-6),
        "distill_seconds": each("distill_seconds"),
        "evaluate_seconds": each("evaluate_seconds"),
    }


def _in_name(quotas: str | Sequence[float]) -> str:
    """Quotas as names of rows tell them: a list would be figures of seeds."""
    return quotas if isinstance(quotas, str) else " ".join(f"{weight:g}" for weight in quotas)


def is_wanted(run: Run, where: Mapping[str, str]) -> bool:
    """Whether a run has these values; protocols go by their names.

    The whole set has no PPC and no protocol of small sets, and takes part in all of them.
    """
    named = {key: run[key] and run[key]["name"] for key in ("protocol", "whole")}
    row = {**run, **named, "ppc": ppc_of(run)}
    free = {key for key in ("ppc", "protocol", "whole") if row[key] is None}
    return matches(row, {key: value for key, value in where.items() if key not in free})


def import_runs(
    runs: Iterable[Run],
    name: str,
    folder: Path = RESULTS,
    columns: Sequence[str] = (),
    **described: Any,
) -> Path:
    """Makes a results file of the lines of a `runs.jsonl`, or adds them to one.

    A row that is there grows by the seeds that it lacks, and those that it has are replaced. A file
    of runs that are pooled over splits says so, and takes more runs of the same splits.

    Args:
        runs (iterable of dict): The lines, pooled where they are of several splits.
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
    pooled = "split" in runs[0]
    protocols = [key for key in ("protocol", "whole") if any(run[key] for run in runs)]
    made: dict[str, Any] = {
        "protocol": "; ".join(_in_words(key, _common(runs, key)) for key in protocols),
        "versions": _common(runs, "versions"),
        "fingerprint": _common(runs, "data"),
        "rows": rows_of_runs(runs),
        **{key: value for key, value in described.items() if value},
    }
    path = folder / f"{name}.json"
    if columns or not path.exists():
        metrics = _common(runs, "metric"), _common(runs, "class_metric")
        usual = _MATRIX_COLUMNS if "test_points" in runs[0] else _DEFAULT_COLUMNS
        made["columns"] = _columns(columns or usual, *metrics, pooled)
    results = _added(Results.load(path), made) if path.exists() else _begun(name, made)
    seeds = sorted({seed for row in results.rows for seed in row.get("seeds", ())})
    words = f"{', '.join(map(str, seeds))} of each of {len(made['fingerprint'])} splits"
    return replace(results, seeds=words if pooled else seeds).save(folder)


def _columns(
    keys: Sequence[str], metric: str, class_metric: str, pooled: bool
) -> list[dict[str, Any]]:
    """The columns of these keys.

    The key of a figure is that of accuracy for every task; the head says which figure it is.
    """
    heads = {"accuracy %": f"{metric} %", "mean class accuracy %": f"{class_metric} %"}
    if pooled:
        heads |= {"seeds": "runs", "every seed": "every run"}
    known = {
        one["key"]: {**one, "head": heads.get(one["head"], one["head"])} for one in RUN_COLUMNS
    }
    if unknown := [key for key in keys if key not in known]:
        raise ValueError(f"no columns {unknown}, the columns of runs are {', '.join(known)}")
    return [known[key] for key in keys]


def _common(runs: Sequence[Run], key: str) -> Any:
    """What all runs that have a key have there."""
    found = [run[key] for run in runs if run[key]]
    if any(value != found[0] for value in found):
        more = ", or pool those of several splits by --splits" if key == "data" else ""
        raise ValueError(f"the runs differ in their {key}: choose some of them by --where{more}")
    return found[0]


def _in_words(key: str, protocol: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} {value}" for name, value in protocol.items() if name != "name")
    return f"{'whole set: ' if key == 'whole' else ''}{protocol['name']} ({text})"


def _begun(name: str, made: Mapping[str, Any]) -> Results:
    """A new file."""
    if missing := [key for key in ("title", "data", "hardware", "commands") if key not in made]:
        raise ValueError(f"a new file needs {', '.join(missing)}")
    over = "splits and seeds" if isinstance(made["fingerprint"], list) else "seeds"
    usual = {"seeds": [], "spread": f"sample standard deviation over the {over}"}
    return Results(name, **{**usual, **made})


def _added(old: Results, made: Mapping[str, Any]) -> Results:
    """A file with more rows."""
    for key in ("data", "hardware", "versions", "fingerprint"):
        _check_same(
            f"{old.name} has other {key}", getattr(old, key), made.get(key, getattr(old, key))
        )
    new = {row_key(row): row for row in made["rows"]}
    rows = [_grown(row, new.pop(row_key(row), row)) for row in old.rows]
    changed = {
        "protocol": _both_protocols(old.protocol, made["protocol"]),
        "commands": list(dict.fromkeys([*old.commands, *made.get("commands", ())])),
        "notes": list(dict.fromkeys([*(old.notes or ()), *made.get("notes", ())])),
        "rows": [*rows, *new.values()],
    }
    return replace(old, **{**made, **changed})


def _check_same(what: str, known: Any, given: Any) -> None:
    if given != known:
        raise ValueError(f"{what}: {known!r}, got {given!r}. Give the new runs a file of their own")


def _both_protocols(old: str, new: str) -> str:
    """Those of the file and of the new runs, each of small sets, of the whole set, or of both."""
    parts: dict[bool, str] = {}
    for part in (*old.split("; "), *new.split("; ")):
        is_whole = part.startswith("whole set: ")
        _check_same("the file has another protocol", parts.setdefault(is_whole, part), part)
    return "; ".join(parts[is_whole] for is_whole in sorted(parts))


def row_key(row: Row) -> tuple[Any, ...]:
    """What tells a row of a file from all others."""
    return tuple(row.get(key) for key in ROW_KEY)


def _grown(row: Row, newer: Row) -> Row:
    """A row with the runs of a newer one, and those of its other seeds."""
    networks = [one.get("num_networks", 1) for one in (row, newer)]
    _check_same(f"{row['method']} has another number of networks", *networks)
    _check_same(f"{row['method']} has other quotas", quotas_of(row), quotas_of(newer))
    kept = [i for i, place in enumerate(places(row)) if place not in places(newer)]
    if not kept:
        return newer
    grown = {}
    for key, value in newer.items():
        own = quotas_of(row) if key == "quotas" else row.get(key)
        counts = len(row["seeds"]), len(newer["seeds"])
        if key in _COSTS and len(kept) == counts[0]:
            grown[key] = [*(own or ()), *(value or ())] or None
            continue
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
    order = sorted(range(len(grown["seeds"])), key=places(grown).__getitem__)
    return {
        k: [v[i] for i in order] if isinstance(v, list) and len(v) == len(order) else v
        for k, v in grown.items()
    }
