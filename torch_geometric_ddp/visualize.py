"""Pictures of clouds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp.bank import PointCloudBank
from torch_geometric_ddp.datasets.synthetic import SyntheticPointCloudDataset

__all__ = ["plot_clouds", "plot_distilled"]


def plot_clouds(
    rows: Sequence[Sequence[Tensor]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str = "",
    azimuth: float = 35.0,
    elevation: float = 20.0,
) -> Figure:
    """Draws a grid of clouds, z up, seen from slightly above, nearer points darker.

    Args:
        rows (sequence of sequences of torch.Tensor): The clouds :obj:`[N, 3]`, row by row.
        row_names (sequence of str): A name for each row.
        column_names (sequence of str): A name for each column.
        title (str): The title. (default: none)
        azimuth (float): The direction of the view about the up axis, in degrees.
        elevation (float): The height of the view above the horizon, in degrees.

    Returns:
        The figure, to show or to save.
    """
    height, width = len(rows), len(column_names)
    figure = Figure(figsize=(1.15 * width + 1.0, 1.15 * height + 0.8), layout="constrained")
    axes = figure.subplots(height, width, squeeze=False)
    view = _view(azimuth, elevation)
    for i, clouds in enumerate(rows):
        for j in range(width):
            axis = axes[i][j]
            axis.set(xticks=[], yticks=[], xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(column_names[j], fontsize=9)
            if j == 0:
                axis.set_ylabel(row_names[i], fontsize=9, rotation=0, ha="right", va="center")
            if j >= len(clouds) or len(clouds[j]) == 0:
                continue
            pos = clouds[j].detach().cpu().double()
            pos = pos - pos.mean(dim=0)
            pos = pos / pos.norm(dim=1).max().clamp_min(1e-12) @ view.T
            pos = pos[pos[:, 2].argsort(descending=True)]  # The nearest points last, on top.
            size = 40.0 / len(pos) ** 0.5
            axis.scatter(pos[:, 0], pos[:, 1], c=-pos[:, 2], s=size, cmap="viridis_r", lw=0)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def plot_distilled(
    real_set: Iterable[Data],
    synthetic: SyntheticPointCloudDataset,
    path: str | os.PathLike[str] | None = None,
    num_real: int = 3,
    num_anchors: int = 4,
    num_morphs: int = 4,
) -> Figure:
    """Draws, for every class, a few real clouds, anchors and morphs.

    Args:
        real_set (Dataset): The real set.
        synthetic (SyntheticPointCloudDataset): The distilled set.
        path (str or path, optional): Where to save the picture, by its suffix as PNG, PDF or SVG.
        num_real (int): Real clouds of a class. (default: :obj:`3`)
        num_anchors (int): Anchors of a class. (default: :obj:`4`)
        num_morphs (int): Morphs of a class. (default: :obj:`4`)

    Returns:
        The figure.
    """
    bank = PointCloudBank.from_dataset(real_set)
    parameterization = synthetic.parameterization
    with torch.no_grad():
        batch = parameterization()
    clouds = batch.pos.view(-1, batch.num_points, 3)
    is_morph = parameterization.is_morph()
    y = batch.y.cpu()
    rows = []
    for label in range(synthetic.num_classes):
        members = (bank.y == label).nonzero().flatten()[:num_real]
        ends = bank.starts + bank.sizes
        real = [bank.pos[bank.starts[i] : ends[i]] for i in members]
        anchors = list(clouds[(y == label) & ~is_morph][:num_anchors])
        morphs = list(clouds[(y == label) & is_morph][:num_morphs])
        blank = [clouds.new_zeros(0, 3)]
        real += blank * (num_real - len(real))
        rows.append([*real, *anchors, *morphs])
    num_anchors, num_morphs = len(anchors), len(morphs)
    columns = ["real"] * num_real + ["anchor"] * num_anchors + ["morph"] * num_morphs
    source = synthetic.provenance.get("source", "")
    title = f"{source}, distilled by {synthetic.provenance.get('method', '?')}".lstrip(", ")
    figure = plot_clouds(rows, synthetic.class_names, columns, title)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    return figure


def _view(azimuth: float, elevation: float) -> Tensor:
    """Rows: right, up and away from the viewer."""
    a, e = torch.deg2rad(torch.tensor([azimuth, elevation], dtype=torch.float64))
    right = torch.stack([-a.sin(), a.cos(), torch.zeros_like(a)])
    away = -torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()])
    up = torch.linalg.cross(right, away)
    return torch.stack([right, up, away])
