"""The reader of OmniObject3D, scans of everyday objects."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Unpack

from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.clouds.splits import check_share
from torch_geometric_ddp.datasets._benchmark import Benchmark
from torch_geometric_ddp.datasets._formats import as_clouds, damaged, folders, read_npy, visible
from torch_geometric_ddp.datasets._meshes import read_ply
from torch_geometric_ddp.datasets._options import ReaderOptions
from torch_geometric_ddp.datasets._sampling import Sampling
from torch_geometric_ddp.datasets._scan import Scan, labelled, scan_files

__all__ = ["OmniObject3D"]

_NUM_CATEGORIES = 216


class OmniObject3D(Benchmark):
    r"""OmniObject3D, some 6,000 scanned objects of daily life (216 categories), as point clouds.

    From `"OmniObject3D: Large-Vocabulary 3D Object Dataset for Realistic Perception,
    Reconstruction and Generation" <https://arxiv.org/abs/2301.07525>`_. Items are
    :obj:`Data(pos=[N, 3], y=[1])`, and the categories are numbered in alphabetical order.

    The authors ask for a registration, so that the files must be fetched by hand: the archives of
    :obj:`point_clouds/ply_files/<resolution>`, unpacked, belong in :obj:`root/raw` as
    :obj:`<resolution>/<category>/<object>/pcd_<resolution>.ply` (ASCII or binary; or an
    :obj:`.npy` of that name). The release has empty object folders, which are skipped.

    There is no official split for classification. Here the objects of every category are put in
    the order of :obj:`sha256("<seed>/<category>/<object>")`, and the first
    :math:`\max(1, \operatorname{round}(s \cdot n))` of its :math:`n` objects, but never all, are
    the test set, :math:`s` being :obj:`test_share`. The split of a category thus depends on
    nothing but the names of its objects; a category of one object is not tested.

    The categories are those whose folders are there, as one need not fetch all archives; where
    they are not 216, a warning says so when the files are read. If archives come later,
    :obj:`force_reload` takes them in.

    The literature uses the published samples of 1,024 points as they are, which is the default
    here, and centres them and scales them to the unit ball:
    :class:`~torch_geometric_ddp.transforms.NormalizeSphere` as :obj:`pre_transform`.

    Args:
        num_points (int, optional): The points to keep of each cloud, or :obj:`None` for all.
            (default: :obj:`1024`)
        strict (bool): Whether every cloud must have :obj:`resolution` points, every category an
            object, and the cache the categories of the folder. (default: :obj:`True`)
        resolution (int): Which of the published samples to read: 1,024, 4,096 or 16,384 points.
            (default: :obj:`1024`)
        test_share (float): The share of the test set in a category. (default: :obj:`0.2`)
        seed (int): The seed of the split. (default: :obj:`0`)

    Raises:
        FileNotFoundError: If a file is missing, with where to get it.
        ValueError: If a file is damaged, an object or a category is incomplete, or categories
            have come after the files were read.
    """

    source = (
        "https://opendatalab.com/OpenXD-OmniObject3D-New (raw/point_clouds/ply_files, after "
        "registration; the files are <resolution>/<category>/<object>/pcd_<resolution>.ply)"
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        num_points: int | None = 1024,
        sampling: Sampling = "first",
        resolution: int = 1024,
        test_share: float = 0.2,
        seed: int = 0,
        **options: Unpack[ReaderOptions],
    ) -> None:
        self.resolution = check_int("resolution", resolution)
        self.test_share = check_share("test_share", test_share)
        self.seed = check_int("seed", seed, minimum=0)
        super().__init__(root, split, num_points, sampling, **options)
        if self.strict and os.path.isdir(self.raw_paths[0]):
            now = {path.name for path in folders(Path(self.raw_paths[0]))}
            if now != set(self.class_names):
                raise ValueError(
                    f"'{self.raw_paths[0]}' must have the {len(self.class_names)} categories that "
                    f"were read, {sorted(now ^ set(self.class_names))[:5]} came or went: pass "
                    "force_reload=True to read it again, which changes labels"
                )

    @property
    def variant_name(self) -> str:
        """What is read, a name for the folder of the cache."""
        return f"omni{self.resolution}_test{self.test_share!r}_seed{self.seed}"

    @property
    def raw_file_names(self) -> list[str]:
        """The folder of the categories."""
        return [str(self.resolution)]

    def read_class_names(self) -> list[str]:
        """The names of the categories, which are those of the folders, in alphabetical order."""
        names = [path.name for path in folders(Path(self.raw_paths[0]))]
        if not names:
            raise damaged(Path(self.raw_paths[0]), "it has no folders of categories")
        return names

    def process(self) -> None:
        """Reads the files of all splits and writes the cache, or nothing at all."""
        num = len(self.read_class_names())
        if self.strict and num != _NUM_CATEGORIES:
            warnings.warn(
                f"'{self.raw_paths[0]}' has {num} of the {_NUM_CATEGORIES} categories of "
                f"OmniObject3D; if more is wanted, {self._remedy()}",
                stacklevel=2,
            )
        super().process()

    def scan(self, split: str) -> Scan:
        """Checks that the files of a split are there."""
        where = Path(self.raw_paths[0])
        files = []
        for label, category in enumerate(self.read_class_names()):
            objects = [path for path in folders(where / category) if visible(path)]
            if not objects and self.strict:
                raise damaged(where / category, "it has no objects")
            names = split_category(category, [o.name for o in objects], self.test_share, self.seed)
            files += [(self._file(where / category / name), label) for name in names[split]]
        return scan_files(where, files, _read, self.resolution if self.strict else None)

    def _file(self, folder: Path) -> Path:
        npy, ply = (folder / f"pcd_{self.resolution}.{end}" for end in ("npy", "ply"))
        return npy if npy.is_file() else ply


def split_category(
    category: str, names: list[str], test_share: float, seed: int
) -> dict[str, list[str]]:
    """The published rule of the split: which objects of a category are for training and testing."""
    order = sorted(
        names, key=lambda name: hashlib.sha256(f"{seed}/{category}/{name}".encode()).digest()
    )
    num_test = max(0, min(max(1, round(test_share * len(names))), len(names) - 1))
    return {"train": sorted(order[num_test:]), "test": sorted(order[:num_test])}


def _read(path: Path, label: int) -> Data:
    points = read_npy(path) if path.suffix == ".npy" else read_ply(path)
    return labelled(as_clouds(path, points), label)
