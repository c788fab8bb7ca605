"""Clouds with labels of their parts, from arrays and files, and splits drawn anew."""

import numpy as np
import pytest
import torch
from helpers import check_labelled
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_ddp.clouds.splits import redrawn
from torch_geometric_ddp.datasets import PartArrays

NAMES = ["mug", "chair", "Öse"]
PARTS = ["mug/body", "mug/handle", "chair/leg", "spare", "chair/seat", "chair/back", "Öse"]
SPACE = {"mug": [0, 1], "chair": [2, 5, 4], "Öse": [6]}
SIZE, N = 30, 8


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((SIZE, N, 3)).astype(np.float32)
    labels = rng.permutation(np.arange(SIZE) % 3)
    parts = np.stack([rng.choice(SPACE[NAMES[label]], N) for label in labels])
    return points, parts, labels


POINTS, Y, LABELS = arrays()


def made(points=POINTS, part_labels=Y, labels=LABELS, **kwargs):
    space = {"class_names": NAMES, "part_names": PARTS, "category_parts": SPACE}
    return PartArrays(points, part_labels, labels, **(space | kwargs))


def check(dataset, rows, categories=None):
    """Compares the items with rows of the arrays, by the names of the parts and categories."""
    check_labelled(dataset)
    assert len(dataset) == len(rows)
    for data, i in zip(dataset, rows, strict=True):
        assert torch.equal(data.pos, torch.from_numpy(POINTS[i]))
        assert dataset.class_names[data.category.item()] == NAMES[LABELS[i]]
        assert [dataset.part_names[part] for part in data.y] == [PARTS[part] for part in Y[i]]


# Arrays ###########################################################################################


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("dtypes", [("i8", "i8"), ("i1", "i2"), ("u1", "i4")])
def test_items(as_tensor, dtypes):
    given = (POINTS, Y.astype(dtypes[0]), LABELS.astype(dtypes[1]))
    dataset = made(*map(torch.from_numpy, given)) if as_tensor else made(*given)
    check(dataset, range(SIZE))
    assert (dataset.class_names, dataset.part_names) == (NAMES, PARTS)
    assert dataset.category_parts == SPACE
    assert dataset[:2].num_classes == 7


def test_loader():
    (batch,) = DataLoader(made()[[3, 1]], batch_size=2)
    assert torch.equal(batch.y, torch.from_numpy(Y[[3, 1]].flatten()))
    assert batch.category.tolist() == LABELS[[3, 1]].tolist()
    assert batch.pos.shape == (2 * N, 3)


def test_clouds_of_one_point():
    dataset = made(POINTS[:, :1], Y[:, :1])
    check_labelled(dataset)
    assert [data.y.tolist() for data in dataset] == Y[:, :1].tolist()


def test_transforms():
    dataset = made(
        transform=lambda data: (data.pos.sum().item(), data.category.item(), data.y.tolist()),
        pre_transform=lambda data: Data(pos=0 * data.pos, y=data.y, category=data.category),
        pre_filter=lambda data: data.category.item() == 1,
    )
    assert list(dataset) == [(0.0, 1, row.tolist()) for row in Y[LABELS == 1]]
    with pytest.raises(ValueError, match="'pre_filter' left no cloud"):
        made(pre_filter=lambda data: False)


@pytest.mark.parametrize("copy", [False, True])
def test_arrays_are_copied_or_shared(copy):
    points, parts, labels = (array.copy() for array in (POINTS, Y, LABELS))
    dataset = made(points, parts, labels, copy=copy)
    points[0], parts[0], labels[0] = 7, 7, 7
    data = dataset[0]
    assert (data.pos[0, 0].item() == 7, data.y[0].item() == 7) == (not copy, not copy)
    assert (data.category.item() == 7) == (not copy)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"points": POINTS[0]}, ValueError, r"'points' must have shape \[n, N, 3\], got \[8, 3\]"),
        ({"points": POINTS * np.nan}, ValueError, r"'points' must be finite"),
        ({"points": "clouds"}, TypeError, "'points' must be an array, a tensor or a list"),
        ({"labels": LABELS[:4]}, ValueError, r"'labels' must have shape \[30\], .* got \[4\]"),
        ({"labels": LABELS + 1}, ValueError, r"'labels' must lie in 0..2, got 1..3"),
        (
            {"part_labels": Y[:, 1:]},
            ValueError,
            r"'part_labels' must have shape \[30, 8\], one for",
        ),
        ({"part_labels": Y[:, 0]}, ValueError, r"'part_labels' must have shape .* got \[30\]"),
        ({"part_labels": Y / 2}, TypeError, "'part_labels' must have an integer type, got torch.f"),
        ({"part_labels": Y - 1}, ValueError, r"'part_labels' must lie in 0..6, got -1..5"),
        ({"part_names": PARTS[:6]}, ValueError, r"'part_labels' must lie in 0..5, got 0..6"),
        ({"class_names": NAMES[:2]}, ValueError, r"'labels' must lie in 0..1, got 0..2"),
        ({"category_parts": [[0]]}, TypeError, "'category_parts' must be a dict .* got list"),
        ({"category_parts": SPACE | {"mug": []}}, ValueError, "'category_parts' must not be empty"),
        ({"category_parts": SPACE | {"mug": [0, 2]}}, ValueError, "'category_parts' must be disj"),
        ({"category_parts": SPACE | {"mug": [7]}}, ValueError, "'category_parts' must lie below"),
        ({"category_parts": {"mug": [0]}}, ValueError, r"'category_parts' must name the categor"),
        (
            {"category_parts": dict(reversed(SPACE.items()))},
            ValueError,
            r"\['mug', 'chair', 'Öse'\] in this order, got \['Öse', 'chair', 'mug'\]",
        ),
        ({"categories": []}, ValueError, r"'categories' must be different names among \['mug'"),
        ({"categories": "Mug"}, ValueError, r"'categories' must be different .* got 'Mug'"),
        ({"categories": ["mug"] * 2}, ValueError, r"'categories' must be different names"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        made(**change)


@pytest.mark.parametrize("bad", [3, 6])
def test_point_of_a_part_that_its_category_lacks(bad):
    chairs = np.flatnonzero(LABELS == 1)
    parts = Y.copy()
    parts[chairs[[5, 2]], 4] = bad  # A part of another category, and one of none.
    message = (
        rf"'part_labels' of cloud {chairs[2]} \(chair\) must be among \[2, 5, 4\], got \[{bad}\]"
    )
    with pytest.raises(ValueError, match=message):
        made(part_labels=parts)


# Some categories ##################################################################################


@pytest.mark.parametrize("categories", [["Öse", "mug"], ("chair",), "chair", NAMES])
def test_categories_are_numbered_densely(categories):
    dataset = made(categories=categories)
    chosen = [categories] if isinstance(categories, str) else list(categories)
    check(dataset, [i for i in range(SIZE) if NAMES[LABELS[i]] in chosen])
    assert dataset.class_names == chosen
    flat = [part for parts in dataset.category_parts.values() for part in parts]
    assert flat == list(range(dataset.num_classes))
    assert dataset.num_classes == sum(len(SPACE[name]) for name in chosen)


def test_category_without_clouds():
    keep = LABELS != 2
    with pytest.raises(ValueError, match=r"'categories' \['Öse'\] left no cloud"):
        made(POINTS[keep], Y[keep], LABELS[keep], categories="Öse")


# Files ############################################################################################

SPLITS = np.array(["train"] * 12 + ["test"] * 12 + ["val"] * 6)


def write(path, **change):
    has_part = np.array([[i in SPACE[name] for i in range(len(PARTS))] for name in NAMES])
    content = {
        "points": POINTS,
        "part_labels": Y.astype(np.int8),
        "labels": LABELS.astype(np.int16),
        "split": SPLITS,
        "class_names": np.array(NAMES),
        "part_names": np.array(PARTS),
        "category_parts": has_part,
        "recommended_categories": np.array(["chair", "mug"]),
    }
    content = {key: value for key, value in (content | change).items() if value is not None}
    np.savez(path, **content)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "parts.npz"
    write(path)
    return path


@pytest.mark.parametrize("numbers", [False, True])
def test_npz(numbers, tmp_path):
    path = tmp_path / "a.npz"
    write(path, split=np.array([{"train": 0, "val": 1, "test": 2}[s] for s in SPLITS]))
    if not numbers:
        write(path)
    for split in ("train", "val", "test"):
        dataset = PartArrays.from_npz(str(path), split)
        check(dataset, np.flatnonzero(split == SPLITS))
        assert dataset.category_parts == {name: sorted(parts) for name, parts in SPACE.items()}


def test_npz_of_half_precision(tmp_path):
    write(tmp_path / "a.npz", points=POINTS.astype(np.float16))
    data = PartArrays.from_npz(tmp_path / "a.npz")[0]
    assert torch.equal(data.pos, torch.from_numpy(POINTS[0]).half().float())


@pytest.mark.parametrize("categories", ["recommended", ["chair", "mug"]])
def test_npz_categories(npz, categories):
    dataset = PartArrays.from_npz(npz, "test", categories, transform=None)
    check(dataset, np.flatnonzero((SPLITS == "test") & (LABELS < 2)))
    assert dataset.class_names == ["chair", "mug"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part_labels": None}, r"it has no array \['part_labels'\], only \['category_parts'"),
        ({"split": None}, r"it has no array \['split'\]"),
        ({"category_parts": None}, r"it has no array \['category_parts'\]"),
        ({"category_parts": np.ones((3, 6), bool)}, r"must be bool \[3, 7\], got bool \[3, 6\]"),
        ({"category_parts": np.eye(3, 7)}, r"must be bool \[3, 7\], got float64 \[3, 7\]"),
        ({"split": SPLITS[:3]}, r"it has \(30,\) clouds and \(3,\) splits"),
        ({"labels": LABELS[:3]}, r"it has \(3,\) clouds and \(30,\) splits"),
        ({"recommended_categories": None}, r"it has no array \['recommended_categories'\]"),
        ({"labels": LABELS[:, None]}, r"'y' must have shape \[n\], got \[30, 1\]"),
    ],
)
def test_bad_npz(tmp_path, change, message):
    write(tmp_path / "a.npz", **change)
    with pytest.raises(ValueError, match=f"a.npz' is no usable .npz file: .*{message}"):
        PartArrays.from_npz(tmp_path / "a.npz", categories="recommended", resplit=0)


def test_npz_without_the_split_or_the_file(npz):
    with pytest.raises(ValueError, match="it has no split 'dev', only"):
        PartArrays.from_npz(npz, "dev", resplit=0)
    with pytest.raises(FileNotFoundError, match=r"'path' must be an existing .npz file"):
        PartArrays.from_npz(npz.parent / "none.npz")


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_truncated_npz(npz, tmp_path, share):
    path = tmp_path / "a.npz"
    path.write_bytes(npz.read_bytes()[: int(share * npz.stat().st_size)])
    with pytest.raises(ValueError, match=r"is no usable .npz file"):
        PartArrays.from_npz(path)


# Splits drawn anew ################################################################################


def members(npz, resplit, categories=None):
    """The clouds of every split, and of which category they are."""
    found = {}
    for split in ("train", "val", "test"):
        dataset = PartArrays.from_npz(npz, split, categories, resplit)
        found[split] = {
            data.pos.numpy().tobytes(): dataset.class_names[data.category.item()]
            for data in dataset
        }
        assert len(found[split]) == len(dataset)
    return found


def tally(clouds):
    return {name: list(clouds.values()).count(name) for name in NAMES}


def test_resplit_keeps_the_numbers_and_every_cloud(npz):
    given = members(npz, None)
    for seed in range(5):
        drawn = members(npz, seed)
        assert {s: tally(c) for s, c in drawn.items()} == {s: tally(c) for s, c in given.items()}
        everything = {cloud for clouds in drawn.values() for cloud in clouds}
        assert len(everything) == SIZE == sum(map(len, drawn.values()))
        assert drawn["test"].keys() != given["test"].keys()
        assert members(npz, seed) == drawn
    assert members(npz, 0)["test"].keys() != members(npz, 1)["test"].keys()


def test_resplit_does_not_depend_on_the_categories(npz):
    whole, some = members(npz, 3), members(npz, 3, ["Öse", "chair"])
    for split, clouds in whole.items():
        assert some[split] == {cloud: name for cloud, name in clouds.items() if name != "mug"}


def test_resplit_leaves_the_global_generator_alone(npz):
    state = torch.get_rng_state()
    PartArrays.from_npz(npz, resplit=1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bad_resplit(npz, seed, error):
    with pytest.raises(error, match="'resplit' must be"):
        PartArrays.from_npz(npz, resplit=seed)


@given(y=st.lists(st.integers(0, 3), max_size=30), seed=st.integers(0, 99))
def test_redrawn_is_a_permutation_within_classes(y, seed):
    y = torch.tensor(y, dtype=torch.long)
    index = redrawn(y, seed)
    assert index.sort().values.tolist() == list(range(len(y)))
    assert torch.equal(y[index], y)
    assert torch.equal(redrawn(y, seed), index)


def test_redrawn_is_uniform():
    y = torch.tensor([1, 0, 1, 1])
    found = [tuple(redrawn(y, seed).tolist()) for seed in range(600)]
    counts = [found.count(key) for key in set(found)]
    assert len(counts) == 6
    assert all(60 < count < 140 for count in counts)  # A hundred each, and four deviations.


def test_genuine_parts(data_dir):
    path = data_dir / "labeleddb_2048.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in the folder of the real data")
    seen = []
    for resplit in (None, 0, 1):
        clouds = []
        for split, size in (("train", 14), ("val", 2), ("test", 4)):
            dataset = PartArrays.from_npz(path, split, "recommended", resplit)
            check_labelled(dataset)
            assert (len(dataset.class_names), dataset[0].pos.shape) == (16, (2048, 3))
            labels = torch.cat([data.category for data in dataset])
            assert labels.bincount().tolist() == [size] * 16
            clouds += [data.pos.numpy().tobytes() for data in dataset]
        assert len(set(clouds)) == 320
        seen.append(frozenset(clouds[-64:]))
    assert len(set(seen)) == 3
    whole = PartArrays.from_npz(path)
    assert (len(whole), len(whole.class_names), whole.num_classes) == (266, 19, 94)
