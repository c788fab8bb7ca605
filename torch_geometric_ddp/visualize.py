"""Pictures of clouds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.transforms import NormalizeSphere

__all__ = ["plot_clouds", "plot_distilled"]

# For every axis that may point up, the axes that take the place of x, y and z, and their signs.
_TURNS = {"x": ((1, 2, 0), (1, 1, 1)), "y": ((0, 2, 1), (1, -1, 1)), "z": ((0, 1, 2), (1, 1, 1))}

# Twenty colours that can be told apart, and from white, the strong ones first.
_PALETTE = torch.from_numpy(colormaps["tab20"]([*range(0, 20, 2), *range(1, 20, 2)]))


def plot_clouds(
    rows: Sequence[Sequence[Tensor]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str = "",
    azimuth: float = 35.0,
    elevation: float = 20.0,
    part_labels: Sequence[Sequence[Tensor]] | None = None,
    up: str = "z",
) -> Figure:
    """Draws a grid of clouds, seen from slightly above.

    Nearer points are darker; or, with :obj:`part_labels`, every part has a colour. The parts of a
    row count from its lowest label up, so that the same part has the same colour in all of it.

    Args:
        rows (sequence of sequences of torch.Tensor): The clouds :obj:`[N, 3]`, row by row.
        row_names (sequence of str): A name for each row.
        column_names (sequence of str): A name for each column.
        title (str): The title. (default: none)
        azimuth (float): The direction of the view about the up axis, in degrees.
        elevation (float): The height of the view above the horizon, in degrees.
        part_labels (sequence of sequences of torch.Tensor, optional): The integer part :obj:`[N]`
            of every point, for all the clouds, row by row. (default: none)
        up (str): The axis that points up, :obj:`"x"`, :obj:`"y"` or :obj:`"z"`; that of ShapeNet is
            :obj:`"y"`. (default: :obj:`"z"`)

    Returns:
        The figure, to show or to save.

    Raises:
        ValueError: If there is not one part for every point, or :obj:`up` is no axis.
    """
    height, width = len(rows), len(column_names)
    figure = Figure(figsize=(1.15 * width + 1.0, 1.15 * height + 0.8), layout="constrained")
    axes = figure.subplots(height, width, squeeze=False)
    view = _view(azimuth, elevation, up)
    colors = None if part_labels is None else _colors(rows, part_labels)
    for i, clouds in enumerate(rows):
        for j in range(width):
            axis = axes[i][j]
            axis.set(xticks=[], yticks=[], xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(plain(column_names[j]), fontsize=9)
            if j == 0:
                name = plain(row_names[i])
                axis.set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
            if j >= len(clouds) or len(clouds[j]) == 0:
                continue
            pos = clouds[j].detach().cpu().double()
            pos = NormalizeSphere.apply(pos, torch.tensor([len(pos)])) @ view.T
            order = pos[:, 2].argsort(descending=True)  # The nearest points last, on top.
            x, y, depth = pos[order].T
            size = len(pos) ** -0.5
            if colors is None:
                axis.scatter(x, y, c=-depth, s=40 * size, cmap="viridis_r", lw=0)
            else:  # Larger, so that near parts hide those behind them.
                axis.scatter(x, y, c=colors[i][j][order], s=70 * size, lw=0)
    if title:
        figure.suptitle(plain(title), fontsize=11)
    return figure


def plain(text: str) -> str:
    """A name as Matplotlib draws it as it is, where two dollar signs would be mathematics."""
    return text.replace("$", r"\$")


def plot_distilled(
    real_set: Iterable[Data],
    synthetic: SyntheticPointCloudDataset,
    path: str | os.PathLike[str] | None = None,
    num_real: int = 3,
    num_anchors: int = 4,
    num_morphs: int = 4,
    classes: Sequence[str | int] | None = None,
    up: str = "z",
) -> Figure:
    """Draws, for every class, a few real clouds, anchors and morphs, or what else is stored.

    Clouds in PyG's convention of ShapeNet, :obj:`Data(pos=[N, 3], y=[N], category=[1])`, are
    drawn category by category, in the colours of their parts.

    Args:
        real_set (Dataset): The real set.
        synthetic (SyntheticPointCloudDataset): The distilled set.
        path (str or path, optional): Where to save the picture, by its suffix as PNG, PDF or SVG.
        num_real (int): Real clouds of a class. (default: :obj:`3`)
        num_anchors (int): Anchors of a class, or clouds of a set without morphs. (default:
            :obj:`4`)
        num_morphs (int): Morphs of a class. (default: :obj:`4`)
        classes (sequence of str or int, optional): The names or labels of the classes to draw, in
            this order. (default: all)
        up (str): The axis that points up. (default: :obj:`"z"`)

    The title says the data, the method, the storage, and the figure if the set tells one.

    Returns:
        The figure.

    Raises:
        ValueError: If a cloud has no label, or one that is out of range, a class is unknown, or
            :obj:`up` is no axis.
    """
    chosen = _chosen(synthetic.class_names, classes)
    # Whatever split or subset this is, of the whole set it is known which clouds are morphs.
    whole = SyntheticPointCloudDataset(synthetic.parameterization)
    pairs = list(zip(whole, synthetic.parameterization.is_morph().tolist(), strict=True))
    anchors = [data for data, is_morph in pairs if not is_morph]
    morphs = [data for data, is_morph in pairs if is_morph]
    stored = "anchor" if morphs else "stored"
    kinds = [("real", real_set, num_real), (stored, anchors, num_anchors)]
    kinds.append(("morph", morphs, num_morphs))
    figure = _plot_kinds(kinds, synthetic.class_names, _title(synthetic), chosen, up)
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    return figure


def _title(synthetic: SyntheticPointCloudDataset) -> str:
    """The data, the method, the storage and the figure of a set, as far as it tells them."""
    made = synthetic.provenance
    words = [str(made["source"])] if "source" in made else []
    words.append(f"distilled by {made.get('method', '?')}")
    words += [f"PPC {made['ppc']:g}"] if isinstance(made.get("ppc"), int | float) else []
    words.append(f"{synthetic.storage_bits:,} bits")
    told = made.get("evaluated")
    if isinstance(told, dict) and isinstance(told.get("value"), int | float):
        protocol = told.get("protocol")
        name = protocol.get("name") if isinstance(protocol, dict) else None
        by = "" if name is None else f" ({name} protocol)"
        words.append(f"{told.get('metric', 'figure')} {100 * told['value']:.1f} %{by}")
    return ", ".join(words)


def _chosen(names: Sequence[str], classes: Sequence[str | int] | None) -> list[int]:
    """The labels of the classes to draw."""
    if classes is None:
        return list(range(len(names)))
    labels = []
    for one in classes:
        known = one in names if isinstance(one, str) else 0 <= one < len(names)
        if not known:
            raise ValueError(
                f"'classes' must be of {list(names)}, or labels below {len(names)}, got {one!r}"
            )
        labels.append(names.index(one) if isinstance(one, str) else one)
    if not labels:
        raise ValueError("'classes' must name at least one class, got none")
    return labels


def _plot_kinds(
    kinds: Sequence[tuple[str, Iterable[Data], int]],
    names: Sequence[str],
    title: str,
    chosen: Sequence[int] | None = None,
    up: str = "z",
) -> Figure:
    """Draws the first clouds of each kind (its name, the clouds, how many), a row for a class."""
    chosen = range(len(names)) if chosen is None else chosen
    columns: list[str] = []
    cells: list[list[Data]] = [[] for _ in chosen]
    blank = Data(pos=torch.zeros(0, 3), y=torch.zeros(0, dtype=torch.long))
    for kind, dataset, num in kinds:
        every = _first(kind, dataset, num, names)
        found = [every[label] for label in chosen]
        width = max(map(len, found))
        columns += [kind] * width
        for row, clouds in zip(cells, found, strict=True):
            row += clouds + [blank] * (width - len(clouds))
    rows = [[data.pos for data in row] for row in cells]
    labelled = all("category" in data or data is blank for row in cells for data in row)
    parts = [[data.y for data in row] for row in cells] if labelled else None
    shown = [names[label] for label in chosen]
    return plot_clouds(rows, shown, columns, title, part_labels=parts, up=up)


def _first(kind: str, dataset: Iterable[Data], num: int, names: Sequence[str]) -> list[list[Data]]:
    """The first clouds of every class, or category."""
    found: list[list[Data]] = [[] for _ in names]
    for i, data in enumerate(dataset):
        label = torch.as_tensor(data.get("category", data.get("y", [])))
        if label.numel() != 1 or not 0 <= int(label) < len(names):
            got = int(label) if label.numel() == 1 else f"{label.numel()} labels"
            raise ValueError(
                f"{kind} cloud {i} must have one label in 0..{len(names) - 1}, or a category, got "
                f"{got}"
            )
        found[int(label)] += [data] * (len(found[int(label)]) < num)
        if min(map(len, found)) >= num:
            break
    return found


def _colors(
    rows: Sequence[Sequence[Tensor]], part_labels: Sequence[Sequence[Tensor]]
) -> list[Sequence[Tensor]]:
    """The colours :obj:`[N, 4]` of the points of every cloud."""
    colors = []
    for i, (clouds, labels) in enumerate(zip_longest(rows, part_labels, fillvalue=())):
        sizes, given = [len(cloud) for cloud in clouds], [len(label) for label in labels]
        if sizes != given:
            raise ValueError(f"'part_labels' of row {i} must have {sizes} points, got {given}")
        parts = torch.cat([label.cpu() for label in labels]) if labels else torch.zeros(0)
        rank = parts.unique(return_inverse=True)[1]
        colors.append(_PALETTE[rank % len(_PALETTE)].split(sizes))
    return colors


def _view(azimuth: float, elevation: float, axis: str = "z") -> Tensor:
    """Rows: right, up and away from the viewer, of clouds in which such an axis points up."""
    if axis not in _TURNS:
        raise ValueError(f"'up' must be one of {list(_TURNS)}, got {axis!r}")
    a, e = torch.deg2rad(torch.tensor([azimuth, elevation], dtype=torch.float64))
    right = torch.stack([-a.sin(), a.cos(), torch.zeros_like(a)])
    away = -torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()])
    up = torch.linalg.cross(right, away)
    order, signs = _TURNS[axis]
    turn = torch.eye(3, dtype=torch.float64)[list(order)] * torch.tensor(signs).unsqueeze(1)
    return torch.stack([right, up, away]) @ turn
