"""The reader of ModelNet's meshes, from which it draws points."""

from __future__ import annotations

import os
import zlib
from functools import partial
from pathlib import Path
from typing import Unpack

from torch_geometric.data import Data
from torch_geometric.datasets import ModelNet

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.datasets._benchmark import Benchmark
from torch_geometric_ddp.datasets._formats import as_clouds, visible, with_suffix
from torch_geometric_ddp.datasets._meshes import read_off, sample_mesh
from torch_geometric_ddp.datasets._options import ReaderOptions
from torch_geometric_ddp.datasets._scan import Scan, labelled, scan_files
from torch_geometric_ddp.datasets.modelnet_resampled import MODELNET_SIZES, check_modelnet

__all__ = ["ModelNetMeshes"]


class ModelNetMeshes(Benchmark):
    r"""ModelNet10 and ModelNet40 as points drawn from the meshes.

    The shapes are those of `"3D ShapeNets: A Deep Representation for Volumetric Shapes"
    <https://arxiv.org/abs/1406.5670>`_ with the official splits (3,991/908 and 9,843/2,468). Items
    are :obj:`Data(pos=[N, 3], y=[1])`. From every mesh :obj:`num_points` points are drawn evenly
    over its surface, as by :class:`torch_geometric.transforms.SamplePoints`, once, with a seed that
    is the name of the shape. Polygons are triangulated; colours and normals are left out.

    These are the files of :class:`torch_geometric.datasets.ModelNet`, in whose place this class
    samples as it reads, caches what it sampled by :obj:`name` and :obj:`num_points`, checks every
    file, and has :obj:`class_names`. The archive (0.5 or 2 GB) is downloaded to :obj:`root/raw`,
    unless there is :obj:`ModelNet{name}/<class>/{train,test}/<shape>.off`, or the folders of the
    classes are in :obj:`root/raw` itself, as PyG unpacks them.

    The points are in the units of the meshes, which differ widely. The literature centres the
    clouds and scales them to the unit ball:
    :class:`~torch_geometric_ddp.transforms.NormalizeSphere` as :obj:`pre_transform`.

    Args:
        name (str): :obj:`"10"` or :obj:`"40"`. (default: :obj:`"10"`)
        num_points (int): The points to draw from each mesh. (default: :obj:`1024`)

    Raises:
        FileNotFoundError: If a file is missing.
        ConnectionError: If the download fails.
        ValueError: If a file is damaged or the size is not the published one.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str = "10",
        split: str = "train",
        num_points: int = 1024,
        **options: Unpack[ReaderOptions],
    ) -> None:
        self.name = check_modelnet(name)
        self.url = self.source = ModelNet.urls[name]
        self._num_drawn = check_int("num_points", num_points)
        super().__init__(root, split, num_points, "first", **options)

    @property
    def variant_name(self) -> str:
        """What is read, a name for the folder of the cache."""
        return f"modelnet{self.name}_meshes"

    @property
    def published_sizes(self) -> dict[str, int]:
        """The published number of clouds of the splits."""
        return MODELNET_SIZES[self.name]

    @property
    def raw_file_names(self) -> list[str]:
        """The folder of the classes."""
        folder = f"ModelNet{self.name}"
        as_pyg = not os.path.exists(os.path.join(self.raw_dir, folder)) and os.path.exists(
            os.path.join(self.raw_dir, "bathtub")  # The first class of both.
        )
        return ["." if as_pyg else folder]

    def _classes(self) -> list[Path]:
        folders = visible(Path(self.raw_paths[0]))
        return [path for path in folders if any((path / split).is_dir() for split in self.splits)]

    def read_class_names(self) -> list[str]:
        """The names of the classes, which are those of the folders, in alphabetical order."""
        return [path.name for path in self._classes()]

    def scan(self, split: str) -> Scan:
        """Checks that the files of a split are there."""
        files = [
            (path, label)
            for label, folder in enumerate(self._classes())
            for path in with_suffix(folder / split, ".off")
        ]
        read = partial(_read, num_points=self._num_drawn)
        return scan_files(Path(self.raw_paths[0]), files, read, None)


def _read(path: Path, label: int, num_points: int) -> Data:
    pos, face = read_off(path)
    drawn = sample_mesh(path, pos, face, num_points, zlib.crc32(path.stem.encode()))
    return labelled(as_clouds(path, drawn.numpy()), label)
