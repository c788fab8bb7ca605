"""READERS: every source of labelled clouds, read by the same words."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_readers import (
    N,
    write_core,
    write_hdf5,
    write_meshes,
    write_omni,
    write_part,
    write_resampled,
    write_scan,
)

from torch_geometric_ddp import datasets
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.datasets import READERS, PartArrays, Reader, read_file, readers_of
from torch_geometric_ddp.datasets._benchmark import Benchmark


def write_npz(root):
    """Arrays for both tasks."""
    rng = np.random.default_rng(0)
    np.savez(
        root,
        points=rng.uniform(-1, 1, (6, N, 3)).astype("f4"),
        labels=np.array([0, 1, 0, 1, 0, 1]),
        split=np.array(["train"] * 4 + ["test"] * 2),
        part_labels=np.arange(6)[:, None] % 2 + np.zeros((6, N), int),
        class_names=np.array(["a", "b"]),
        part_names=np.array(["x", "y"]),
        category_parts=np.eye(2, dtype=bool),
    )


def write_folder(root, names=("a", "b")):
    rng = np.random.default_rng(0)
    for split, size in (("train", 2), ("test", 1)):
        for name in names:
            (root / split / name).mkdir(parents=True)
            for i in range(size):
                np.save(root / split / name / f"{i}.npy", rng.uniform(-1, 1, (N, 3)))


# How to write a few clouds of it, the sizes that are read, and the number of classes.
SOURCES = {
    "shapes": (None, (100 * 10, 50 * 10), 10),
    "modelnet10": (lambda root: write_meshes(root / "raw/ModelNet10"), (3, 3), 2),
    "modelnet10-resampled": (lambda root: write_resampled(root / "raw"), (3, 2), 3),
    "modelnet40-hdf5": (lambda root: write_hdf5(root / "raw"), (4, 2), 3),
    "scanobjectnn": (lambda root: write_scan(root / "raw"), (4, 4), 15),
    "shapenetcore": (lambda root: write_core(root / "raw"), (3, 2), 55),
    "omniobject3d": (lambda root: write_omni(root / "raw"), (6, 2), 3),
    "shapenetpart": (lambda root: write_part(root / "raw"), (6, 3), 50),
    "npz": (write_npz, (4, 2), 2),
    "folder": (write_folder, (4, 2), 2),
}


@pytest.mark.parametrize("name", SOURCES)
def test_load(name, tmp_path):
    writer, sizes, num_classes = SOURCES[name]
    reader, root = READERS[name], tmp_path / "a.npz" if name == "npz" else tmp_path
    if writer is not None:
        writer(root)
    for task in reader.tasks:
        options = {"strict": False} if "strict" in reader.options else {}
        given = {} if reader.num_points is None else {"num_points": 7}
        pair = reader.load(root=root, task=task, **given, **options)
        assert tuple(map(len, pair)) == sizes
        for data in (dataset[0] for dataset in pair):
            assert data.pos.shape == (given.get("num_points", N), 3)
            assert data.y.numel() == (len(data.pos) if task == "segmentation" else 1)
            if name in ("modelnet10", "scanobjectnn", "shapenetcore", "shapenetpart"):
                assert float(data.pos.norm(dim=1).max()) == pytest.approx(1, abs=1e-5)
        assert pair[0].class_names == pair[1].class_names
        if task == "segmentation":
            assert PartSpace.of(pair[0]) == PartSpace.of(pair[1])
        else:
            assert pair[0].num_classes == pair[1].num_classes == num_classes


def test_both_splits_are_processed_again_at_once(tmp_path, monkeypatch):
    write_resampled(tmp_path / "raw")
    reader, times = READERS["modelnet10-resampled"], []
    process = Benchmark.process
    monkeypatch.setattr(Benchmark, "process", lambda self: times.append(process(self)))
    for again in (False, True):
        reader.load(tmp_path, 7, strict=False, force_reload=again)
    assert len(times) == 2


def test_every_reader_is_in_the_registry():
    used = set()
    for reader in READERS.values():
        if reader.read.__class__.__name__ == "partial":
            used.add(reader.read.args[0])
    assert used == {cls for cls in Benchmark.__subclasses__() if cls.__module__[:5] == "torch"}
    for name in ("READERS", "Reader", "read_file", "readers_of"):
        assert name in datasets.__all__


@pytest.mark.parametrize("name", READERS)
def test_what_an_entry_says(name):
    reader = READERS[name]
    assert reader.help
    assert "\n" not in reader.help
    assert len(reader.help) < 80
    assert set(reader.tasks) <= {"classification", "segmentation"}
    if reader.read.__class__.__name__ == "partial":
        cls = reader.read.args[0]
        parameters = inspect.signature(cls).parameters
        assert set(reader.options) <= set(parameters)
        assert reader.num_points == parameters["num_points"].default
        named = getattr(cls, "url", None) is not None or cls is datasets.ModelNetMeshes
        assert reader.downloads == named


def test_names_by_task():
    assert readers_of("segmentation") == ["shapes", "shapenetpart"]
    assert readers_of("segmentation", files=True) == ["shapes", "shapenetpart", "npz"]
    names = readers_of("classification")
    assert names[:3] == ["shapes", "modelnet10", "modelnet40"]
    assert "shapenetpart" not in names
    assert set(readers_of("classification", files=True)) - set(names) == {"npz", "folder"}
    with pytest.raises(ValueError, match=r"'task' must be one of .*, got 'detection'"):
        readers_of("detection")


def test_options():
    train, test = READERS["shapes"].load(
        num_points=16, num_per_class=3, root=None, task="segmentation"
    )
    assert (len(train), len(test)) == (30, 10)
    assert train.segmentation
    assert READERS["shapes"].load(num_per_class=1)[0][0].num_nodes == 256


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("shapes", {"task": "detection"}, ValueError, "'task' must be one of .* got 'detection'"),
        ("modelnet10", {"root": ".", "task": "segmentation"}, ValueError, "'task' must be one of"),
        ("modelnet10", {}, ValueError, "'root' must be the place of the data set, got None"),
        ("shapes", {"num_points": 0}, ValueError, "'num_points' must be at least 1, got 0"),
        ("shapes", {"num_per_class": 0}, ValueError, "'num_per_class' must be at least 1"),
        ("shapes", {"num_per_class": "x"}, TypeError, "'num_per_class' must be an integer"),
        ("shapes", {"categories": ["a"]}, TypeError, "'categories' must be one of"),
        ("modelnet10", {"root": ".", "sampling": "fps"}, TypeError, "'sampling' must be one of"),
        ("npz", {"root": "none.npz"}, FileNotFoundError, "'path' must be an existing .npz file"),
        ("npz", {"root": "x", "resplit": 1}, TypeError, "'resplit' must not be given for class"),
        ("folder", {"root": "none"}, FileNotFoundError, "'path' must have one folder for each"),
    ],
)
def test_bad_arguments(name, arguments, error, message):
    with pytest.raises(error, match=message):
        READERS[name].load(**arguments)


def test_files(tmp_path):
    write_npz(tmp_path / "a.npz")
    write_folder(tmp_path / "b")
    for path in (tmp_path / "a.npz", str(tmp_path / "b")):
        train, test = read_file(path, num_points=5)
        assert (len(train), len(test)) == (4, 2)
        assert train[0].pos.shape == (5, 3)
    train, _ = read_file(tmp_path / "a.npz", "segmentation", categories=["b"], resplit=1)
    assert isinstance(train, PartArrays)
    assert train.class_names == ["b"]
    with pytest.raises(ValueError, match=r"'task' must be one of \('classification',\)"):
        read_file(tmp_path / "b", "segmentation")
    with pytest.raises(FileNotFoundError, match="'path' must be an existing"):
        read_file(tmp_path / "none")


def test_folder_whose_splits_lack_classes(tmp_path):
    write_folder(tmp_path, ["a", "b", "c"])
    for path in (tmp_path / "train/b", tmp_path / "test/a"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    train, test = read_file(tmp_path)
    assert train.class_names == test.class_names == ["a", "b", "c"]
    assert train.y.unique().tolist() == [0, 2]
    assert test.y.tolist() == [1, 2]


def test_reader_of_ones_own():
    def read(root, train, task, num_points, scale=1.0):
        pos = scale * torch.rand(3, num_points, 3)
        return datasets.PointCloudArrays(pos, torch.arange(3))

    reader = Reader("three clouds", read, num_points=4, options=("scale",), needs_root=False)
    train, _ = reader.load(scale=0.0)
    assert train[0].pos.tolist() == [[0, 0, 0]] * 4


def test_meshes_and_tables_are_imported_when_they_are_read():
    code = (
        "import sys, torch_geometric_ddp.datasets\n"
        "print([name for name in ('trimesh', 'plyfile', 'h5py') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.strip() == b"[]"
