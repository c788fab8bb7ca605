"""Files of processed clouds, written with the memory of a few of them and read with a checksum."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.collate import collate

from torch_geometric_ddp._bytes import bytes_of
from torch_geometric_ddp._files import read_tensors, write_tensors

_KIND, _VERSION = "set of processed clouds", 1
_BLOCK = 128


def prepared(
    clouds: Iterable[Data],
    pre_filter: Callable[[Data], bool] | None,
    pre_transform: Callable[[Data], Data] | None,
) -> Iterator[Data]:
    """The clouds that a filter keeps, transformed; what is no cloud afterwards is refused."""
    for data in clouds:
        if pre_filter is not None and not pre_filter(data):
            continue
        if pre_transform is not None:
            data = pre_transform(data)
            if not isinstance(data, Data) or not isinstance(data.pos, Tensor):
                raise TypeError(f"'pre_transform' must return a Data with 'pos', got {data!r:.80}")
            if not bool(torch.isfinite(data.pos).all()):
                raise ValueError("'pre_transform' must give finite 'pos', got NaN or infinity")
        yield data


def write_clouds(path: Path, clouds: Iterable[Data], header: Mapping[str, Any]) -> int:
    """Writes clouds and a header to a file for :meth:`read_columns`; returns their number.

    PyG's :obj:`InMemoryDataset.save` wants all clouds at once and then holds them three times: as
    a list, joined, and as the bytes of the file; what it writes is unpickled. Here every attribute
    grows in a file of its own, and these files are mapped into memory when the whole is written.

    Raises:
        TypeError: If an attribute of the clouds is neither tensor nor number.
        ValueError: If the clouds differ in the names, types or widths of their attributes.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        columns: dict[str, _Column] = {}
        count, source = 0, iter(clouds)
        while block := list(islice(source, _BLOCK)):
            data, slices, _ = collate(Data, block, increment=False, add_batch=False)
            values = data.to_dict()
            for key in ("num_nodes", "_num_nodes"):  # The points say it.
                values.pop(key, None)
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
        tensors = {f"data/{key}": column.values() for key, column in columns.items()}
        tensors |= {f"slices/{key}": column.slices() for key, column in columns.items()}
        write_tensors(path, tensors, header, _KIND, _VERSION)
        del tensors  # A mapped file cannot be deleted everywhere.
    return count


def read_columns(path: Path) -> tuple[Data, dict[str, Tensor], dict[str, Any]]:
    """The joined clouds of a file, where each begins and ends, and the header.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is not as it was written.
    """
    tensors, header = read_tensors(path, _KIND, _VERSION)
    data, slices = (
        {key.removeprefix(part): x for key, x in tensors.items() if key.startswith(part)}
        for part in ("data/", "slices/")
    )
    return Data.from_dict(data), slices, header


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
            file.write(bytes_of(rows))

    def values(self) -> Tensor:
        """The values of all clouds, mapped into memory."""
        flat = torch.empty(0, dtype=self.dtype)
        if self.path.stat().st_size:  # An empty file cannot be mapped.
            # torch.from_file takes no path beyond ASCII where the system knows no other.
            flat = torch.from_numpy(np.memmap(self.path, np.uint8, "c")).view(self.dtype)
        rows = sum(int(sizes.sum()) for sizes in self.sizes)
        return flat.view(rows, *self.shape).movedim(0, self.dim)

    def slices(self) -> Tensor:
        """Where the values of every cloud begin and end."""
        return torch.nn.functional.pad(torch.cat(self.sizes).cumsum(0), (1, 0))
