"""The readers of published data sets, on small files in the original formats."""

import inspect
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import TinySegmenter, check_labelled
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.datasets import ModelNet, ShapeNet
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import NormalizeScale, SamplePoints

from torch_geometric_ddp import SMOKE, datasets, distill, evaluate, ops
from torch_geometric_ddp._files import read_tensors, write_tensors
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.datasets import (
    ModelNetHDF5,
    ModelNetMeshes,
    ModelNetResampled,
    OmniObject3D,
    PointCloudArrays,
    ScanObjectNN,
    ShapeNetCore,
    ShapeNetPart,
    _benchmark,
    omni_object3d,
)
from torch_geometric_ddp.datasets._benchmark import Benchmark
from torch_geometric_ddp.datasets._columns import read_columns, write_clouds
from torch_geometric_ddp.datasets._formats import DamagedFileError
from torch_geometric_ddp.datasets._meshes import read_off, read_ply, sample_mesh
from torch_geometric_ddp.datasets.omni_object3d import split_category
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.transforms import NormalizeSphere

N = 20
RESAMPLED, HDF5 = "modelnet40_normal_resampled", "modelnet40_ply_hdf5_2048"
PART = "shapenetcore_partanno_segmentation_benchmark_v0"


# Writers: each makes the files of a data set and returns what its splits hold. ####################


def clouds(num, size=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (num, size, 3)).astype(np.float32)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif path.suffix == ".npy":
        np.save(path, content)
    else:
        delimiter = "," if path.suffix == ".txt" else " "
        np.savetxt(path, content, "%d" if content.dtype.kind == "i" else "%.9g", delimiter)


def write_h5(path, points, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = points, labels


def write_resampled(raw):
    folder, pos = raw / RESAMPLED, clouds(5)
    write(folder / "modelnet10_shape_names.txt", "bed\nnight_stand\nsofa\n")
    shapes = {
        "train": [("night_stand_0003", 1), ("bed_0001", 0), ("sofa_0002", 2)],
        "test": [("sofa_0001", 2), ("bed_0009", 0)],
    }
    expected, i = {}, 0
    for split, names in shapes.items():
        write(folder / f"modelnet10_{split}.txt", "".join(f"{name}\n" for name, _ in names))
        expected[split] = []
        for name, label in names:
            write(folder / name.rpartition("_")[0] / f"{name}.txt", np.hstack([pos[i], pos[i] + 1]))
            expected[split].append((pos[i], label))
            i += 1
    return expected


def write_hdf5(raw):
    folder, pos, y = raw / HDF5, clouds(6), [2, 0, 1, 1, 0, 2]
    write(folder / "shape_names.txt", "airplane\nbathtub\nbed\n")
    write(folder / "train_files.txt", f"data/{HDF5}/ply_data_train0.h5\ndata/{HDF5}/b.h5\n\n")
    write(folder / "test_files.txt", f"data/{HDF5}/ply_data_test0.h5\n")
    for name, part in (("ply_data_train0", [0, 1]), ("b", [2, 3]), ("ply_data_test0", [4, 5])):
        write_h5(folder / f"{name}.h5", pos[part], np.array(y, "u1")[part][:, None])
    pairs = list(zip(pos, y, strict=True))
    return {"train": pairs[:4], "test": pairs[4:]}


def write_scan(raw):
    expected = {}
    for seed, (split, file) in enumerate((("train", "training"), ("test", "test"))):
        pos, y = clouds(4, seed=seed), np.array([14, 0, 3, 14])
        write_h5(
            raw / "h5_files/main_split" / f"{file}_objectdataset_augmentedrot_scale75.h5", pos, y
        )
        expected[split] = list(zip(pos, y, strict=True))
    return expected


def write_core(raw):
    pos = clouds(5)
    names = ["04554684-a-b", "02691156-c", "02747177-d", "02691156-e", "04530566-f"]
    pairs = list(zip(pos, [54, 0, 1, 0, 53], strict=True))
    for name, cloud in zip(names, pos, strict=True):
        write(raw / "shapenet_pc" / f"{name}.npy", cloud)
    for split, part in (("train", names[:3]), ("test", names[3:])):
        write(raw / "ShapeNet-55" / f"{split}.txt", "".join(f"{name}.npy\n" for name in part))
    return {"train": pairs[:3], "test": pairs[3:]}


def write_omni(raw):
    expected = {"train": [], "test": []}
    for label, (category, num) in enumerate((("anise", 5), ("ball", 2), ("cup", 1))):
        pos = clouds(num, seed=label)
        names = [f"{category}_{i:03}" for i in range(num)]
        for i, name in enumerate(names):
            file = raw / "1024" / category / name / "pcd_1024.ply"
            if i == 0:
                write(file.with_suffix(".npy"), pos[i])
            else:
                file.parent.mkdir(parents=True)
                file.write_bytes(ply(pos[i], "binary_little_endian"))
        for split, chosen in split_category(category, names, 0.2, 0).items():
            expected[split] += [(pos[names.index(name)], label) for name in chosen]
    (raw / "1024" / "ball" / "ball_empty").mkdir()
    return expected


def write_part(raw):
    """The shapes of a small ShapeNetPart, their local part labels and their categories."""
    folder, rng, expected = raw / PART, np.random.default_rng(0), {}
    table = "".join(f"{name}\t{synset}\n" for name, synset in ShapeNet.category_ids.items())
    write(folder / "synsetoffset2category.txt", table)
    for seed, split in enumerate(("train", "val", "test")):
        categories = ["Mug", "Airplane", "Chair", "Mug", "Airplane"][seed : seed + 3]
        listed, expected[split] = [], []
        for i, category in enumerate(categories):
            synset, parts = ShapeNet.category_ids[category], ShapeNet.seg_classes[category]
            pos = clouds(1, N + i, seed * 10 + i)[0]
            local = rng.integers(1, len(parts) + 1, N + i)
            write(folder / synset / "points" / f"{split}{i}.pts", pos)
            write(folder / synset / "points_label" / f"{split}{i}.seg", local)
            listed.append(f"shape_data/{synset}/{split}{i}")
            expected[split].append((pos, local + parts[0] - 1, category))
        write(folder / f"train_test_split/shuffled_{split}_file_list.json", json.dumps(listed))
    expected["trainval"] = expected["train"] + expected["val"]
    return expected


def ply(points, kind, numbers="float", extra=True):
    """A PLY file of points that also have a colour, followed by faces."""
    lines = ["ply", f"format {kind} 1.0", "comment made by hand", f"element vertex {len(points)}"]
    lines += ["property uchar red"] * extra + [f"property {numbers} {axis}" for axis in "xyz"]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header"]
    out = io.BytesIO()
    out.write("".join(f"{line}\n" for line in lines).encode())
    if kind == "ascii":
        rows = np.hstack([np.full((len(points), 1), 7.0), points]) if extra else points
        np.savetxt(out, rows, "%.17g")
        out.write(b"3 0 1 2\n")
    else:
        order = "<" if "little" in kind else ">"
        fields = [("red", "u1")] * extra
        fields += [(axis, f"{order}f{8 if numbers == 'double' else 4}") for axis in "xyz"]
        rows = np.zeros(len(points), fields)
        for i, axis in enumerate("xyz"):
            rows[axis] = points[:, i]
        out.write(rows.tobytes() + b"\3\0\0\0\0\1\0\0\0\2\0\0\0")
    return out.getvalue()


# The data sets with one label a cloud: how to write them, to read them, and one of their files.
KINDS = {
    "resampled": (write_resampled, ModelNetResampled, f"{RESAMPLED}/bed/bed_0009.txt"),
    "hdf5": (write_hdf5, ModelNetHDF5, f"{HDF5}/ply_data_test0.h5"),
    "scan": (
        write_scan,
        ScanObjectNN,
        "h5_files/main_split/test_objectdataset_augmentedrot_scale75.h5",
    ),
    "core": (write_core, ShapeNetCore, "shapenet_pc/04530566-f.npy"),
    "omni": (write_omni, OmniObject3D, "1024/anise/anise_003/pcd_1024.ply"),
}


class Case:
    """A data set of one kind in a folder of its own."""

    def __init__(self, kind, root):
        writer, self.cls, file = KINDS[kind]
        self.root, self.file = root, root / "raw" / file
        self.expected = writer(root / "raw")

    def read(self, split="train", num_points=None, strict=False, **kwargs):
        return self.cls(self.root, split=split, num_points=num_points, strict=strict, **kwargs)

    def cached(self):
        """The files of the cache."""
        folder = self.root / "processed"
        return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture(params=KINDS)
def case(request, tmp_path):
    return Case(request.param, tmp_path)


def check(dataset, expected):
    assert len(dataset) == len(expected)
    for data, (pos, label) in zip(dataset, expected, strict=True):
        assert type(data) is Data
        assert sorted(data.keys()) == ["pos", "y"]
        assert data.pos.dtype == torch.float32
        assert torch.equal(data.pos, torch.as_tensor(pos))
        assert torch.equal(data.y, torch.tensor([label]))


# What they have in common #########################################################################


@pytest.mark.parametrize("split", ["train", "test"])
def test_files_are_read_back_exactly(case, split):
    check(case.read(split), case.expected[split])
    assert case.cached() == sorted(["test.safetensors", "train.safetensors"])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("resampled", ["bed", "night_stand", "sofa"]),
        ("hdf5", ["airplane", "bathtub", "bed"]),
        ("omni", ["anise", "ball", "cup"]),
    ],
)
def test_class_names(kind, names, tmp_path):
    dataset = Case(kind, tmp_path).read("test")
    assert dataset.class_names == names
    assert dataset.num_classes == dataset[:1].num_classes == len(names)


def test_names_of_scanned_objects_and_of_synsets(tmp_path):
    scan, core = (Case(kind, tmp_path / kind).read() for kind in ("scan", "core"))
    assert scan.num_classes == 15
    assert (scan.class_names[0], scan.class_names[14]) == ("bag", "toilet")
    assert core.num_classes == len(set(core.class_names)) == 55
    assert list(core.synset_ids) == sorted(core.synset_ids)
    assert all(len(synset) == 8 and synset.isdigit() for synset in core.synset_ids)
    names = dict(zip(core.synset_ids, core.class_names, strict=True))
    for name, synset in ShapeNet.category_ids.items():  # PyG names some of them, too.
        assert names[synset] == name.lower()


def test_first_points(case):
    expected = [(pos[:7], label) for pos, label in case.expected["train"]]
    check(case.read(num_points=7, sampling="first"), expected)


def test_farthest_points(case):
    dataset = case.read(num_points=7, sampling="fps")
    pos = torch.from_numpy(np.stack([pos for pos, _ in case.expected["train"]]))
    expected = ops.gather_points(pos, ops.farthest_point_sample(pos, 7))
    assert torch.equal(torch.stack([data.pos for data in dataset]), expected)


def test_random_points(case, tmp_path):
    dataset = case.read(num_points=7, sampling="random")
    for data, (pos, _) in zip(dataset, case.expected["train"], strict=True):
        rows = [(pos == point.numpy()).all(axis=1).nonzero()[0].item() for point in data.pos]
        assert len(set(rows)) == 7
        assert rows != list(range(7))
    # Another cache, where other clouds came before, and another time: the same points.
    torch.manual_seed(123)
    again = case.read(num_points=7, sampling="random", force_reload=True)
    for a, b in zip(dataset, again, strict=True):
        assert torch.equal(a.pos, b.pos)


def test_defaults_are_those_of_the_literature(tmp_path, monkeypatch):
    found = {}

    def process(self):
        found[type(self).__name__] = (self.num_points, self.sampling, self.strict)
        raise InterruptedError

    monkeypatch.setattr(Benchmark, "process", process)
    monkeypatch.setattr(Benchmark, "download", lambda self: None)
    monkeypatch.setattr(OmniObject3D, "process", process)  # Which looks at the categories first.
    for cls in Benchmark.__subclasses__():
        with pytest.raises(InterruptedError):
            cls(tmp_path)
    assert found == {
        "ModelNetResampled": (1024, "first", True),
        "ModelNetMeshes": (1024, "first", True),
        "ModelNetHDF5": (1024, "first", True),
        "ScanObjectNN": (1024, "first", True),
        "ShapeNetCore": (1024, "random", True),
        "OmniObject3D": (1024, "first", True),
        "ShapeNetPart": (2048, "random", True),
    }


def test_every_reader_is_exported():
    for cls in Benchmark.__subclasses__():
        assert getattr(datasets, cls.__name__) is cls
        assert cls.__name__ in datasets.__all__


def test_more_points_than_there_are(case):
    with pytest.raises(ValueError, match=rf"'num_points' is 21, but '.*raw.*' has {N} points"):
        case.read(num_points=N + 1)
    assert case.cached() == []


def test_transforms(case):
    def pre_transform(data):
        data.pos = 2 * data.pos
        data.extra = torch.tensor([len(data.pos)])
        return data

    kept = case.expected["train"][0][1]
    dataset = case.read(
        transform=lambda data: (data.pos[0], data.y, data.extra),
        pre_transform=pre_transform,
        pre_filter=lambda data: data.y.item() in (kept, case.expected["test"][0][1]),
    )
    assert any(label == kept for _, label in case.expected["train"])
    expected = [
        (pos, label)
        for pos, label in case.expected["train"]
        if label in (kept, case.expected["test"][0][1])
    ]
    assert len(dataset) == len(expected)
    for (point, y, extra), (pos, label) in zip(dataset, expected, strict=True):
        assert torch.equal(point, 2 * torch.from_numpy(pos[0]))
        assert (y.tolist(), extra.tolist()) == ([label], [N])


def test_filter_that_keeps_nothing(case):
    with pytest.raises(ValueError, match="the files and 'pre_filter' leave no cloud for 'train'"):
        case.read(pre_filter=lambda data: False)
    assert case.cached() == []


def test_loader_and_subset(case):
    dataset = case.read("train", pre_transform=NormalizeSphere())
    (batch,) = DataLoader(dataset, batch_size=len(dataset))
    assert batch.pos.shape == (len(dataset) * N, 3)
    torch.testing.assert_close(batch.pos.norm(dim=1).max(), torch.tensor(1.0))
    assert batch.y.tolist() == [label for _, label in case.expected["train"]]
    assert torch.equal(dataset[[1, 0]][1].pos, dataset[0].pos)
    copied = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copied[1].pos, dataset[1].pos)
    assert copied.class_names == dataset.class_names


def test_bank(case):
    dataset = case.read(num_points=8)
    bank = PointCloudBank.from_dataset(dataset)
    assert bank.class_names == dataset.class_names
    assert bank.y.tolist() == [label for _, label in case.expected["train"]]
    assert torch.equal(bank.dense(), torch.stack([data.pos for data in dataset]))


def test_second_time_the_files_are_not_read(case, monkeypatch):
    case.read("train")
    monkeypatch.setattr(case.cls, "scan", None)
    check(case.read("test"), case.expected["test"])
    assert case.read("test").class_names == case.read("train").class_names


def test_caches_of_different_arguments_are_apart(case):
    first, all_ = case.read(num_points=3), case.read()
    assert case.read(num_points=3)[0].num_nodes == first[0].num_nodes == 3
    assert all_[0].num_nodes == N
    assert len(list((case.root / "processed").iterdir())) == 2


def test_root_by_string_with_home(case, monkeypatch):
    monkeypatch.setenv("HOME", str(case.root.parent))
    dataset = case.cls(f"~/{case.root.name}", num_points=5, strict=False)
    assert dataset[0].num_nodes == 5


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"split": "val"}, ValueError, r"'split' must be one of \('train', 'test'\), got 'val'"),
        ({"num_points": 0}, ValueError, "'num_points' must be at least 1, got 0"),
        ({"num_points": 2.5}, TypeError, "'num_points' must be an integer"),
        ({"sampling": "last"}, ValueError, "'sampling' must be one of .* got 'last'"),
    ],
)
def test_bad_arguments(case, kwargs, error, message):
    with pytest.raises(error, match=message):
        case.read(**kwargs)
    assert case.cached() == []


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_file(kind, tmp_path):
    case = Case(kind, tmp_path)
    whole = case.file.read_bytes()
    for share in (0, 0.02, 0.3, 0.7):
        case.file.write_bytes(whole[: int(share * len(whole))])
        # The text of fewer points is only known to be cut by the number that there should be.
        cut = rf"'{case.file}' (is damaged, .*|has \d+ points)"
        with pytest.raises(ValueError, match=cut) as caught:
            case.read("train", num_points=N)
        if isinstance(caught.value, DamagedFileError):
            assert case.cls.source in str(caught.value)
            assert str(case.root / "raw") in str(caught.value)
        assert case.cached() == []
    # Nothing is left that a good file would not overcome.
    case.file.write_bytes(whole)
    check(case.read("train"), case.expected["train"])
    check(case.read("test"), case.expected["test"])
    assert not [path for path in case.root.rglob("tmp*")]


def test_file_of_rubbish(case):
    case.file.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DamagedFileError, match=f"'{case.file}' is damaged, or not the file that"):
        case.read()
    assert case.cached() == []


def test_missing_file(case):
    case.file.unlink()
    # An object folder of OmniObject3D may be empty, but not without the cloud.
    write(case.file.parent / "other.txt", "")
    with pytest.raises(FileNotFoundError, match=f"'{case.file}'.*get it from") as caught:
        case.read()
    assert case.cls.source in str(caught.value)
    assert case.cached() == []


def test_failed_reload_keeps_the_cache(case):
    case.read()
    case.file.write_bytes(b"")
    with pytest.raises(DamagedFileError, match=f"'{case.file}' is damaged"):
        case.read(force_reload=True)
    check(case.read(), case.expected["train"])


def test_interrupted_process_leaves_nothing(case):
    def interrupted(data):
        if torch.equal(data.pos, torch.from_numpy(case.expected["test"][-1][0])):
            raise KeyboardInterrupt
        return data

    with pytest.raises(KeyboardInterrupt):
        case.read(pre_transform=interrupted)
    assert case.cached() == []
    check(case.read(), case.expected["train"])


@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_damaged_cache(case, share):
    case.read()
    (cache,) = (case.root / "processed").rglob("train.safetensors")
    cache.write_bytes(cache.read_bytes()[: int(share * cache.stat().st_size)])
    with pytest.raises(ValueError, match=f"'{cache}' is damaged: delete the folder"):
        case.read()
    check(case.read(force_reload=True), case.expected["train"])


@pytest.mark.parametrize("kind", ["resampled", "core"])
def test_any_bit_of_the_cache(kind, tmp_path):
    """A changed bit is named, or, in what the format pads, of no effect."""
    case = Case(kind, tmp_path)
    case.read()
    (cache,) = (tmp_path / "processed").rglob("train.safetensors")
    whole = cache.read_bytes()
    rng, refused = np.random.default_rng(0), []
    for place in rng.integers(0, len(whole), 150):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        cache.write_bytes(changed)
        try:
            check(case.read(), case.expected["train"])
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 140
    message = f"'{cache}' is damaged: delete the folder '{cache.parent}'"
    assert all(text.startswith(message) for text in refused)
    cache.write_bytes(whole)
    check(case.read(), case.expected["train"])


class Payload:
    """Runs a line of Python when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return exec, (f"import pathlib; pathlib.Path({str(self.mark)!r}).touch()",)


@pytest.mark.parametrize("name", ["train.pt", "pre_transform.pt", "pre_filter.pt"])
def test_what_lies_beside_the_cache_runs_no_code(name, tmp_path):
    case, mark = Case("core", tmp_path / "set"), tmp_path / "ran"
    case.read()
    (folder,) = (tmp_path / "set/processed").iterdir()
    torch.save(Payload(mark), folder / name)
    for reload in (False, True):
        check(case.read(force_reload=reload), case.expected["train"])
        assert not mark.exists()
    torch.load(folder / name, weights_only=False)
    assert mark.exists()  # The payload is one.


@pytest.mark.parametrize("legacy", [False, True])
def test_cache_runs_no_code(legacy, tmp_path):
    case, mark = Case("core", tmp_path / "set"), tmp_path / "ran"
    case.read()
    (file,) = (tmp_path / "set/processed").rglob("train.safetensors")
    items = ({"pos": Payload(mark)}, {}, Data)
    torch.save(items, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=f"'{file}' is damaged: delete the folder"):
        case.read()
    check(case.read(force_reload=True), case.expected["train"])
    assert not mark.exists()


def rewrite_cache(root, **change):
    """Changes tensors of the clouds, and entries of the header, of the cache of a split."""
    (cache,) = (root / "processed").rglob("train.safetensors")
    tensors, header = read_tensors(cache, "set of processed clouds", 1)
    for key, value in change.items():
        if isinstance(value, torch.Tensor):
            tensors[f"data/{key}"] = value
        else:
            header[key] = value
    tensors = {key: value.clone() for key, value in tensors.items()}
    header = {key: value for key, value in header.items() if key not in ("kind", "version")}
    write_tensors(cache, tensors, header, "set of processed clouds", 1)
    return cache


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.tensor([0, 1, 99])}, r"its 'y' must lie in 0..54, got 0..99"),
        ({"y": torch.tensor([0, -1, 2])}, r"its 'y' must lie in 0..54, got -1..2"),
        ({"pos": torch.full((3 * N, 3), torch.nan)}, "its 'pos' must be finite"),
        ({"pos": torch.full((3 * N, 3), torch.inf)}, "its 'pos' must be finite"),
        ({"class_names": {}}, "'class_names' must be a list of strings, got dict"),
        ({"class_names": 5}, "'class_names' must be a list of strings, got int"),
        ({"class_names": None}, "'class_names' must be a list of strings, got NoneType"),
        ({"class_names": "abc"}, "'class_names' must be a list of strings, got str"),
        ({"class_names": ["a", None]}, "'class_names' must be a list of strings, got None in it"),
        ({"class_names": ["a", "a"]}, "'class_names' must differ, got 'a' twice"),
    ],
)
def test_cache_of_other_values(change, message, tmp_path):
    """Even where the checksum fits."""
    case = Case("core", tmp_path)
    case.read()
    cache = rewrite_cache(tmp_path, **change)
    with pytest.raises(ValueError, match=rf"'{cache}' is damaged: .*\({message}"):
        case.read()
    check(case.read(force_reload=True), case.expected["train"])


def test_cache_of_another_transform_is_told(tmp_path):
    case = Case("core", tmp_path)
    case.read(pre_transform=NormalizeSphere())
    case.read(pre_transform=NormalizeSphere())
    with pytest.warns(UserWarning, match=r"'pre_transform' \({.*'NormalizeSphere'}\): pass"):
        case.read()
    with pytest.warns(UserWarning, match=r"another 'pre_filter' \(None\)"):
        case.read(pre_transform=NormalizeSphere(), pre_filter=bool)


def scaled_by(factor):
    return lambda data: Data(pos=factor * data.pos, y=data.y)


class Scaled:
    """No repr of its own, and a count that changes in use."""

    def __init__(self, factor):
        self.factor, self.calls = factor, 0

    def __call__(self, data):
        self.calls += 1
        return scaled_by(self.factor)(data)


@pytest.mark.parametrize("make", [scaled_by, Scaled])
def test_cache_of_a_transform_that_is_called_alike_is_told(make, tmp_path):
    case = Case("core", tmp_path)
    case.read(pre_transform=make(2))
    case.read(pre_transform=make(2))
    with pytest.warns(UserWarning, match="another 'pre_transform'"):
        case.read(pre_transform=make(3))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (None, "None"),
        (NormalizeSphere(), "NormalizeSphere()"),
        (scaled_by(2), "<function scaled_by.<locals>.<lambda>>"),
    ],
)
def test_cache_that_tells_its_transform_as_before(function, text, tmp_path):
    case = Case("core", tmp_path)
    case.read(pre_transform=function)
    rewrite_cache(tmp_path, pre_transform=text, pre_filter="None")
    case.read(pre_transform=function)


def test_transform_that_gives_no_number(tmp_path):
    def spoil(data):
        data.pos = data.pos / 0
        return data

    case = Case("core", tmp_path)
    with pytest.raises(ValueError, match="'pre_transform' must give finite 'pos'"):
        case.read(pre_transform=spoil)
    assert case.cached() == []


def test_any_path_under_any_locale(tmp_path):
    """Neither the cache nor what is read needs a file system that Python takes for UTF-8."""
    root = tmp_path / "Dätä 点"
    for name, writer in (("core", write_core), ("scan", write_scan), ("omni", write_omni)):
        writer(root / name / "raw")
    code = (
        "import os, sys; from torch_geometric_ddp import datasets as d\n"
        "assert sys.getfilesystemencoding() == 'ascii'\n"
        "root = os.fsdecode(sys.argv[1].encode('utf-8', 'surrogateescape'))\n"
        "for name, cls in (('core', d.ShapeNetCore), ('scan', d.ScanObjectNN), "
        "('omni', d.OmniObject3D)):\n"
        "    for _ in range(2):\n"
        "        print(len(cls(os.path.join(root, name), num_points=5, strict=False)))\n"
    )
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run(
        [sys.executable, "-c", code, os.fsencode(root)], env=environ, capture_output=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [b"3", b"3", b"4", b"4", b"6", b"6"]


def test_cache_that_was_replaced_in_part_is_none(case, monkeypatch):
    def twice(data):
        data.pos = 2 * data.pos
        return data

    def replace(old, new, real=os.replace):
        if Path(new).name == "test.safetensors":
            raise KeyboardInterrupt
        real(old, new)

    case.read()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            case.read(pre_transform=twice, force_reload=True)
    for split in ("train", "test"):
        check(case.read(split), case.expected[split])


def test_cache_needs_no_files(case, monkeypatch):
    monkeypatch.setattr(case.cls, "url", None)
    case.read()
    shutil.rmtree(case.root / "raw")
    check(case.read("test"), case.expected["test"])
    with pytest.raises(FileNotFoundError, match="is missing: get it from"):
        case.read("test", force_reload=True)


@pytest.mark.parametrize("kind", ["resampled", "core"])
def test_part_of_a_published_set(kind, tmp_path):
    case = Case(kind, tmp_path)
    message = (
        r"'.*train.txt' must have the \d+ clouds of the published split 'train', it has 3; "
        r"get it from .*; strict=False reads a part of the data set"
    )
    with pytest.raises(ValueError, match=message):
        case.read(strict=True)
    assert case.cached() == []


@pytest.mark.parametrize("kind", KINDS)
def test_published_number(kind, tmp_path, monkeypatch):
    case = Case(kind, tmp_path)
    sizes = {split: len(pairs) for split, pairs in case.expected.items()}
    monkeypatch.setattr(case.cls, "published_sizes", {"train": sizes["train"], "test": 99})
    monkeypatch.setattr(omni_object3d, "_NUM_CATEGORIES", 3)
    monkeypatch.setattr(f"{case.cls.__module__}.scan_files", scan_any_size, raising=False)
    monkeypatch.setattr(f"{case.cls.__module__}.count_clouds", count_any_size, raising=False)
    with pytest.raises(ValueError, match=r"must have the 99 clouds of .* 'test', it"):
        case.read(strict=True)
    monkeypatch.setattr(case.cls, "published_sizes", sizes)
    check(case.read(strict=True), case.expected["train"])
    check(case.read(strict=False), case.expected["train"])
    assert len(list((case.root / "processed").iterdir())) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_number_of_points(kind, tmp_path, monkeypatch):
    case = Case(kind, tmp_path)
    monkeypatch.setattr(case.cls, "published_sizes", {})
    monkeypatch.setattr(omni_object3d, "_NUM_CATEGORIES", 3)
    with pytest.raises(DamagedFileError, match=rf"(it|clouds) ha(s|ve) {N} points instead of"):
        case.read(strict=True)


def scan_any_size(where, files, read, size):
    from torch_geometric_ddp.datasets._scan import scan_files

    return scan_files(where, files, read, None)


def count_any_size(path, num_classes, size):
    from torch_geometric_ddp.datasets._h5 import count_clouds

    return count_clouds(path, num_classes, None)


# Text and lists ###################################################################################


def test_resampled_modelnet40(tmp_path):
    write_resampled(tmp_path / "raw")
    with pytest.raises(
        FileNotFoundError, match=r"modelnet40_shape_names.txt' is missing: .* delete"
    ):
        ModelNetResampled(tmp_path, "40")
    with pytest.raises(ValueError, match="'name' must be '10' or '40', got 40"):
        ModelNetResampled(tmp_path, 40)


def test_class_without_a_name(tmp_path):
    case = Case("resampled", tmp_path)
    write(tmp_path / "raw" / RESAMPLED / "modelnet10_shape_names.txt", "bed\nsofa\n")
    with pytest.raises(DamagedFileError, match=r"_train.txt' is .* it lists 'night_stand_0003'"):
        case.read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ("1,2,3\n", "it has 3 columns instead of 6"),
        ("1,2,3,4,5,6\n1,2,3\n", "columns changed"),
        ("1,2,x,4,5,6\n", "could not convert string 'x'"),
        ("1,2,nan,4,5,6\n", "NaN or infinite"),
        ("1,2,1e99,4,5,6\n", "NaN or infinite"),
        ("1 2 3 4 5 6\n", "could not convert string"),
        ("\n\n", "it is empty"),
    ],
)
def test_damaged_text(content, message, tmp_path):
    case = Case("resampled", tmp_path)
    write(case.file, content)
    with pytest.raises(DamagedFileError, match=f"'{case.file}' is damaged.*{message}"):
        case.read()


@pytest.mark.parametrize("kind", ["resampled", "hdf5", "core"])
def test_damaged_list(kind, tmp_path):
    case = Case(kind, tmp_path)
    path = next((tmp_path / "raw").rglob("*train*.txt"))
    for content, message in ((b"\n \n", "it is empty"), (b"\xff\xfe", "can't decode")):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=f"'{path}' is damaged.*{message}"):
            case.read()


def test_list_of_more_files_than_there_are(tmp_path):
    case = Case("core", tmp_path)
    path = tmp_path / "raw/ShapeNet-55/test.txt"
    write(path, path.read_text() + "04554684-x.npy\n04554684-y.npy\n")
    message = (
        rf"no file '.*-x.npy' \(2 of the 4 that '{path}' stands for are missing\); get it from"
    )
    with pytest.raises(FileNotFoundError, match=message):
        case.read()


def test_unknown_synset(tmp_path):
    case = Case("core", tmp_path)
    write(tmp_path / "raw/ShapeNet-55/test.txt", "12345678-x.npy\n")
    with pytest.raises(DamagedFileError, match=r"'12345678-x.npy', which is of none of the 55"):
        case.read()


# HDF5 #############################################################################################


@pytest.mark.parametrize("variant", ["OBJ_BG", "OBJ_ONLY", "PB_T50_RS"])
def test_variants_of_scan_object_nn(variant, tmp_path):
    folder = tmp_path / "raw/h5_files"
    folder /= "main_split_nobg" if variant == "OBJ_ONLY" else "main_split"
    name = "objectdataset" + "_augmentedrot_scale75" * (variant == "PB_T50_RS")
    with pytest.raises(FileNotFoundError, match=f"'{folder}/training_{name}.h5' is missing: get"):
        ScanObjectNN(tmp_path, variant)
    for split, seed in (("training", 0), ("test", 1)):
        write_h5(folder / f"{split}_{name}.h5", clouds(2, seed=seed), np.array([1, 2]))
    dataset = ScanObjectNN(tmp_path, variant, "test", N, strict=False)
    check(dataset, list(zip(clouds(2, seed=1), [1, 2], strict=True)))


def test_unknown_variant(tmp_path):
    with pytest.raises(ValueError, match=r"'variant' must be one of .*'PB_T50_RS'\), got 'PB'"):
        ScanObjectNN(tmp_path, "PB")


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (clouds(3)[0], [0, 1, 2], r"its 'data' has shape \[20, 3\], not \[n, N, 3\]"),
        (clouds(3)[..., :2], [0, 1, 2], r"its 'data' has shape \[3, 20, 2\]"),
        (clouds(3), [0, 1], "it has 2 labels for 3 clouds"),
        (clouds(3), [0, 1, 15], r"its labels must lie in 0..14, got 0..15"),
        (clouds(3), [0, -1, 2], r"its labels must lie in 0..14, got -1..2"),
        (clouds(3), [0, 1.5, 2], r"its labels \(type float64\) are no whole numbers"),
        (clouds(3), [b"a", b"b", b"c"], r"its labels .* are no whole numbers"),
        (clouds(3) * np.nan, [0, 1, 2], "NaN or infinite"),
        (np.ones((3, N, 3), int), [0, 1, 2], "its points have type int64"),
        (clouds(3)[:, :0], [0, 1, 2], "its points have shape"),
    ],
)
def test_damaged_arrays(points, labels, message, tmp_path):
    case = Case("scan", tmp_path)
    case.file.unlink()
    write_h5(case.file, points, np.array(labels))
    with pytest.raises(DamagedFileError, match=f"'{case.file}' is damaged.*{message}"):
        case.read()


def test_hdf5_without_an_array(tmp_path):
    case = Case("scan", tmp_path)
    with h5py.File(case.file, "w") as file:
        file.create_group("data")
        file["label"] = [1]
    with pytest.raises(DamagedFileError, match=r"it has no array 'data', only \['data', 'label'\]"):
        case.read()


@pytest.mark.parametrize("key", ["data", "label"])
def test_hdf5_with_an_array_that_was_never_written(key, tmp_path):
    case = Case("scan", tmp_path)
    with h5py.File(case.file, "r+") as file:
        del file[key]
        file[key] = h5py.Empty("f4")
    with pytest.raises(DamagedFileError, match=f"'{case.file}' is damaged"):
        case.read()


def test_whole_labels_of_any_type(tmp_path):
    case = Case("scan", tmp_path)
    case.file.unlink()
    write_h5(case.file, clouds(2).astype(np.float64), np.array([[3.0], [14.0]]))
    check(case.read("test"), list(zip(clouds(2), [3, 14], strict=True)))


def test_more_clouds_than_are_read_at_once(tmp_path):
    case = Case("scan", tmp_path)
    case.file.unlink()
    pos, y = clouds(300, size=4), np.arange(300) % 15
    write_h5(case.file, pos, y)
    check(case.read("test"), list(zip(pos, y, strict=True)))


@pytest.mark.parametrize("kind", ["hdf5", "scan"])
def test_without_h5py(kind, tmp_path, monkeypatch):
    case = Case(kind, tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        with pytest.raises(ImportError, match=r"needs h5py, the extra 'h5'.*_ddp\[h5\]'"):
            case.read()
        assert case.cached() == []
    case.read()
    monkeypatch.setitem(sys.modules, "h5py", None)  # What is processed does not need it.
    check(case.read(), case.expected["train"])


# Arrays and PLY ###################################################################################


@pytest.mark.parametrize("kind", ["core", "omni"])
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (clouds(1), r"its points have shape \[1, 20, 3\], not \[N, 3\]"),
        (clouds(1)[0][:0], r"its points have shape \[0, 3\]"),
        (clouds(1)[0].astype(int), "its points have type int64, not floating point"),
        (np.array([[None] * 3]), "allow_pickle"),
    ],
)
def test_damaged_npy(kind, array, message, tmp_path):
    case = Case(kind, tmp_path)
    path = case.file.with_suffix(".npy")
    write(path, array)
    with pytest.raises(DamagedFileError, match=f"'{path}' is damaged.*{message}"):
        case.read()


def test_one_byte_of_an_array_changed_anywhere(tmp_path):
    write(tmp_path / "a" / "a.npy", clouds(1, size=2)[0])
    path = tmp_path / "a" / "a.npy"
    content = bytearray(path.read_bytes())
    for i in range(len(content)):
        content[i] ^= 0xFF
        path.write_bytes(content)
        content[i] ^= 0xFF
        try:
            found = PointCloudArrays.from_folder(tmp_path)
        except DamagedFileError:  # Whatever is wrong, this is what is raised.
            continue
        assert found[0].pos.shape[1] == 3  # The numbers themselves have no checksum.


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("numbers", ["float", "double"])
@pytest.mark.parametrize("extra", [False, True])
def test_ply(kind, numbers, extra, tmp_path):
    points = clouds(1)[0]
    (tmp_path / "a.ply").write_bytes(ply(points, kind, numbers, extra))
    found = read_ply(tmp_path / "a.ply")
    assert found.dtype.kind == "f"
    np.testing.assert_array_equal(found, points)


def test_ply_with_a_comment_in_any_language(tmp_path):
    content = ply(clouds(1)[0], "ascii").replace(b"comment", "comment größer".encode(), 1)
    assert "größer".encode() in content
    (tmp_path / "a.ply").write_bytes(content)
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply"), clouds(1)[0])
    (tmp_path / "a.ply").write_bytes(content.decode().encode("latin-1"))
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply"), clouds(1)[0])


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_ply_whose_vertices_come_last(kind, tmp_path):
    """After lists of several lengths, and with a line of the header in any other order."""
    header = (
        f"\ufeffply\r\ncomment first\r\nformat {kind} 1.0\r\nelement face 2\r\n"
        "property list uchar int vertex_indices\r\nelement vertex 3\r\nproperty double x\r\n"
        "property double y\r\nproperty double z\r\nelement edge 9\r\nproperty int a\r\n"
        "end_header\r\n"
    )
    points, lists = clouds(1, 3)[0].astype("<f8") / 3, ([0, 1, 2], [2, 1, 0, 1])
    if kind == "ascii":
        rows = [" ".join(map(str, [len(row), *row])) for row in lists]
        rows += [" ".join(repr(float(x)) for x in point) for point in points]
        content = "\n".join(rows).encode()
    else:
        content = b"".join(bytes([len(row)]) + np.array(row, "<i4").tobytes() for row in lists)
        content += points.tobytes()
    (tmp_path / "a.ply").write_bytes(header.encode() + content)
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply"), points)


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_half_a_ply(kind, tmp_path):
    path, content = tmp_path / "a.ply", ply(clouds(1)[0], kind, extra=False)
    end = content.index(b"end_header\n") + 11
    vertices = content[end:].index(b"3 0 1 2\n") if kind == "ascii" else 12 * N
    # Within its last number a text may end.
    last = content.rindex(b" ", 0, end + vertices) if kind == "ascii" else end + vertices
    cuts = [*range(0, end, 3), *range(end, last, 7), last - 1]
    for cut in cuts:
        path.write_bytes(content[:cut])
        with pytest.raises(DamagedFileError, match=f"'{path}' is damaged"):
            read_ply(path)
    path.write_bytes(content[: end + vertices])  # The faces are of no concern.
    assert read_ply(path).shape == (N, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ply\n", b"play\n", "expected 'ply'"),
        (b"ascii", b"utf-8", "don't understand format 'utf-8'"),
        (b"element vertex", b"element edge", "its header has no end, or no vertices"),
        (b"float z", b"float w", r"its vertices have no \['z'\]"),
        (b"float z", b"float x", "two properties with same name"),
        (b"float z", b"half z", "field type 'half' not in"),
        (b"float z", b"list uchar float z", "property 'z': malformed input"),
        (b"vertex 20", b"vertex 21", "row 20: expected end-of-line"),
        (b"vertex 20", b"vertex many", "expected integer count"),
        (b"vertex 20", b"vertex 30", "row 20: expected end-of-line"),
        (b"vertex 20", b"vertex -20", "negative dimensions"),
        (b"end_header\n", b"", "its header has no end"),
        (b"format ascii 1.0\n", b"", "line 2: expected one of {format"),
    ],
)
def test_damaged_ply(old, new, message, tmp_path):
    case = Case("omni", tmp_path)
    content = ply(clouds(1)[0], "ascii", extra=False)
    assert old in content
    case.file.write_bytes(content.replace(old, new))
    with pytest.raises(DamagedFileError, match=f"'{case.file}' is damaged.*({message})"):
        case.read()


# OmniObject3D #####################################################################################


def test_rule_of_the_split():
    names = [f"cup_{i:03}" for i in range(40)]
    split = split_category("cup", names, 0.2, 0)
    assert (len(split["train"]), len(split["test"])) == (32, 8)
    assert sorted(split["train"] + split["test"]) == names
    # Published: these must never change.
    assert split["test"] == [f"cup_{i:03}" for i in (0, 1, 10, 11, 27, 30, 33, 39)]
    assert split_category("cup", names[::-1], 0.2, 0) == split
    assert split_category("cup", names, 0.2, 1) != split
    assert split_category("mug", names, 0.2, 0) != split
    # A larger test set holds the smaller one.
    assert set(split["test"]) < set(split_category("cup", names, 0.5, 0)["test"])


@pytest.mark.parametrize(
    ("num", "share", "num_test"), [(1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (10, 0.25, 2)]
)
def test_size_of_the_split(num, share, num_test):
    split = split_category("a", [str(i) for i in range(num)], share, 0)
    assert (len(split["train"]), len(split["test"])) == (num - num_test, num_test)


def test_arguments_of_omni_object3d(tmp_path):
    write_omni(tmp_path / "raw")
    shutil.copytree(tmp_path / "raw/1024", tmp_path / "raw/4096")
    for file in (tmp_path / "raw/4096").rglob("pcd_*"):
        file.rename(file.with_stem("pcd_4096"))
    one = OmniObject3D(tmp_path, "test", 5, strict=False, resolution=4096)
    two = OmniObject3D(tmp_path, "test", 5, strict=False, test_share=0.6)
    assert (len(one), len(two)) == (2, 4)
    assert len(list((tmp_path / "processed").iterdir())) == 2
    for kwargs in ({"resolution": 0}, {"test_share": 0.0}, {"test_share": 1.0}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"'{next(iter(kwargs))}' must (be|lie)"):
            OmniObject3D(tmp_path, **kwargs)


def test_omni_object3d_without_objects(tmp_path, monkeypatch):
    case = Case("omni", tmp_path)
    monkeypatch.setattr(omni_object3d, "_NUM_CATEGORIES", 4)
    monkeypatch.setattr(omni_object3d, "scan_files", scan_any_size)
    folder = tmp_path / "raw/1024/dish"
    write(folder / "dish_000" / ".DS_Store", "")
    with pytest.raises(DamagedFileError, match=f"'{folder}' is damaged.*it has no objects"):
        case.read(strict=True)
    check(case.read(), case.expected["train"])
    assert case.read().class_names == ["anise", "ball", "cup", "dish"]
    shutil.rmtree(tmp_path / "processed")
    shutil.rmtree(tmp_path / "raw/1024")
    (tmp_path / "raw/1024").mkdir()
    with pytest.raises(DamagedFileError, match="it has no folders of categories"):
        OmniObject3D(tmp_path)
    (tmp_path / "raw/1024").rmdir()
    write(tmp_path / "raw/1024", "")
    with pytest.raises(DamagedFileError, match=r"raw/1024' is damaged.* it is no folder"):
        OmniObject3D(tmp_path)
    (tmp_path / "raw/1024").unlink()
    (tmp_path / "raw/1024").mkdir()
    shutil.rmtree(tmp_path / "raw/1024")
    message = "raw/1024' is missing: get it from https://opendatalab.com.*<category>/<object>/pcd_"
    with pytest.raises(FileNotFoundError, match=message):
        OmniObject3D(tmp_path)


def test_category_that_comes_later_does_not_change_the_cache(tmp_path):
    case = Case("omni", tmp_path)
    names = case.read().class_names
    shutil.copytree(tmp_path / "raw/1024/ball", tmp_path / "raw/1024/aaa")
    check(case.read(), case.expected["train"])
    assert case.read().class_names == names


def test_half_of_omni_object3d(tmp_path, monkeypatch):
    case = Case("omni", tmp_path)
    monkeypatch.setattr(omni_object3d, "scan_files", scan_any_size)
    with pytest.warns(UserWarning, match="1024' has 3 of the 216 categories of OmniObject3D"):
        check(case.read(strict=True), case.expected["train"])
    shutil.copytree(tmp_path / "raw/1024/ball", tmp_path / "raw/1024/aaa")
    with pytest.raises(ValueError, match=r"must have the 3 categories that were read, \['aaa'\]"):
        case.read(strict=True)
    monkeypatch.setattr(omni_object3d, "_NUM_CATEGORIES", 4)
    assert case.read(strict=True, force_reload=True).num_classes == 4


# ShapeNetPart #####################################################################################


def part(root, split="train", num_points=None, **kwargs):
    return ShapeNetPart(root, split=split, num_points=num_points, strict=False, **kwargs)


@pytest.mark.parametrize("split", ["train", "val", "trainval", "test"])
def test_parts(split, tmp_path):
    expected = write_part(tmp_path / "raw")[split]
    dataset = part(tmp_path, split)
    assert len(dataset) == len(expected)
    for data, (pos, y, category) in zip(dataset, expected, strict=True):
        assert sorted(data.keys()) == ["category", "pos", "y"]
        assert torch.equal(data.pos, torch.from_numpy(pos))
        assert torch.equal(data.y, torch.from_numpy(y))
        assert data.category.tolist() == [dataset.class_names.index(category)]
    assert dataset.num_classes == len(dataset.part_names) == 50
    assert dataset.class_names == list(dataset.category_ids)
    assert [dataset.part_names[i] for i in dataset.category_parts["Bag"]] == ["Bag/1", "Bag/2"]


@pytest.mark.parametrize("categories", [None, ["Mug", "Airplane"], "Chair"])
def test_same_as_the_data_set_of_pyg(categories, tmp_path):
    write_part(tmp_path / "ours/raw")
    folder, theirs = tmp_path / "ours/raw" / PART, tmp_path / "theirs/raw"
    for synset in ShapeNet.category_ids.values():
        (theirs / synset).mkdir(parents=True)
    shutil.copytree(folder / "train_test_split", theirs / "train_test_split")
    first = {s: ShapeNet.seg_classes[name][0] for name, s in ShapeNet.category_ids.items()}
    for path in folder.glob("*/points/*.pts"):
        synset, pos = path.parts[-3], np.loadtxt(path)
        local = np.loadtxt(path.parent.parent / "points_label" / f"{path.stem}.seg")
        rows = np.hstack([pos, pos, local[:, None] - 1 + first[synset]])
        np.savetxt(theirs / synset / f"{path.stem}.txt", rows, "%.9g")
    a = part(tmp_path / "ours", "trainval", categories=categories)
    b = ShapeNet(str(tmp_path / "theirs"), categories, include_normals=False, split="trainval")
    assert len(a) == len(b) > 0
    for one, two in zip(a, b, strict=True):
        assert sorted(one.keys()) == sorted(two.keys())
        for key in one.keys():  # noqa: SIM118
            assert one[key].dtype == two[key].dtype
            assert torch.equal(one[key], two[key])
    assert torch.equal(a.y_mask, b.y_mask)
    assert a.num_classes == b.num_classes
    check_labelled(a)  # And so are those of PyG labelled as segmentation reads them.
    assert (a.categories, a.seg_classes) == (b.categories, b.seg_classes)
    assert PartSpace.of(b) == PartSpace.of(a)  # So that PyG's set goes wherever ours goes.
    if categories is None:
        result = evaluate(b, b, TinySegmenter, SMOKE, seeds=1, progress=False, task="segmentation")
        assert result.scores.per_category.shape == (1, 16)


def test_items_of_pyg_lie_in_the_space_of_all_categories(tmp_path):
    """The numbers of PyG's data set, whose items are made by hand as it processes them."""
    write_part(tmp_path / "raw")
    space = PartSpace.of(part(tmp_path))
    assert space.category_parts == tuple(map(tuple, ShapeNet.seg_classes.values()))
    mask, pos = space.mask(), torch.rand(N, 3)
    for category, name in enumerate(ShapeNet.category_ids):
        y = torch.tensor(ShapeNet.seg_classes[name]).repeat(N)[:N]
        data = Data(x=pos, pos=pos, y=y, category=torch.tensor([category]))
        (batch,) = DataLoader([data, data], batch_size=2)
        assert mask[batch.category[batch.batch], batch.y].all()


def test_space_of_some_categories(tmp_path):
    """Parts keep their global numbers, as in PyG; those of no chosen category have no owner."""
    write_part(tmp_path / "raw")
    dataset = part(tmp_path, categories=["Mug", "Airplane"])
    space = PartSpace.of(dataset)
    assert space.category_parts == ((36, 37), (0, 1, 2, 3))
    assert (space.num_parts, len(dataset)) == (50, 2)
    assert [space.part_names[i] for i in space.category_parts[0]] == ["Mug/1", "Mug/2"]
    mask = space.mask()
    assert torch.equal(mask, dataset.y_mask[[11, 0]])
    for data in dataset:
        assert mask[data.category, data.y].all()
    check_labelled(dataset)
    check_labelled(part(tmp_path, categories=["Mug", "Airplane"], num_points=2 * N))


@pytest.mark.parametrize("sampling", ["first", "random", "fps"])
@pytest.mark.parametrize("num_points", [6, 2 * N + 5])
def test_labels_follow_the_points(sampling, num_points, tmp_path):
    expected = write_part(tmp_path / "raw")["train"]
    dataset = part(tmp_path, num_points=num_points, sampling=sampling)
    for data, (pos, y, _) in zip(dataset, expected, strict=True):
        assert data.pos.shape == (num_points, 3)
        assert data.y.shape == (num_points,)
        rows = [(pos == point.numpy()).all(axis=1).nonzero()[0].item() for point in data.pos]
        assert data.y.tolist() == y[rows].tolist()
        # All points come once before one comes twice.
        counts = np.bincount(rows, minlength=len(pos))
        assert counts.max() - counts.min() <= 1
    (batch,) = DataLoader(dataset, batch_size=3)
    assert batch.y.shape == (3 * num_points,)
    assert batch.category.shape == (3,)


def test_bank_of_categories(tmp_path):
    write_part(tmp_path / "raw")

    def by_category(data):
        return Data(pos=data.pos, y=data.category)

    bank = PointCloudBank.from_dataset(part(tmp_path, num_points=8, transform=by_category))
    assert bank.y.tolist() == [11, 0, 4]
    assert bank.class_names[4] == "Chair"


@pytest.mark.parametrize("categories", ["Cat", [], ["Mug", "Mug"], ["Mug", "Cat"]])
def test_bad_categories(categories, tmp_path):
    with pytest.raises(
        ValueError, match=r"'categories' must be different names among \['Airplane'"
    ):
        part(tmp_path, categories=categories)


def test_part_set_is_fetched_by_hand(tmp_path):
    message = r"synsetoffset2category.txt' is missing: get it from https://shapenet.*/raw'"
    with pytest.raises(FileNotFoundError, match=message):
        ShapeNetPart(tmp_path)
    write_part(tmp_path / "raw")
    with pytest.raises(ValueError, match="must have the 12137 clouds of the published split"):
        ShapeNetPart(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("{mug}/points/train0.pts", "1 2\n3 4\n", "it has 2 columns instead of 3"),
        ("{mug}/points/train0.pts", "1 2 3\n", "it has 20 labels for 1 points"),
        ("{mug}/points_label/train0.seg", "1\n2\n", "it has 2 labels for 20 points"),
        ("{mug}/points_label/train0.seg", "1\n" * 19 + "3\n", "must lie in 1..2, got 1..3"),
        ("{mug}/points_label/train0.seg", "1\n" * 19 + "0\n", "must lie in 1..2, got 0..1"),
        ("{mug}/points_label/train0.seg", "1\n" * 19 + "x\n", "could not convert"),
        ("train_test_split/shuffled_val_file_list.json", "[", "Expecting value"),
        ("train_test_split/shuffled_val_file_list.json", "{}", "it must list 'shape_data/"),
        ("train_test_split/shuffled_val_file_list.json", '["a/b"]', "it must list 'shape_data/"),
        ("synsetoffset2category.txt", "Airplane\t02691156\n", "no line 'Bag\t02773838'"),
    ],
)
def test_damaged_parts(file, content, message, tmp_path):
    write_part(tmp_path / "raw")
    path = tmp_path / "raw" / PART / file.format(mug="03797390")
    good = path.read_text()
    path.write_text(content)
    with pytest.raises(DamagedFileError, match=f"is damaged.*{message}.*get it from"):
        part(tmp_path)
    assert not list((tmp_path / "processed").rglob("*.safetensors"))
    path.write_text(good)
    assert len(part(tmp_path)) == 3


@pytest.mark.parametrize("name", ["points/train0.pts", "points_label/train0.seg"])
def test_missing_part_file(name, tmp_path):
    write_part(tmp_path / "raw")
    path = tmp_path / "raw" / PART / "03797390" / name
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"no file '{path}' \(1 of the 3 that"):
        part(tmp_path)


@pytest.fixture
def genuine(data_dir, tmp_path):
    """The genuine sample in the folders of the reader, one shape of every category."""
    source = data_dir / "shapenetpart_sample"
    if not source.is_dir():
        pytest.skip(f"no {source.name} in the folder of the real data")
    folder = tmp_path / "raw" / PART
    shutil.copytree(source, folder)
    lists = folder / "train_test_split"
    names = json.loads((lists / "shuffled_train_file_list.json").read_text())
    for split in ("val", "test"):  # The sample has the one list only.
        write(lists / f"shuffled_{split}_file_list.json", json.dumps(names))
    return folder, names


def test_genuine_parts(genuine, tmp_path):
    folder, names = genuine
    dataset = part(tmp_path)
    assert len(dataset) == len(names) == 16
    for data, name in zip(dataset, names, strict=True):
        _, synset, model = name.split("/")
        category = dataset.class_names[data.category.item()]
        assert dataset.category_ids[category] == synset
        pos = np.loadtxt(folder / synset / "points" / f"{model}.pts", np.float32)
        local = np.loadtxt(folder / synset / "points_label" / f"{model}.seg", np.int64)
        assert torch.equal(data.pos, torch.from_numpy(pos))
        assert (data.y.numpy() - dataset.category_parts[category][0] == local - 1).all()
        assert set(data.y.tolist()) <= set(dataset.category_parts[category])
    check_labelled(dataset)
    seen = torch.zeros(16, 50, dtype=torch.bool)
    for data in dataset:
        seen[data.category, data.y] = True
    assert not (seen & ~PartSpace.of(dataset).mask()).any()
    assert seen.any(dim=1).all()
    assert part(tmp_path, num_points=1024)[3].pos.shape == (1024, 3)
    chosen = part(tmp_path, categories=["Table", "Bag", "Earphone"])
    check_labelled(chosen)
    assert sorted(data.category.item() for data in chosen) == [0, 1, 2]


def test_genuine_parts_are_distilled_and_segmented(genuine, tmp_path):
    """What the reader gives goes through a step, a training and an evaluation."""
    clouds = part(tmp_path, num_points=256)
    method = ddp(num_morphs=2)
    synthetic = distill(clouds, method=method, steps=1, task="segmentation", network=TinySegmenter)
    assert len(synthetic) == 16 * 6
    space = PartSpace.of(clouds)
    assert PartSpace.of(synthetic) == space
    # The categories have 2 to 6 of the 50 parts, a run each, beside the room of a cloud.
    assert synthetic.storage_bits <= 16 * 96 * 256 + 50 * 32
    for data in synthetic:
        assert set(data.y.tolist()) <= set(space.category_parts[data.category.item()])
    result = evaluate(
        synthetic, clouds, TinySegmenter, SMOKE, seeds=1, progress=False, task="segmentation"
    )
    assert result.scores.per_category.shape == (1, 16)
    assert 0 < result.mean < 1


# Meshes ###########################################################################################

MESHES = {"bathtub": (2, 1), "night_stand": (1, 2)}


def off(seed, broken_header=False, scale=1.0):
    """A square of two triangles, in a plane of its own."""
    corners = scale * np.array([[0, 0, seed], [1, 0, seed], [0, 1, seed], [1, 1, seed]])
    faces = ["3 0 1 2", "3 1 2 3"]
    head = ["OFF4 2 0"] if broken_header else ["OFF", "4 2 0"]
    return "\n".join([*head, *(" ".join(map(str, row)) for row in corners), *faces, ""])


def write_meshes(folder):
    height = 0
    for name, sizes in MESHES.items():
        for split, size in zip(("train", "test"), sizes, strict=True):
            for i in range(size):
                height += 1
                path = folder / name / split / f"{name}_{height:04}.off"
                write(path, off(height, broken_header=i == 0))
    write(folder / "README.txt", "not a class")
    write(folder / "bathtub/train/.DS_Store", "")


def meshes(root, split="train", num_points=50, strict=False, **kwargs):
    return ModelNetMeshes(root, "10", split, num_points, strict=strict, **kwargs)


@pytest.mark.parametrize("folder", ["raw/ModelNet10", "raw"])
def test_points_of_meshes(folder, tmp_path):
    write_meshes(tmp_path / folder)
    train, test = (meshes(tmp_path, split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ["bathtub", "night_stand"]
    for dataset, labels, heights in ((train, [0, 0, 1], [1, 2, 4]), (test, [0, 1, 1], [3, 5, 6])):
        assert [int(data.y) for data in dataset] == labels
        for data, height in zip(dataset, heights, strict=True):
            assert sorted(data.keys()) == ["pos", "y"]
            assert data.pos.shape == (50, 3)
            assert (data.pos[:, 2] == height).all()
            assert float(data.pos[:, :2].min()) >= 0
            assert float(data.pos[:, :2].max()) <= 1
            # On both triangles.
            assert set((data.pos[:, :2].sum(dim=1) > 1).tolist()) == {False, True}
    assert not torch.equal(train[0].pos[:, :2], train[1].pos[:, :2])


def test_points_of_meshes_do_not_depend_on_the_generator_nor_change_it(tmp_path):
    write_meshes(tmp_path / "raw/ModelNet10")
    first = meshes(tmp_path)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    second = meshes(tmp_path, force_reload=True)
    assert torch.equal(torch.rand(3), expected)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.pos, b.pos)
    assert meshes(tmp_path, num_points=20)[0].num_nodes == 20
    assert meshes(tmp_path)[0].num_nodes == 50


def test_meshes_are_those_of_pyg(tmp_path):
    for height, name in enumerate(ModelNet.raw_file_names.fget(None)):
        for split in ("train", "test"):
            write(tmp_path / "raw" / name / split / f"{name}_0001.off", off(height))
    theirs = ModelNet(str(tmp_path), "10", pre_transform=SamplePoints(50))
    ours = meshes(tmp_path)
    assert ours.num_classes == theirs.num_classes == len(ours) == len(theirs) == 10
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.y, b.y)
        assert torch.equal(a.pos[:, 2], b.pos[:, 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it does not begin with 'OFF'"),
        ("OFF", "it does not say how many vertices and faces it has"),
        (off(1)[:40], r"it has \(3, 0\) of its \(4, 2\) vertices and faces"),
        (off(1).rpartition("3 1")[0], r"it has \(4, 1\) of its \(4, 2\) vertices and faces"),
        (off(1).replace("3 1 2 3", "3 1 2 9"), "face index outside|faces must name"),
        (off(1).replace("3 1 2 3", "3 1 2 -1"), "face index outside|faces must name"),
        (off(1).replace("3 1 2 3", "4 1 2 3"), "a face has 3 of its 4 corners"),
        ("OFF BINARY\n4 2 0\n", "invalid literal"),
        ("4OFF\n4 2 0\n", "it does not begin with 'OFF'"),
        (off(1).replace("4 2 0", "4 0 0"), "it has no face"),
        (off(1).replace("4 2 0", "-4 2 0"), "it does not say how many"),
        (off(1).replace("1.0 1.0", "nan 1.0"), "NaN or infinite"),
        (off(1, scale=0.0), "its triangles have no area"),
        ("\x00\x01", ""),
    ],
)
def test_damaged_mesh(content, message, tmp_path):
    write_meshes(tmp_path / "raw/ModelNet10")
    file = tmp_path / "raw/ModelNet10/night_stand/test/night_stand_0005.off"
    write(file, content)
    with pytest.raises(DamagedFileError, match=f"'{file}' is damaged.*({message}).*get it from"):
        meshes(tmp_path)
    assert not list((tmp_path / "processed").rglob("*.safetensors"))


SQUARE = [[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]]
ROWS = "0 0 0\n2 0 0\n2 2 0\n0 2 0\n"


@pytest.mark.parametrize(
    "content",
    [
        f"OFF\n4 1 0\n{ROWS}4 0 1 2 3\n",
        f"\ufeffOFF\n4 1 0\n{ROWS}4 0 1 2 3\n",
        f"OFF\n\n# größer\n4 1 0\n\n{ROWS}\n# faces\n4 0 1 2 3\n",
        f"OFF 4 1 0\r\n{ROWS}4 0 1 2 3".replace("\n", "\r\n"),
        f"off\n4 1\n{ROWS}4 0 1 2 3 255 0 0\n",
        "COFF\n4 1 0\n" + ROWS.replace("\n", " 255 0 0 255\n") + "4 0 1 2 3\n",
        "OFF\n4 1 0\n" + ROWS.replace("\n", " 0.1 0.2 0.3\n") + "4 0 1 2 3\n",
        "CNOFF\n4 1 0\n" + ROWS.replace("\n", " 0 0 1 9 9 9 9\n") + "4 0 1 2 3\n",
        f"OFF\n4 3 0\n{ROWS}2 0 1\n3 0 1 2\n3 2 3 0\n",
    ],
)
def test_dialects_of_off(content, tmp_path):
    path = tmp_path / "a.off"
    path.write_bytes(content.encode())
    pos, face = read_off(path)
    assert pos.tolist() == SQUARE
    assert sorted(map(sorted, face.tolist())) == [[0, 1, 2], [0, 2, 3]]


def test_polygons_become_triangles(tmp_path):
    """Of a hexagon and a square beside it, by their areas."""
    angle = np.arange(6) * np.pi / 3
    hexagon = zip(np.cos(angle), np.sin(angle), strict=True)
    corners = [*hexagon, (2, 0), (3, 0), (3, 1), (2, 1)]
    rows = "".join(f"{x:.17g} {y:.17g} 0\n" for x, y in corners)
    write(tmp_path / "a.off", f"OFF\n10 2 0\n{rows}6 0 1 2 3 4 5\n4 6 7 8 9\n")
    pos, face = read_off(tmp_path / "a.off")
    assert len(face) == 4 + 2
    drawn = sample_mesh(tmp_path / "a.off", pos, face, 40_000, seed=0)
    share = float((drawn[:, 0] < 1.5).float().mean())
    assert share == pytest.approx(2.598 / 3.598, abs=0.01)
    assert drawn[drawn[:, 0] < 1.5].norm(dim=1).max() <= 1 + 1e-6


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20, 1e37])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3])
def test_even_points_at_any_scale(scale, offset, tmp_path):
    pos = scale * (offset + torch.tensor([[0, 0, 0], [3, 0, 0], [0, 1, 0], [3, 1, 0.0]]).double())
    face = torch.tensor([[0, 1, 2], [1, 2, 3]])
    if scale * (offset + 3) > 3e38:
        return  # Beyond float32.
    drawn = sample_mesh(tmp_path, pos, face, 4000, seed=0).double() / scale - offset
    assert float(drawn.min()) > -1e-4
    assert torch.allclose(drawn.mean(dim=0), torch.tensor([1.5, 0.5, 0]).double(), atol=0.05)


def test_points_are_those_that_pyg_draws(tmp_path):
    pos, face = torch.rand(30, 3), torch.randint(30, (3, 50))
    torch.manual_seed(3)
    theirs = SamplePoints(200)(Data(pos=pos, face=face)).pos
    ours = sample_mesh(tmp_path, pos.double(), face.T, 200, seed=3)
    torch.testing.assert_close(ours, theirs)


def test_mesh_without_a_last_line_break(tmp_path):
    write_meshes(tmp_path / "raw/ModelNet10")
    whole = [data.pos for data in meshes(tmp_path)]
    for file in (tmp_path / "raw").rglob("*.off"):
        write(file, file.read_text().rstrip())
    for pos, data in zip(whole, meshes(tmp_path, force_reload=True), strict=True):
        assert torch.equal(pos, data.pos)


def test_published_number_of_meshes(tmp_path):
    write_meshes(tmp_path / "raw/ModelNet10")
    with pytest.raises(
        ValueError, match="must have the 3991 clouds of the published split 'train'"
    ):
        meshes(tmp_path, strict=True)
    with pytest.raises(ValueError, match="'name' must be '10' or '40', got '20'"):
        ModelNetMeshes(tmp_path, "20")
    with pytest.raises(TypeError, match="'num_points'"):
        ModelNetMeshes(tmp_path, num_points=None)


def test_download_of_meshes_leaves_what_lies_there(tmp_path, monkeypatch):
    write_meshes(tmp_path / "ModelNet10")
    files = [path for path in (tmp_path / "ModelNet10").rglob("*") if path.is_file()]
    content = {str(path.relative_to(tmp_path)): path.read_bytes() for path in files}
    monkeypatch.setitem(ModelNet.urls, "10", serve(tmp_path, "ModelNet10", content))
    other = tmp_path / "set/raw/shapenet_pc/a.npy"
    write(other, clouds(1)[0])
    assert len(meshes(tmp_path / "set")) == 3
    assert other.is_file()
    # Those of ModelNet40 are not taken for these.
    monkeypatch.setitem(ModelNet.urls, "40", (tmp_path / "none.zip").as_uri())
    with pytest.raises(ConnectionError, match=r"none.zip' could not be downloaded"):
        ModelNetMeshes(tmp_path / "set", "40")


# Downloads ########################################################################################


def serve(folder, name, content):
    """The address of an archive which holds a folder."""
    archive = folder / f"{name}.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path, data in content.items():
            file.writestr(path, data)
    return archive.as_uri()


@pytest.mark.parametrize("kind", ["resampled", "hdf5"])
def test_download(kind, tmp_path, monkeypatch):
    case = Case(kind, tmp_path / "set")
    (folder,) = (case.root / "raw").iterdir()
    files = [path for path in folder.rglob("*") if path.is_file()]
    content = {str(path.relative_to(folder.parent)): path.read_bytes() for path in files}
    url = serve(tmp_path, folder.name, content)
    monkeypatch.setattr(case.cls, "url", url)
    shutil.rmtree(folder.parent)
    check(case.read("test"), case.expected["test"])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    # A folder that lacks a file is somebody's own, so that it is not overwritten.
    shutil.rmtree(case.root / "processed")
    next(folder.glob("*shape_names.txt")).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"shape_names.txt' is missing: .*delete '{folder}'"
    ):
        case.read("test")


def test_download_that_another_process_ends_first(tmp_path, monkeypatch):
    case = Case("resampled", tmp_path / "set")
    (folder,) = (case.root / "raw").iterdir()
    content = {f"{folder.name}/a.txt": b"of ours"}
    monkeypatch.setattr(case.cls, "url", serve(tmp_path, folder.name, content))
    theirs, extract = tmp_path / "theirs", _benchmark.extract_zip
    shutil.move(folder, theirs)

    def slow(*args):
        extract(*args)
        shutil.move(theirs, folder)

    monkeypatch.setattr(_benchmark, "extract_zip", slow)
    check(case.read("test"), case.expected["test"])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("damage", ["cut", "absent", "empty", "other"])
def test_failed_download(damage, tmp_path, monkeypatch):
    url = serve(tmp_path, RESAMPLED, {f"{RESAMPLED}/a.txt": os.urandom(5000)})
    archive = Path(url.removeprefix("file://"))
    content = archive.read_bytes()
    if damage == "absent":
        archive.unlink()
    elif damage == "other":
        url = serve(tmp_path, RESAMPLED, {"elsewhere/a.txt": "a"})
    else:
        archive.write_bytes(content[:2000] if damage == "cut" else b"")
    monkeypatch.setattr(ModelNetResampled, "url", url)
    root = tmp_path / "set"
    message = f"'{url}' could not be downloaded .* unpack it in '{root / 'raw'}'"
    with pytest.raises(ConnectionError, match=message):
        ModelNetResampled(root)
    assert list((root / "raw").iterdir()) == []


# What is written ##################################################################################


def test_attributes_of_any_shape(tmp_path):
    def made():
        for i in range(300):
            pos = torch.full((1 + i % 3, 3), float(i))
            edge = torch.tensor([[0, 0], [0, 0]])[:, : i % 2]
            mask = torch.ones(len(pos), dtype=torch.bool)
            half = torch.tensor([[i / 2, 1]], dtype=torch.bfloat16)
            yield Data(pos=pos, edge_index=edge, y=i, mask=mask, half=half, one=torch.tensor(i))

    assert write_clouds(tmp_path / "a.safetensors", made(), {}) == 300
    dataset = cached_dataset(tmp_path / "a.safetensors")
    for found, expected in zip(dataset, made(), strict=True):
        assert sorted(found.keys()) == sorted(expected.keys())
        for key in expected.keys():  # noqa: SIM118
            value = torch.as_tensor(expected[key])
            assert found[key].dtype == value.dtype
            # As in PyG, a number becomes a tensor of one.
            assert torch.equal(found[key], value.view(1) if value.dim() == 0 else value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def cached_dataset(path):
    dataset = InMemoryDataset()
    dataset.data, dataset.slices, _ = read_columns(path)
    return dataset


def test_no_edges_at_all(tmp_path):
    empty = torch.empty(2, 0, dtype=torch.long)
    write_clouds(
        tmp_path / "a.safetensors", (Data(pos=torch.rand(2, 3), edge_index=empty) for _ in "ab"), {}
    )
    assert cached_dataset(tmp_path / "a.safetensors")[1].edge_index.shape == (2, 0)


@pytest.mark.parametrize(
    ("first", "second", "error", "message"),
    [
        ({"a": torch.ones(1)}, {}, ValueError, r"the same attributes, got \['pos'\] after \['a', "),
        ({"a": torch.ones(1)}, {"a": torch.ones(1, 2)}, ValueError, "'a' must have one type and"),
        ({"a": torch.ones(1)}, {"a": torch.ones(1).long()}, ValueError, "'a' must have one type"),
        ({"a": "b"}, {"a": "b"}, TypeError, "must add tensors or numbers, got list as 'a'"),
    ],
)
def test_attributes_that_differ(first, second, error, message, tmp_path):
    made = [Data(pos=torch.rand(2, 3), **first)] * 128 + [Data(pos=torch.rand(2, 3), **second)] * 9
    with pytest.raises(error, match=message):
        write_clouds(tmp_path / "a.safetensors", made, {})
    assert list(tmp_path.iterdir()) == []


def test_usual_pre_transforms(tmp_path):
    case = Case("core", tmp_path)
    dataset = case.read(pre_transform=NormalizeScale())
    assert max(float(data.pos.abs().max()) for data in dataset) < 1
    again = case.read(num_points=5, pre_transform=lambda data: data.to("cpu").clone())
    assert again[0].pos.shape == (5, 3)


# Files of one's own ###############################################################################


def write_folder(root, sizes=(N, N, N), dtype=np.float32):
    for i, (name, size) in enumerate(zip(("b/0", "a/1", "a/0"), sizes, strict=True)):
        write(root / f"{name}.npy", clouds(1, size, i)[0].astype(dtype))
    write(root / "readme.txt", "not a class")
    write(root / "a" / "notes.txt", "not a cloud")


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8"])
def test_folder(dtype, tmp_path):
    write_folder(tmp_path, dtype=dtype)
    dataset = PointCloudArrays.from_folder(str(tmp_path))
    expected = [clouds(1, N, seed)[0].astype(dtype).astype("f4") for seed in (2, 1, 0)]
    check(dataset, list(zip(expected, [0, 0, 1], strict=True)))
    assert dataset.class_names == ["a", "b"]


def test_folder_of_clouds_of_different_sizes(tmp_path):
    write_folder(tmp_path, (N, N + 1, N + 2))
    message = r"b/0.npy' is damaged.* has 20 points instead of 22; give 'num_points'|a/1.npy"
    with pytest.raises(ValueError, match=message):
        PointCloudArrays.from_folder(tmp_path)
    dataset = PointCloudArrays.from_folder(tmp_path, N, "fps", transform=lambda data: data.pos)
    pos = torch.from_numpy(clouds(1, N + 2, 2))
    index = ops.farthest_point_sample(pos, N)
    assert torch.equal(dataset[0], ops.gather_points(pos, index)[0])
    with pytest.raises(ValueError, match=r"b/0.npy' is .* it has 20 points instead of 21$"):
        PointCloudArrays.from_folder(tmp_path, N + 1)
    with pytest.raises(ValueError, match="'sampling' must be one of"):
        PointCloudArrays.from_folder(tmp_path, N, "last")


def test_folders_that_lack_a_class(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test")
    shutil.rmtree(tmp_path / "test/a")
    write(tmp_path / "test/.ipynb_checkpoints/b.txt", "")
    write(tmp_path / "test/b/._0.npy", "what a system hides")
    names = PointCloudArrays.from_folder(tmp_path / "train").class_names
    test = PointCloudArrays.from_folder(tmp_path / "test", class_names=names)
    check(test, [(clouds(1)[0], 1)])
    assert (test.class_names, test.num_classes) == (["a", "b"], 2)
    with pytest.raises(ValueError, match=r"'class_names' must name all folders .* lacks \['b'\]"):
        PointCloudArrays.from_folder(tmp_path / "test", class_names=["a"])
    same = PointCloudArrays.from_folder(tmp_path / "test", class_names=np.array(names))
    assert (same.class_names, same.y.tolist()) == (names, test.y.tolist())
    with pytest.raises(TypeError, match="'class_names' must be a list of strings, got str"):
        PointCloudArrays.from_folder(tmp_path / "test", class_names="".join(names))


def test_folder_without_clouds(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"'path' must have one .* got '{path}'"):
            PointCloudArrays.from_folder(path)
    write_folder(tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(FileNotFoundError, match=f"'{tmp_path / 'c'}' must have the clouds of a"):
        PointCloudArrays.from_folder(tmp_path)


@pytest.mark.parametrize("names", [np.array(["train", "test", "val"]), np.array([0, 2, 1])])
def test_npz_with_a_column_of_splits(names, tmp_path):
    pos, y = clouds(6).astype(np.float16), np.array([0, 1, 2, 0, 1, 2], np.int16)
    which = np.array([0, 1, 2, 0, 0, 1])
    classes = np.array(["a", "b", "c"])
    arrays = {"points": pos, "labels": y, "split": names[which], "class_names": classes}
    np.savez(tmp_path / "a.npz", **arrays)
    for i, split in enumerate(("train", "test", "val")):
        dataset = PointCloudArrays.from_npz(tmp_path / "a.npz", split)
        pairs = zip(pos[which == i].astype("f4"), y[which == i], strict=True)
        check(dataset, list(pairs))
        assert dataset.class_names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": np.array(["a", "b"])}, r"it has no split 'train', only \['a', 'b'\]"),
        ({"split": np.array([1, 7])}, r"it has no split 'train', only \['7', 'val'\]"),
        ({"split": np.array(["train"])}, r"it has \(2,\) clouds and \(1,\) splits"),
        ({"split": np.array("train")}, r"it has \(2,\) clouds and \(\) splits"),
        ({"labels": np.array([0])}, r"it has \(1,\) clouds and \(2,\) splits"),
        ({"labels": None}, r"it has no array \['labels'\], only \['points', 'split'\]"),
    ],
)
def test_npz_with_a_bad_column_of_splits(change, message, tmp_path):
    arrays = {"points": clouds(2), "labels": np.array([0, 1]), "split": np.array(["train"] * 2)}
    arrays = {key: value for key, value in (arrays | change).items() if value is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(
        ValueError, match=f"'{tmp_path / 'a.npz'}' is no usable .npz file: {message}"
    ):
        PointCloudArrays.from_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("sampling", ["first", "fps", "random"])
def test_arrays_of_fewer_points(sampling, tmp_path):
    pos, y = clouds(130), np.arange(130)
    np.savez(tmp_path / "a.npz", train_points=pos, train_labels=y)
    dataset = PointCloudArrays.from_npz(tmp_path / "a.npz", num_points=7, sampling=sampling)
    again = PointCloudArrays(pos, y, num_points=7, sampling=sampling)
    for i, data in enumerate(dataset):
        assert torch.equal(data.pos, again[i].pos)
        own = torch.from_numpy(pos[i])
        places = (data.pos[:, None] == own).all(dim=2).nonzero()[:, 1]
        assert len(set(places.tolist())) == 7
        if sampling == "first":
            assert places.tolist() == list(range(7))
        if sampling == "fps":
            assert torch.equal(places, ops.farthest_point_sample(own[None], 7)[0])
    with pytest.raises(ValueError, match=r"'num_points' must be at most the 20 .* got 21"):
        PointCloudArrays(pos, y, num_points=21)
    with pytest.raises(ValueError, match="'sampling' must be one of"):
        PointCloudArrays(pos, y, sampling="last")


@pytest.mark.parametrize(
    ("points", "labels", "error", "message"),
    [
        (np.full((2, 4, 3), np.nan, "f4"), [0, 1], ValueError, "'points' must be finite"),
        (np.ones((2, 4, 3), "i4"), [0, 1], TypeError, "'points' must have a floating point"),
        (np.ones((2, 4, 3), "f4"), [[0], [1]], ValueError, "'labels' must have shape"),
        (np.ones((2, 4, 3), "f4"), [0.0, 1.0], TypeError, "'labels' must have an integer type"),
    ],
)
def test_npz_with_bad_arrays_is_named(points, labels, error, message, tmp_path):
    np.savez(tmp_path / "a.npz", train_points=points, train_labels=np.array(labels))
    with pytest.raises(error, match=f"'{tmp_path / 'a.npz'}' is no usable .npz file: {message}"):
        PointCloudArrays.from_npz(tmp_path / "a.npz")


def test_names_as_bytes():
    names = np.array(["Stuhl", "Möbel"])
    bytes_ = np.char.encode(names, "utf-8")
    assert PointCloudArrays(clouds(2), np.arange(2), bytes_).class_names == names.tolist()


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_arrays_are_copied_or_shared(copy, as_tensor):
    pos, y = clouds(3), np.arange(3)
    given = torch.from_numpy(pos) if as_tensor else pos
    dataset = PointCloudArrays(given, y, copy=copy)
    before = dataset[1].pos.clone()
    pos += 1
    assert torch.equal(dataset[1].pos, before) == copy


def test_read_only_and_reversed_arrays():
    pos = clouds(3)
    pos.flags.writeable = False
    reversed_ = PointCloudArrays(pos[::-1], np.arange(3), copy=False)
    check(reversed_, list(zip(pos[::-1].copy(), range(3), strict=True)))
    check(
        PointCloudArrays(pos, np.arange(3), copy=False),
        list(zip(pos.copy(), range(3), strict=True)),
    )


def test_genuine_arrays_with_a_column_of_splits(data_dir):
    path = data_dir / "relics_2048.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of the real data")
    parts = [PointCloudArrays.from_npz(path, split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == 1322
    assert {part.num_classes for part in parts} == {23}
    assert parts[1][0].pos.shape == (2048, 3)


@pytest.mark.parametrize("cls", Benchmark.__subclasses__())
def test_help_names_every_argument(cls):
    """Those that all readers share are written once, and stand in the help of each."""
    names = list(inspect.signature(cls).parameters)
    block = re.search(r"^Args:\n((?: {4}.*\n)+)\n", cls.__doc__, re.MULTILINE)[1]
    assert re.findall(r"^    (\w+) \(", block, re.MULTILINE) == names
    assert {"root", "split", "num_points", "transform", "pre_filter", "strict"} <= set(names)
    assert "options" not in names
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.default not in (None, parameter.empty):
            default = str(parameter.default)
            entry = re.search(rf"^    {name} (.*\n)+?(?=^    \w|\Z)", block, re.MULTILINE)[0]
            text = f'"{default}"' if isinstance(parameter.default, str) else default
            assert f"default: :obj:`{text}`" in entry
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        cls("root", other=1)


def test_meshes_have_no_sampling(tmp_path):
    assert "sampling" not in inspect.signature(ModelNetMeshes).parameters
    with pytest.raises(TypeError, match=r"multiple values for .* 'sampling'"):
        ModelNetMeshes(tmp_path, sampling="fps")
