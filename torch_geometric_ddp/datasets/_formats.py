"""Checked reading of single files: every error names the file and what is wrong with it."""

from __future__ import annotations

import math
import re
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_geometric_ddp._checks import check_names, is_blurred

# What the libraries raise on files that are cut, damaged or something else altogether.
UNREADABLE = (
    ValueError,
    OverflowError,
    OSError,
    EOFError,
    tokenize.TokenError,
    KeyError,
    IndexError,
    RuntimeError,
    SyntaxError,
    zlib.error,
    zipfile.BadZipFile,
)

# Clouds that single precision moves by more than this share of their extent are refused.
LOST = 1e-3
FAR_AWAY = "lie so far from the origin that single precision loses their shape: subtract their mean"


class DamagedFileError(ValueError):
    """A file is there, but does not hold what it should."""


def damaged(path: Path, why: object) -> DamagedFileError:
    """The error to raise for a file, and what is wrong with it."""
    return DamagedFileError(f"'{path}' is damaged, or not the file that it should be: {why}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with an existing file into an error that names it."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'")
    try:
        yield
    except DamagedFileError:
        raise
    except (*UNREADABLE, MemoryError) as error:  # A damaged header asks for any amount.
        raise damaged(path, error) from error


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what a system or an editor hides there."""
    if folder.exists() and not folder.is_dir():
        raise damaged(folder, "it is no folder")
    return sorted(path for path in folder.glob("*") if path.name[0] != ".")


def with_suffix(folder: Path, suffix: str) -> list[Path]:
    """The files in a folder whose names end so, in capitals or not."""
    return [path for path in visible(folder) if path.suffix.lower() == suffix]


def folders(folder: Path) -> list[Path]:
    """The folders in a folder, by name."""
    return [path for path in visible(folder) if path.is_dir()]


def read_lines(path: Path) -> list[str]:
    """The lines of a list, without empty ones; at least one."""
    with reading(path):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise damaged(path, "it is empty")
    return lines


def read_text(path: Path, columns: int, delimiter: str | None = None, dtype: Any = "f8") -> Any:
    """The numbers :obj:`[N, columns]` of a text file of one row a line, in all of their digits."""
    with reading(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That there is nothing, which is checked next.
        rows = np.loadtxt(path, dtype, comments=None, delimiter=delimiter, ndmin=2)
    if not rows.size:
        raise damaged(path, "it is empty")
    if rows.shape[1] != columns:
        raise damaged(path, f"it has {rows.shape[1]} columns instead of {columns}")
    return rows


def read_names(path: Path) -> list[str]:
    """The lines of a list of names, which differ."""
    with reading(path):
        return check_names("names", read_lines(path))


def plain_path(where: Path, folder: Path, *names: str) -> Path:
    """The path of a file that a list names, which must lie in the folder of the list's files."""
    for name in names:
        if name in ("", ".", "..") or re.search(r"[/\\:]", name):
            raise damaged(where, f"it lists '{name}', which is not the name of a file alone")
    return folder.joinpath(*names)


def check_unpacked(what: str, size: int, stored: int) -> None:
    """Raises if a small file stands for numbers without end.

    Arrays of more than 1 GiB may take a hundred times the room that they have in their file: what
    is compressed further is hardly a cloud. One that is can be saved without compression.
    """
    if size > 2**30 and size > 100 * stored:
        raise ValueError(
            f"{what} takes {size:,} bytes, but has only {stored:,} in the file: where this is "
            "right, save it without compression"
        )


def check_array(what: str, file: BinaryIO, size: int) -> None:
    """Raises if the header of an :obj:`.npy` file promises more than its :obj:`size` in bytes."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"{what} has version {version} of the format, not (1, 0) or (2, 0)")
    promised, rest = math.prod(shape) * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or (promised > rest and not dtype.hasobject):
        raise ValueError(f"{what} has {rest:,} bytes, too few for {dtype} {list(shape)}")


def read_npy(path: Path) -> Any:
    """The array of an :obj:`.npy` file; nothing is unpickled."""
    # Numpy leaves a file that it opened itself open where it raises.
    with reading(path), open(path, "rb") as file:
        check_array("it", file, path.stat().st_size)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def as_clouds(path: Path, points: npt.NDArray[Any], dims: str = "N, 3") -> Tensor:
    """The points that a file holds as :obj:`float32`, checked."""
    if points.ndim != len(dims.split(",")) or points.shape[-1] != 3 or 0 in points.shape:
        raise damaged(path, f"its points have shape {list(points.shape)}, not [{dims}]")
    if points.dtype.kind != "f":
        raise damaged(path, f"its points have type {points.dtype}, not floating point")
    if points.dtype.itemsize > 4:
        wide = torch.from_numpy(points.astype(np.float64)).reshape(-1, *points.shape[-2:])
        check_near(path, wide)
    with np.errstate(over="ignore"):  # What overflows is infinite, which is checked next.
        clouds = torch.from_numpy(np.require(points, "f4", ["C", "W"]))
    if not bool(torch.isfinite(clouds).all()):
        raise damaged(path, "it has points that are NaN or infinite")
    return clouds


def check_near(path: Path, clouds: Iterable[Tensor]) -> None:
    """Raises if single precision would lose the shape of one of the clouds of a file."""
    if any(is_blurred(cloud, torch.float32, LOST) for cloud in clouds):
        raise damaged(path, f"its points {FAR_AWAY}")


def as_labels(path: Path, labels: npt.NDArray[Any], low: int, high: int) -> Tensor:
    """The whole numbers :obj:`[n]` from :obj:`low` to :obj:`high` that a file holds."""
    labels = labels.reshape(-1)
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int64) if labels.dtype.kind in "fiu" else None
    if whole is None or not (whole == labels).all():
        raise damaged(path, f"its labels (type {labels.dtype}) are no whole numbers")
    if whole.size and (whole.min() < low or whole.max() > high):
        found = f"{whole.min()}..{whole.max()}"
        raise damaged(path, f"its labels must lie in {low}..{high}, got {found}")
    return torch.from_numpy(whole)
