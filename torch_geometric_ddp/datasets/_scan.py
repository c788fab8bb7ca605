"""Scans: the clouds that the files of a split should have, before these are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp.datasets._formats import damaged


class Scan(NamedTuple):
    """What the files of a split promise: how many clouds, and how to read them one by one."""

    where: Path
    size: int
    clouds: Iterator[tuple[Path, Data]]


def check_files(where: Path, paths: Sequence[Path]) -> None:
    """Raises if one of the files that a list names is missing."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"there is no file '{missing[0]}' ({len(missing)} of the {len(paths)} that '{where}' "
            "stands for are missing)"
        )


def scan_files(
    where: Path,
    files: Sequence[tuple[Path, int]],
    read: Callable[[Path, int], Data],
    size: int | None,
) -> Scan:
    """A split with one file for each cloud.

    Args:
        where (Path): The list of the split.
        files (list): The files, which must exist, and their labels.
        read (callable): Makes a cloud of a file and its label.
        size (int, optional): The number of points that every cloud must have.
    """
    check_files(where, [path for path, _ in files])

    def clouds() -> Iterator[tuple[Path, Data]]:
        for path, label in files:
            data = read(path, label)
            if size is not None and data.num_nodes != size:
                raise damaged(path, f"it has {data.num_nodes} points instead of {size}")
            yield path, data

    return Scan(where, len(files), clouds())


def labelled(pos: Tensor, label: int) -> Data:
    """A cloud with one label."""
    return Data(pos=pos, y=torch.tensor([label]))
