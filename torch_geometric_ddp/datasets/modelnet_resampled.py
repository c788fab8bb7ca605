"""The reader of ModelNet's text files of 10,000 points a shape."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from torch_geometric.data import Data

from torch_geometric_ddp.datasets._benchmark import Benchmark
from torch_geometric_ddp.datasets._formats import (
    as_clouds,
    damaged,
    plain_path,
    read_lines,
    read_names,
    read_text,
)
from torch_geometric_ddp.datasets._options import ReaderOptions
from torch_geometric_ddp.datasets._sampling import Sampling
from torch_geometric_ddp.datasets._scan import Scan, labelled, scan_files

__all__ = ["ModelNetResampled"]

_FOLDER = "modelnet40_normal_resampled"
MODELNET_SIZES = {"10": {"train": 3991, "test": 908}, "40": {"train": 9843, "test": 2468}}


def check_modelnet(name: str) -> str:
    """Returns the name of a ModelNet."""
    if name not in MODELNET_SIZES:
        raise ValueError(f"'name' must be '10' or '40', got {name!r}")
    return name


class ModelNetResampled(Benchmark):
    r"""ModelNet10 and ModelNet40 as point clouds of 10,000 points, sampled evenly from the meshes.

    The shapes are those of `"3D ShapeNets: A Deep Representation for Volumetric Shapes"
    <https://arxiv.org/abs/1406.5670>`_ with the official splits (3,991/908 and 9,843/2,468), the
    points those of `"PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric
    Space" <https://arxiv.org/abs/1706.02413>`_. Items are :obj:`Data(pos=[N, 3], y=[1])`; the
    normals of the files are left out. The archive of 1.6 GB is downloaded to :obj:`root/raw`,
    unless its folder :obj:`modelnet40_normal_resampled` lies there:
    :obj:`modelnet{name}_shape_names.txt`, :obj:`modelnet{name}_train.txt`,
    :obj:`modelnet{name}_test.txt` and one file :obj:`<class>/<class>_<number>.txt` of lines
    :obj:`x,y,z,nx,ny,nz` for each shape.

    The clouds are handed out as they lie in the files. The literature takes the first 1,024
    points (the default here) or farthest point sampling, and then normalises to the unit ball:
    :class:`~torch_geometric_ddp.transforms.NormalizeSphere` as :obj:`pre_transform`.

    Args:
        name (str): :obj:`"10"` or :obj:`"40"`. (default: :obj:`"10"`)
        num_points (int, optional): The points to keep of each cloud, or :obj:`None` for all
            10,000. (default: :obj:`1024`)

    Raises:
        FileNotFoundError: If a file is missing.
        ConnectionError: If the download fails.
        ValueError: If a file is damaged or the size is not the published one.
    """

    source = "https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip"
    url = source

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str = "10",
        split: str = "train",
        num_points: int | None = 1024,
        sampling: Sampling = "first",
        **options: Unpack[ReaderOptions],
    ) -> None:
        self.name = check_modelnet(name)
        super().__init__(root, split, num_points, sampling, **options)

    @property
    def variant_name(self) -> str:
        """What is read, a name for the folder of the cache."""
        return f"modelnet{self.name}"

    @property
    def published_sizes(self) -> dict[str, int]:
        """The published number of clouds of the splits."""
        return MODELNET_SIZES[self.name]

    @property
    def raw_file_names(self) -> list[str]:
        """The lists; the clouds are named in them."""
        lists = ("shape_names", *self.splits)
        return [f"{_FOLDER}/modelnet{self.name}_{part}.txt" for part in lists]

    def read_class_names(self) -> list[str]:
        """The names of the classes, in the order of their labels."""
        return read_names(Path(self.raw_paths[0]))

    def scan(self, split: str) -> Scan:
        """Checks that the files of a split are there."""
        where = Path(self.raw_paths[1 + self.splits.index(split)])
        labels = {name: label for label, name in enumerate(self.read_class_names())}
        files = []
        for shape in read_lines(where):
            name = shape.rpartition("_")[0]
            if name not in labels:
                raise damaged(where, f"it lists '{shape}', whose class has no name")
            path = plain_path(where, where.parent, name, f"{shape}.txt")
            files.append((path, labels[name]))
        return scan_files(where, files, _read, 10_000 if self.strict else None)


def _read(path: Path, label: int) -> Data:
    return labelled(as_clouds(path, read_text(path, columns=6, delimiter=",")[:, :3]), label)
