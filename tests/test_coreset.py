"""Random coresets."""

import pytest
import torch
from helpers import toy_arrays, toy_set
from torch_geometric.data import Data

from torch_geometric_ddp import StorageBudget, SyntheticPointCloudDataset
from torch_geometric_ddp.coreset import random_coreset


@pytest.mark.parametrize("ppc", [1, 3])
def test_chosen_clouds_are_real_ones(ppc):
    real, chosen = toy_set(), random_coreset(toy_set(), ppc)
    assert len(chosen) == 3 * ppc
    for data, i in zip(chosen, chosen.provenance["chosen"], strict=True):
        assert torch.equal(data.pos, real[i].pos)
        assert torch.equal(data.y, real[i].y)
    assert [data.y.item() for data in chosen] == [c for c in range(3) for _ in range(ppc)]


def test_no_cloud_is_chosen_twice():
    chosen = random_coreset(toy_set(), 6).provenance["chosen"]
    assert sorted(chosen) == list(range(18))


def test_small_class_repeats_its_clouds():
    chosen = random_coreset(toy_set(per_class=2), 5).provenance["chosen"]
    for c in range(3):
        assert sorted(chosen.count(i) for i in (2 * c, 2 * c + 1)) == [2, 3]


def test_seed():
    first, same, other = (random_coreset(toy_set(), 2, seed) for seed in (1, 1, 2))
    assert first.provenance["chosen"] == same.provenance["chosen"]
    assert first.provenance["chosen"] != other.provenance["chosen"]


def test_global_generator_is_left_alone():
    state = torch.get_rng_state()
    random_coreset(toy_set(), 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_storage_is_the_budget():
    chosen = random_coreset(toy_set(), 2)
    assert chosen.storage_bits == chosen.provenance["bits"] == StorageBudget(32, 3, 2).bits


def test_names_and_provenance(tmp_path):
    chosen = random_coreset(toy_set(), 2, seed=4)
    assert chosen.class_names == ["class0", "class1", "class2"]
    assert chosen.provenance["method"] == "random"
    assert (chosen.provenance["ppc"], chosen.provenance["seed"]) == (2, 4)
    chosen.save(tmp_path / "set")
    read = SyntheticPointCloudDataset(tmp_path / "set")
    assert read.provenance == chosen.provenance
    assert torch.equal(read._data.pos, chosen._data.pos)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((toy_set(), 0), ValueError, "'ppc' must be at least 1"),
        ((toy_set(), 1.5), TypeError, "'ppc' must be an integer"),
        ((toy_set(), 1, -1), ValueError, "'seed' must be at least 0"),
        (([],), ValueError, "must hold at least one cloud"),
        ((toy_set()[:6],), ValueError, "every class must have a cloud"),
        (
            ([Data(pos=torch.from_numpy(toy_arrays()[0][i][: 9 + i]), y=0) for i in (0, 1)],),
            ValueError,
            "the same number of points, got 9 to 10",
        ),
    ],
)
def test_bad_arguments(args, error, message):
    with pytest.raises(error, match=message):
        random_coreset(*args)
