"""The distilled set as a PyG data set, its file, and sets from arrays."""

import copy
import json
import os
import pickle
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TinyNet, toy_arrays, toy_set
from safetensors.torch import save_file
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.data.lightning import LightningDataset
from torch_geometric.loader import DataLoader

from torch_geometric_ddp import SyntheticPointCloudDataset, _files, distill
from torch_geometric_ddp.datasets import PointCloudArrays
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.parameterization import FullResolution, ShapeMorphing

C, K, M, N, L = 3, 2, 2, 7, 3
SIZE = C * K * (M + L)
NAMES = ["chair", "Stühle", "table"]
PROVENANCE = {"method": "DDP", "steps": 3, "nested": {"list": [1, 2.5, None, "λ"]}}


def morphing(seed=0, adaptive=True):
    generator = torch.Generator().manual_seed(seed)
    anchors = torch.randn(C * K, M, N, 3, generator=generator)
    weights = torch.randn(C * K, L, M, generator=generator) if adaptive else None
    return ShapeMorphing(anchors, C, L, weights, adaptive)


def full():
    return FullResolution(torch.randn(C * K, N, 3, generator=torch.Generator().manual_seed(0)), C)


@pytest.fixture
def parameterization():
    return morphing()


@pytest.fixture
def dataset(parameterization):
    return SyntheticPointCloudDataset(parameterization, class_names=NAMES, provenance=PROVENANCE)


@pytest.fixture
def clouds(parameterization):
    return parameterization.unfold().detach()


@pytest.fixture
def file(dataset, tmp_path):
    path = tmp_path / "set.safetensors"
    dataset.save(path)
    return path


def same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.pos, b.pos)
        assert torch.equal(a.y, b.y)


# A PyG data set ###################################################################################


def test_items(dataset, clouds):
    assert isinstance(dataset, InMemoryDataset)
    assert len(dataset) == SIZE
    for i, data in enumerate(dataset):
        assert type(data) is Data
        assert sorted(data.keys()) == ["pos", "y"]
        assert torch.equal(data.pos, clouds[i])
        assert (data.y.shape, data.y.dtype) == ((1,), torch.int64)
        assert data.y.item() == i // (K * (M + L))
        assert not data.pos.requires_grad


@pytest.mark.parametrize(
    ("index", "chosen"),
    [
        (slice(2, 9, 3), [2, 5, 8]),
        (slice(-2, None), [SIZE - 2, SIZE - 1]),
        ([4, 0, 4], [4, 0, 4]),
        ((1, 2), [1, 2]),
        (torch.tensor([3, 1]), [3, 1]),
        (torch.arange(SIZE) > SIZE - 3, [SIZE - 2, SIZE - 1]),
        (np.array([5, 6]), [5, 6]),
        (np.arange(SIZE) < 2, [0, 1]),
        (range(2, 4), [2, 3]),
    ],
    ids=repr,
)
def test_indexing(dataset, clouds, index, chosen):
    subset = dataset[index]
    assert isinstance(subset, SyntheticPointCloudDataset)
    assert len(subset) == len(chosen)
    for data, i in zip(subset, chosen, strict=True):
        assert torch.equal(data.pos, clouds[i])


@pytest.mark.parametrize("index", [0, 5, -1, np.int64(3), torch.tensor(4)])
def test_one_item(dataset, clouds, index):
    assert torch.equal(dataset[index].pos, clouds[int(index)])


def test_index_out_of_range(dataset):
    with pytest.raises(IndexError):
        dataset[SIZE]


def test_number_of_classes_and_features(dataset):
    assert dataset.num_classes == 3
    assert dataset[:1].num_classes == 3
    assert dataset[:1].class_names == NAMES
    assert dataset.num_features == dataset.num_node_features == dataset.num_edge_features == 0


def test_transform_at_every_access(parameterization):
    calls = []

    def transform(data):
        calls.append(1)
        data.seen = len(calls)
        return data

    dataset = SyntheticPointCloudDataset(parameterization, transform=transform)
    assert calls == []
    assert [dataset[0].seen, dataset[0].seen] == [1, 2]


def test_pre_filter_and_pre_transform_once(parameterization):
    filtered, transformed = [], []

    def pre_filter(data):
        filtered.append(data)
        return data.y.item() != 1

    def pre_transform(data):
        transformed.append(data)
        data.pos = 2 * data.pos
        return data

    dataset = SyntheticPointCloudDataset(
        parameterization, pre_transform=pre_transform, pre_filter=pre_filter
    )
    assert (len(filtered), len(transformed)) == (SIZE, SIZE * 2 // 3)
    assert [data.y.item() for data in dataset] == [0] * 10 + [2] * 10
    expected = 2 * parameterization.unfold().detach()[-1]
    assert torch.equal(dataset[-1].pos, expected)
    assert torch.equal(dataset[-1].pos, expected)
    assert len(transformed) == SIZE * 2 // 3
    assert dataset.num_classes == 3


def test_pre_transform_does_not_reach_the_parameters(parameterization):
    before = parameterization.anchors.detach().clone()

    def pre_transform(data):
        data.pos.zero_()
        return data

    dataset = SyntheticPointCloudDataset(parameterization, pre_transform=pre_transform)
    assert dataset[0].pos.abs().sum() == 0
    assert torch.equal(parameterization.anchors, before)


@pytest.mark.parametrize("kind", [full, morphing])
def test_items_are_no_views_of_the_parameters(kind):
    parameterization = kind()
    dataset = SyntheticPointCloudDataset(parameterization)
    before = dataset[0].pos.clone()
    with torch.no_grad():
        for parameter in parameterization.parameters():
            parameter.zero_()
    assert torch.equal(dataset[0].pos, before)


def test_summary(dataset):
    summary = dataset.get_summary()
    assert summary.num_graphs == SIZE
    assert summary.num_nodes.mean == N
    assert summary.num_nodes.std == 0


def test_copy(dataset):
    same(dataset.copy(), dataset)
    subset = dataset.copy([3, 1])
    same(subset, dataset[[3, 1]])
    assert subset.class_names == NAMES
    assert subset.provenance == PROVENANCE


def test_shuffle(dataset):
    shuffled, order = dataset.shuffle(return_perm=True)
    assert order.sort().values.tolist() == list(range(SIZE))
    same(shuffled, dataset[order])


def test_str(dataset):
    classes, made = ", ".join(NAMES), f"bits={dataset.storage_bits}, method='DDP'"
    told = f"SyntheticPointCloudDataset({SIZE}, classes=3 ({classes}), {made})"
    assert repr(dataset) == told


def test_to_device(dataset, clouds, device):
    dataset.to(device)
    assert dataset[3].pos.device.type == device.type
    assert torch.equal(dataset[3].pos.cpu(), clouds[3])


# torch warns where there are fewer cores than workers, which is none of our concern.
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader(dataset, clouds, num_workers):
    loader = DataLoader(dataset, batch_size=7, num_workers=num_workers)
    batches = list(loader)
    assert [batch.num_graphs for batch in batches] == [7, 7, 7, 7, 2]
    assert torch.equal(torch.cat([batch.pos for batch in batches]), clouds.flatten(0, 1))
    assert torch.cat([batch.y for batch in batches]).tolist() == [data.y.item() for data in dataset]


def test_shuffled_loader(dataset):
    loader = DataLoader(dataset, batch_size=SIZE, shuffle=True)
    (batch,) = loader
    assert batch.y.bincount().tolist() == [10, 10, 10]
    assert batch.y.tolist() != sorted(batch.y.tolist())


def test_random_split(dataset):
    generator = torch.Generator().manual_seed(0)
    parts = torch.utils.data.random_split(dataset, [20, 10], generator=generator)
    assert [len(part) for part in parts] == [20, 10]
    found = torch.cat([data.pos for part in parts for data in part]).sum()
    torch.testing.assert_close(found, torch.cat([data.pos for data in dataset]).sum())
    assert next(iter(DataLoader(parts[1], batch_size=4))).num_graphs == 4


def test_lightning_dataset(dataset):
    module = LightningDataset(dataset, dataset[:4], batch_size=4, pin_memory=False)
    assert next(iter(module.train_dataloader())).num_graphs == 4
    assert len(module.val_dataloader()) == 1


def test_item_of_a_dataset_survives_pickle(dataset):
    copied = pickle.loads(pickle.dumps(dataset))
    same(copied, dataset)
    assert copied.class_names == NAMES


# Parts of it ######################################################################################


def test_anchors_and_morphs(parameterization, clouds):
    groups = clouds.view(C * K, M + L, N, 3)
    for split, expected in (("anchors", groups[:, :M]), ("morphs", groups[:, M:])):
        subset = SyntheticPointCloudDataset(parameterization, split=split)
        assert torch.equal(torch.cat([data.pos for data in subset]), expected.reshape(-1, 3))
        assert subset._data.y.bincount().tolist() == [K * expected.size(1)] * C


def test_full_resolution_is_all_anchors():
    same(SyntheticPointCloudDataset(full(), "anchors"), SyntheticPointCloudDataset(full()))
    with pytest.raises(ValueError, match="no cloud is left of split='morphs'"):
        SyntheticPointCloudDataset(full(), "morphs")


def test_saving_a_part_saves_the_whole(parameterization, dataset, tmp_path):
    SyntheticPointCloudDataset(parameterization, "morphs")[:2].save(tmp_path / "set")
    same(SyntheticPointCloudDataset(tmp_path / "set"), dataset)


def test_bad_split(parameterization):
    with pytest.raises(ValueError, match=r"'split' must be 'all', .* got 'train'"):
        SyntheticPointCloudDataset(parameterization, split="train")


def test_filter_that_keeps_nothing(parameterization):
    with pytest.raises(ValueError, match="no cloud is left of split='all' and 'pre_filter'"):
        SyntheticPointCloudDataset(parameterization, pre_filter=lambda data: False)


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c", "d"]])
def test_wrong_number_of_names(parameterization, names):
    with pytest.raises(ValueError, match=f"'class_names' must name 3 classes, got {len(names)}"):
        SyntheticPointCloudDataset(parameterization, class_names=names)


# The file #########################################################################################


@pytest.mark.parametrize("kind", [full, morphing, lambda: morphing(adaptive=False)])
def test_save_and_load(kind, tmp_path):
    written = SyntheticPointCloudDataset(kind(), class_names=NAMES, provenance=PROVENANCE)
    written.save(tmp_path / "set.safetensors")
    read = SyntheticPointCloudDataset(tmp_path / "set.safetensors")
    for key, value in written.parameterization.storage().items():
        assert torch.equal(read.parameterization.storage()[key], value)
    for a, b in zip(read, written, strict=True):
        torch.testing.assert_close(a.pos, b.pos)
    # The clouds of what is read are those of what is read again, to the bit.
    read.save(tmp_path / "again.safetensors")
    same(SyntheticPointCloudDataset(tmp_path / "again.safetensors"), read)
    assert read.class_names == NAMES
    assert read.provenance == PROVENANCE
    assert read.storage_bits == written.storage_bits
    assert type(read.parameterization) is type(written.parameterization)


def test_loaded_clouds_are_those_saved_to_the_bit(dataset, file):
    same(SyntheticPointCloudDataset(file), dataset)


def test_load_by_string_with_options(file, clouds):
    dataset = SyntheticPointCloudDataset(str(file), split="anchors", transform=lambda data: data.y)
    assert len(dataset) == C * K * M
    assert dataset[0].tolist() == [0]


def test_default_names_and_provenance(parameterization, tmp_path):
    SyntheticPointCloudDataset(parameterization).save(tmp_path / "set")
    read = SyntheticPointCloudDataset(tmp_path / "set")
    assert read.class_names == ["0", "1", "2"]
    assert read.provenance == {}


def test_file_is_about_as_large_as_its_bits(dataset, file):
    # Ten times the clouds would not fit: what is written is what is counted, and a header.
    header = int.from_bytes(file.read_bytes()[:8], "little")
    assert file.stat().st_size == 8 + header + dataset.storage_bits // 8


def test_save_makes_folders(dataset, tmp_path):
    dataset.save(tmp_path / "a" / "b" / "set")
    same(SyntheticPointCloudDataset(tmp_path / "a" / "b" / "set"), dataset)


def test_saved_file_has_the_usual_permissions(file, tmp_path):
    (tmp_path / "other").touch()
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_names_and_provenance_are_the_files_own(file):
    for kwargs in ({"class_names": NAMES}, {"provenance": {}}):
        with pytest.raises(ValueError, match="of a file are what the file says"):
            SyntheticPointCloudDataset(file, **kwargs)


def test_provenance_that_json_cannot_hold(parameterization, tmp_path):
    dataset = SyntheticPointCloudDataset(parameterization)
    for bad in ({"a": object()}, {"a": np.float32(0.8)}, {"a": [{1}]}, {(1, 2): 3}, {1: 2, "a": 3}):
        message = "'provenance' must be what JSON can hold"
        with pytest.raises(TypeError, match=message):
            SyntheticPointCloudDataset(parameterization, provenance=bad)
        dataset.provenance = bad
        with pytest.raises(TypeError, match=message):
            dataset.save(tmp_path / "set")
    dataset.provenance = {"a": object()}
    with pytest.raises(TypeError, match="not JSON serializable"):
        dataset.save(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_provenance_is_that_of_its_file():
    """JSON knows no numbers as keys and no tuples, and what the caller has may change."""
    told = {"n": (2, 3), "a": {1: [4]}}
    synthetic = SyntheticPointCloudDataset(FullResolution(torch.randn(2, 8, 3), 2), provenance=told)
    told["a"][1].append(5)
    assert synthetic.provenance == {"n": [2, 3], "a": {"1": [4]}}


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="'path' must be an existing file"):
        SyntheticPointCloudDataset(tmp_path / "none.safetensors")


def test_folder_instead_of_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="'path' must be an existing file"):
        SyntheticPointCloudDataset(tmp_path)


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.99])
def test_truncated_file(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="is truncated or no safetensors file"):
        SyntheticPointCloudDataset(file)


@pytest.mark.parametrize("missing", [1, 4])
def test_file_that_lacks_its_last_bytes(file, missing):
    file.write_bytes(file.read_bytes()[:-missing])
    with pytest.raises(ValueError, match="is truncated or no safetensors file"):
        SyntheticPointCloudDataset(file)


def test_file_with_bytes_too_many(file):
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="is truncated or no safetensors file"):
        SyntheticPointCloudDataset(file)


@pytest.mark.parametrize("bit", range(8))
def test_one_bit_flipped_anywhere(file, bit):
    content = bytearray(file.read_bytes())
    accepted = []
    for i in range(len(content)):
        content[i] ^= 1 << bit
        file.write_bytes(content)
        content[i] ^= 1 << bit
        try:
            SyntheticPointCloudDataset(file)
        except ValueError:  # Whatever is wrong, this is what is raised.
            continue
        accepted.append(i)
    assert accepted == []


@pytest.mark.parametrize("where", [-1, -4, -100])
def test_changed_number_is_called_damaged(file, where):
    content = bytearray(file.read_bytes())
    content[where] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its contents do not match their checksum"):
        SyntheticPointCloudDataset(file)


@pytest.mark.parametrize(("old", "new"), [(b"[2,3]", b"[3,2]"), (b'"F32"', b'"I32"')])
def test_the_same_bytes_of_another_shape_or_type_are_damaged(tmp_path, old, new):
    path = tmp_path / "file.safetensors"
    _files.write_tensors(path, {"x": torch.ones(2, 3)}, {}, "thing", 1)
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(ValueError, match="is damaged: its contents do not match their checksum"):
        _files.read_tensors(path, "thing", 1)


def rewrite(file, change):
    """Writes the file again with another header and a checksum that fits."""
    with _files.safe_open(file, framework="pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        header = json.loads(opened.metadata()["torch_geometric_ddp"].split(" ", 1)[1])
    kind, version = header.pop("kind"), header.pop("version")
    change(header, tensors)
    kind, version = header.pop("kind", kind), header.pop("version", version)
    _files.write_tensors(file, tensors, header, kind, version)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, _: header.update(version=2), "has format version 2, .* up to 1: upgrade"),
        (lambda header, _: header.update(kind="poem"), "must hold a synthetic .* holds a poem"),
        (
            lambda header, _: header.update(parameterization="Other"),
            "holds a class that is not known here: .*, got 'Other': import the module that",
        ),
        (lambda header, _: header.update(parameterization=3), "is damaged: .*parameterization' mu"),
        (lambda header, _: header.update(parameterization=["Other"]), "is damaged: unhashable"),
        (lambda header, _: header.pop("num_classes"), "its header has no 'num_classes'"),
        (lambda header, _: header.update(num_classes=4), "'anchors' must be floating point of sh"),
        (lambda header, _: header.update(num_classes="3"), "is damaged"),
        (lambda header, _: header.update(num_classes=0), "is damaged"),
        (lambda header, _: header.update(config={}), "the size 'num_morphs' is missing"),
        (lambda header, _: header.update(config=None), "is damaged"),
        (lambda header, _: header.update(bits=1), "says 1 bits, its tensors have"),
        (lambda header, _: header.update(class_names=["a"]), "must name 3 classes, got 1"),
        (lambda _, tensors: tensors.pop("weights"), "the tensor 'weights' is missing"),
        (lambda _, tensors: tensors["anchors"].fill_(float("nan")), "'anchors' must be finite"),
    ],
)
def test_header_that_does_not_fit(file, change, message):
    rewrite(file, change)
    with pytest.raises(ValueError, match=message):
        SyntheticPointCloudDataset(file)


def test_same_set_is_the_same_file(file, dataset, tmp_path):
    for i in range(3):
        dataset.save(tmp_path / str(i))
        assert (tmp_path / str(i)).read_bytes() == file.read_bytes()


def test_rewriting_nothing_changes_nothing(file, dataset):
    rewrite(file, lambda header, tensors: None)
    same(SyntheticPointCloudDataset(file), dataset)


def test_checkpoint_instead_of_a_set(tmp_path):
    distill(
        toy_set(),
        method=ddp(num_anchors=2, num_morphs=2),
        steps=1,
        network=TinyNet,
        checkpoint=tmp_path / "checkpoint",
        progress=False,
    )
    with pytest.raises(ValueError, match="it holds a distillation checkpoint"):
        SyntheticPointCloudDataset(tmp_path / "checkpoint")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_file_of_others(tmp_path, metadata):
    save_file({"anchors": torch.zeros(2, 2, 3, 3)}, tmp_path / "model", metadata=metadata)
    with pytest.raises(ValueError, match="was not written by torch_geometric_ddp"):
        SyntheticPointCloudDataset(tmp_path / "model")


@pytest.mark.parametrize("text", ["{", "[]", "3", '"text"', "null", "{}"])
def test_safetensors_file_with_another_header(tmp_path, text):
    metadata = {"torch_geometric_ddp": text}
    save_file({"anchors": torch.zeros(2, 2, 3, 3)}, tmp_path / "model", metadata=metadata)
    with pytest.raises(ValueError, match="is damaged"):
        SyntheticPointCloudDataset(tmp_path / "model")


def test_pickle_is_not_loaded(tmp_path):
    path = tmp_path / "set.pt"
    torch.save({"anchors": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="is truncated or no safetensors file"):
        SyntheticPointCloudDataset(path)


def test_nothing_is_pickled(dataset, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle was called")

    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load"), (torch, "save")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    dataset.save(tmp_path / "set")
    same(SyntheticPointCloudDataset(tmp_path / "set"), dataset)


@pytest.mark.parametrize("name", ["save_file", "os.replace", "os.fsync"])
def test_failing_save_leaves_the_old_file(dataset, file, name, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("the disk is full")

    before = file.read_bytes()
    monkeypatch.setattr(f"torch_geometric_ddp._files.{name}", fail)
    other = SyntheticPointCloudDataset(morphing(seed=1))
    with pytest.raises(OSError, match="the disk is full"):
        other.save(file)
    assert os.listdir(file.parent) == [file.name]
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127])
def test_the_longest_names_are_written(dataset, name, tmp_path):
    dataset.save(_files.check_place("path", tmp_path / name))
    assert os.listdir(tmp_path) == [name]


def test_links_and_permissions_stay(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", None)  # That of all threads.
    real, link = tmp_path / "real" / "set", tmp_path / "link"
    real.parent.mkdir()
    link.symlink_to(real)
    dataset.save(_files.check_place("path", link))  # To where there is nothing yet.
    usual = real.stat().st_mode
    (tmp_path / "new").touch()
    assert usual == (tmp_path / "new").stat().st_mode
    real.chmod(0o600)
    other = SyntheticPointCloudDataset(morphing(seed=1))
    other.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    same(SyntheticPointCloudDataset(real), other)
    assert os.listdir(real.parent) == ["set"]


def test_what_is_no_file_is_not_replaced(dataset, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for name, message in (("pipe", "it is there and no regular file"), ("round", "symbolic links")):
        with pytest.raises(ValueError, match=f"'path' must be a file that can be .*{message}"):
            _files.check_place("path", tmp_path / name)
        with pytest.raises(OSError, match=message):
            dataset.save(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["pipe", "round"]


def test_save_over_a_file(file):
    other = SyntheticPointCloudDataset(morphing(seed=1))
    other.save(file)
    same(SyntheticPointCloudDataset(file), other)
    assert os.listdir(file.parent) == [file.name]


# Arrays of the user's own #########################################################################


@pytest.mark.parametrize("as_tensor", [True, False])
def test_arrays(as_tensor):
    points, labels = toy_arrays()
    given = (torch.from_numpy(points), torch.from_numpy(labels)) if as_tensor else (points, labels)
    dataset = PointCloudArrays(*given)
    assert len(dataset) == 18
    assert dataset.num_classes == 3
    assert dataset.class_names == ["0", "1", "2"]
    for i, data in enumerate(dataset):
        assert torch.equal(data.pos, torch.from_numpy(points[i]))
        assert data.y.tolist() == [labels[i]]
        assert data.y.dtype == torch.int64


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_points_of_any_precision(dtype):
    points, labels = toy_arrays()
    dataset = PointCloudArrays(points.astype(dtype), labels)
    assert dataset[0].pos.dtype == torch.float32
    assert torch.equal(dataset[0].pos, torch.from_numpy(points[0].astype(dtype)).float())


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "u2", "u4", "u8"])
def test_labels_of_any_integer_type(dtype):
    points, labels = toy_arrays()
    dataset = PointCloudArrays(points, labels.astype(dtype))
    assert [data.y.item() for data in dataset] == labels.tolist()


def test_arrays_that_are_views():
    points, labels = toy_arrays()
    dataset = PointCloudArrays(points[::-1, :, ::-1], labels[::-1])
    assert torch.equal(dataset[0].pos, torch.from_numpy(points[-1, :, ::-1].copy()))
    assert dataset[0].y.item() == labels[-1]


def test_arrays_that_cannot_be_written():
    points, labels = toy_arrays()
    points.flags.writeable = labels.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(PointCloudArrays(points, labels)) == 18


def test_arrays_of_the_other_byte_order():
    points, labels = toy_arrays()
    dataset = PointCloudArrays(points.astype(">f4"), labels.astype(">i8"))
    assert torch.equal(dataset[0].pos, torch.from_numpy(points[0]))


def test_class_names_and_subset():
    dataset = PointCloudArrays(*toy_arrays(), class_names=("a", "b", "c", "d"))
    assert dataset.class_names == ["a", "b", "c", "d"]
    assert dataset[:2].num_classes == 4


def test_transforms_of_arrays():
    dataset = toy_set(
        transform=lambda data: data.pos.sum(),
        pre_transform=lambda data: Data(pos=0 * data.pos, y=data.y),
        pre_filter=lambda data: data.y.item() == 2,
    )
    assert len(dataset) == 6
    assert dataset[0].item() == 0
    assert dataset.num_classes == 3


def test_a_pre_transform_may_say_the_number_of_points():
    dataset = toy_set(
        pre_transform=lambda data: Data(pos=data.pos[:5], y=data.y, num_nodes=5),
    )
    assert dataset[0].num_nodes == 5
    assert dataset[0].pos.shape == (5, 3)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="does not tell what is mapped")
def test_transformed_arrays_keep_no_file():
    dataset = toy_set(pre_transform=lambda data: data)
    assert "clouds.safetensors" not in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert len(dataset) == 18


POINTS, LABELS = toy_arrays(num_points=5)


def with_bad(value):
    points = POINTS.copy()
    points[[3, 5], 2] = value
    return points


@pytest.mark.parametrize(
    ("points", "labels", "error", "message"),
    [
        (POINTS[0], LABELS, ValueError, r"'points' must have shape \[n, N, 3\], got \[5, 3\]"),
        (POINTS[..., :2], LABELS, ValueError, r"'points' must have shape .* got \[18, 5, 2\]"),
        (POINTS[:0], LABELS[:0], ValueError, r"'points' must have shape .* got \[0, 5, 3\]"),
        (POINTS[:, :0], LABELS, ValueError, r"'points' must have shape .* got \[18, 0, 3\]"),
        (POINTS.astype(int), LABELS, TypeError, "'points' must have a floating point type"),
        ([[1.0], [1.0, 2.0]], LABELS, TypeError, "'points' must be an array, .* got list"),
        (POINTS.astype(str), LABELS, TypeError, "'points' must be an array, a tensor or a list of"),
        (POINTS, LABELS[:3], ValueError, r"'labels' must have shape \[18\], .* got \[3\]"),
        (POINTS, LABELS[:, None], ValueError, r"'labels' must have shape \[18\], .* got \[18, 1\]"),
        (POINTS, LABELS.astype(float), TypeError, "'labels' must have an integer type"),
        (POINTS, LABELS > 1, TypeError, "'labels' must have an integer type, got torch.bool"),
        (POINTS, ["a", "b"], TypeError, "'labels' must be an array, a tensor or a list of numbers"),
        (POINTS, None, TypeError, "'labels' must be an array, .* got NoneType"),
        (POINTS, LABELS - 1, ValueError, r"'labels' must lie in 0..1, got -1..1"),
        (with_bad(np.nan), LABELS, ValueError, r"'points' must be finite, .* clouds \[3, 5\]"),
        (with_bad(np.inf), LABELS, ValueError, r"'points' must be finite, .* clouds \[3, 5\]"),
    ],
)
def test_bad_arrays(points, labels, error, message):
    with pytest.raises(error, match=message):
        PointCloudArrays(points, labels)


def test_lists_are_arrays():
    arrays, lists = PointCloudArrays(POINTS, LABELS), PointCloudArrays(POINTS.tolist(), [*LABELS])
    assert torch.equal(arrays._data.pos, lists._data.pos)
    assert torch.equal(arrays._data.y, lists._data.y)


def test_points_that_overflow_single_precision():
    points = POINTS.astype(np.float64)
    points[4, 0, 0] = 1e300
    with pytest.raises(ValueError, match=r"'points' must be finite"):
        PointCloudArrays(points, LABELS)


def test_labels_beyond_the_names():
    with pytest.raises(ValueError, match=r"'labels' must lie in 0..1, got 0..2"):
        PointCloudArrays(POINTS, LABELS, class_names=["a", "b"])


def test_filter_of_arrays_that_keeps_nothing():
    with pytest.raises(ValueError, match="'pre_filter' left no cloud"):
        toy_set(pre_filter=lambda data: False)


# Files of arrays ##################################################################################


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "clouds.npz"
    arrays = {"train_points": POINTS, "train_labels": LABELS}
    arrays |= {"test_points": POINTS[:6], "test_labels": LABELS[:6]}
    np.savez_compressed(path, **arrays, class_names=np.array(["a", "b", "ç"]))
    return path


def test_from_npz(npz):
    train, test = (PointCloudArrays.from_npz(npz, split) for split in ("train", "test"))
    same(train, PointCloudArrays(POINTS, LABELS))
    assert len(test) == 6
    assert train.class_names == test.class_names == ["a", "b", "ç"]
    assert test.num_classes == 3


def test_from_npz_with_transforms(npz):
    dataset = PointCloudArrays.from_npz(str(npz), pre_filter=lambda data: data.y.item() == 1)
    assert len(dataset) == 6


def test_npz_without_names(tmp_path):
    np.savez(tmp_path / "a.npz", train_points=POINTS, train_labels=LABELS)
    assert PointCloudArrays.from_npz(tmp_path / "a.npz").class_names == ["0", "1", "2"]


def test_npz_that_is_missing(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"'path' must be an existing .npz file"):
            PointCloudArrays.from_npz(path)


def test_npz_without_the_split(npz):
    message = r"has no array \['val_points', 'val_labels'\], only \['class_names', 'test_labels'"
    with pytest.raises(ValueError, match=message):
        PointCloudArrays.from_npz(npz, "val")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_truncated_npz(npz, share):
    content = npz.read_bytes()
    npz.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"is no usable .npz file"):
        PointCloudArrays.from_npz(npz)


def test_one_byte_of_an_npz_changed_anywhere(npz):
    content, expected = bytearray(npz.read_bytes()), PointCloudArrays.from_npz(npz)
    for i in range(0, len(content), 3):
        content[i] ^= 0xFF
        npz.write_bytes(content)
        content[i] ^= 0xFF
        try:
            found = PointCloudArrays.from_npz(npz)
        except ValueError:  # Whatever is wrong, this is what is raised.
            continue
        same(found, expected)  # Of another array, or of the date.


def test_single_array_instead_of_npz(tmp_path):
    np.save(tmp_path / "a.npy", POINTS)
    with pytest.raises(ValueError, match=r"is no usable .npz file"):
        PointCloudArrays.from_npz(tmp_path / "a.npy")


def test_npz_of_objects_is_not_unpickled(tmp_path):
    points = np.array([POINTS, None], dtype=object)
    np.savez(tmp_path / "a.npz", train_points=points, train_labels=LABELS)
    with pytest.raises(ValueError, match=r"is no usable .npz file.*allow_pickle"):
        PointCloudArrays.from_npz(tmp_path / "a.npz")


def test_real_data(data_dir):
    path = data_dir / "modelnet10_1024.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of the real data")
    test = PointCloudArrays.from_npz(path, "test")
    assert len(test) == 908
    assert test.num_classes == 10
    assert test[0].pos.shape == (1024, 3)


def test_a_transform_that_writes_in_place_leaves_the_set_alone():
    def shift(data):
        data.pos += 4
        data.y += 1
        return data

    parameterization = FullResolution(torch.rand(3, 8, 3), 3)
    dataset = SyntheticPointCloudDataset(parameterization, transform=shift)
    plain = SyntheticPointCloudDataset(parameterization)
    for _ in range(3):  # As many epochs.
        for data, other in zip(dataset, plain, strict=True):
            assert torch.equal(data.pos, other.pos + 4)
            assert torch.equal(data.y, other.y + 1)
    plain[0].pos.zero_()
    assert torch.equal(plain[0].pos, parameterization.pos[0])


def test_clouds_that_need_a_gradient():
    clouds = PointCloudArrays(torch.rand(4, 5, 3, requires_grad=True), [0, 1, 0, 1])
    assert not clouds[0].pos.requires_grad
    assert torch.equal(copy.deepcopy(clouds)[3].pos, clouds[3].pos)
