"""Data sets from arrays: their checks, their files and how their clouds lie in memory."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset
from tqdm import tqdm

from torch_geometric_ddp import ops
from torch_geometric_ddp._checks import check_indices, check_names, is_blurred
from torch_geometric_ddp.clouds.class_names import MOST_UNNAMED
from torch_geometric_ddp.datasets._columns import prepared, read_columns, write_clouds
from torch_geometric_ddp.datasets._formats import (
    FAR_AWAY,
    LOST,
    UNREADABLE,
    check_array,
    check_unpacked,
)
from torch_geometric_ddp.datasets._sampling import Sampling, choose_points

# What integers in the array 'split' of a file mean.
_SPLITS = ("train", "val", "test")
_BLOCK = 64


def check_clouds(points: np.ndarray | Tensor | Sequence[Any], copy: bool) -> Tensor:
    """The points as finite :obj:`float32` tensor :obj:`[n, N, 3]`."""
    pos = as_tensor("points", points)
    if pos.dim() != 3 or pos.size(-1) != 3 or 0 in pos.shape:
        raise ValueError(f"'points' must have shape [n, N, 3], got {list(pos.shape)}")
    if not pos.is_floating_point():
        raise TypeError(f"'points' must have a floating point type, got {pos.dtype}")
    far = pos.dtype == torch.float64 and [is_blurred(x, torch.float32, LOST) for x in pos]
    if far and any(far):
        raise ValueError(f"'points' of cloud {far.index(True)} {FAR_AWAY}")
    pos = pos.to(torch.float32, copy=copy)
    # In blocks, as the answers for all numbers at once take more room than the numbers.
    finite = torch.cat([torch.isfinite(x).flatten(1).all(dim=1) for x in pos.split(_BLOCK)])
    if not bool(finite.all()):
        bad = (~finite).nonzero().flatten().tolist()
        raise ValueError(f"'points' must be finite, got NaN or infinity in clouds {bad[:5]}")
    return pos


def check_labels(
    name: str,
    labels: np.ndarray | Tensor | Sequence[Any],
    shape: torch.Size,
    names: object,
    copy: bool,
) -> tuple[Tensor, list[str]]:
    """The labels as :obj:`int64` tensor of that shape, and the names that bound them."""
    named = {"labels": "class_names", "part_labels": "part_names"}[name]
    names = None if names is None else check_names(named, names)
    y = as_tensor(name, labels)
    if y.shape != shape:
        each = "clouds" if len(shape) == 1 else "points"
        raise ValueError(
            f"'{name}' must have shape {list(shape)}, one for each of the {each}, got "
            f"{list(y.shape)}"
        )
    y = check_indices(name, y, copy)
    low, high = int(y.min()), int(y.max())
    bound = min(high + 1, MOST_UNNAMED) if names is None else len(names)
    if low < 0 or high >= bound:
        hint = f" ('{named}' would bound them)" if names is None and high >= bound else ""
        raise ValueError(f"'{name}' must lie in 0..{bound - 1}, got {low}..{high}{hint}")
    return y, [str(label) for label in range(high + 1)] if names is None else names


def as_tensor(name: str, value: np.ndarray | Tensor | Sequence[Any]) -> Tensor:
    """The array as a tensor, without a copy where it can be shared."""
    if isinstance(value, Tensor):
        return value.detach()  # A graph can be sent to no other process.
    if isinstance(value, list | tuple):
        with suppress(ValueError):  # Rows of different lengths.
            value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        what = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"'{name}' must be an array, a tensor or a list of numbers, got {what}")
    return torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ["C", "W"]))


def sample(
    num_points: int | None, sampling: Sampling, pos: Tensor, *labels: Tensor
) -> list[Tensor]:
    """The points of every cloud to keep, and their labels :obj:`[n, N]`, a block at a time."""
    if num_points is None:
        return [pos, *labels]
    if num_points > pos.size(1):
        raise ValueError(
            f"'num_points' must be at most the {pos.size(1)} of the clouds, got {num_points}"
        )
    # Drawn once, and the same on every machine.
    generator = torch.Generator().manual_seed(0)
    blocks = tqdm(pos.split(_BLOCK), "Sample", unit="block", disable=None)
    index = torch.cat([choose_points(x, num_points, sampling, generator) for x in blocks])
    return [ops.gather_points(x, index) for x in (pos, *labels)]


def fill(dataset: InMemoryDataset, pos: Tensor, **attributes: Tensor) -> None:
    """Makes the clouds :obj:`pos [n, N, 3]` the items of a data set, filtered and transformed.

    Attributes of shape :obj:`[n]` are of the clouds, those of shape :obj:`[n, N]` of the points.
    """
    # As PyG's collate lays the clouds out, without a second copy of them.
    steps, given = torch.arange(len(pos) + 1), {"pos": pos, **attributes}
    data = Data(**{key: x if x.dim() == 1 else x.flatten(0, 1) for key, x in given.items()})
    dataset.data = data
    dataset.slices = {key: steps * (data[key].size(0) // len(pos)) for key in given}
    keep, transform = dataset.pre_filter, dataset.pre_transform
    if keep is not None or transform is not None:
        items = (dataset.get(i) for i in tqdm(range(len(pos)), "Transform", disable=None))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clouds.safetensors")
            if not write_clouds(path, prepared(items, keep, transform), {}):
                raise ValueError("'pre_filter' left no cloud")
            dataset._data_list = None
            data, slices, _ = read_columns(path)
            # Copies, as the file would live on in a tensor that it is mapped to.
            dataset.data = data.clone()
            dataset.slices = {key: steps.clone() for key, steps in slices.items()}


@contextmanager
def open_npz(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The arrays of an :obj:`.npz` file; whatever is wrong with them names the file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"'path' must be an existing .npz file, got '{path}'")
    try:
        # Numpy leaves a file that it opened itself open where it raises.
        with open(path, "rb") as raw, np.lib.npyio.NpzFile(raw, allow_pickle=False) as file:
            _check_archive(cast(zipfile.ZipFile, file.zip))
            yield file
    except (*UNREADABLE, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"'{path}' is no usable .npz file: {error}") from error


def _check_archive(archive: zipfile.ZipFile) -> None:
    """Raises if an array has another name inside than in the directory, or unpacks to too much."""
    for info in archive.infolist():
        with archive.open(info) as member:
            what = f"its array '{info.filename.removesuffix('.npy'):.80}'"
            check_unpacked(what, info.file_size, info.compress_size)
            if info.filename.endswith(".npy"):
                check_array(what, cast(BinaryIO, member), info.file_size)


def take_arrays(file: Any, keys: Sequence[str], rows: np.ndarray | None = None) -> list[np.ndarray]:
    """Reads arrays of a file, or some of their rows."""
    missing = [key for key in keys if key not in file]
    if missing:
        raise ValueError(f"it has no array {missing}, only {sorted(file.files)[:20]}")
    return [file[key] if rows is None else _rows(file[key], rows) for key in keys]


def _rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if values.shape[:1] != rows.shape:
        raise ValueError(f"it has {values.shape[:1]} clouds and {rows.shape} splits")
    return np.asarray(values[rows])


def of_split(splits: np.ndarray, split: str) -> np.ndarray:
    """Which clouds are of a split, given those of all by name or number."""
    if splits.dtype.kind in "iu":
        names = [_SPLITS[i] if 0 <= i < len(_SPLITS) else str(i) for i in splits.tolist()]
        splits = np.array(names)
    chosen = splits.astype(str) == split
    if not chosen.any():
        raise ValueError(f"it has no split '{split}', only {np.unique(splits)[:20].tolist()}")
    return np.asarray(chosen)
