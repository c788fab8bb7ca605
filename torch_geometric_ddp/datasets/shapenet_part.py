"""The reader of ShapeNetPart, in the form that its authors gave it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Unpack

import torch
from torch_geometric.data import Data
from torch_geometric.datasets import ShapeNet

from torch_geometric_ddp.clouds.part_space import PartSpace, numbered_parts
from torch_geometric_ddp.datasets._benchmark import Benchmark
from torch_geometric_ddp.datasets._formats import (
    as_clouds,
    as_labels,
    damaged,
    plain_path,
    read_lines,
    read_text,
    reading,
)
from torch_geometric_ddp.datasets._options import ReaderOptions
from torch_geometric_ddp.datasets._sampling import Sampling
from torch_geometric_ddp.datasets._scan import Scan, check_files, scan_files

__all__ = ["ShapeNetPart"]

_FOLDER = "shapenetcore_partanno_segmentation_benchmark_v0"
_PUBLISHED = {"train": 12137, "val": 1870, "trainval": 14007, "test": 2874}


class ShapeNetPart(Benchmark):
    r"""ShapeNetPart, 16,881 shapes of 16 categories whose points are labelled with 50 parts.

    From `"A Scalable Active Framework for Region Annotation in 3D Shape Collections"
    <https://doi.org/10.1145/2980179.2980238>`_. Items are :obj:`Data(pos=[N, 3], y=[N],
    category=[1])` with the same numbers as those of :class:`torch_geometric.datasets.ShapeNet`
    (which reads another release of the shapes, with normals, and can be used in its place), and so
    are :obj:`category_ids`,
    :obj:`seg_classes`, :obj:`y_mask` and :obj:`num_classes`, the number of parts.

    The terms of ShapeNet must be accepted, so that the files must be fetched by hand: the folder
    :obj:`shapenetcore_partanno_segmentation_benchmark_v0` of the archive of that name belongs in
    :obj:`root/raw`, with :obj:`synsetoffset2category.txt`, the lists
    :obj:`train_test_split/shuffled_{train,val,test}_file_list.json`, and for every shape
    :obj:`<offset>/points/<model>.pts` (a line :obj:`x y z` for each point) and
    :obj:`<offset>/points_label/<model>.seg` (a line for each point, the parts of a category
    counted from 1).

    Shapes have between some 500 and 3,000 points. The literature draws 2,048 at random (with
    replacement), which is the default here, drawn once: without replacement, and all points and
    then some of them again where a shape has fewer. It then scales to the unit ball:
    :class:`~torch_geometric_ddp.transforms.NormalizeSphere` as :obj:`pre_transform`.

    Args:
        categories (str or sequence of str, optional): The categories to read; :obj:`category`
            counts them in this order. (default: all)
        split (str): :obj:`"train"`, :obj:`"val"`, :obj:`"trainval"` or :obj:`"test"`.
            (default: :obj:`"train"`)
        num_points (int, optional): The points to keep of each cloud, or :obj:`None` for all, as
            PyG's data set has them. (default: :obj:`2048`)
        sampling (str): Which: the :obj:`"first"`, those of farthest point sampling
            (:obj:`"fps"`), or a :obj:`"random"` subset drawn once. (default: :obj:`"random"`)
        strict (bool): Whether the set must have the published size, if :obj:`categories` are
            all. (default: :obj:`True`)

    Attributes:
        class_names (list[str]): The names of the categories, in the order of :obj:`category`.
        part_names (list[str]): The names of the 50 parts, *e.g.*, :obj:`"Chair/2"`.
        category_parts (dict[str, list[int]]): The part labels of each category.
        y_mask (torch.Tensor): Which parts the 16 categories have, :obj:`[16, 50]`.

    Raises:
        FileNotFoundError: If a file is missing, with where to get it.
        ValueError: If a file is damaged or the size is not the published one.
    """

    splits = ("train", "val", "trainval", "test")
    source = (
        "https://shapenet.cs.stanford.edu/ericyi/shapenetcore_partanno_segmentation_benchmark_"
        "v0.zip (after accepting the terms at https://shapenet.org)"
    )
    repeats = True
    category_ids: ClassVar[dict[str, str]] = ShapeNet.category_ids
    seg_classes: ClassVar[dict[str, list[int]]] = ShapeNet.seg_classes

    def __init__(
        self,
        root: str | os.PathLike[str],
        categories: str | Sequence[str] | None = None,
        split: str = "train",
        num_points: int | None = 2048,
        sampling: Sampling = "random",
        **options: Unpack[ReaderOptions],
    ) -> None:
        chosen = [categories] if isinstance(categories, str) else categories
        self.categories = list(self.category_ids if chosen is None else chosen)
        unknown = [name for name in self.categories if name not in self.category_ids]
        if unknown or not self.categories or len(set(self.categories)) < len(self.categories):
            raise ValueError(
                f"'categories' must be different names among {list(self.category_ids)}, got "
                f"{categories!r}"
            )
        self.category_parts = {name: self.seg_classes[name] for name in self.categories}
        self.part_names = numbered_parts(self.seg_classes)
        every = PartSpace(tuple(self.part_names), tuple(map(tuple, self.seg_classes.values())))
        self.y_mask = every.mask()
        self._whole = self.categories == list(self.category_ids)
        super().__init__(root, split, num_points, sampling, **options)

    @property
    def num_classes(self) -> int:
        """The number of parts, of all categories."""
        return len(self.part_names)

    @property
    def variant_name(self) -> str:
        """What is read, a name for the folder of the cache."""
        short = "all" if self._whole else "_".join(name[:3] for name in self.categories)
        return f"part_{short.lower()}"

    @property
    def published_sizes(self) -> dict[str, int]:
        """The published number of clouds of the splits."""
        return _PUBLISHED if self._whole else {}

    @property
    def raw_file_names(self) -> list[str]:
        """The table of the categories and the lists; the shapes are named in them."""
        lists = [f"train_test_split/shuffled_{s}_file_list.json" for s in ("train", "val", "test")]
        return [f"{_FOLDER}/{name}" for name in ("synsetoffset2category.txt", *lists)]

    def read_class_names(self) -> list[str]:
        """The names of the categories."""
        path = Path(self.raw_paths[0])
        words = [line.split() for line in read_lines(path)]
        found = {line[0]: line[-1] for line in words}
        for name in self.categories:
            if found.get(name) != self.category_ids[name]:
                raise damaged(path, f"it has no line '{name}\t{self.category_ids[name]}'")
        return self.categories

    def scan(self, split: str) -> Scan:
        """Checks that the files of a split are there."""
        labels = {self.category_ids[name]: i for i, name in enumerate(self.categories)}
        lists = dict(zip(("train", "val", "test"), map(Path, self.raw_paths[1:]), strict=True))
        used = [lists[part] for part in ("train", "val") if part in split] or [lists[split]]
        files = []
        for where in used:
            for synset, model in _read_list(where):
                if synset in labels:
                    folder = Path(self.raw_dir, _FOLDER, synset, "points")
                    path = plain_path(where, folder, f"{model}.pts")
                    files.append((path, labels[synset]))
        check_files(used[0], [_labels_of(path) for path, _ in files])
        return scan_files(used[0], files, self._read, None)

    def _read(self, path: Path, category: int) -> Data:
        parts = self.seg_classes[self.categories[category]]
        pos = as_clouds(path, read_text(path, columns=3))
        path = _labels_of(path)
        y = as_labels(path, read_text(path, columns=1, dtype="i8"), 1, len(parts))
        if len(y) != len(pos):
            raise damaged(path, f"it has {len(y)} labels for {len(pos)} points")
        return Data(pos=pos, y=y + (parts[0] - 1), category=torch.tensor([category]))


def _labels_of(points: Path) -> Path:
    return points.parent.parent / "points_label" / f"{points.stem}.seg"


def _read_list(path: Path) -> list[tuple[str, str]]:
    """The offset and the model of every shape in a list."""
    with reading(path):
        names = json.loads(path.read_text(encoding="utf-8"))
    pairs = []
    for name in names if isinstance(names, list) else [names]:
        if not isinstance(name, str) or len(name.split("/")) != 3:
            raise damaged(path, f"it must list 'shape_data/<offset>/<model>', got {name!r}")
        pairs.append((name.split("/")[1], name.split("/")[2]))
    return pairs
