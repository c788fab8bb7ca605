"""What a distilled set stores, beside the real clouds that it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from torch_geometric.data import Data

from torch_geometric_ddp._checks import (
    check_classes,
    check_dataset,
    check_int,
    check_names,
    shown,
)
from torch_geometric_ddp._files import replacing
from torch_geometric_ddp.clouds.class_names import check_among, found_names, names_of
from torch_geometric_ddp.clouds.reading import items
from torch_geometric_ddp.clouds.splits import class_key
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.visualize.clouds import plot_clouds, word_for_stored
from torch_geometric_ddp.visualize.saving import check_picture, save_figure

__all__ = ["plot_distilled", "plot_sheets"]


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
        real_set (Dataset): The real set; its classes, where it names them, are those of the
            distilled set.
        synthetic (SyntheticPointCloudDataset): The distilled set.
        path (str or path, optional): Where to save the picture, by its suffix as PNG, PDF or SVG.
        num_real (int): Real clouds of a class. (default: :obj:`3`)
        num_anchors (int): Anchors of a class, or clouds of a set without morphs. (default:
            :obj:`4`)
        num_morphs (int): Morphs of a class. (default: :obj:`4`)
        classes (sequence of str or int, optional): The names or labels of the classes to draw, in
            this order. (default: all)
        up (str): The axis that points up. (default: :obj:`"z"`)

    The title says the data, the method, the storage, and the figure if the set tells one. Many
    classes are better drawn by :func:`plot_sheets`.

    Returns:
        The figure.

    Raises:
        TypeError: If a number is no integer, :obj:`path` no path, :obj:`classes` no sequence, or a
            set none.
        ValueError: If a cloud has no label, or one that is out of range, a number is negative or
            there are no anchors, a class is unknown, the classes of :obj:`real_set` are others,
            :obj:`up` is no axis, or nothing can be written to :obj:`path` or in the format of its
            suffix.
    """
    _check_synthetic(synthetic)
    chosen = check_classes(synthetic.class_names, classes)
    path = None if path is None else check_picture(path)
    kinds = _kinds(real_set, synthetic, num_real, num_anchors, num_morphs)
    cells = _Cells.of(kinds, synthetic.class_names, chosen)
    figure = cells.draw(chosen, _title(synthetic), up, synthetic.part_names)
    if path is not None:
        save_figure(figure, path, dpi=110)
    return figure


def plot_sheets(
    real_set: Iterable[Data],
    synthetic: SyntheticPointCloudDataset,
    path: str | os.PathLike[str],
    classes_per_sheet: int = 12,
    num_real: int = 3,
    num_anchors: int = 4,
    num_morphs: int = 4,
    classes: Sequence[str | int] | None = None,
    up: str = "z",
) -> list[Path]:
    """Draws a set of many classes as :func:`plot_distilled` does, on as many sheets as it takes.

    Args:
        real_set (Dataset): The real set.
        synthetic (SyntheticPointCloudDataset): The distilled set.
        path (str or path): Where to save them: a PDF has them as its pages; :obj:`clouds.png`
            becomes :obj:`clouds-1.png` and so on where there are several.
        classes_per_sheet (int): The most classes of a sheet. (default: :obj:`12`)
        num_real (int): Real clouds of a class. (default: :obj:`3`)
        num_anchors (int): Anchors of a class. (default: :obj:`4`)
        num_morphs (int): Morphs of a class. (default: :obj:`4`)
        classes (sequence of str or int, optional): The classes to draw. (default: all)
        up (str): The axis that points up. (default: :obj:`"z"`)

    Returns:
        The files.

    Raises:
        TypeError, ValueError: As :func:`plot_distilled`, or if :obj:`classes_per_sheet` is no
            integer or below one.
    """
    check_int("classes_per_sheet", classes_per_sheet)
    _check_synthetic(synthetic)
    chosen, path = check_classes(synthetic.class_names, classes), check_picture(path)
    kinds = _kinds(real_set, synthetic, num_real, num_anchors, num_morphs)
    cells = _Cells.of(kinds, synthetic.class_names, chosen)
    starts = range(0, len(chosen), classes_per_sheet)
    figures = []
    for k, start in enumerate(starts):
        title = _title(synthetic) + (
            f" (sheet {k + 1} of {len(starts)})" if len(starts) > 1 else ""
        )
        sheet = chosen[start : start + classes_per_sheet]
        figures.append(cells.draw(sheet, title, up, synthetic.part_names))
    if path.suffix.lower() == ".pdf":
        with replacing(path) as temporary, PdfPages(temporary) as pages:
            for figure in figures:
                pages.savefig(figure)
        return [path]
    several = len(figures) > 1
    paths = [
        path.with_stem(f"{path.stem}-{k + 1}") if several else path for k in range(len(figures))
    ]
    for figure, one in zip(figures, paths, strict=True):
        save_figure(figure, one, dpi=110)
    return paths


def _check_synthetic(synthetic: object) -> None:
    if not isinstance(synthetic, SyntheticPointCloudDataset):
        raise TypeError(f"'synthetic' must be a SyntheticPointCloudDataset, got {shown(synthetic)}")


def _kinds(
    real_set: Iterable[Data],
    synthetic: SyntheticPointCloudDataset,
    num_real: int,
    num_anchors: int,
    num_morphs: int,
) -> list[tuple[str, Iterable[Data], int]]:
    """What is drawn: the name of a kind, its clouds, and how many of them of a class."""
    check_int("num_real", num_real, minimum=0)
    check_int("num_anchors", num_anchors, minimum=0)
    check_int("num_morphs", num_morphs, minimum=0)
    check_dataset("real_set", real_set)
    names = names_of(real_set)
    names = None if names is None else check_names("class_names", names)
    if names is None and synthetic.space is None:  # Folders are no categories with parts.
        names = found_names(real_set, len(synthetic.class_names))
    check_among("real_set", names or [], synthetic.class_names)
    # Whatever split or subset this is, of the whole set it is known which clouds are morphs.
    whole = SyntheticPointCloudDataset(synthetic.parameterization)
    is_morph = synthetic.parameterization.is_morph()
    pairs = list(zip(whole, is_morph.tolist(), strict=True))
    return [
        ("real", real_set, num_real),
        (word_for_stored(is_morph), [data for data, morph in pairs if not morph], num_anchors),
        ("morph", [data for data, morph in pairs if morph], num_morphs),
    ]


def _title(synthetic: SyntheticPointCloudDataset) -> str:
    """The data, the method, the storage and the figure of a set, as far as it tells them."""
    made = synthetic.provenance
    words = [str(made["source"])] if "source" in made else []
    words += [f"distilled by {made['method']}"] if "method" in made else []
    return ", ".join([*words, *synthetic.storage_words(), *synthetic.figure_words()])


_BLANK = Data(pos=torch.zeros(0, 3), y=torch.zeros(0, dtype=torch.long))


@dataclass(frozen=True)
class _Cells:
    """The clouds of a picture, class by class, and the kind of every column."""

    names: Sequence[str]
    columns: list[str]
    rows: dict[int, list[Data]]

    @classmethod
    def of(
        cls,
        kinds: Iterable[tuple[str, Iterable[Data], int]],
        names: Sequence[str],
        chosen: Sequence[int] | None = None,
    ) -> _Cells:
        """The first clouds of each kind (its name, the clouds, how many) of the chosen classes."""
        columns: list[str] = []
        rows: dict[int, list[Data]] = {
            label: [] for label in (range(len(names)) if chosen is None else chosen)
        }
        for kind, dataset, num in kinds:
            every = _first(kind, dataset, num, names)
            width = max(len(every[label]) for label in rows)
            columns += [kind] * width
            for label, row in rows.items():
                row += every[label] + [_BLANK] * (width - len(every[label]))
        return cls(names, columns, rows)

    def draw(
        self,
        labels: Sequence[int],
        title: str,
        up: str = "z",
        part_names: Sequence[str] | None = None,
    ) -> Figure:
        """The picture of some of the classes."""
        rows = [self.rows[label] for label in labels]
        labelled = all(
            class_key(data) == "category" or data is _BLANK for row in rows for data in row
        )
        return plot_clouds(
            [[data.pos for data in row] for row in rows],
            [self.names[label] for label in labels],
            self.columns,
            title,
            part_labels=[[data.y for data in row] for row in rows] if labelled else None,
            up=up,
            part_names=part_names if labelled else None,
        )


def _first(kind: str, dataset: Iterable[Data], num: int, names: Sequence[str]) -> list[list[Data]]:
    """The first clouds of every class, or category."""
    found: list[list[Data]] = [[] for _ in names]
    for i, data in enumerate(items(dataset)):
        label = torch.as_tensor(data.get(class_key(data), []))
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
