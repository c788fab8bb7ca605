"""Pictures of a search."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from torch_geometric_ddp._files import check_folder, replacing
from torch_geometric_ddp.tuning.report import FEW, FEWEST, TuningResult
from torch_geometric_ddp.visualize import save_figure

__all__ = ["LETTERS", "plot_tuning", "write_html"]

#: What settings are called in tables and pictures, where it is not their name.
LETTERS = {
    **{"num_anchors": "M", "anchor_points": "N2", "num_morphs": "L", "uniformity_lambda": "λ"},
    # What is drawn in the place of a setting.
    **{"anchor_share": "N2 (share)", "penalty": "η", "halves": "cloud points / 2"},
}
# The pictures that there may be.
_NAMES = ("history", "parallel", "importances", "pareto")
# The place of a setting that a trial does not have.
_MISSING = object()


def plot_tuning(result: TuningResult, folder: str | os.PathLike[str]) -> list[Path]:
    """Draws the history, the importances, parallel coordinates and, if there is one, the front.

    Args:
        result (TuningResult): What was found; at least one trial has completed.
        folder (path): Where the pictures go, :obj:`history.png` and so on. What is there of another
            search is removed.

    Returns:
        The pictures.

    Raises:
        TypeError: If :obj:`folder` is no path.
        ValueError: If no trial has completed, or :obj:`folder` cannot be written to.
    """
    if not result.completed:
        raise ValueError("'result' must have a trial that has completed, got none")
    draw: dict[str, Callable[[Axes, TuningResult], None]] = {
        "history": _history,
        "importances": _importances,
        "parallel": _parallel,
        "pareto": _pareto,
    }
    if not result.importances():
        del draw["importances"]
    if len(result.objectives) == 1:
        del draw["pareto"]
    folder = check_folder("folder", folder)
    paths = []
    for name, function in draw.items():
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        function(axes, result)
        num, best = len(result.completed), 100 * result.best.values[0]
        axes.set_title(f"{num} trials, the best {best:.1f} % on held-out clouds", fontsize=10)
        paths.append(folder / f"{name}.png")
        save_figure(figure, paths[-1], dpi=150)
    _remove(folder / f"{name}.png" for name in _NAMES if name not in draw)
    return paths


def write_html(result: TuningResult, folder: str | os.PathLike[str]) -> list[Path]:
    """Writes Optuna's own pictures as interactive pages, where plotly is installed.

    Fewer than four completed trials, of which they say nothing, have none.

    Args:
        result (TuningResult): What was found.
        folder (path): Where the pages go. What is there of another search is removed.

    Returns:
        The pages, none without plotly or of too few trials.

    Raises:
        TypeError: If :obj:`folder` is no path.
        ValueError: If :obj:`folder` cannot be written to.
    """
    folder = check_folder("folder", folder)
    enough = optuna.visualization.is_available() and len(result.completed) >= FEWEST
    pages = _pages(result) if enough else {}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {key: folder / f"{key}.html" for key in pages}
    for key, page in pages.items():
        with replacing(paths[key]) as temporary:
            page.write_html(temporary)
    _remove(folder / f"{key}.html" for key in _NAMES if key not in pages)
    return list(paths.values())


def _pages(result: TuningResult) -> dict[str, Any]:
    plots = optuna.visualization
    name = result.objectives[0]
    target: dict[str, Any] = {"target": lambda trial: trial.values[0], "target_name": name}
    target = target if len(result.objectives) > 1 else {"target_name": name}
    pages = {
        "history": plots.plot_optimization_history(result.study, **target),
        "parallel": plots.plot_parallel_coordinate(result.study, **target),
    }
    if len(result.objectives) == 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That trials are few or alike.
            pages["importances"] = plots.plot_param_importances(result.study)
    elif len(result.objectives) < 4:
        pages["pareto"] = plots.plot_pareto_front(result.study)
    return pages


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _history(axes: Axes, result: TuningResult) -> None:
    trials = sorted(result.completed, key=lambda trial: trial.number)
    at = [trial.number for trial in trials]
    values = [100 * trial.values[0] for trial in trials]
    axes.scatter(at, values, color="0.6", label="trial")
    best = [max(values[: i + 1]) for i in range(len(values))]
    axes.step(at, best, where="post", color="C0", label="best so far")
    if result.published is not None:
        value = 100 * result.published.values[0]
        axes.axhline(value, color="C1", ls="--", lw=1, label="published settings")
    axes.set(xlabel="trial", ylabel=f"validation {result.metric} %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)


def _importances(axes: Axes, result: TuningResult) -> None:
    found, spread = dict(reversed(result.importances().items())), result.importance_spread()
    names = [LETTERS.get(name, name) for name in found]
    values, errors = list(found.values()), [spread[name] for name in found]
    bars = axes.barh(names, values, color="0.75")
    # An importance lies between 0 and 1, and so does what is drawn of its spread.
    ends = [[min(e, v) for e, v in zip(errors, values, strict=True)]]
    ends += [[min(e, 1 - v) for e, v in zip(errors, values, strict=True)]]
    axes.errorbar(values, names, xerr=ends, fmt="none", ecolor="0.2", capsize=3)
    texts = [f"{v:.2f} ± {e:.2f}" for v, e in zip(values, errors, strict=True)]
    for bar, end, text in zip(bars, ends[1], texts, strict=True):
        at = (bar.get_width() + end, bar.get_y() + bar.get_height() / 2)
        axes.annotate(text, at, (6, 0), textcoords="offset points", va="center", fontsize=9)
    few = f"\nof fewer than {FEW} trials it is hardly more than a guess"
    says = "importance (0 to 1) ± its standard deviation if the trials are drawn again"
    axes.set(xlabel=says + few * (len(result.completed) < FEW))
    axes.set_xlim(0, 1.3 * max(v + e for v, e in zip(values, ends[1], strict=True)))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick < 1.01])


def _parallel(axes: Axes, result: TuningResult) -> None:
    number = result.best.number  # Several may have its score.
    trials = sorted(result.completed, key=lambda trial: (trial.values[0], trial.number == number))
    settings = [trial.user_attrs["settings"] for trial in trials]  # The best last, on top.
    columns = {
        name: ([one.get(name, _MISSING) for one in settings], _is_logarithmic(trials, name))
        for name in dict.fromkeys(name for one in settings for name in one)
    }
    columns[f"{result.metric} %"] = [100 * trial.values[0] for trial in trials], False
    names, places = list(columns), []
    for i, (values, log) in enumerate(columns.values()):
        found, ends = _places(values, log)
        places.append(found)
        axes.axvline(i, color="0.8", lw=1)
        for y, text in zip((-0.05, 1.05), ends, strict=True):
            axes.text(i, y, text, ha="center", va="center", fontsize=8, parse_math=False)
    *others, best = zip(*places, strict=True)
    for line in others:
        axes.plot(range(len(names)), line, color=colormaps["viridis"](line[-1]), alpha=0.5)
    axes.plot(range(len(names)), best, "o-", color="C3", lw=2.5, ms=5, label="best trial")
    for i, (values, _) in enumerate(columns.values()):
        if values[-1] is _MISSING:
            continue
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.8}
        axes.annotate(
            _shown(values[-1]),
            (i, best[i]),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color="C3",
            bbox=box,
            parse_math=False,
        )
    axes.set_xticks(range(len(names)), [LETTERS.get(name, name) for name in names])
    axes.set(yticks=[], ylim=(-0.1, 1.1), xlim=(-0.3, len(names) - 0.4))
    axes.spines[:].set_visible(False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.08))


def _is_logarithmic(trials: Sequence[FrozenTrial], name: str) -> bool:
    """Whether a setting was drawn on such a scale, as it stands or as a multiple of a parameter."""

    def follows(parameter: str) -> bool:
        pairs = [
            (trial.user_attrs["settings"].get(name), trial.params[parameter])
            for trial in trials
            if parameter in trial.params
        ]
        if not all(isinstance(value, int | float) and value for pair in pairs for value in pair):
            return False
        ratios = [value / drawn for value, drawn in pairs]
        return all(math.isclose(ratio, ratios[0]) for ratio in ratios)

    drawn = {key: how for trial in trials for key, how in trial.distributions.items()}
    logarithmic = [key for key, how in drawn.items() if getattr(how, "log", False)]
    return name in logarithmic or (name not in drawn and any(map(follows, logarithmic)))


def _places(values: Sequence[Any], log: bool) -> tuple[list[float], tuple[str, str]]:
    """Where values stand on an axis from 0 to 1, and what its ends are called.

    What is no number stands in the order of the words; what is not there is NaN.
    """
    there = [value for value in values if value is not _MISSING]
    if all(isinstance(value, int | float) for value in there):
        positive = [value for value in there if value > 0] or [1.0]
        least = min(positive) / 10
        at = [math.log10(max(value, least)) if log else float(value) for value in there]
        ends = _shown(min(there)), _shown(max(there))
    else:
        words = sorted({_shown(value) for value in there})
        at = [float(words.index(_shown(value))) for value in there]
        ends = words[0], words[-1]
    low, span = min(at), (max(at) - min(at)) or 1.0
    found = iter(at)
    return [math.nan if v is _MISSING else (next(found) - low) / span for v in values], ends


def _shown(value: Any) -> str:
    return _plain_number(value) if isinstance(value, int | float) else f"{value!s:.20}"


def _plain_number(value: float) -> str:
    """A number without an exponent, in at most four figures where it has a fraction."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    places = 3 - math.floor(math.log10(abs(value)))
    text = f"{value:.{max(0, places)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _pareto(axes: Axes, result: TuningResult) -> None:
    several = len(result.objectives) > 2
    front = f"Pareto front of {len(result.objectives)} objectives" if several else "Pareto front"
    kinds = ((result.completed, "0.6", "trial"), (result.front, "C0", front))
    for found, color, label in kinds:
        trials = sorted(found, key=lambda trial: trial.values[1])
        x, y = [t.values[1] for t in trials], [100 * t.values[0] for t in trials]
        # Between two of its trials the front gives no more than the cheaper one. That of more
        # objectives is no line over two of them.
        joined = color == "C0" and not several
        line, style = ("-", "steps-post") if joined else ("", "default")
        axes.plot(x, y, marker="o", ls=line, drawstyle=style, color=color, label=label)
    if result.published is not None:
        value = result.published.values
        axes.plot(value[1], 100 * value[0], "*", color="C1", ms=12, label="published settings")
    axes.set(xlabel=result.objectives[1], ylabel=f"validation {result.metric} %")
    axes.legend(frameon=False)
