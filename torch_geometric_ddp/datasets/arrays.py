"""Point clouds from arrays of the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from torch_geometric_ddp.datasets._formats import UNREADABLE, as_clouds, damaged, read_npy
from torch_geometric_ddp.datasets._sampling import Sampling, check_sampling, choose_points

__all__ = ["PointCloudArrays"]

# What integers in the array 'split' of a file mean.
_SPLITS = ("train", "val", "test")


class PointCloudArrays(InMemoryDataset):
    r"""Labelled point clouds of one size from arrays, as :obj:`Data(pos=[N, 3], y=[1])`.

    Args:
        points (array or torch.Tensor): The clouds :obj:`[n, N, 3]`, any floating point type;
            they become :obj:`float32`.
        labels (array or torch.Tensor): Integer labels :obj:`[n]`, from 0.
        class_names (sequence of str, optional): The names of the classes. (default: their
            numbers up to the largest label)
        transform (callable, optional): Applied to a :obj:`Data` at every access.
        pre_transform (callable, optional): Applied to every :obj:`Data` once.
        pre_filter (callable, optional): Decides which :obj:`Data` to keep.
        copy (bool): Whether to copy the arrays. Otherwise :obj:`float32` points are shared with
            the caller, so that a large set takes its room once. (default: :obj:`True`)

    Raises:
        TypeError, ValueError: If a shape, type or value does not fit.
    """

    def __init__(
        self,
        points: np.ndarray | Tensor,
        labels: np.ndarray | Tensor,
        class_names: Sequence[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        copy: bool = True,
    ) -> None:
        pos, y = _tensor("points", points), _tensor("labels", labels)
        if pos.dim() != 3 or pos.size(-1) != 3 or 0 in pos.shape:
            raise ValueError(f"'points' must have shape [n, N, 3], got {list(pos.shape)}")
        if not pos.is_floating_point():
            raise TypeError(f"'points' must have a floating point type, got {pos.dtype}")
        if y.shape != pos.shape[:1]:
            raise ValueError(
                f"'labels' must have shape [{len(pos)}], one for each of 'points', got "
                f"{list(y.shape)}"
            )
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise TypeError(f"'labels' must have an integer type, got {y.dtype}")
        pos, y = pos.to(torch.float32, copy=copy), y.to(torch.int64, copy=copy)
        finite = torch.isfinite(pos).all(dim=-1).all(dim=-1)
        if not bool(finite.all()):
            bad = (~finite).nonzero().flatten().tolist()
            raise ValueError(f"'points' must be finite, got NaN or infinity in clouds {bad[:5]}")
        low, high = int(y.min()), int(y.max())
        names = range(high + 1) if class_names is None else class_names
        self.class_names = [str(name) for name in names]
        if low < 0 or high >= len(self.class_names):
            raise ValueError(
                f"'labels' must lie in 0..{len(self.class_names) - 1}, got {low}..{high}"
            )
        super().__init__(None, transform, pre_transform, pre_filter)
        # As PyG's collate lays the clouds out, without a second copy of them.
        slices = torch.arange(len(pos) + 1)
        self.data, self.slices = (
            Data(pos=pos.flatten(0, 1), y=y),
            {"pos": slices * pos.size(1), "y": slices},
        )
        if pre_filter is not None or pre_transform is not None:
            clouds = [self.get(i) for i in range(len(pos))]
            if pre_filter is not None:
                clouds = [data for data in clouds if pre_filter(data)]
            if pre_transform is not None:
                clouds = [pre_transform(data) for data in clouds]
            if not clouds:
                raise ValueError("'pre_filter' left no cloud")
            self._data_list = None
            self.data, self.slices = self.collate(clouds)

    @property
    def num_classes(self) -> int:
        """The number of classes, also of a subset that lacks some."""
        return len(self.class_names)

    @classmethod
    def from_npz(
        cls, path: str | os.PathLike[str], split: str = "train", **kwargs: Any
    ) -> PointCloudArrays:
        """Reads one split of an :obj:`.npz` file.

        Args:
            path (str or path): The file, with the arrays :obj:`{split}_points [n, N, 3]` and
                :obj:`{split}_labels [n]`, or with :obj:`points`, :obj:`labels` and :obj:`split
                [n]`, the splits of the clouds (by name, or 0, 1 and 2 for :obj:`"train"`,
                :obj:`"val"` and :obj:`"test"`); and, if the classes have names,
                :obj:`class_names`.
            split (str): The split. (default: :obj:`"train"`)
            **kwargs: The transforms, as above.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is damaged, lacks an array or has no cloud of the split.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"'path' must be an existing .npz file, got '{path}'")
        try:
            # Numpy leaves a file that it opened itself open where it raises.
            with open(path, "rb") as raw, np.lib.npyio.NpzFile(raw, allow_pickle=False) as file:
                one = "split" in file and f"{split}_points" not in file
                wanted = ("points", "labels") if one else (f"{split}_points", f"{split}_labels")
                missing = [key for key in wanted if key not in file]
                if missing:
                    raise ValueError(f"it has no array {missing}, only {sorted(file.files)}")
                chosen = _chosen(file["split"], split) if one else slice(None)
                points, labels = (_take(file[key], chosen) for key in wanted)
                names = file["class_names"].tolist() if "class_names" in file else None
        except UNREADABLE as error:
            raise ValueError(f"'{path}' is no usable .npz file: {error}") from error
        return cls(points, labels, names, copy=False, **kwargs)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike[str],
        num_points: int | None = None,
        sampling: Sampling = "first",
        **kwargs: Any,
    ) -> PointCloudArrays:
        """Reads a folder that has one folder for each class, with an :obj:`.npy` file a cloud.

        Args:
            path (str or path): The folder, one of several if there are splits. The names of its
                folders, in alphabetical order, are those of the classes. The files in them hold
                one cloud :obj:`[N, 3]` each.
            num_points (int, optional): The points to keep of each cloud. (default: all, of which
                every cloud must then have the same number)
            sampling (str): Which: the :obj:`"first"`, those of farthest point sampling
                (:obj:`"fps"`), or a :obj:`"random"` subset drawn once. (default: :obj:`"first"`)
            **kwargs: The transforms, as above.

        Raises:
            FileNotFoundError: If there is no folder, no class in it or no file of a class.
            ValueError: If a file is damaged, or a cloud has another number of points.
        """
        check_sampling(num_points, sampling)
        root = Path(path)
        folders = sorted(entry for entry in root.glob("*") if entry.is_dir())
        if not folders:
            raise FileNotFoundError(f"'path' must have one folder for each class, got '{root}'")
        files = [sorted(folder.glob("*.npy")) for folder in folders]
        for folder, found in zip(folders, files, strict=True):
            if not found:
                raise FileNotFoundError(f"'{folder}' must have the clouds of a class, got none")
        labels = torch.arange(len(files)).repeat_interleave(torch.tensor([len(f) for f in files]))
        generator = torch.Generator().manual_seed(0)
        points = torch.empty(0)
        for i, file in enumerate(file for found in files for file in found):
            cloud = as_clouds(file, read_npy(file))
            size = num_points or (len(cloud) if i == 0 else points.size(1))
            if len(cloud) < size or (num_points is None and len(cloud) > size):
                hint = "" if num_points else "; give 'num_points' to take as many of all"
                raise damaged(file, f"it has {len(cloud)} points instead of {size}{hint}")
            if i == 0:
                points = torch.empty(len(labels), size, 3)
            points[i] = cloud[choose_points(cloud[None], size, sampling, generator)[0]]
        return cls(points, labels, [folder.name for folder in folders], copy=False, **kwargs)


def _chosen(splits: np.ndarray, split: str) -> np.ndarray:
    """Which clouds are of a split, given those of all."""
    if splits.dtype.kind in "iu":
        names = [_SPLITS[i] if 0 <= i < len(_SPLITS) else str(i) for i in splits.tolist()]
        splits = np.array(names)
    chosen = splits.astype(str) == split
    if not chosen.any():
        raise ValueError(f"it has no split '{split}', only {np.unique(splits).tolist()}")
    return np.asarray(chosen)


def _take(values: np.ndarray, chosen: np.ndarray | slice) -> np.ndarray:
    if isinstance(chosen, np.ndarray) and values.shape[:1] != chosen.shape:
        raise ValueError(f"it has {values.shape[:1]} clouds and {chosen.shape} splits")
    return values[chosen]


def _tensor(name: str, value: np.ndarray | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        what = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"'{name}' must be an array or a tensor of numbers, got {what}")
    return torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ["C", "W"]))
