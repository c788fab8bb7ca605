"""Point clouds from arrays of the user's own."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

__all__ = ["PointCloudArrays"]

# What NumPy and zipfile raise on files that are cut, damaged or something else altogether.
_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    SyntaxError,
    zlib.error,
    zipfile.BadZipFile,
)


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
        pos, y = pos.float(), y.long()
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
        pairs = zip(pos.float(), y.long().split(1), strict=True)
        clouds = [Data(pos=cloud, y=label) for cloud, label in pairs]
        if pre_filter is not None:
            clouds = [data for data in clouds if pre_filter(data)]
        if pre_transform is not None:
            clouds = [pre_transform(data) for data in clouds]
        if not clouds:
            raise ValueError("'pre_filter' left no cloud")
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
            path (str or path): The file, with the arrays :obj:`{split}_points [n, N, 3]`,
                :obj:`{split}_labels [n]` and, if the classes have names, :obj:`class_names`.
            split (str): The split. (default: :obj:`"train"`)
            **kwargs: The transforms, as above.

        Raises:
            FileNotFoundError: If there is no file.
            ValueError: If it is damaged or lacks an array.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"'path' must be an existing .npz file, got '{path}'")
        try:
            # Numpy leaves a file that it opened itself open where it raises.
            with open(path, "rb") as raw, np.lib.npyio.NpzFile(raw, allow_pickle=False) as file:
                wanted = (f"{split}_points", f"{split}_labels")
                missing = [key for key in wanted if key not in file]
                if missing:
                    raise ValueError(f"it has no array {missing}, only {sorted(file.files)}")
                points, labels = (file[key] for key in wanted)
                names = file["class_names"].tolist() if "class_names" in file else None
        except _UNREADABLE as error:
            raise ValueError(f"'{path}' is no usable .npz file: {error}") from error
        return cls(points, labels, names, **kwargs)


def _tensor(name: str, value: np.ndarray | Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        what = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"'{name}' must be an array or a tensor of numbers, got {what}")
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
