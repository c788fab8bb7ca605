"""Files that lie: what readers refuse before they follow a name, or make room for a promise."""

import io
import struct
import zipfile

import h5py
import numpy as np
import pytest
import torch

from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.datasets import (
    ModelNetHDF5,
    ModelNetResampled,
    PartArrays,
    PointCloudArrays,
    ScanObjectNN,
    ShapeNetCore,
    ShapeNetPart,
)
from torch_geometric_ddp.datasets._formats import DamagedFileError, read_npy
from torch_geometric_ddp.parameterization import (
    FullResolution,
    PartLabels,
    PointSet,
    ShapeMorphing,
)

SCAN = "raw/h5_files/main_split/{}_objectdataset_augmentedrot_scale75.h5"


def clouds(num, size=8):
    return np.random.default_rng(0).uniform(-1, 1, (num, size, 3)).astype(np.float32)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# Lists that name files elsewhere ##################################################################


@pytest.mark.parametrize("name", ["02691156-/../../x.npy", "02691156-\\..\\x.npy", "02691156-/x"])
def test_list_of_shapenet_that_leaves_the_folder(name, tmp_path):
    (tmp_path / "raw/shapenet_pc").mkdir(parents=True)
    for split in ("train", "test"):
        write(tmp_path / f"raw/ShapeNet-55/{split}.txt", f"{name}\n")
    np.save(tmp_path / "raw/x.npy", clouds(1)[0])
    with pytest.raises(DamagedFileError, match=r"train.txt' is .*not the name of a file alone"):
        ShapeNetCore(tmp_path, num_points=4, strict=False)


@pytest.mark.parametrize(
    ("classes", "shape"), [("bed\n", "bed_/../../x"), ("..\n", ".._x"), ("../..\n", "../.._x")]
)
def test_list_of_modelnet_that_leaves_the_folder(classes, shape, tmp_path):
    folder = tmp_path / "raw/modelnet40_normal_resampled"
    write(folder / "modelnet10_shape_names.txt", classes)
    for split in ("train", "test"):
        write(folder / f"modelnet10_{split}.txt", f"{shape}\n")
    np.savetxt(tmp_path / f"raw/{shape.split('/')[-1]}.txt", np.ones((9, 6)), delimiter=",")
    message = "not the name of a file alone|whose class has no name"
    with pytest.raises(DamagedFileError, match=message):
        ModelNetResampled(tmp_path, num_points=4, strict=False)


@pytest.mark.parametrize("line", ["data/..", "/", "a\\..\\b.h5"])
def test_list_of_hdf5_that_leaves_the_folder(line, tmp_path):
    folder = tmp_path / "raw/modelnet40_ply_hdf5_2048"
    write(folder / "shape_names.txt", "a\nb\n")
    for split in ("train", "test"):
        write(folder / f"{split}_files.txt", f"{line}\n")
    with pytest.raises(DamagedFileError, match="not the name of a file alone"):
        ModelNetHDF5(tmp_path, strict=False)


def test_list_of_parts_that_leaves_the_folder(tmp_path):
    folder = tmp_path / "raw/shapenetcore_partanno_segmentation_benchmark_v0"
    write(folder / "synsetoffset2category.txt", "Mug\t03797390\n")
    for split in ("train", "val", "test"):
        path = folder / f"train_test_split/shuffled_{split}_file_list.json"
        write(path, '["shape_data/03797390/..\\\\..\\\\x"]')
    with pytest.raises(DamagedFileError, match="not the name of a file alone"):
        ShapeNetPart(tmp_path, "Mug", strict=False)


def test_names_of_classes_that_are_the_same(tmp_path):
    folder = tmp_path / "raw/modelnet40_normal_resampled"
    write(folder / "modelnet10_shape_names.txt", "bed\nbed\n")
    for split in ("train", "test"):
        write(folder / f"modelnet10_{split}.txt", "bed_1\n")
    with pytest.raises(DamagedFileError, match=r"names.txt' .*'names' must differ, got 'bed'"):
        ModelNetResampled(tmp_path, strict=False)


# HDF5 #############################################################################################


@pytest.fixture
def scan(tmp_path):
    """The path of a file of ScanObjectNN, another beside it, and how to read them."""
    for split in ("training", "test"):
        path = tmp_path / SCAN.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["data"], file["label"] = clouds(2), np.array([1, 2])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = clouds(2)

    def read():
        return ScanObjectNN(tmp_path, num_points=4, strict=False)

    assert len(read()) == 2
    return (
        path,
        tmp_path / "other.h5",
        lambda: ScanObjectNN(tmp_path, num_points=4, strict=False, force_reload=True),
    )


@pytest.mark.parametrize("how", ["external", "link", "linked link", "virtual"])
def test_hdf5_with_numbers_elsewhere(how, scan, tmp_path):
    path, other, read = scan
    secret = tmp_path / "secret.bin"
    secret.write_bytes(clouds(2).tobytes())
    with h5py.File(path, "r+") as file:
        del file["data"]
        if how == "external":
            where = [(str(secret), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("data", (2, 8, 3), "f4", external=where)
        elif how == "virtual":
            layout = h5py.VirtualLayout((2, 8, 3), "f4")
            layout[:] = h5py.VirtualSource(str(other), "data", (2, 8, 3))
            file.create_virtual_dataset("data", layout)
        else:
            name = "data" if how == "link" else "far"
            file[name] = h5py.ExternalLink(str(other), "data")
            if how == "linked link":
                file["data"] = h5py.SoftLink("/far")
    with pytest.raises(DamagedFileError, match=f"'{path}' is damaged.*its 'data' .*another file"):
        read()


def test_hdf5_that_unpacks_without_end(scan):
    path, _, read = scan
    with h5py.File(path, "r+") as file:
        del file["data"], file["label"]
        shape = (2, 2**27, 3)
        file.create_dataset("data", shape, "f4", chunks=(1, 2**10, 3), compression="gzip")
        file["label"] = np.array([1, 2])
    assert path.stat().st_size < 10**5
    with pytest.raises(DamagedFileError, match=f"'{path}' .*its 'data' takes 3,221,225,472 bytes"):
        read()


# Arrays ###########################################################################################


def npz_of(path, header_shape, zeros, dtype="<f4"):
    """An archive whose points have a shape in their header, and as many zeros as given."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": dtype, "fortran_order": False, "shape": header_shape}
    )
    labels = io.BytesIO()
    np.save(labels, np.zeros(header_shape[0] if header_shape[0] < 10**6 else 1, int))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("train_labels.npy", labels.getvalue())
        with archive.open("train_points.npy", "w", force_zip64=True) as file:
            file.write(head.getvalue())
            for _ in range(zeros >> 24):
                file.write(bytes(1 << 24))
            file.write(bytes(zeros % (1 << 24)))


@pytest.mark.parametrize("read", [PointCloudArrays.from_npz, PartArrays.from_npz])
def test_npz_that_unpacks_without_end(read, tmp_path, monkeypatch):
    """What it promises is refused before more than headers are unpacked."""
    path, size = tmp_path / "a.npz", 1200 * 2**20
    npz_of(path, (100, size // 1200, 3), size)
    assert path.stat().st_size < 10 * 2**20
    unpacked, unpack = [], zipfile.ZipExtFile.read

    def counted(file, num=-1):
        unpacked.append(len(content := unpack(file, num)))
        return content

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    with pytest.raises(ValueError, match=rf"'{path}' is no .*'train_points' takes 1,258,.*"):
        read(path)
    assert 0 < sum(unpacked) < 1000


@pytest.mark.parametrize("shape", [(2**40, 8, 3), (2**62, 2**62, 3), (2, 9, 3)])
def test_npz_with_less_than_it_promises(shape, tmp_path):
    npz_of(tmp_path / "a.npz", shape, 2 * 8 * 3 * 4)
    with pytest.raises(ValueError, match=r"a.npz' is no .*'train_points' has 192 bytes, too few"):
        PointCloudArrays.from_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(2**40, 3), (9, 3), (-1, 3)])
def test_npy_with_less_than_it_promises(shape, tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(DamagedFileError, match=r"a.npy' is damaged.*it has 0 bytes, too few"):
        read_npy(tmp_path / "a.npy")


def test_npy_of_other_versions(tmp_path):
    array = clouds(1)[0]
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(3, 0))
    with pytest.raises(DamagedFileError, match=r"version \(3, 0\) of the format"):
        read_npy(tmp_path / "a.npy")


def test_flip_in_the_directory_of_an_npz(tmp_path):
    """The names of the classes do not get lost without a word."""
    path = tmp_path / "a.npz"
    arrays = {"train_points": clouds(2), "train_labels": np.array([0, 1])}
    np.savez(path, **arrays, class_names=np.array(["a", "b"]))
    content = bytearray(path.read_bytes())
    content[content.rindex(b"class_names")] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.npz' is no usable .npz file: File name in directory"):
        PointCloudArrays.from_npz(path)


def test_cut_archive_with_a_directory_of_another_size(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, train_points=clouds(2), train_labels=np.array([0, 1]))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 2**31 - 1)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.npz' is no usable .npz file"):
        PointCloudArrays.from_npz(path)


# Labels and names #################################################################################


@pytest.mark.parametrize("label", [4_379_243, 2**40, 2**63 - 1, 2**16])
def test_absurd_label(label, tmp_path):
    y = np.array([0, label])
    message = rf"'labels' must lie in 0..65535, got 0..{label} \('class_names' would bound them\)"
    with pytest.raises(ValueError, match=message):
        PointCloudArrays(clouds(2), y)
    np.savez(tmp_path / "a.npz", train_points=clouds(2), train_labels=y)
    with pytest.raises(ValueError, match=rf"a.npz' is no usable .npz file: {message}"):
        PointCloudArrays.from_npz(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=rf"'labels' must lie in 0..1, got 0..{label}$"):
        PointCloudArrays(clouds(2), y, ["a", "b"])


def test_many_classes_without_names():
    assert PointCloudArrays(clouds(2), np.array([0, 2**16 - 1])).num_classes == 2**16


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("ab", TypeError, "'class_names' must be a list of strings, got str"),
        ({"a": 0, "b": 1}, TypeError, "'class_names' must be a list of strings, got dict"),
        (["a", None], TypeError, "'class_names' must be a list of strings, got None in it"),
        ([0, 1], TypeError, "'class_names' must be a list of strings, got 0 in it"),
        (["a", "a"], ValueError, "'class_names' must differ, got 'a' twice"),
        (np.array([["a", "b"]]), TypeError, r"'class_names' must be .* got \['a', 'b'\] in it"),
        (np.array("ab"), TypeError, "'class_names' must be a list of strings, got str"),
        (np.array([1.5, 2]), TypeError, "'class_names' must be a list of strings, got 1.5 in it"),
        (np.array(["a", "a"]), ValueError, "'class_names' must differ, got 'a' twice"),
    ],
)
def test_names_that_are_no_list_of_text(names, error, message, tmp_path):
    y = np.array([0, 1])
    with pytest.raises(error, match=message):
        PointCloudArrays(clouds(2), y, names)
    if isinstance(names, np.ndarray):
        arrays = {"train_points": clouds(2), "train_labels": y, "class_names": names}
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(error, match=rf"a.npz' is no usable .npz file: {message}"):
            PointCloudArrays.from_npz(tmp_path / "a.npz")


def test_names_as_text_of_any_kind():
    for names in (("a", "b"), np.array(["a", "b"]), np.array([b"a", b"b"]), [b"a", "b"]):
        assert PointCloudArrays(clouds(2), np.array([0, 1]), names).class_names == ["a", "b"]


def test_parts_that_do_not_fit_name_the_file(tmp_path):
    good = {
        "points": clouds(2),
        "part_labels": np.zeros((2, 8), int),
        "labels": np.array([0, 1]),
        "split": np.array(["train", "test"]),
        "class_names": np.array(["a", "b"]),
        "part_names": np.array(["x", "y"]),
        "category_parts": np.eye(2, dtype=bool),
    }
    path = tmp_path / "a.npz"
    for key, value in (
        ("points", clouds(2) * np.nan),
        ("part_labels", np.full((2, 8), 2**40)),
        ("labels", np.array([-1, 0])),
        ("part_names", np.array([1, 2])),
        ("class_names", np.array(["a", "a"])),
    ):
        np.savez(path, **good | {key: value})
        with pytest.raises((ValueError, TypeError), match=rf"'{path}' is no .*: '{key}' must"):
            PartArrays.from_npz(path)
    np.savez(path, **good)
    assert PartArrays.from_npz(path).class_names == ["a", "b"]


def test_suffix_in_capitals(tmp_path):
    for name in ("a/0.npy", "a/1.NPY", "b/0.Npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with open(tmp_path / name, "wb") as file:
            np.save(file, clouds(1)[0])
    dataset = PointCloudArrays.from_folder(tmp_path)
    assert [int(data.y) for data in dataset] == [0, 0, 1]


@pytest.mark.parametrize("num_morphs", [10**7, 2**31, 2**62])
@pytest.mark.parametrize("num_anchors", [1, 3])
def test_morphs_that_nothing_stored_bounds(num_morphs, num_anchors):
    """Of equal weights, or of one anchor, they cost nothing in a file."""
    static = ShapeMorphing(torch.rand(2, num_anchors, 8, 3), 2, 4, adaptive=False)
    config = {**static.config(), "num_morphs": num_morphs}
    with pytest.raises(ValueError, match="must be of clouds that fit into memory"):
        ShapeMorphing.from_storage(static.storage(), config, 2, 1)


def test_empty_weights_of_many_morphs():
    adaptive = ShapeMorphing(torch.rand(2, 1, 8, 3), 2, 4)
    storage = {**adaptive.storage(), "weights": torch.empty(2, 10**9, 0)}
    with pytest.raises(ValueError, match="must be of clouds that fit into memory"):
        ShapeMorphing.from_storage(storage, adaptive.config(), 2, 1)


def test_parts_of_more_points_than_there_are():
    space = PartSpace(("a", "b"), ((0,), (1,)))
    labels = PartLabels(torch.tensor([[8, 0], [0, 8]]), space)
    storage = {"part_counts": torch.full((2,), 2**31 - 1, dtype=torch.int32)}
    with pytest.raises(
        ValueError, match="'part_counts' must give a shape 8 points, got 2147483647"
    ):
        PartLabels.from_storage(storage, labels.config(), 8)


def test_sets_of_more_points_than_are_stored():
    """Their size in bits alone takes hours to compute."""
    whole = FullResolution(torch.rand(2, 8, 3), 2, codec=PointSet(10))
    config = {**whole.config(), "shapes": {"pos": [10**9, 3]}}
    with pytest.raises(ValueError, match="must have at most 16,384 points"):
        FullResolution.from_storage(whole.storage(), config, 2, 1)
