"""OFF meshes and PLY point clouds, parsed by trimesh and plyfile, and points of a surface.

What these libraries let pass or do not take is settled here: comments in any language, byte order
marks, the words that a file may begin with, and whether all is there that a header promises.
"""

from __future__ import annotations

import io
import re
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from torch_geometric_ddp.datasets._formats import check_near, damaged, reading

# The words of a file with colours, normals or texture coordinates beside the positions.
_OFF = re.compile(r"(?:ST)?C?N?OFF", re.IGNORECASE)
_MARK, _HEADER_LINES = b"\xef\xbb\xbf", 10_000


def read_off(path: Path) -> tuple[Tensor, Tensor]:
    """The vertices :obj:`[V, 3]`, in double precision, and triangles :obj:`[T, 3]` of an OFF file.

    A polygon of :math:`n` corners becomes :math:`n - 2` triangles. What stands beside the
    coordinates of a vertex or the corners of a face is left out.
    """
    with reading(path):
        from trimesh.exchange.off import load_off  # It takes long to import.

        # Any language may stand in a comment; what is no number is found by trimesh.
        text = path.read_text("utf-8-sig", "replace")
        rows = [line.partition("#")[0].strip() for line in text.splitlines()]
        rows = [row for row in rows if row]
        word = _OFF.match(rows[0]) if rows else None
        if word is None:
            raise damaged(path, "it does not begin with 'OFF'")
        rows[0] = rows[0][word.end() :].strip()  # Some files have no line break after the word.
        rows = rows[not rows[0] :]
        counts = [int(number) for number in rows[0].split()[:2]] if rows else []
        if len(counts) < 2 or min(counts) < 0:
            raise damaged(path, "it does not say how many vertices and faces it has")
        num_nodes, num_faces = counts
        found = min(len(rows) - 1, num_nodes), min(max(0, len(rows) - 1 - num_nodes), num_faces)
        if found != (num_nodes, num_faces):
            raise damaged(path, f"it has {found} of its {num_nodes, num_faces} vertices and faces")
        triangles = _triangles(path, rows[1 + num_nodes : 1 + num_nodes + num_faces])
        rows = ["OFF", f"{num_nodes} {len(triangles)} 0", *rows[1 : 1 + num_nodes], *triangles]
        mesh = load_off(io.StringIO("\n".join(rows)))
        pos = np.asarray(mesh["vertices"], np.float64).reshape(-1, 3)
        face = np.asarray(mesh["faces"], np.int64).reshape(-1, 3)
        if face.size and (face.min() < 0 or face.max() >= num_nodes):
            span = f"{face.min()}..{face.max()}"
            raise damaged(path, f"its faces must name vertices 0..{num_nodes - 1}, got {span}")
    return torch.from_numpy(pos), torch.from_numpy(face)


def _triangles(path: Path, faces: list[str]) -> list[str]:
    """The rows of faces with all polygons cut from their first corner, as trimesh takes no other.

    Colours are left out.
    """
    triangles = []
    for row in faces:
        size, *corners = row.split()
        corners = corners[: int(size)]
        if len(corners) != int(size):
            raise damaged(path, f"a face has {len(corners)} of its {size} corners")
        triangles += [f"3 {corners[0]} {a} {b}" for a, b in pairwise(corners[1:])]
    return triangles


def sample_mesh(path: Path, pos: Tensor, face: Tensor, num: int, seed: int) -> Tensor:
    """Draws :obj:`num` points evenly over triangles, as :obj:`float32`, by a seed of their own.

    The draws are those of :class:`torch_geometric.transforms.SamplePoints`. The areas are of a
    mesh of size one at the origin, so that they neither vanish nor overflow.
    """
    if not bool(torch.isfinite(pos).all()):
        raise damaged(path, "it has points that are NaN or infinite")
    if not len(face):
        raise damaged(path, "it has no face")
    corners = pos[face]
    origin = corners[0, 0]
    scale = (corners - origin).abs().max()
    first, *others = ((corners - origin) / scale).unbind(dim=1)
    sides = [other - first for other in others]
    area = torch.linalg.cross(*sides).norm(dim=1)
    if not (0 < float(area.sum()) < torch.inf):
        raise damaged(path, "its triangles have no area")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(area / area.sum(), num, replacement=True, generator=generator)
    share = torch.rand(num, 2, generator=generator)
    share = torch.where(share.sum(dim=1, keepdim=True) > 1, 1 - share, share)
    drawn = first[chosen] + sum(
        part[:, None] * side[chosen] for part, side in zip(share.double().T, sides, strict=True)
    )
    drawn = drawn * scale + origin
    check_near(path, [drawn])
    return drawn.float()


def read_ply(path: Path) -> Any:
    """The coordinates :obj:`[N, 3]` of the vertices of a PLY file, ASCII or binary.

    What comes after the vertices is not looked at.
    """
    with reading(path), open(path, "rb") as file:
        from plyfile import PlyData, PlyParseError

        content = b"\n".join([*_header_to_vertices(path, file), b"end_header", file.read()])
        try:
            vertices = PlyData.read(io.BytesIO(content))["vertex"]
        except PlyParseError as error:
            raise damaged(path, error) from error
        if missing := {"x", "y", "z"} - {field.name for field in vertices.properties}:
            raise damaged(path, f"its vertices have no {sorted(missing)}")
        return np.stack([vertices[axis] for axis in "xyz"], axis=1)


def _header_to_vertices(path: Path, file: BinaryIO) -> list[bytes]:
    """The lines of a header up to the vertices, without comments, which may be in any language."""
    header: list[bytes] = []
    reached = passed = False
    for line in islice(file, _HEADER_LINES):
        words = line.removeprefix(_MARK).split() or [b"comment"]
        if words == [b"end_header"] and reached:
            return header
        if words[0] == b"element":
            passed, reached = reached, reached or words[1:2] == [b"vertex"]
        if words[0] not in (b"comment", b"obj_info") and not passed:
            header.append(b" ".join(words))
    raise damaged(path, "its header has no end, or no vertices")
