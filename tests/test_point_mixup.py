"""The controls of morphing: mixtures of pairs of real clouds, and anchors without alignment."""

from itertools import combinations

import pytest
import torch
from helpers import toy_parts, toy_set
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from torch_geometric_ddp import StorageBudget, SyntheticPointCloudDataset
from torch_geometric_ddp.budget import BudgetError
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.coreset import point_mixup_coreset
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.parameterization import PointMixup, PointSet, ShapeMorphing

RATIOS = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def mixtures_by_hand(group, num):
    """All mixtures of a group, one after the other."""
    pairs = [*combinations(range(len(group)), 2)]
    found = []
    for ratio in RATIOS:
        for i, j in pairs:
            order = linear_sum_assignment(cdist(group[i].numpy(), group[j].numpy()))[1]
            found.append((1 - ratio) * group[i] + ratio * group[j][order])
    return torch.stack(found[:num])


@given(st.integers(2, 4), st.integers(1, 9), st.integers(0, 9))
def test_mixtures_are_those_of_a_plain_loop(num_anchors, num_points, num_mixtures):
    num_mixtures = min(num_mixtures, len(RATIOS) * num_anchors * (num_anchors - 1) // 2)
    anchors = rand(6, num_anchors, num_points, 3)
    made = PointMixup(anchors, 3, num_mixtures).unfold().detach()
    made = made.view(6, num_anchors + num_mixtures, num_points, 3)
    assert torch.equal(made[:, :num_anchors], anchors)
    for group, mine in zip(anchors, made[:, num_anchors:], strict=True):
        if num_mixtures:
            torch.testing.assert_close(mine, mixtures_by_hand(group, num_mixtures))


def test_a_mixture_lies_on_the_shortest_path():
    """Its assignment distances to the two clouds add up to that of the clouds."""

    def distance(a, b):
        away = cdist(a.numpy(), b.numpy())
        return away[linear_sum_assignment(away)].mean()

    anchors = rand(1, 2, 30, 3)
    first, second, *mixtures = PointMixup(anchors, 1, 3).unfold().detach().double()
    for ratio, mixture in zip(RATIOS, mixtures, strict=False):
        assert distance(first, mixture) == pytest.approx(ratio * distance(first, second), rel=1e-5)


def test_mixtures_cost_nothing():
    anchors = rand(6, 4, 10, 3)
    none, many = (PointMixup(anchors, 3, num) for num in (0, 40))
    assert none.storage_bits() == many.storage_bits() == 32 * anchors.numel()
    assert many.num_clouds == 6 * 44
    assert many.is_morph().sum() == 6 * 40


def test_the_order_of_points_is_not_needed():
    """A codec without it gives the same clouds as sets, mixtures included."""
    codec = PointSet(6)
    stored = PointMixup(codec.rounded(rand(2, 3, 12, 3)), 2, 5, codec=codec)
    again = stored.stored()
    for one, other in zip(stored.unfold(), again.unfold(), strict=True):
        rows = [sorted(map(tuple, cloud.round(decimals=4).tolist())) for cloud in (one, other)]
        assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("shape", "num_mixtures", "message"),
    [
        ((2, 1, 5, 3), 1, "'anchors' must be two or more of a group, got 1"),
        ((2, 2, 5, 3), 1001, "'num_mixtures' must"),
        ((2, 2, 5, 3), -1, "'num_mixtures' must"),
        ((2, 5, 3), 1, "'anchors'"),
    ],
)
def test_refused(shape, num_mixtures, message):
    with pytest.raises(ValueError, match=message):
        PointMixup(rand(*shape), 1, num_mixtures)


def test_a_coreset_of_real_clouds_and_mixtures(tmp_path):
    real = toy_set()
    made = point_mixup_coreset(real, 2, seed=3)
    assert made.storage_bits == StorageBudget(32, 3, 2).bits
    assert len(made) == 3 * 2 * 20
    chosen = made.provenance["chosen"]
    assert [real[i].y.item() for i in chosen] == [c for c in range(3) for _ in range(8)]
    bank = PointCloudBank.from_dataset(real).normalize()
    pos = bank.select(torch.tensor(chosen)).farthest_points(8).dense()
    stored = SyntheticPointCloudDataset(made.parameterization, split="anchors")
    assert torch.equal(torch.stack([data.pos for data in stored]), pos)
    made.save(tmp_path / "set.safetensors")
    again = SyntheticPointCloudDataset(tmp_path / "set.safetensors")
    assert again.provenance == made.provenance
    for one, other in zip(made, again, strict=True):
        assert torch.equal(one.pos, other.pos)
        assert torch.equal(one.y, other.y)
    assert point_mixup_coreset(real, 2, seed=3).provenance["chosen"] == chosen
    assert point_mixup_coreset(real, 2, seed=4).provenance["chosen"] != chosen


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_anchors": 1}, "'num_anchors' must be at least 2, got 1"),
        ({"ppc": 0}, "'ppc' must"),
        ({"seed": -1}, "'seed' must"),
        ({"num_anchors": 33}, "'num_anchors'=33 .*do not fit"),
    ],
)
def test_a_coreset_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        point_mixup_coreset(toy_set(), **kwargs)


def test_labelled_points_are_refused():
    with pytest.raises(ValueError, match="'task' must have one label for a cloud"):
        point_mixup_coreset(toy_parts(), task="segmentation")


# Without alignment ################################################################################


def test_without_alignment_points_keep_their_order():
    pos = rand(2, 6, 40, 3)
    generators = (torch.Generator().manual_seed(0) for _ in range(2))
    plain, aligned = (
        ShapeMorphing.from_clouds(pos, 3, 10, 4, generator, align=align)
        for generator, align in zip(generators, (False, True), strict=True)
    )
    assert torch.equal(plain.weights, aligned.weights)
    assert torch.equal(plain.anchors[:, 0], aligned.anchors[:, 0])
    assert not torch.equal(plain.anchors, aligned.anchors)

    def as_set(anchors):
        return [sorted(map(tuple, cloud.tolist())) for cloud in anchors.flatten(0, 1)]

    assert as_set(plain.anchors) == as_set(aligned.anchors)


def test_without_alignment_a_codec_must_keep_the_order():
    with pytest.raises(ValueError, match="'align' must be True where the codec of the anchors is"):
        ShapeMorphing.from_clouds(rand(2, 4, 40, 3), 2, 8, 1, align=False, codec=PointSet(6))
    with pytest.raises(TypeError, match="'align' must be True or False"):
        ShapeMorphing.from_clouds(rand(2, 4, 40, 3), 2, 8, 1, align=1)


def test_ddp_without_alignment():
    kwargs = {"num_anchors": 2, "num_morphs": 2}
    method, other = ddp(align=False, **kwargs), ddp(**kwargs)
    sets = [one.distill(toy_set(), 1, steps=0, progress=False) for one in (method, other)]
    assert not torch.equal(sets[0][-1].pos, sets[1][-1].pos)
    assert sets[0].storage_bits == sets[1].storage_bits


def test_too_little_storage_is_told_in_words_of_the_coreset():
    with pytest.raises(BudgetError, match="'num_anchors'=4 clouds of a group do not fit") as error:
        point_mixup_coreset(toy_set(num_points=64), 1 / 64)
    assert "num_morphs" not in str(error.value)
