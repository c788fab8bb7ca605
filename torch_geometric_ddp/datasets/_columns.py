"""Writing a data set of any size with the memory of a few clouds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.collate import collate

_BLOCK = 128


def write_clouds(path: Path, clouds: Iterable[Data]) -> int:
    """Writes clouds to a file that PyG's :obj:`InMemoryDataset.load` reads; returns their number.

    PyG's own :obj:`InMemoryDataset.save` wants all clouds at once and then holds them three
    times: as a list, joined, and as the bytes of the file. Here every attribute grows in a file
    of its own, and these files are mapped into memory when the whole is written.

    Raises:
        TypeError, ValueError: If the clouds differ in their attributes or have others than
            tensors and numbers.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        columns: dict[str, _Column] = {}
        count, source = 0, iter(clouds)
        while block := list(islice(source, _BLOCK)):
            data, slices, _ = collate(Data, block, increment=False, add_batch=False)
            values = data.to_dict()
            if count and values.keys() != columns.keys():
                raise ValueError(
                    "'pre_transform' must give all clouds the same attributes, got "
                    f"{sorted(values)} after {sorted(columns)}"
                )
            for key, value in values.items():
                rows, dim = _rows(data, key, value)
                if key not in columns:
                    columns[key] = _Column(Path(folder, str(len(columns))), key, rows, dim)
                columns[key].append(rows, slices[key])
            count += len(block)
        tensors = {key: column.values() for key, column in columns.items()}
        torch.save((tensors, {key: column.slices() for key, column in columns.items()}, Data), path)
        del tensors  # A mapped file cannot be deleted everywhere.
    return count


def _rows(data: Data, key: str, value: Any) -> tuple[Tensor, int]:
    """The joined values of some clouds, one a row, and the dimension that the rows were."""
    dim = data.__cat_dim__(key, value)
    if not isinstance(value, Tensor) or value.layout != torch.strided or not isinstance(dim, int):
        raise TypeError(
            f"'pre_transform' must add tensors or numbers, got {type(value).__name__} as '{key}'; "
            "add anything else by 'transform'"
        )
    return value.detach().cpu().movedim(dim, 0).contiguous(), dim


class _Column:
    """One attribute of all clouds, in a file of raw numbers."""

    def __init__(self, path: Path, key: str, rows: Tensor, dim: int) -> None:
        self.path, self.key, self.dim = path, key, dim
        self.dtype, self.shape = rows.dtype, rows.shape[1:]
        self.sizes: list[Tensor] = []

    def append(self, rows: Tensor, slices: Tensor) -> None:
        """Adds the rows of a block of clouds, which :obj:`slices` divide."""
        if rows.dtype != self.dtype or rows.shape[1:] != self.shape:
            raise ValueError(
                f"'{self.key}' must have one type and width in all clouds, got {rows.dtype} "
                f"{list(rows.shape[1:])} after {self.dtype} {list(self.shape)}"
            )
        self.sizes.append(slices.diff())
        with open(self.path, "ab") as file:
            file.write(rows.flatten().view(torch.uint8).numpy().data)

    def values(self) -> Tensor:
        """The values of all clouds, mapped into memory."""
        length = self.path.stat().st_size // self.dtype.itemsize
        # An empty file cannot be mapped.
        flat = torch.empty(0, dtype=self.dtype)
        if length:
            flat = torch.from_file(str(self.path), size=length, dtype=self.dtype)
        rows = sum(int(sizes.sum()) for sizes in self.sizes)
        return flat.view(rows, *self.shape).movedim(0, self.dim)

    def slices(self) -> Tensor:
        """Where the values of every cloud begin and end."""
        return torch.nn.functional.pad(torch.cat(self.sizes).cumsum(0), (1, 0))
