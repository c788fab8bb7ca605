"""Transforms that write in place, and those that give no cloud: the same in every data set."""

import inspect

import numpy as np
import pytest
import torch
from helpers import parts_file, toy_arrays, toy_parts, toy_set
from torch_geometric.data import Data, InMemoryDataset

from torch_geometric_ddp import PointCloudArrays, SyntheticPointCloudDataset, datasets
from torch_geometric_ddp.clouds import LabelledBank, PointCloudBank
from torch_geometric_ddp.datasets import ModelNetResampled, ParametricShapes, PartArrays
from torch_geometric_ddp.datasets._in_memory import InMemoryClouds
from torch_geometric_ddp.parameterization import FullResolution


def resampled(root, **kwargs):
    """A folder of one shape a split, read by a reader."""
    folder = root / "raw" / "modelnet40_normal_resampled"
    if not folder.exists():
        (folder / "bed").mkdir(parents=True)
        (folder / "modelnet10_shape_names.txt").write_text("bed\n")
        for split, number in (("train", 1), ("test", 2)):
            name = f"bed_{number:04}"
            (folder / f"modelnet10_{split}.txt").write_text(f"{name}\n")
            rows = np.random.default_rng(number).uniform(-1, 1, (20, 6))
            np.savetxt(folder / "bed" / f"{name}.txt", rows, delimiter=",")
    return ModelNetResampled(root, num_points=None, strict=False, **kwargs)


SETS = {
    "arrays": lambda root, **kwargs: PointCloudArrays(*toy_arrays(), **kwargs),
    "shared arrays": lambda root, **kwargs: PointCloudArrays(*toy_arrays(), copy=False, **kwargs),
    "parts": lambda root, **kwargs: PartArrays.from_npz(parts_file(root / "p.npz"), **kwargs),
    "shapes": lambda root, **kwargs: ParametricShapes(True, 2, 16, **kwargs),
    "labelled shapes": lambda root, **kwargs: ParametricShapes(
        True, 2, 16, segmentation=True, **kwargs
    ),
    "reader": resampled,
    "distilled": lambda root, **kwargs: SyntheticPointCloudDataset(
        FullResolution(torch.randn(3, 8, 3, generator=torch.Generator().manual_seed(0)), 3),
        **kwargs,
    ),
}


@pytest.fixture(params=SETS)
def make(request, tmp_path):
    return lambda **kwargs: SETS[request.param](tmp_path, **kwargs)


def change(data):
    """Writes into all that a cloud has."""
    for key in data.keys():  # noqa: SIM118
        data[key].mul_(2).add_(1)
    return data


def clear(data):
    data.pos.zero_()
    return data


def shift(data):
    data.pos.mul_(2).add_(1)
    return data


def check(dataset, others, expected):
    assert len(dataset) == len(others) > 0
    for data, other in zip(dataset, others, strict=True):
        assert data.keys() == other.keys()
        assert all(torch.equal(data[key], expected(other[key])) for key in data.keys())  # noqa: SIM118


def test_a_transform_that_writes_in_place_gives_the_same_every_time(make):
    plain, changed = make(), make(transform=change)
    for _ in range(3):  # As many epochs.
        check(changed, plain, lambda value: 2 * value + 1)
    check(changed[:1], plain[:1], lambda value: 2 * value + 1)
    # Nor does what is done with an item, without a transform.
    kept = [data.clone() for data in plain]
    for data in plain:
        change(data)
    check(plain, kept, lambda value: value)


@pytest.mark.parametrize("when", ["transform", "pre_transform"])
def test_shared_arrays_are_never_written_to(when):
    points, labels = toy_arrays()
    before = points.copy(), labels.copy()
    made = PointCloudArrays(points, labels, copy=False, **{when: clear})
    assert all(not data.pos.any() for data in made)
    assert (points == before[0]).all()
    assert (labels == before[1]).all()


@pytest.mark.parametrize(
    "bank",
    [
        lambda: PointCloudBank.from_dataset(toy_set()),
        lambda: LabelledBank.from_dataset(toy_parts()),
    ],
)
def test_a_bank_hands_out_copies(bank):
    bank = bank()
    kept, digest = [data.clone() for data in bank], bank.sha256()
    for data in bank:
        change(data)
    check([*bank], kept, lambda value: value)
    bank._sha256 = None
    assert bank.sha256() == digest


def test_all_sets_are_of_one_kind():
    """So that no new one hands out views."""
    found = [getattr(datasets, name) for name in datasets.__all__]
    found = [one for one in found if inspect.isclass(one) and issubclass(one, InMemoryDataset)]
    assert len(found) > 5
    assert all(issubclass(one, InMemoryClouds) for one in [*found, SyntheticPointCloudDataset])


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda data: None, TypeError, "'pre_transform' must return a Data with 'pos', got None"),
        (lambda data: Data(y=data.y), TypeError, "'pre_transform' must return a Data with 'pos'"),
        (
            lambda data: Data(pos=data.pos / 0 * 0, y=data.y),
            ValueError,
            "'pre_transform' must give finite 'pos', got NaN or infinity",
        ),
    ],
)
def test_what_a_pre_transform_gives_is_looked_at(make, result, error, message):
    with pytest.raises(error, match=message):
        make(pre_transform=result)


def test_a_filter_comes_before_the_transform_of_a_set(make):
    seen = []

    def keep(data):
        seen.append(data.pos.clone())
        return len(seen) % 2 == 1 or len(seen) < 3

    made = make(pre_filter=keep, pre_transform=shift)
    assert 0 < len(made) <= len(seen)
    assert torch.equal(made[0].pos, 2 * seen[0] + 1)
