"""Pictures of a run and of what networks learned: losses, and classes taken for others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from torch_geometric_ddp._checks import check_names, shown
from torch_geometric_ddp.visualize.clouds import plain
from torch_geometric_ddp.visualize.saving import check_picture, save_figure

__all__ = ["plot_confusion", "plot_losses"]


def plot_losses(
    losses: Sequence[float],
    path: str | os.PathLike[str] | None = None,
    title: str = "",
) -> Figure:
    """Draws the loss of every step, and its mean over the twentieth part of the run around it.

    Every step has a network and real clouds of its own, so that the mean says more than the single
    losses.

    .. code-block:: python

        runs = []
        distill(dataset, steps=100, callback=runs.append)
        plot_losses(runs[-1].losses, "losses.png")

    Args:
        losses (sequence of float): The losses, :attr:`Distillation.losses`.
        path (str or path, optional): Where to save the picture.
        title (str): What stands above it. (default: nothing)

    Returns:
        The figure.

    Raises:
        TypeError: If :obj:`losses` are no sequence of numbers, or :obj:`path` is no path.
        ValueError: If there are no losses, or nothing can be written to :obj:`path` or in the
            format of its suffix.
    """
    values = _numbers(losses)
    if len(values) == 0:
        raise ValueError("'losses' must be the losses of at least one step, got none")
    path = None if path is None else check_picture(path)
    steps = np.arange(1, len(values) + 1)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, values, ".", color="0.7", ms=4, label="loss of a step")
    window = max(1, len(values) // 20)
    if window > 1:
        kernel = np.ones(window)
        # At the ends the mean is over what there is.
        counts = np.convolve(np.ones(len(values)), kernel, "same")
        label = f"mean of {window} steps"
        axes.plot(steps, np.convolve(values, kernel, "same") / counts, color="C0", label=label)
    axes.set(xlabel="step", ylabel="loss", title=plain(title))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return _saved(figure, path)


def plot_confusion(
    confusion: Tensor,
    class_names: Sequence[str],
    path: str | os.PathLike[str] | None = None,
    title: str = "",
) -> Figure:
    """Draws how many of the clouds of a class were taken for each class, in percent.

    .. code-block:: python

        result = evaluate(train_set, test_set, protocol=QUICK, seeds=2)
        plot_confusion(result.scores.confusion, result.scores.class_names, "confusion.png")

    Args:
        confusion (torch.Tensor): How often a true class (row) was taken for a class (column),
            :obj:`[C, C]`, such as :attr:`Accuracy.confusion
            <torch_geometric_ddp.tasks.Accuracy.confusion>`.
        class_names (sequence of str): The names of the classes.
        path (str or path, optional): Where to save the picture.
        title (str): What stands above it. (default: nothing)

    Returns:
        The figure.

    Raises:
        TypeError, ValueError: If there is not one name for every class, :obj:`confusion` is not
            square, or nothing can be written to :obj:`path` or in the format of its suffix.
    """
    names, counts = check_names("class_names", class_names), torch.as_tensor(confusion).cpu()
    if counts.shape != (len(names), len(names)):
        raise ValueError(
            f"'confusion' must be {len(names)} by {len(names)}, got {tuple(counts.shape)}"
        )
    path = None if path is None else check_picture(path)
    shares = 100 * (counts.double() / counts.sum(dim=1, keepdim=True)).numpy()
    size = 2.6 + 0.42 * len(names)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.add_subplot()
    colors = colormaps["Blues"].with_extremes(bad="0.85")
    image = axes.imshow(shares, colors, vmin=0, vmax=100)
    if len(names) <= 20:  # Otherwise the colours alone are readable.
        for i, row in enumerate(shares):
            for j, share in enumerate(row):
                if share >= 0.5:
                    color = "white" if share > 60 else "black"
                    axes.text(
                        j, i, f"{share:.0f}", ha="center", va="center", fontsize=8, color=color
                    )
    texts = [plain(name) for name in names]
    axes.set_xticks(range(len(names)), texts, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), texts, fontsize=8)
    axes.set(xlabel="taken for", ylabel="true class", title=plain(title))
    figure.colorbar(image, ax=axes, label="% of the class", pad=0.02, shrink=0.8)
    return _saved(figure, path)


def _numbers(losses: Any) -> np.ndarray:
    """The losses as an array, if they are a sequence of numbers."""
    try:
        values = None if isinstance(losses, str | bytes) else np.asarray(losses, dtype=float)
    except (TypeError, ValueError):  # Such as a mapping, or rows of different lengths.
        values = None
    if values is None or values.ndim != 1:
        raise TypeError(f"'losses' must be a sequence of numbers, got {shown(losses)}")
    return values


def _saved(figure: Figure, path: Path | None) -> Figure:
    if path is not None:
        save_figure(figure, path, dpi=150)
    return figure
