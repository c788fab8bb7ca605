"""The reader of ScanObjectNN, objects cut out of scans of rooms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from torch_geometric_ddp.datasets._benchmark import Benchmark
from torch_geometric_ddp.datasets._h5 import count_clouds, read_h5
from torch_geometric_ddp.datasets._options import ReaderOptions
from torch_geometric_ddp.datasets._sampling import Sampling
from torch_geometric_ddp.datasets._scan import Scan

__all__ = ["ScanObjectNN"]

_CLASSES = (
    *("bag", "bin", "box", "cabinet", "chair", "desk", "display", "door"),
    *("shelf", "table", "bed", "pillow", "sink", "sofa", "toilet"),
)
_PLAIN, _HARDEST = "objectdataset.h5", "objectdataset_augmentedrot_scale75.h5"
_VARIANTS = {
    "OBJ_BG": ("main_split", _PLAIN, {"train": 2309, "test": 581}),
    "OBJ_ONLY": ("main_split_nobg", _PLAIN, {"train": 2309, "test": 581}),
    "PB_T50_RS": ("main_split", _HARDEST, {"train": 11416, "test": 2882}),
}


class ScanObjectNN(Benchmark):
    r"""ScanObjectNN, 15 classes of scanned objects, as point clouds of 2,048 points.

    From `"Revisiting Point Cloud Classification: A New Benchmark Dataset and Classification Model
    on Real-World Data" <https://arxiv.org/abs/1908.04616>`_, main split: the objects with what
    stands around them (:obj:`"OBJ_BG"`, 2,309/581), without it (:obj:`"OBJ_ONLY"`), and the
    hardest variant (:obj:`"PB_T50_RS"`, 11,416/2,882), whose boxes are moved by up to half their
    size, rotated and scaled. Items are :obj:`Data(pos=[N, 3], y=[1])`.

    The terms of use must be accepted before the download, so that the files must be fetched by
    hand: the folder :obj:`h5_files` of :obj:`h5_files.zip` belongs in :obj:`root/raw`, of which
    are read :obj:`main_split/{training,test}_objectdataset.h5`, the same in
    :obj:`main_split_nobg`, and
    :obj:`main_split/{training,test}_objectdataset_augmentedrot_scale75.h5`, with the arrays
    :obj:`data [n, 2048, 3]` and :obj:`label [n]`. Reading them needs h5py, the extra :obj:`h5` of
    this package.

    The authors draw 1,024 random points in every epoch; much later work takes the first 1,024,
    which is the default here, and centres them and scales them to the unit ball:
    :class:`~torch_geometric_ddp.transforms.NormalizeSphere` as :obj:`pre_transform`.

    Args:
        variant (str): :obj:`"OBJ_BG"`, :obj:`"OBJ_ONLY"` or :obj:`"PB_T50_RS"`.
            (default: :obj:`"PB_T50_RS"`)
        num_points (int, optional): The points to keep of each cloud, or :obj:`None` for all
            2,048. (default: :obj:`1024`)

    Raises:
        FileNotFoundError: If a file is missing, with where to get it.
        ImportError: If h5py is not installed.
        ValueError: If a file is damaged or the size is not the published one.
    """

    source = "https://hkust-vgd.github.io/scanobjectnn (h5_files.zip, after accepting the terms)"

    def __init__(
        self,
        root: str | os.PathLike[str],
        variant: str = "PB_T50_RS",
        split: str = "train",
        num_points: int | None = 1024,
        sampling: Sampling = "first",
        **options: Unpack[ReaderOptions],
    ) -> None:
        if variant not in _VARIANTS:
            raise ValueError(f"'variant' must be one of {tuple(_VARIANTS)}, got {variant!r}")
        self.variant = variant
        super().__init__(root, split, num_points, sampling, **options)

    @property
    def variant_name(self) -> str:
        """What is read, a name for the folder of the cache."""
        return self.variant.lower()

    @property
    def published_sizes(self) -> dict[str, int]:
        """The published number of clouds of the splits."""
        return _VARIANTS[self.variant][2]

    @property
    def raw_file_names(self) -> list[str]:
        """The files of the two splits."""
        folder, name, _ = _VARIANTS[self.variant]
        return [f"h5_files/{folder}/{split}_{name}" for split in ("training", "test")]

    def read_class_names(self) -> list[str]:
        """The names of the classes, in the order of their labels."""
        return list(_CLASSES)

    def scan(self, split: str) -> Scan:
        """Checks that the file of a split is there."""
        path = Path(self.raw_paths[self.splits.index(split)])
        count = count_clouds(path, len(_CLASSES), 2048 if self.strict else None)
        return Scan(path, count, read_h5(path, len(_CLASSES)))
