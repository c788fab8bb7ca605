"""HDF5 files of clouds :obj:`data [n, N, 3]` with labels :obj:`label [n]`, read in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from torch_geometric_ddp.datasets._formats import (
    as_clouds,
    as_labels,
    check_unpacked,
    damaged,
    reading,
)

_PIECE = 128


def require_h5py() -> Any:
    """The module h5py, or an error that says how to install it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "reading HDF5 files needs h5py, the extra 'h5' of this package: "
            "pip install 'torch_geometric_ddp[h5]'"
        ) from error
    return h5py


def count_clouds(path: Path, num_classes: int, size: int | None) -> int:
    """The number of clouds of a file, of :obj:`size` points each, whose labels are checked."""
    h5py = require_h5py()
    with reading(path), h5py.File(path, "r") as file:
        for key in ("data", "label"):
            _check_array(path, file, key)
        shape: tuple[int, ...] = file["data"].shape or ()  # None where nothing was written.
        if len(shape) != 3 or shape[-1] != 3:
            raise damaged(path, f"its 'data' has shape {list(shape)}, not [n, N, 3]")
        if size is not None and shape[1] != size:
            raise damaged(path, f"its clouds have {shape[1]} points instead of {size}")
        if file["label"].size != shape[0]:
            raise damaged(path, f"it has {file['label'].size} labels for {shape[0]} clouds")
        as_labels(path, file["label"][()], 0, num_classes - 1)
    return int(shape[0])


def _check_array(path: Path, file: Any, key: str) -> None:
    """Raises if a file has no array of that name, or not in itself."""
    h5py = require_h5py()
    # Before it is followed: a link may lead to any file of the reader's.
    if isinstance(file.get(key, getlink=True), h5py.ExternalLink):
        raise damaged(path, f"its '{key}' is a link to another file")
    array = file.get(key)
    if not isinstance(array, h5py.Dataset):
        raise damaged(path, f"it has no array '{key}', only {sorted(file)[:20]}")
    if array.external or array.is_virtual or array.file.filename != file.filename:
        raise damaged(path, f"its '{key}' lies in another file")
    if array.shape is not None:
        check_unpacked(f"its '{key}'", array.nbytes, array.id.get_storage_size())


def read_h5(path: Path, num_classes: int) -> Iterator[tuple[Path, Data]]:
    """Reads the clouds of a file, a piece at a time."""
    h5py = require_h5py()
    with reading(path), h5py.File(path, "r") as file:
        y = as_labels(path, file["label"][()], 0, num_classes - 1)
        for start in range(0, len(y), _PIECE):
            pos = as_clouds(path, file["data"][start : start + _PIECE], "n, N, 3")
            for i, cloud in enumerate(pos):
                yield path, Data(pos=cloud, y=y[start + i : start + i + 1])
