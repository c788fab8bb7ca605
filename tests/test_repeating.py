"""The figure that a set tells is made again from its file alone."""

import functools
from dataclasses import replace

import pytest
import torch
import torch_geometric.transforms as T
from helpers import TinyNet, toy_set

from torch_geometric_ddp import SMOKE, SyntheticPointCloudDataset
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.comparison import ENTRIES, PRESETS, Lab
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.evaluation import network_of_figure, repeat_figure, told_figure
from torch_geometric_ddp.nn import PointNet, PointNetSegmentation
from torch_geometric_ddp.tasks import find_task

PARTS = find_task("segmentation")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The file of a set whose figure PointNet made."""
    lab = Lab(toy_set(), toy_set(seed=1), tmp_path_factory.mktemp("lab"), PRESETS["smoke"])
    (made,) = lab.run(lab.cells([ENTRIES["random"]], (1,), (3,)))
    return lab.out / made["set"], made


def test_a_figure_is_repeated_from_its_file(kept):
    path, made = kept
    again = repeat_figure(SyntheticPointCloudDataset(path), toy_set(seed=1), progress=False)
    assert again.evaluation.mean == again.told["value"] == made["value"]
    assert again.evaluation.seeds == [3]
    assert again.differences == []
    figure = f"{100 * made['value']:.1f} %"
    made_with = "(PointNet, smoke, seeds [3])"
    assert str(again).splitlines() == [
        f"accuracy: {figure} now {made_with}",
        f"accuracy: {figure} in the file {made_with}",
    ]


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        ({"test_set": toy_set(seed=2)}, "test set"),
        ({"network": TinyNet}, "network"),
        ({"protocol": replace(SMOKE, lr=0.02)}, "protocol"),
        ({"seeds": [3, 4]}, "choice of seeds"),
        ({"seeds": [3], "workers": 2}, "number of threads"),
        ({"seeds": [3], "together": 2}, "way of training"),
    ],
)
def test_what_is_otherwise_is_named(kept, given, difference):
    synthetic = SyntheticPointCloudDataset(kept[0])
    if "workers" in given:  # Whose processes have one thread.
        synthetic.provenance["evaluated"]["threads"] = 2
    again = repeat_figure(synthetic, **{"test_set": toy_set(seed=1), **given}, progress=False)
    assert again.differences == [difference]
    assert str(again).endswith(f"\nThey were made with another {difference}.")


def test_another_training_set_is_named(kept):
    path, test = kept[0], toy_set(seed=1)
    whole = SyntheticPointCloudDataset(path)
    for other in (
        whole[:2],
        SyntheticPointCloudDataset(path, pre_filter=lambda data: int(data.y) < 2),
        SyntheticPointCloudDataset(path, transform=T.RandomScale((0.5, 0.6))),
        SyntheticPointCloudDataset(path, pre_transform=T.RandomFlip(0, p=1)),
    ):
        again = repeat_figure(other, test, progress=False)
        assert again.differences == ["set of training clouds"]
    shuffled = repeat_figure(whole[torch.arange(len(whole))], test, progress=False)
    assert (shuffled.differences, shuffled.evaluation.mean) == ([], kept[1]["value"])


@pytest.mark.parametrize("key", ["device", "threads", "versions"])
def test_the_machine_is_compared_where_it_is_told(kept, key):
    synthetic = SyntheticPointCloudDataset(kept[0])
    told = synthetic.provenance["evaluated"]
    assert told[key] == kept[1][key]
    told[key] = "another"
    again = repeat_figure(synthetic, toy_set(seed=1), progress=False)
    words = {"threads": "number of threads", "versions": "set of versions"}
    assert again.differences == [words.get(key, key)]
    del told[key]  # As in files of before.
    assert repeat_figure(synthetic, toy_set(seed=1), progress=False).differences == []


def test_a_set_without_a_figure_needs_all_that_makes_one():
    plain = random_coreset(toy_set(), 1, 0)
    assert told_figure(plain) == {}
    given = {"network": TinyNet, "protocol": SMOKE, "seeds": 1}
    for name in given:
        less = {key: value for key, value in given.items() if key != name}
        with pytest.raises(ValueError, match=f"'{name}' must be given for a set that tells no"):
            repeat_figure(plain, toy_set(seed=1), **less)
    again = repeat_figure(plain, toy_set(seed=1), **given, progress=False)
    assert (again.told, again.differences) == ({}, [])
    assert str(again).count("\n") == 0


def test_a_part_of_a_figure_is_refused(kept):
    synthetic = SyntheticPointCloudDataset(kept[0])
    del synthetic.provenance["evaluated"]["protocol"]
    with pytest.raises(ValueError, match="the figure that a set tells must have"):
        repeat_figure(synthetic, toy_set(seed=1))
    with pytest.raises(TypeError, match="'synthetic' must be a SyntheticPointCloudDataset"):
        repeat_figure(toy_set(), toy_set(seed=1))
    with pytest.raises(TypeError, match="'test_set' must be"):
        repeat_figure(SyntheticPointCloudDataset(kept[0]), 3)


def test_networks_are_those_of_the_figure():
    small = functools.partial(PointNetSegmentation, width=0.25)
    told = {"backbone": "PointNetSegmentation, width 0.25", "network": describe(small)}
    assert describe(network_of_figure(told, PARTS)) == describe(small)
    told = {"backbone": "PointNet", "network": describe(PointNet)}
    assert network_of_figure(told, find_task("classification")) is PointNet
    for other in ({**told, "network": describe(TinyNet)}, {**told, "backbone": "mine"}):
        with pytest.raises(ValueError, match=r"'network' must be given, as .* none of PointNet, "):
            network_of_figure(other, find_task("classification"))
