"""What `tune` shows of a search: its front, its importances, its table and its file."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from typing import Any

from torch_geometric_ddp._files import replacing
from torch_geometric_ddp.comparison import Lab, Row
from torch_geometric_ddp.comparison.report import aligned
from torch_geometric_ddp.programs.presets import preset_and_seeds
from torch_geometric_ddp.programs.showing import heading
from torch_geometric_ddp.tuning import LETTERS, TuningResult
from torch_geometric_ddp.tuning.report import FEW

__all__ = ["report"]


def report(
    args: argparse.Namespace,
    lab: Lab,
    result: TuningResult,
    chosen: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Row],
    study: Mapping[str, str],
    command: str,
) -> None:
    """Prints what was found, and writes it to `results.json` of the folder.

    Args:
        args (argparse.Namespace): The options.
        lab (Lab): What ran on the test set.
        result (TuningResult): What the search found.
        chosen (dict): The settings of every row of the table.
        rows (dict of Row): What they reached on the test set.
        study (dict): What tells the study from others.
        command (str): The command that distils with the best settings.
    """
    best = chosen["best found"]
    spans = [
        trial.duration.total_seconds() for trial in result.completed if trial.duration is not None
    ]
    seconds = sum(spans) / len(spans)
    print(f"\n{len(result.finished)} trials: {len(result.completed)} completed, ", end="")
    print(f"{len(result.reasons)} failed, {seconds:.1f} s per completed trial,")
    print(f"{100 * result.idle_share:.1f} % of it neither distilling nor training networks.")
    for number, reason in result.reasons.items():
        print(f"Trial {number} failed: {reason}")
    if len(result.objectives) > 1:
        _print_front(result)
    importances, spread = result.importances(), result.importance_spread()
    if importances:
        _print_importances(importances, spread, len(result.completed))
    _, seeds = preset_and_seeds(args)
    runs = [run for row in rows.values() for run in row.runs]
    print(f"\n{heading(args, runs)}, seeds {list(seeds)}")
    _print_table(chosen, rows, result.metric)
    for run, reason in lab.failures.items():
        print(f"Failed: {run}: {reason}")
    print(f"\nTo distil with the best settings:\n\n    {command}\n")
    summary = {
        **study,
        "best": best,
        "published": chosen["published"],
        "validation": dict(zip(result.objectives, result.best.values, strict=True)),
        "test": {name: row.runs for name, row in rows.items()},
        "importances": importances,
        "importance_spread": spread,
        "trials": len(result.finished),
        "failed": result.reasons,
        "seconds_per_trial": seconds,
        "idle_share": result.idle_share,
        "command": command,
    }
    text = json.dumps(summary, indent=1) + "\n"
    with replacing(args.out / "results.json") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"The set, the pictures and the figures are in {args.out}/, the study is in")
    place = shlex.join([args.storage, "--artifact-dir", str(args.out / "artifacts")])
    print(f"{args.storage}. See it with: optuna-dashboard {place}")


def _print_importances(
    importances: Mapping[str, float], spread: Mapping[str, float], count: int
) -> None:
    lines = [["setting", "importance"]]
    for name, value in importances.items():
        lines.append([LETTERS.get(name, name), f"{value:.2f} ± {spread[name]:.2f}"])
    _print_lines(lines)
    if count < FEW:
        print(f"Of {count} trials importances are hardly more than a guess: {FEW} say something.")


def _print_front(result: TuningResult) -> None:
    names = [f"{result.metric} %", *result.objectives[1:]]
    lines = [["trial", *names, *(LETTERS.get(name, name) for name in result.settings)]]
    for trial in result.front:
        score, *others = trial.values
        values = [f"{100 * score:.1f}", *(f"{value:,.6g}" for value in others)]
        lines.append([str(trial.number), *values, *_words(trial.user_attrs["settings"])])
    _print_lines(lines)


def _print_table(
    chosen: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Row], metric: str
) -> None:
    names = list(chosen["best found"])
    lines = [["settings", *(LETTERS.get(name, name) for name in names), f"test {metric} %"]]
    for name, settings in chosen.items():
        same = settings == chosen["best found"] and name != "best found"
        value = "the same settings" if same else rows.get(name, "failed")
        lines.append([name, *_words(settings), str(value)])
    _print_lines(lines)
    print("Published settings outside of the space stand as what is nearest in it.")


def _print_lines(lines: list[list[str]]) -> None:
    print("\n" + aligned({head: cells for head, *cells in zip(*lines, strict=True)}), end="")


def _words(settings: Mapping[str, Any]) -> list[str]:
    return [f"{v:.4g}" if isinstance(v, float) else str(v) for v in settings.values()]
