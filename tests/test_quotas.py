"""Quotas: a storage that is divided otherwise than equally among the classes."""

import itertools
import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import PRESET, TinyNet, TinySegmenter, toy_arrays, toy_parts, toy_set
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_ddp import (
    Distillation,
    Method,
    PointCloudArrays,
    StorageBudget,
    SyntheticPointCloudDataset,
    distill,
)
from torch_geometric_ddp.budget import BudgetError
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    Coreset,
    Distilled,
    Lab,
    markdown,
    summarize,
)
from torch_geometric_ddp.coreset import (
    Observation,
    difficulty_quotas,
    forgetting_coreset,
    herding_coreset,
    k_center_coreset,
    observe,
    point_mixup_coreset,
    random_coreset,
)
from torch_geometric_ddp.evaluation import Protocol
from torch_geometric_ddp.matching import (
    DistributionMatching,
    GradientMatching,
    KernelRegression,
    Matching,
)
from torch_geometric_ddp.methods import dc, ddp, dm, full_resolution, packed, pkr, sadm
from torch_geometric_ddp.methods.memory_plan import MemoryPlan
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.methods.sharing import check_rows
from torch_geometric_ddp.parameterization import (
    Float64,
    FullResolution,
    Mirrored,
    PointMixup,
    PointSet,
    ShapeMorphing,
    Uniform,
)
from torch_geometric_ddp.quotas import (
    QUOTAS,
    check_quotas,
    first_of_each,
    largest_remainders,
    weights_of,
)
from torch_geometric_ddp.tracking import Clouds
from torch_geometric_ddp.viewer import _groups, write_viewer
from torch_geometric_ddp.visualize import Film, plot_distilled

WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)
SIZES = (3, 12, 6)
TINY = {"num_points": 8, "visits": 5, "ages": (0, 2), "num_trained": 1, "real_per_class": 4}


def long_tailed(seed=0, num_points=32):
    """Clouds of classes of :obj:`SIZES`."""
    pos, labels = toy_arrays(3, max(SIZES), num_points, seed)
    kept = np.concatenate([np.flatnonzero(labels == c)[:n] for c, n in enumerate(SIZES)])
    names = [f"class{c}" for c in range(3)]
    return PointCloudArrays(pos[kept], labels[kept], class_names=names)


def harness(out):
    return Lab(long_tailed(), long_tailed(seed=1), out, PRESET, {"Tiny": TinyNet})


def labels_of(dataset):
    return torch.bincount(torch.tensor([int(data.y) for data in dataset])).tolist()


# How units are divided ############################################################################


def one_by_one(total, weights):
    """The same in other words: of those above one unit, the rest goes to the largest shares."""
    weights = [Fraction(weight) for weight in weights]
    counts: dict[int, int] = {}
    while True:
        free = [c for c in range(len(weights)) if c not in counts]
        rest, whole = total - len(counts), sum(weights[c] for c in free)
        small = [c for c in free if weights[c] * rest < whole]
        if not small:
            break
        counts |= dict.fromkeys(small, 1)
    counts |= {c: int(weights[c] * rest / whole) for c in free}
    while sum(counts.values()) < total:
        short = {c: weights[c] * rest / whole - counts[c] for c in free}
        largest = max(short.values())
        counts[next(c for c in free if short[c] == largest)] += 1
    return tuple(counts[c] for c in range(len(weights)))


@given(WEIGHTS, st.integers(1, 50))
def test_units_are_divided_in_proportion(weights, per_class):
    total = per_class * len(weights)
    counts = largest_remainders(total, weights)
    assert sum(counts) == total
    assert min(counts) >= 1
    assert counts == one_by_one(total, weights)
    assert counts == largest_remainders(total, [weight / 4 for weight in weights])
    for (a, n), (b, m) in itertools.permutations(zip(weights, counts, strict=True), 2):
        assert a <= b or n >= m
    exact = [total * Fraction(weight) / sum(map(Fraction, weights)) for weight in weights]
    if min(exact) >= 1:  # Else the largest give to those that get one.
        assert all(abs(n - share) < 1 for n, share in zip(counts, exact, strict=True))


@pytest.mark.parametrize(
    ("total", "weights", "counts"),
    [
        (30, (7, 30, 64), (2, 9, 19)),
        (3, (1, 1, 1e6), (1, 1, 1)),
        (6, (1, 1, 1e6), (1, 1, 4)),
        (7, (1, 1, 1), (3, 2, 2)),
        (6, (1, 5, 2), (1, 4, 1)),
    ],
)
def test_known_divisions(total, weights, counts):
    assert largest_remainders(total, weights) == counts


def test_fewer_units_than_classes():
    with pytest.raises(ValueError, match="'total' must be at least one for each of 3 classes"):
        largest_remainders(2, (1.0, 2.0, 3.0))


@pytest.mark.parametrize("weights", [[0, 0], [1, -1], [], [float("nan"), 1]])
def test_units_of_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="'weights' must"):
        largest_remainders(5, weights)


def test_weights_of_names():
    assert weights_of("uniform", SIZES) is None
    assert weights_of("size", SIZES) == SIZES
    assert weights_of("sqrt-size", SIZES) == tuple(map(math.sqrt, SIZES))
    assert weights_of([2, 2, 2], SIZES) is None
    assert weights_of("size", [5, 5]) is None
    numbers = [1.0, 2.0, 0.5]
    assert weights_of(np.array(numbers), SIZES) == weights_of(torch.tensor(numbers), SIZES)
    assert QUOTAS[0] == "uniform"


def test_weights_of_a_budget_are_numbers_in_a_tuple():
    numbers = np.array([1.0, 2.0, 3.0])
    made = [StorageBudget(10, 3, 4, weights=w) for w in ((1, 2, 3), [1, 2, 3], numbers)]
    assert len({*made}) == 1
    assert made[1].weights == (1.0, 2.0, 3.0)
    for weights, error in (("size", TypeError), ([1, 2], ValueError), ([1, 2, 0], ValueError)):
        with pytest.raises(error, match="'weights' must"):
            StorageBudget(10, 3, 4, weights=weights)


@pytest.mark.parametrize(
    ("quotas", "error"),
    [
        ("sizes", ValueError),
        ([1.0, 2.0], ValueError),
        ([1.0, 0.0, 2.0], ValueError),
        ([1.0, math.nan, 2.0], ValueError),
        ([1.0, "2", 2.0], TypeError),
        (b"size", TypeError),
        (None, TypeError),
        ({1: 2}, TypeError),
    ],
)
def test_quotas_that_are_none(quotas, error):
    with pytest.raises(error, match="'quotas'"):
        check_quotas(quotas, 3)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_the_first_of_each(counts):
    rows = torch.arange(len(counts) * 5).view(-1, 5)
    expected = [int(rows[c, i]) for c, num in enumerate(counts) for i in range(num)]
    assert first_of_each(rows, counts).tolist() == expected


# What is stored ###################################################################################


def made(kind, counts, dtype=torch.float32):
    """A parameterization of so many groups, as one class."""
    generator, total = torch.Generator().manual_seed(0), sum(counts)

    def rand(*shape):
        return torch.rand(total, *shape, generator=generator, dtype=dtype) - 0.5

    if kind == "clouds":
        return FullResolution(rand(9, 3), 1)
    if kind == "turned":
        return FullResolution(rand(9, 3), 1, rotation_lr=0.1)
    if kind == "sets":
        return FullResolution(rand(9, 3), 1, codec=PointSet(5))
    if kind == "halves":
        planes = torch.where(rand(1) > 0, 1.0, -1.0)
        return Mirrored(rand(4, 3).abs(), planes, 1, codec=PointSet(5, half=True))
    if kind == "mixtures":
        return PointMixup(rand(3, 6, 3), 1, 2)
    if kind == "static":
        return ShapeMorphing(rand(3, 6, 3), 1, 2, adaptive=False)
    return ShapeMorphing(rand(3, 6, 3), 1, 2, rand(2, 3), codec=Uniform(6))


KINDS = ("clouds", "turned", "sets", "halves", "mixtures", "static", "morphs")
COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", KINDS)
@given(counts=COUNTS)
def test_classes_unfold_as_if_each_was_alone(kind, counts):
    """Against a loop over classes and groups."""
    divided = made(kind, counts).divide(counts)
    assert (divided.num_classes, divided.counts) == (len(counts), tuple(counts))
    assert divided.num_groups == sum(counts)
    y, clouds, ends = [], [], [0, *itertools.accumulate(counts)]
    for c, (start, stop) in enumerate(itertools.pairwise(ends)):
        for group in range(start, stop):
            clouds.append(divided.unfold(slice(group, group + 1)))
            y += [c] * len(clouds[-1])
    whole = divided()
    assert whole.y.tolist() == y
    assert divided.num_clouds == len(y) == len(divided.is_morph()) == whole.num_graphs
    torch.testing.assert_close(whole.pos.view(-1, divided.num_points, 3), torch.cat(clouds))
    for start, stop in itertools.combinations(range(len(counts) + 1), 2):
        some = divided(slice(start, stop))
        assert some.y.tolist() == [label for label in y if start <= label < stop]
        rows = torch.cat(clouds[ends[start] : ends[stop]]).flatten(0, 1)
        torch.testing.assert_close(some.pos, rows)


@pytest.mark.parametrize("kind", KINDS)
@given(counts=COUNTS)
def test_a_division_costs_nothing_and_comes_back_from_a_file(kind, counts, tmp_path_factory):
    alone = made(kind, counts)
    bits, divided = alone.storage_bits(), made(kind, counts).divide(counts)
    assert divided.storage_bits() == bits
    stored = divided.stored()
    assert (stored.counts, stored.ppc) == (divided.counts, divided.ppc)
    path = tmp_path_factory.mktemp("sets") / "set.safetensors"
    synthetic = SyntheticPointCloudDataset(stored)
    synthetic.save(path)
    again = SyntheticPointCloudDataset(path)
    assert again.parameterization.counts == tuple(counts)
    assert labels_of(again) == [n * divided.clouds_per_group for n in counts]
    for one, other in zip(synthetic, again, strict=True):
        assert torch.equal(one.pos, other.pos)
    again.save(path.with_name("again.safetensors"))
    assert path.read_bytes() == path.with_name("again.safetensors").read_bytes()


def test_equal_numbers_are_as_before():
    divided, usual = made("clouds", (2, 2, 2)).divide([2, 2, 2]), made("clouds", (2, 2, 2))
    usual = FullResolution(usual.pos.detach(), 3)
    assert (divided.describe(), divided.config()) == (usual.describe(), usual.config())
    assert "class_groups" not in divided.config()
    assert "K=2" in divided.describe()
    assert "K=(1, 3)" in made("clouds", (1, 3)).divide((1, 3)).describe()


@pytest.mark.parametrize(
    ("counts", "error"),
    [([1, 2], ValueError), ([], ValueError), ([4, 0], ValueError), (["4"], TypeError)],
)
def test_numbers_that_do_not_add_up(counts, error):
    with pytest.raises(error, match="'counts' must"):
        made("clouds", (4,)).divide(counts)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"class_groups": [1, 2]}, ValueError),
        ({"class_groups": [1, 3, 1]}, ValueError),
        ({"class_groups": [4, 0]}, ValueError),
        ({"class_groups": [1.5, 2.5]}, TypeError),
        ({"class_groups": 4}, TypeError),
        ({"class_groups": "13"}, TypeError),
        ({"class_groups": [2, 2]}, ValueError),
        ({"class_groups": [1, 2**40]}, ValueError),
        ({}, ValueError),
    ],
)
def test_a_header_that_lies(changes, error):
    divided = made("static", (1, 4)).divide((1, 4))
    config = {key: value for key, value in divided.config().items() if key != "class_groups"}
    storage = divided.storage()
    assert ShapeMorphing.from_storage(storage, divided.config(), 2, 3).counts == (1, 4)
    with pytest.raises(error):
        ShapeMorphing.from_storage(storage, {**config, **changes}, 2, 3)
    with pytest.raises(ValueError, match="'class_groups' must be those of 2 classes with 2"):
        ShapeMorphing.from_storage(storage, divided.config(), 2, 2)


def test_points_with_labels_are_not_divided(tmp_path):
    made = distill(
        toy_parts(),
        2,
        ddp(num_anchors=2, num_morphs=1),
        steps=0,
        task="segmentation",
        progress=False,
    ).parameterization
    assert made.divide(made.counts) is made
    with pytest.raises(ValueError, match="'counts' must not be given where points are labelled"):
        made.divide([1, 3, 2])
    with pytest.raises(ValueError, match="'labels' must be of classes of as many groups"):
        FullResolution(torch.rand(6, 24, 3), 1).divide([1, 3, 2]).label_with(made.labels)
    for quotas in ("size", [1, 2, 3]):
        if quotas == "size":  # All categories are of one size.
            continue
        with pytest.raises(
            ValueError, match="'quotas' must be 'uniform' where points are labelled"
        ):
            random_coreset(toy_parts(), 2, task="segmentation", quotas=quotas)


# Within a budget ##################################################################################


@given(
    weights=st.lists(st.floats(0.1, 100), min_size=3, max_size=3),
    ppc=st.sampled_from([0.25, 0.5, 2, 3.7]),
    codec=st.sampled_from([PointSet(5), Uniform(3)]),
)
def test_bits_are_never_above_those_of_equal_quotas(weights, ppc, codec):
    data = toy_set()
    usual, divided = (
        random_coreset(data, ppc, num_points=8, codec=codec, quotas=quotas)
        for quotas in ("uniform", weights)
    )
    assert divided.storage_bits == usual.storage_bits <= StorageBudget(32, 3, ppc).bits
    counts = labels_of(divided)
    assert min(counts) >= 1
    assert sum(counts) == len(usual)
    order = sorted(range(3), key=lambda c: (weights[c], -c))
    assert [counts[c] for c in order] == sorted(counts)


def test_quotas_that_have_nothing_to_divide():
    with pytest.raises(
        BudgetError, match="'quotas' must be 'uniform' here: ppc=1 has room for one"
    ):
        random_coreset(long_tailed(), 1, quotas="size")
    assert StorageBudget(32, 3, 1, 0, (2.0, 2.0, 2.0)).counts(1) == (1, 1, 1)
    with pytest.raises(ValueError, match="'weights' must have a number for each of 3 classes"):
        StorageBudget(32, 3, 1, 0, (1.0, 2.0))


# Coresets #########################################################################################


@pytest.fixture(scope="module")
def seen():
    protocol = Protocol("short", epochs=2)
    return observe(long_tailed(), TinyNet, protocol, progress=False)


CORESETS = {
    "random": lambda data, seen, **kwargs: random_coreset(data, 2, **kwargs),
    "herding": lambda data, seen, **kwargs: herding_coreset(data, 2, seen, **kwargs),
    "k_center": lambda data, seen, **kwargs: k_center_coreset(data, 2, seen, **kwargs),
    "forgetting": lambda data, seen, **kwargs: forgetting_coreset(data, 2, seen, **kwargs),
    "point-mixup": lambda data, seen, **kwargs: point_mixup_coreset(
        data, 2, num_anchors=2, num_mixtures=1, **kwargs
    ),
}


@pytest.mark.parametrize("name", CORESETS)
def test_coresets_by_size(name, seen, tmp_path):
    """A class with a smaller quota has the first of its clouds, as they were chosen."""
    data = long_tailed()
    usual, divided = (CORESETS[name](data, seen, quotas=quotas) for quotas in ("uniform", "size"))
    expected = largest_remainders(6, SIZES)
    assert expected == (1, 3, 2)
    assert divided.parameterization.counts == expected
    assert divided.storage_bits == usual.storage_bits
    assert divided.provenance["quotas"] == "size"
    assert "quotas" not in usual.provenance
    chosen, before = (torch.tensor(one.provenance["chosen"]) for one in (divided, usual))
    y = torch.tensor([int(item.y) for item in data])
    assert torch.equal(torch.bincount(y[chosen]), torch.tensor(expected) * len(chosen) // 6)
    for c in range(3):
        mine, theirs = chosen[y[chosen] == c], before[y[before] == c]
        num = min(len(mine), len(theirs))
        assert torch.equal(mine[:num], theirs[:num])
    divided.save(tmp_path / "set.safetensors")
    assert len(SyntheticPointCloudDataset(tmp_path / "set.safetensors")) == len(divided)


# Distillation #####################################################################################


METHODS = {
    "ddp": (ddp(num_anchors=2, num_morphs=1), 2),
    "ddp-filled": (ddp(num_anchors=2, num_morphs=1, anchor_points=4, fill=True), 1),
    "sadm": (sadm(), 2),
    "dm": (dm(), 2),
    "dc": (dc(), 2),
    "pkr": (pkr(depth=5, **TINY), 0.25),
    "pkr-unmirrored": (pkr(depth=5, mirror=False, **TINY), 0.5),
    "pkr-sized": (pkr(visits=2, ages=(0, 2), num_trained=1, real_per_class=4), 1),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_by_size(name):
    method, ppc = METHODS[name]
    usual, divided = (
        method.distill(long_tailed(), ppc, steps=2, network=TinyNet, progress=False, quotas=quotas)
        for quotas in ("uniform", "size")
    )
    per_class = usual.parameterization.ppc
    assert divided.parameterization.counts == largest_remainders(3 * per_class, SIZES)
    assert divided.storage_bits == usual.storage_bits <= usual.provenance["budget_bits"]
    assert divided.provenance["quotas"] == "size"
    assert divided.provenance["class_groups"] == [*divided.parameterization.counts]
    assert not {"quotas", "class_groups"} & {*usual.provenance}


def test_numbers_are_quotas():
    made = distill(
        long_tailed(), 2, "dm", steps=1, network=TinyNet, progress=False, quotas=[1, 1, 4]
    )
    assert made.parameterization.counts == (1, 1, 4)
    assert made.provenance["quotas"] == [1.0, 1.0, 4.0]


def test_a_chosen_start_is_chosen_as_it_will_be():
    """The search sees the very places, so that none is of another class than its cloud."""
    method = pkr(depth=5, **{**TINY, "visits": 40})
    bank = PointCloudBank.from_dataset(long_tailed()).normalize()
    loop = method.begin(bank, 0.25, network=TinyNet, progress=False, quotas="size")
    made = loop.parameterization
    clouds = [bank.dense()[bank.y == c] for c in range(3)]
    real = [Mirrored.from_clouds(some, 1, 8).halves.detach() for some in clouds]
    for c in range(3):
        halves = made.halves.detach()[made.groups_of(slice(c, c + 1))]
        away = (halves[:, None] - real[c]).abs().amax(dim=(2, 3)).amin(dim=1)
        assert float(away.max()) < 1e-6


@pytest.mark.parametrize("matching", [DistributionMatching, GradientMatching, KernelRegression])
def test_gradients_of_two_unequal_classes(matching):
    """Against differences of the loss of the whole set.

    SADM has no gradient of its bandwidth, and so is none of a difference.
    """
    data = toy_set(2, num_points=6)
    bank = PointCloudBank.from_dataset(data, dtype=torch.float64)
    pos = torch.rand(4, 6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    stored = FullResolution(pos - 0.5, 1, codec=Float64()).divide([1, 3])
    torch.manual_seed(0)
    network = TinyNet(2).double().requires_grad_(False)
    compare = matching()
    index = bank.draw(4, torch.Generator().manual_seed(0))
    real = {key: view[index] for key, view in compare.prepare(bank, 6).items()}
    chunks = MemoryPlan(2, compare.unequal).chunks(network, stored, {}, 4)
    assert len(chunks) == (1 if matching is KernelRegression else 2)

    def loss(pos):
        parts = [
            compare(
                network,
                {key: view[classes] for key, view in real.items()},
                torch.func.functional_call(stored, {"pos": pos}, (classes,)),
            )
            for classes in chunks
        ]
        return torch.cat(parts).sum()

    start = stored.pos.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(loss, start, eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_a_step_on_unequal_classes_is_that_on_each_alone(chunk):
    """DM: every class with its own clouds, by autograd over a plain loop."""
    bank = PointCloudBank.from_dataset(long_tailed(), dtype=torch.float64)
    counts = (2, 2, 4)
    pos = torch.rand(8, 32, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    stored = FullResolution(pos, 1, lr=1e-3, codec=Float64()).divide(counts)
    networks = []

    def network(num_classes):
        networks.append(TinyNet(num_classes).double())
        return networks[-1]

    loop = Distillation(
        bank,
        stored,
        DistributionMatching(),
        network,
        3,
        classes_per_chunk=chunk,
        generator=torch.Generator().manual_seed(2),
    )
    before = stored.pos.detach().clone()
    drawn = []
    draw = bank.draw

    def keep(num, generator=None):
        drawn.append(draw(num, generator))
        return drawn[-1]

    bank.draw = keep
    loop.step()
    mine, total = before.clone().requires_grad_(), 0.0
    for c, clouds in enumerate(mine.split(counts)):
        means = []
        for some in (bank.dense()[drawn[-1][c]], clouds):
            features = networks[-1].mlp(some).amax(dim=1)
            means.append(features.mean(dim=0))
        total = total + (means[0] - means[1]).square().sum()
    total.backward()
    assert loop.losses[-1] == pytest.approx(total.item(), rel=1e-9)
    torch.testing.assert_close(stored.pos.detach(), before - 1e-3 * mine.grad)


def test_chunks_end_where_numbers_change():
    def chunks(counts, size, unequal=False, within=slice(None)):
        stored = FullResolution(torch.rand(sum(counts), 4, 3), 1).divide(counts)
        found = MemoryPlan(size, unequal).chunks(TinyNet(2), stored, {}, 2, within)
        return [(one.start, one.stop) for one in found]

    assert chunks((1, 1, 2, 2, 2, 1), 6) == [(0, 2), (2, 5), (5, 6)]
    assert chunks((1, 1, 2, 2, 2, 1), 6, unequal=True) == [(0, 6)]
    # The same for every rank: at whole chunks first, and only then where numbers change.
    whole = chunks((1, 1, 2, 2, 2, 1), 4)
    assert whole == [(0, 2), (2, 4), (4, 5), (5, 6)]
    assert whole == [
        *chunks((1, 1, 2, 2, 2, 1), 4, within=slice(0, 4)),
        *chunks((1, 1, 2, 2, 2, 1), 4, within=slice(4, 6)),
    ]
    assert chunks((2, 2, 2), 2) == [(0, 2), (2, 3)]


def test_ranks_share_rows_of_their_classes():
    stored = FullResolution(torch.rand(8, 4, 3), 1).divide([1, 5, 2])
    check_rows(Ranks(0, 2), stored)
    shares = Ranks(0, 2).split(3)
    rows = [stored.groups_of(classes) for classes in shares]
    assert [(one.start, one.stop) for one in rows] == [(0, 1), (1, 8)]


def test_a_run_with_quotas_goes_on_from_its_checkpoint(tmp_path):
    options = {"network": TinyNet, "progress": False, "seed": 3}
    method = ddp(num_anchors=2, num_morphs=1)
    whole = distill(long_tailed(), 2, method, steps=4, quotas="size", **options)
    path = tmp_path / "run.safetensors"
    for steps in (2, 4):
        resumed = distill(
            long_tailed(), 2, method, steps=steps, quotas="size", checkpoint=path, **options
        )
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(one.pos, other.pos)
    with pytest.raises(ValueError, match="checkpoint"):
        distill(long_tailed(), 2, method, steps=5, checkpoint=path, **options)


class AtOnce(Matching):
    """Compares all classes at once, as many clouds of each."""

    per_class = False

    def forward(self, network, real, synthetic):
        pytest.fail("it began to work")


def test_methods_that_cannot_divide():
    def own(bank, budget, start, generator, task):
        return FullResolution(start(bank, 2, generator).flatten(0, 1), bank.num_classes)

    own_storing = Method("own", own, DistributionMatching, 1)
    at_once = Method("at once", full_resolution(), AtOnce, 1)
    for method, message in (
        (own_storing, "'quotas' must be 'uniform' for own, whose storing does not divide by them"),
        (at_once, "'quotas' must give all classes as many clouds, as AtOnce compares all classes"),
    ):
        with pytest.raises(ValueError, match=message):
            method.distill(long_tailed(), 2, network=TinyNet, progress=False, quotas="size")
    bank = PointCloudBank.from_dataset(long_tailed())
    with pytest.raises(ValueError, match="'parameterization' must give all classes as many clouds"):
        Distillation(bank, FullResolution(torch.rand(6, 8, 3), 1).divide([1, 2, 3]), AtOnce())
    # Where all classes are of one size there is nothing to refuse.
    made = own_storing.distill(
        toy_set(), 2, steps=0, network=TinyNet, progress=False, quotas="size"
    )
    assert made.parameterization.counts == (2, 2, 2)


# Pictures #########################################################################################


def test_callbacks_show_classes_of_unequal_size(tmp_path):
    film, clouds, seen = Film(every=1), Clouds(number=1), []

    def callback(loop):
        film(loop)
        seen.append(clouds(loop))

    made = distill(
        long_tailed(),
        2,
        ddp(num_anchors=2, num_morphs=1),
        steps=1,
        network=TinyNet,
        progress=False,
        quotas=[1, 1, 4],
        callback=callback,
    )
    assert made.parameterization.counts == (1, 1, 4)
    assert film.frames[0].shape == (3, 3, made.parameterization.num_points, 3)
    assert film.columns == ["anchor", "anchor", "morph"]
    whole = made.parameterization().pos.view(-1, made.parameterization.num_points, 3)
    for name, place in (("class0", 1), ("class1", 4), ("class2", 7)):
        torch.testing.assert_close(torch.tensor(seen[0][f"clouds/{name}"]), whole[place])
    figure = plot_distilled(long_tailed(), made)
    assert figure.axes


@pytest.mark.parametrize("kind", ["clouds", "morphs"])
def test_a_page_shows_classes_of_unequal_size(kind, tmp_path):
    pytest.importorskip("plotly")
    synthetic = SyntheticPointCloudDataset(made(kind, (1, 3, 2)).divide((1, 3, 2)))
    groups = _groups(synthetic)
    assert [len(one) for one in groups] == ([1, 1, 1] if kind == "clouds" else [1, 3, 2])
    stored = [sum(len(group["stored"]) for group in one) for one in groups]
    assert stored == ([1, 3, 2] if kind == "clouds" else [3, 9, 6])
    assert write_viewer(synthetic, tmp_path / "page.html").exists()


# Comparisons ######################################################################################


SMALL = Distilled(
    "packed",
    {"num_points": 8},
    build=lambda num_points: Method(
        "packed", packed(num_points, PointSet(5)), DistributionMatching, 1
    ),
)


def test_a_comparison_of_quotas(tmp_path):
    rows = [
        row
        for entry in (
            Coreset("random", {"num_points": 8, "codec": PointSet(5)}),
            SMALL,
            ENTRIES["whole"],
        )
        for row in entry.at_quotas(["uniform", "size", [1, 1, 4]])
    ]
    names = [row.name for row in rows]
    assert names == [
        *("random", "random, quotas size", "random, quotas 1 1 4"),
        *("packed", "packed, quotas size", "packed, quotas 1 1 4"),
        "whole",
    ]
    lab = harness(tmp_path)
    runs = lab.run(lab.cells(rows, [0.25], [0]))
    assert [run["method"] for run in runs] == names
    assert len({run["id"] for run in runs}) == len(names)
    assert [run.get("quotas") for run in runs] == [
        *(None, "size", [1.0, 1.0, 4.0]),
        *(None, "size", [1.0, 1.0, 4.0]),
        None,
    ]
    bits = {run["method"].split(",")[0]: run["bits"] for run in runs}
    assert all(run["bits"] == bits[run["method"].split(",")[0]] for run in runs)
    told = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [run["provenance"].get("quotas") for run in told[:-1]] == [
        run.get("quotas") for run in told[:-1]
    ]
    table = markdown(summarize(runs))
    assert "| packed, quotas size " in table
    assert "class accuracy %" in table.splitlines()[0]


def test_identities_of_equal_quotas_are_as_before(tmp_path):
    lab = harness(tmp_path)
    (cell,) = lab.cells([SMALL], [0.25], [0])
    assert "quotas" not in lab._key(cell)
    assert SMALL.at_quotas(["uniform"]) == [SMALL]
    (other,) = SMALL.at_quotas(["size"])
    assert lab._key(replace(cell, entry=other)) == {
        **lab._key(cell),
        "method": "packed, quotas size",
        "quotas": "size",
    }


def test_rows_with_quotas_are_checked_before_the_first_run(tmp_path):
    lab = harness(tmp_path)
    for quotas in ([1, 2], "sizes"):
        with pytest.raises(ValueError, match="'quotas' must"):
            [*lab.cells(ENTRIES["random"].at_quotas([quotas]), [1], [0])]
    parts = Lab(
        toy_parts(),
        toy_parts(seed=1),
        tmp_path,
        PRESET,
        {"Tiny": TinySegmenter},
        task="segmentation",
    )
    uneven = range(1, parts.bank.num_classes + 1)
    with pytest.raises(ValueError, match="'quotas' must be 'uniform' where points are labelled"):
        [*parts.cells(ENTRIES["random"].at_quotas([uneven]), [1], [0])]


def test_a_row_that_has_nothing_to_divide_is_left_out(tmp_path):
    lab = harness(tmp_path)
    runs = lab.run(lab.cells(ENTRIES["random"].at_quotas(["uniform", "size"]), [1], [0]))
    assert [run["method"] for run in runs] == ["random"]
    assert "leaves nothing to divide" in "".join(lab.failures.values())


def test_controls_take_quotas():
    for name in ("random 32x5", "herding 32x5", "mirrored 32x5", "PKR 32"):
        (row,) = CONTROLS[name].at_quotas(["sqrt-size"])
        assert row.name == f"{name}, quotas sqrt-size"
        assert row.settings == CONTROLS[name].settings


def test_quotas_by_difficulty():
    forgetting, y = torch.tensor([0, 0, 3, 5, 1]), torch.tensor([0, 0, 1, 1, 3])
    quotas = difficulty_quotas(Observation(torch.zeros(5, 2), forgetting, y))
    assert quotas == (1.0, 5.0, 1.0, 2.0)
    # Of a last class that has no clouds, as where a part of a set was watched.
    seen = Observation(torch.zeros(5, 2), forgetting, y, {"num_classes": 6})
    assert difficulty_quotas(seen) == (1.0, 5.0, 1.0, 2.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="'observation' must have the counts"):
        difficulty_quotas(Observation(torch.zeros(5, 2), None, y))


def test_what_is_forgotten_gets_more_of_the_storage():
    real = toy_set()
    seen = observe(real, TinyNet, Protocol("short", 2), progress=False)
    forgetting = torch.tensor([0, 0, 9])[seen.y]
    quotas = difficulty_quotas(replace(seen, forgetting=forgetting))
    chosen = random_coreset(real, 2, quotas=quotas)
    assert chosen.parameterization.counts == (1, 1, 4)


def test_units_are_counted_in_integers():
    counts = largest_remainders(np.int64(10), np.array([1, 2, 3]))
    assert json.dumps(counts) == "[2, 3, 5]"
    with pytest.raises(TypeError, match="'total' must be an integer, got float"):
        largest_remainders(10.0, [1, 2, 3])
