"""Files changed at random: the documented error with their name, or clouds of the right shape.

`TGDDP_FUZZ=100000 pytest tests/test_mutated_files.py` tries as many of each kind.
"""

import io
import os

import numpy as np
import pytest
import torch
from test_readers import KINDS, Case, clouds, off, ply

from torch_geometric_ddp.datasets import PointCloudArrays
from torch_geometric_ddp.datasets._formats import as_clouds
from torch_geometric_ddp.datasets._meshes import read_off, read_ply, sample_mesh

TRIES = int(os.environ.get("TGDDP_FUZZ", 0))


def mutated(content, rng):
    """A few bits flipped, bytes dropped, put in or turned to nines, or the end cut off."""
    changed = bytearray(content)
    for kind in rng.integers(5, size=rng.integers(1, 4)):
        place = rng.integers(len(changed)) if changed else 0
        if kind == 0 and changed:
            changed[place] ^= 1 << rng.integers(8)
        elif kind == 1:
            del changed[place : place + rng.integers(1, 30)]
        elif kind == 2:
            changed[place:place] = rng.bytes(rng.integers(1, 9))
        elif kind == 3:
            changed[place : place + 1] = b"9" * rng.integers(1, 11)
        elif rng.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def npz(save):
    out = io.BytesIO()
    names = np.array(["a", "b"])
    save(out, train_points=clouds(2), train_labels=np.array([0, 1]), class_names=names)
    return out.getvalue()


def mesh(path):
    return as_clouds(path, sample_mesh(path, *read_off(path), 5, 0).numpy())


def arrays(path):
    dataset = PointCloudArrays.from_npz(path)
    assert 0 <= int(dataset.y.min()) <= int(dataset.y.max()) < dataset.num_classes
    return dataset[0].pos


FILES = {
    "off": (off(1).encode(), mesh),
    "coff": (b"COFF\n3 1 0\n0 0 0 1 1\n2 0 0 1 1\n2 2 0 1 1\n3 0 1 2\n", mesh),
    "ascii": (ply(clouds(1)[0], "ascii"), lambda path: as_clouds(path, read_ply(path))),
    "binary": (
        ply(clouds(1)[0], "binary_big_endian", "double"),
        lambda path: as_clouds(path, read_ply(path)),
    ),
    "npz": (npz(np.savez), arrays),
    "packed": (npz(np.savez_compressed), arrays),
}


@pytest.mark.parametrize("kind", FILES)
def test_mutated_file(kind, tmp_path):
    content, read = FILES[kind]
    rng, path = np.random.default_rng(0), tmp_path / "file"
    for _ in range(TRIES or 200):
        path.write_bytes(mutated(content, rng))
        try:
            pos = read(path)
        except (ValueError, TypeError) as error:
            # An error of another type, or without the name, would be a fault.
            if str(path) not in str(error):
                raise
        else:
            assert pos.size(-1) == 3
            assert bool(torch.isfinite(pos).all())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["raw", "processed"])
def test_mutated_data_set(kind, what, tmp_path):
    """Any file of a published data set, or of its cache."""
    case = Case(kind, tmp_path)
    case.read(num_points=5)
    rng = np.random.default_rng(1)
    files = sorted(path for path in (tmp_path / what).rglob("*") if path.is_file())
    for _ in range(TRIES or 25):
        path = files[rng.integers(len(files))]
        content = path.read_bytes()
        path.write_bytes(mutated(content, rng))
        try:
            dataset = case.read(num_points=5, force_reload=what == "raw")
        except (ValueError, FileNotFoundError) as error:
            if str(tmp_path) not in str(error):
                raise
        else:
            assert {data.pos.shape for data in dataset} == {(5, 3)}
            assert bool(torch.isfinite(dataset.pos).all())
            assert 0 <= int(dataset.y.min()) <= int(dataset.y.max()) < dataset.num_classes
        path.write_bytes(content)
