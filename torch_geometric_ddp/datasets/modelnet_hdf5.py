"""The reader of ModelNet40's HDF5 files."""

from __future__ import annotations

from itertools import chain
from pathlib import Path, PurePosixPath

from torch_geometric_ddp.datasets._benchmark import Benchmark
from torch_geometric_ddp.datasets._formats import plain_path, read_lines, read_names
from torch_geometric_ddp.datasets._h5 import count_clouds, read_h5
from torch_geometric_ddp.datasets._scan import Scan

__all__ = ["ModelNetHDF5"]

_FOLDER = "modelnet40_ply_hdf5_2048"


class ModelNetHDF5(Benchmark):
    r"""ModelNet40 as point clouds of 2,048 points from HDF5 files.

    The data set of `"PointNet: Deep Learning on Point Sets for 3D Classification and
    Segmentation" <https://arxiv.org/abs/1612.00593>`_, in the unit ball. It has 9,840 clouds for
    training, three fewer than the official split, and 2,468 for testing. Items are
    :obj:`Data(pos=[N, 3], y=[1])`. The archive of 0.4 GB is downloaded to :obj:`root/raw`, unless
    its folder :obj:`modelnet40_ply_hdf5_2048` lies there: :obj:`shape_names.txt`,
    :obj:`train_files.txt`, :obj:`test_files.txt` and the files named in them, with the arrays
    :obj:`data [n, 2048, 3]` and :obj:`label [n, 1]`. Reading them needs h5py, the extra
    :obj:`h5` of this package.

    The literature takes the first 1,024 points, which is the default here.

    Args:
        num_points (int, optional): The points to keep of each cloud, or :obj:`None` for all
            2,048. (default: :obj:`1024`)

    Raises:
        FileNotFoundError: If a file is missing.
        ImportError: If h5py is not installed.
        ConnectionError: If the download fails.
        ValueError: If a file is damaged or the size is not the published one.
    """

    source = "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip"
    url = source

    @property
    def variant_name(self) -> str:
        """What is read, a name for the folder of the cache."""
        return "modelnet40_hdf5"

    @property
    def published_sizes(self) -> dict[str, int]:
        """The published number of clouds of the splits."""
        return {"train": 9840, "test": 2468}

    @property
    def raw_file_names(self) -> list[str]:
        """The lists; the files of clouds are named in them."""
        return [f"{_FOLDER}/{name}.txt" for name in ("shape_names", "train_files", "test_files")]

    def read_class_names(self) -> list[str]:
        """The names of the classes, in the order of their labels."""
        return read_names(Path(self.raw_paths[0]))

    def scan(self, split: str) -> Scan:
        """Checks that the files of a split are there."""
        where = Path(self.raw_paths[1 + self.splits.index(split)])
        num_classes = len(self.read_class_names())
        # The lists name the folder in which the authors worked.
        names = [PurePosixPath(line).name for line in read_lines(where)]
        files = [plain_path(where, where.parent, name) for name in names]
        size = 2048 if self.strict else None
        count = sum(count_clouds(path, num_classes, size) for path in files)
        clouds = chain.from_iterable(read_h5(path, num_classes) for path in files)
        return Scan(where, count, clouds)
