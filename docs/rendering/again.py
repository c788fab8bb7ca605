"""Makes the tables again by the commands that stand in their files, and compares the figures."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rendering.cells import cell
from rendering.results import RESULTS, Column, Results, find, load_all
from rendering.runs import ROW_KEY, import_runs, read_runs, read_together, row_key
from torch_geometric_ddp.comparison.report import aligned

ROOT = Path(__file__).parents[2]
# Programs that log the runs which `import` takes, and where a folder has them.
_LOGGING = re.compile(
    r"python examples/(compare|cross_architecture|cross_resolution|continual|distill|segment)\.py"
)
# What no shell makes: options of earlier programs, and letters that a comment explains.
_OLD = re.compile(r"--(protocol|seed|eval-seeds) | (S|RATE)( |$)")
_LOGS = ("runs.jsonl", "resolutions.jsonl")
_ACCURACY = Column("accuracy", "accuracy %", "mean")


def can_be_made(results: Results) -> bool:
    """Whether all commands are those of programs today, which log runs, and no figure is taken."""
    lines = [line for line in results.commands if not line.startswith(("#", "export "))]
    values = [value for row in results.rows for value in row.values()]
    taken = any(isinstance(value, dict) and "from" in value for value in values)
    return not taken and all(_LOGGING.search(line) and not _OLD.search(line) for line in lines)


def made_again(
    names: Sequence[str],
    out: Path,
    clouds: Path | None = None,
    jobs: int = 1,
    folder: Path = RESULTS,
) -> Iterator[tuple[str, str]]:
    """Runs the commands of tables, and says beside every figure what it is now.

    The commands of a table are given to a shell in :obj:`out/NAME`, where the programs and the
    clouds lie as in a checkout. They go on where they were stopped, since the programs do, and say
    what they say in :obj:`out/NAME/log.txt`. The new results are in :obj:`out/results`.

    Args:
        names (sequence of str): The tables. (default, if empty: all that :func:`can_be_made`)
        out (Path): The folder.
        clouds (Path, optional): The folder of the files that commands name. (default: none, as for
            generated shapes)
        jobs (int): How many tables are made side by side.
        folder (Path): The folder of the results.

    Yields:
        A name, and a table of the figures or why there is none.

    Raises:
        ValueError: If there is no such table, or it is not made by such programs, before the first
            one is made.
    """
    every = [find(name, folder) for name in names]
    if wrong := [results.name for results in every if not can_be_made(results)]:
        raise ValueError(f"not made by programs that log runs: {', '.join(wrong)}")
    every = every or [results for results in load_all(folder) if can_be_made(results)]
    with ThreadPoolExecutor(jobs) as pool:
        parts = [pool.submit(_made, results, out, clouds) for results in every]
        for results, part in zip(every, parts, strict=True):
            yield results.name, part.result()


def _made(results: Results, out: Path, clouds: Path | None) -> str:
    """What became of the figures of one table."""
    place = (out / results.name).absolute()
    place.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "examples", *(clouds.absolute().iterdir() if clouds else ())):
        link = place / path.name
        if not link.exists():
            link.symlink_to(path)
    # The interpreter that runs this program, whatever the machine calls `python`.
    lines = ["set -e", f"python() {{ '{sys.executable}' \"$@\"; }}", *results.commands]
    packages = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with open(place / "log.txt", "a", encoding="utf-8") as log:
        shell = ["bash", "-c", "\n".join(lines)]
        env = os.environ | {"PYTHONPATH": packages}
        done = subprocess.run(shell, cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        return f"Stopped (exit status {done.returncode}), see {place / 'log.txt'}.\n"
    (out / "results" / f"{results.name}.json").unlink(missing_ok=True)
    told = {key: getattr(results, key) for key in ("title", "data", "commands")}
    try:
        logs = sorted(path for name in _LOGS for path in place.glob(f"out/**/{name}"))
        # One log after the other, unless the table pools splits.
        pooled = isinstance(results.fingerprint, list)
        for runs in [read_together(logs, splits=True)] if pooled else map(read_runs, logs):
            import_runs(runs, results.name, out / "results", **told, hardware="this machine")
    except ValueError as error:  # Such as several protocols in one table.
        return f"The runs are in {place / 'out'}, and are no table of one protocol: {error}\n"
    return _beside(results, find(results.name, out / "results"))


def _beside(old: Results, new: Results) -> str:
    """A table of the figures of a file and of those that were made again."""
    rows = {row_key(row): row for row in new.rows}
    kept = [row for row in old.rows if row_key(row) in rows]
    told = [key for key in ROW_KEY if len({str(row.get(key)) for row in kept}) > 1]
    columns = {key: [_text(row.get(key)) for row in kept] for key in told}
    columns[f"{_ACCURACY.head} of the file"] = [cell(old, _ACCURACY, row) for row in kept]
    columns["again"] = [cell(new, _ACCURACY, rows[row_key(row)]) for row in kept]
    left = len(old.rows) - len(kept)
    return aligned(columns) + f"{left} rows have no run of today's programs.\n" * (left > 0)


def _text(value: object) -> str:
    return "-" if value is None else str(value)
