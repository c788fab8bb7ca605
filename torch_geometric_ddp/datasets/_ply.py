"""The vertices of PLY files, which is all of the format that point clouds need."""

from __future__ import annotations

from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from torch_geometric_ddp.datasets._formats import damaged, reading

_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}


class _Header(NamedTuple):
    order: str
    size: int
    fields: list[tuple[str, str]]


def read_ply(path: Path) -> Any:
    """The coordinates :obj:`[N, 3]` of the vertices of a PLY file, ASCII or binary.

    The vertices must be the first element, as they are by convention, and have no lists.
    """
    with reading(path), open(path, "rb") as file:
        header = _read_header(path, file)
        names = [name for name, _ in header.fields]
        missing = {"x", "y", "z"} - set(names)
        if missing:
            raise damaged(path, f"its vertices have no {sorted(missing)}")
        if header.order:
            row = np.dtype([(name, header.order + kind) for name, kind in header.fields])
            content = file.read()
            rows = np.frombuffer(content, row, min(header.size, len(content) // row.itemsize))
            points = np.stack([rows[axis] for axis in "xyz"], axis=1)
        else:
            lines = list(islice(file, header.size))
            table = np.zeros((0, len(names)), "f4")
            if lines:
                table = np.loadtxt(lines, "f4", comments=None, ndmin=2)
            if table.shape[1] != len(names):
                raise damaged(path, f"its vertices have {table.shape[1]} numbers, not {len(names)}")
            points = table[:, [names.index(axis) for axis in "xyz"]]
        if len(points) != header.size:
            raise damaged(path, f"it has {len(points)} of its {header.size} vertices")
    return points


def _read_header(path: Path, file: BufferedReader) -> _Header:
    if file.readline().strip() != b"ply":
        raise damaged(path, "it does not begin with 'ply'")
    order, count, fields, elements = None, 0, [], 0
    for line in file:
        match line.decode("utf-8", "replace").split():
            case ["end_header"]:
                if order is None or not elements:
                    break
                return _Header(order, count, fields)
            case ["format", kind, "1.0"] if kind in _ORDERS:
                order = _ORDERS[kind]
            case ["element", name, number]:
                elements += 1
                if elements == 1 and name != "vertex":
                    raise damaged(path, f"its first element is '{name}', not 'vertex'")
                count = max(0, int(number)) if elements == 1 else count
            case ["property", kind, name] if kind in _TYPES:
                if elements == 1:
                    fields.append((name, _TYPES[kind]))
            case ["property", "list", *_] if elements > 1:
                pass
            case ["comment" | "obj_info", *_] | []:
                pass
            case _:
                raise damaged(path, f"its header has an unreadable line {line[:80]!r}")
    raise damaged(path, "its header is not complete")
