"""A grid of clouds, each as it is seen from slightly above."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from torch_geometric_ddp._checks import check_points, check_text
from torch_geometric_ddp.transforms import NormalizeSphere

__all__ = ["PALETTE", "line_of", "plain", "plot_clouds", "put_title", "word_for_stored", "wrapped"]

# For every axis that may point up, the axes that take the place of x, y and z, and their signs.
_TURNS = {"x": ((1, 2, 0), (1, 1, 1)), "y": ((0, 2, 1), (1, -1, 1)), "z": ((0, 1, 2), (1, 1, 1))}

# Twenty colours that can be told apart, and from white, the strong ones first.
PALETTE = torch.from_numpy(colormaps["tab20"]([*range(0, 20, 2), *range(1, 20, 2)]))

# The width of a column of a legend of parts, in inches, and the lines that fit beside a row.
_LEGEND, _LINES = 1.3, 7
# The letters of a title in an inch, and the height of a line of it in inches.
_PER_INCH, _LINE = 11.5, 0.19
# Of a cell and of a gap between two kinds of clouds, in inches.
_CELL, _GAP = 1.15, 0.25
# Of the legend of depths; and of a letter of the name of a row, of which a line has so many.
_DEPTHS_WIDTH, _LETTER, _LETTERS = 3.2, 0.13, 24


def word_for_stored(is_morph: Tensor) -> str:
    """What the clouds of a set that are stored are called: anchors, where it has morphs of them.

    Args:
        is_morph (Tensor): Which clouds are morphs, see :meth:`Parameterization.is_morph`.
    """
    return "anchor" if bool(is_morph.any()) else "stored"


def plot_clouds(
    rows: Sequence[Sequence[Tensor]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str = "",
    azimuth: float = 35.0,
    elevation: float = 20.0,
    part_labels: Sequence[Sequence[Tensor]] | None = None,
    up: str = "z",
    part_names: Sequence[str] | None = None,
) -> Figure:
    """Draws a grid of clouds, seen from slightly above.

    Nearer points are darker; or, with :obj:`part_labels`, every part has a colour. The parts of a
    row count from its lowest label up, so that the same part has the same colour in all of it. A
    gap stands where the name of a column differs from the one before.

    Args:
        rows (sequence of sequences of torch.Tensor): The clouds :obj:`[N, 3]`, row by row.
        row_names (sequence of str): A name for each row.
        column_names (sequence of str): A name for each column.
        title (str): The title. (default: none)
        azimuth (float): The direction of the view about the up axis, in degrees.
            (default: :obj:`35.0`)
        elevation (float): The height of the view above the horizon, in degrees.
            (default: :obj:`20.0`)
        part_labels (sequence of sequences of torch.Tensor, optional): The integer part :obj:`[N]`
            of every point, for all the clouds, row by row. (default: none)
        up (str): The axis that points up, :obj:`"x"`, :obj:`"y"` or :obj:`"z"`; that of ShapeNet is
            :obj:`"y"`. (default: :obj:`"z"`)
        part_names (sequence of str, optional): The names of the parts by their labels, which stand
            beside every row. (default: none)

    Returns:
        The figure, to show or to save.

    Raises:
        TypeError: If a cloud is no floating point tensor, or a name no text.
        ValueError: If there is not one part for every point, a part has no name, :obj:`up` is no
            axis, a row or a column of clouds has no name, or a cloud another shape.
    """
    for what, names in (("row_names", row_names), ("column_names", column_names)):
        for name in names:
            check_text(what, name)
    height, width = len(rows), len(column_names)
    if len(row_names) != height:
        raise ValueError(f"'row_names' must name {height} rows, got {len(row_names)} names")
    for i, clouds in enumerate(rows):
        if len(clouds) > width:
            raise ValueError(
                f"'column_names' must name the {len(clouds)} clouds of row {i}, got {width} names"
            )
        for cloud in clouds:
            check_points("rows", cloud, "N 3", min_points=0)
    view = view_of(azimuth, elevation, up)
    parts = None if part_labels is None else _parts(rows, part_labels)
    changes = [j for j in range(1, width) if column_names[j] != column_names[j - 1]]
    legends = [-(-len(present) // _LINES) for present, _ in parts or ()]
    beside = 0.0 if part_names is None else _LEGEND * max(legends, default=0)
    row_names = [plain(textwrap.fill(name, _LETTERS)) for name in row_names]
    letters = max((len(line) for name in row_names for line in name.split("\n")), default=0)
    across = _CELL * width + _GAP * len(changes) + max(1.0, _LETTER * letters + 0.2) + beside
    figure = Figure(
        figsize=(
            across if parts is not None else max(across, _DEPTHS_WIDTH),
            _CELL * height + 0.8 + (0.25 if parts is None else 0.0),
        ),
        layout="constrained",
    )
    ratios: list[float] = []
    places = []
    for j in range(width):
        ratios += [_GAP / _CELL] if j in changes else []
        places.append(len(ratios))
        ratios.append(1.0)
    grid = figure.add_gridspec(height, max(1, len(ratios)), width_ratios=ratios or None)
    for i, clouds in enumerate(rows):
        for j in range(width):
            axis = figure.add_subplot(grid[i, places[j]])
            axis.set(xticks=[], yticks=[], xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal")
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(plain(column_names[j]), fontsize=9)
            if j == 0:
                axis.set_ylabel(row_names[i], fontsize=9, rotation=0, ha="right", va="center")
            if j < len(clouds) and len(clouds[j]) > 0:
                x, y, depth, order = seen(clouds[j], view)
                size = len(order) ** -0.5
                if parts is None:
                    axis.scatter(x, y, c=-depth, s=40 * size, cmap="viridis_r", lw=0)
                else:  # Larger, so that near parts hide those behind them.
                    color = _color(parts[i][1][j])[order]
                    axis.scatter(x, y, c=color, s=70 * size, lw=0)
        if width and parts is not None and part_names is not None:
            named = [_part_name(part_names, int(part)) for part in parts[i][0]]
            dots = [_dot(_color(k).tolist(), name) for k, name in enumerate(named)]
            axis.legend(
                handles=dots,
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
                frameon=False,
                fontsize=7,
                handletextpad=0.2,
                ncols=max(1, legends[i]),
            )
    if parts is None and height and width:
        depths = [_dot(colormaps["viridis_r"](at), word) for at, word in _DEPTHS]
        figure.legend(
            handles=depths, loc="outside lower center", ncols=2, frameon=False, fontsize=8
        )
    put_title(title, figure)
    return figure


_DEPTHS = ((0.95, "nearer points"), (0.2, "points farther away"))


def line_of(number: int) -> dict[str, Any]:
    """The colour and dashes of a line by its number, of which there are 30."""
    return {"color": f"C{number % 10}", "linestyle": ("-", "--", ":")[number // 10 % 3]}


def plain(text: str) -> str:
    """A name as Matplotlib draws it as it is, where two dollar signs would be mathematics."""
    return text.replace("$", r"\$")


def put_title(title: str, figure: Figure) -> None:
    """Writes a title over a figure, which grows by its lines; an empty one leaves it as it is."""
    text = wrapped(title, figure)
    if not text:
        return
    figure.set_figheight(figure.get_figheight() + _LINE * text.count("\n"))
    figure.suptitle(text, fontsize=11)


def wrapped(title: str, figure: Figure) -> str:
    """A title as :func:`plain` has it, in lines that the width of a figure holds."""
    return plain(textwrap.fill(title, int(_PER_INCH * figure.get_figwidth())))


def seen(pos: Tensor, view: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """How a cloud lies in its cell.

    Returns:
        To the right, up and away from the viewer, each :obj:`[N]`, the nearest points last, so that
        they are on top; and the order of the points.
    """
    pos = pos.detach().cpu().double()
    pos = NormalizeSphere.apply(pos, torch.tensor([len(pos)])) @ view.T
    order = pos[:, 2].argsort(descending=True)
    x, y, depth = pos[order].T
    return x, y, depth, order


def _dot(color: object, name: str) -> Line2D:
    return Line2D([], [], ls="", marker="o", ms=5, color=color, label=plain(name))  # type: ignore[arg-type]


def _color(rank: Tensor | int) -> Tensor:
    """The colours :obj:`[..., 4]` of parts by their ranks in a row."""
    return PALETTE[rank % len(PALETTE)]


def _part_name(names: Sequence[str], part: int) -> str:
    if not 0 <= part < len(names):
        raise ValueError(f"'part_names' must name part {part}, got {len(names)} names")
    return names[part]


def _parts(
    rows: Sequence[Sequence[Tensor]], part_labels: Sequence[Sequence[Tensor]]
) -> list[tuple[Tensor, Sequence[Tensor]]]:
    """The parts of every row, ascending, and their ranks for the points of its clouds."""
    found = []
    for i, (clouds, labels) in enumerate(zip_longest(rows, part_labels, fillvalue=())):
        sizes, given = [len(cloud) for cloud in clouds], [len(label) for label in labels]
        if sizes != given:
            raise ValueError(f"'part_labels' of row {i} must have {sizes} points, got {given}")
        joined = torch.cat([label.cpu() for label in labels]) if labels else torch.zeros(0)
        present, rank = joined.unique(return_inverse=True)
        found.append((present, rank.split(sizes)))
    return found


def view_of(azimuth: float, elevation: float, axis: str = "z") -> Tensor:
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
