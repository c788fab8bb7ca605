"""Coresets, and the observed training that they are chosen from."""

from itertools import combinations, pairwise

import pytest
import torch
from helpers import (
    NormNet,
    TinyNet,
    TinySegmenter,
    check_labelled,
    toy_arrays,
    toy_parts,
    toy_set,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch_geometric.data import Data

from torch_geometric_ddp import Protocol, StorageBudget, SyntheticPointCloudDataset, evaluate
from torch_geometric_ddp._files import write_tensors
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.coreset import (
    ForgettingEvents,
    Observation,
    difficulty_quotas,
    forgetting_coreset,
    global_features,
    herding_coreset,
    k_center_coreset,
    nearest_to_mean,
    observe,
    random_coreset,
    watch,
)
from torch_geometric_ddp.datasets import PointCloudArrays
from torch_geometric_ddp.evaluation import fit
from torch_geometric_ddp.nn import PointNet

OBSERVED = [herding_coreset, k_center_coreset, forgetting_coreset]
COUNTS = st.lists(st.integers(1, 7), min_size=1, max_size=4)
# At so high a rate the clouds are forgotten again and again.
ROUGH = Protocol("rough", epochs=12, lr=0.3, batch_size=4)


def clouds_of(counts, seed=0):
    """Random clouds, counts[c] of class c, mixed."""
    source = torch.Generator().manual_seed(seed)
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    y = y[torch.randperm(len(y), generator=source)]
    pos = torch.randn(len(y), 4, 3, generator=source)
    return PointCloudArrays(pos, y, [str(c) for c in range(len(counts))])


def observation_of(dataset, features=None, forgetting=None, seed=0):
    """An observation made up, with random features and all clouds forgotten differently often."""
    source = torch.Generator().manual_seed(seed)
    n = len(dataset)
    features = torch.randn(n, 5, generator=source) if features is None else features
    forgetting = torch.randperm(n, generator=source) if forgetting is None else forgetting
    return Observation(features, forgetting, dataset._data.y.flatten(), {"made": "up"})


def class_loop(y, ppc, choose):
    """What ``choose`` adds to the clouds chosen of a class, class by class and cloud by cloud."""
    index = []
    for c in range(int(y.max()) + 1):
        members = (y == c).nonzero().flatten().tolist()
        chosen = []
        for _ in range(min(ppc, len(members))):
            chosen.append(choose(chosen, [i for i in members if i not in chosen], members))
        index += [chosen[k % len(members)] for k in range(ppc)]
    return index


def herding_loop(x, y, ppc):
    def choose(chosen, left, members):
        mean = x[members].mean(dim=0)
        return min(left, key=lambda i: (x[[*chosen, i]].mean(dim=0) - mean).norm().item())

    return class_loop(y, ppc, choose)


def k_center_loop(x, y, ppc):
    def choose(chosen, left, members):
        if not chosen:
            mean = x[members].mean(dim=0)
            return min(left, key=lambda i: (x[i] - mean).norm().item())
        return max(left, key=lambda i: min((x[i] - x[j]).norm().item() for j in chosen))

    return class_loop(y, ppc, choose)


# Random ###########################################################################################


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
        ((toy_set(), 0), ValueError, "'ppc' must be finite and above 0, got 0"),
        ((toy_set(), "1"), TypeError, "'ppc' must be a number, got str"),
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


# From an observation ##############################################################################


@given(counts=COUNTS, ppc=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_herding_is_a_plain_loop(counts, ppc, seed):
    real = clouds_of(counts, seed)
    seen = observation_of(real, seed=seed)
    chosen = herding_coreset(real, ppc, seen).provenance["chosen"]
    assert chosen == herding_loop(seen.features.double(), seen.y, ppc)


@given(counts=COUNTS, ppc=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_k_center_is_a_plain_loop(counts, ppc, seed):
    real = clouds_of(counts, seed)
    seen = observation_of(real, seed=seed)
    chosen = k_center_coreset(real, ppc, seen).provenance["chosen"]
    assert chosen == k_center_loop(seen.features.double(), seen.y, ppc)
    assert k_center_coreset(real, ppc, seen).provenance["method"] == "k-center"


@given(counts=COUNTS, ppc=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_forgetting_takes_the_most_forgotten(counts, ppc, seed):
    real = clouds_of(counts, seed)
    seen = observation_of(real, seed=seed)
    chosen = forgetting_coreset(real, ppc, seen).provenance["chosen"]
    expected = class_loop(
        seen.y, ppc, lambda _, left, __: max(left, key=lambda i: seen.forgetting[i])
    )
    assert chosen == expected


@given(counts=COUNTS, num=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_nearest_to_mean_is_a_plain_loop(counts, num, seed):
    real = clouds_of(counts, seed)
    x, y = observation_of(real, seed=seed).features.double(), real._data.y.flatten()

    def choose(_, left, members):
        return min(left, key=lambda i: (x[i] - x[members].mean(dim=0)).norm().item())

    index = nearest_to_mean(PointCloudBank.from_dataset(real), x, num)
    assert index.shape == (len(counts), num)
    assert index.flatten().tolist() == class_loop(y, num, choose)


def test_choice_on_a_line():
    real = clouds_of([4])
    seen = observation_of(real, torch.tensor([[0.0], [1.0], [2.0], [10.0]]))  # Their mean is 3.25.
    assert herding_coreset(real, 6, seen).provenance["chosen"] == [2, 1, 3, 0, 2, 1]
    assert k_center_coreset(real, 6, seen).provenance["chosen"] == [2, 3, 0, 1, 2, 3]
    bank = PointCloudBank.from_dataset(real)
    assert nearest_to_mean(bank, seen.features, 6).tolist() == [[2, 1, 0, 3, 2, 1]]


@given(num=st.integers(2, 8), ppc=st.integers(1, 4), seed=st.integers(0, 2**16))
def test_k_center_is_at_most_twice_the_best(num, ppc, seed):
    real = clouds_of([num], seed)
    seen = observation_of(real, seed=seed)
    dist = torch.cdist(seen.features.double(), seen.features.double())

    def radius(centres):
        return dist[:, list(centres)].amin(dim=1).max().item()

    best = min(radius(centres) for centres in combinations(range(num), min(ppc, num)))
    chosen = k_center_coreset(real, ppc, seen).provenance["chosen"]
    assert best <= radius(chosen) <= 2 * best


@pytest.mark.parametrize("coreset", OBSERVED)
@given(seed=st.integers(0, 2**16), ppc=st.integers(1, 6))
def test_order_of_the_data_set_does_not_matter(coreset, seed, ppc):
    real = clouds_of([5, 3, 4], seed)
    seen = observation_of(real, seed=seed)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    moved = PointCloudArrays(
        torch.stack([real[int(i)].pos for i in order]), seen.y[order], real.class_names
    )
    seen_moved = Observation(seen.features[order], seen.forgetting[order], seen.y[order])
    chosen = coreset(moved, ppc, seen_moved)
    expected = coreset(real, ppc, seen)
    assert order[chosen.provenance["chosen"]].tolist() == expected.provenance["chosen"]
    assert torch.equal(chosen._data.pos, expected._data.pos)


@pytest.mark.parametrize("coreset", OBSERVED)
def test_equal_clouds_are_chosen_once_each(coreset):
    real = clouds_of([4, 6])
    seen = observation_of(real, torch.ones(10, 3), torch.ones(10, dtype=torch.long))
    chosen = coreset(real, 6, seen).provenance["chosen"]
    first, second = chosen[:6], chosen[6:]
    assert sorted(first[:4]) == (seen.y == 0).nonzero().flatten().tolist()
    assert first[4:] == first[:2]
    assert sorted(second) == (seen.y == 1).nonzero().flatten().tolist()


def test_seed_decides_between_clouds_forgotten_equally_often():
    real = clouds_of([20])
    forgetting = torch.ones(20, dtype=torch.long)
    forgetting[13] = 2
    seen = observation_of(real, forgetting=forgetting)
    sets = [forgetting_coreset(real, 8, seen, seed).provenance["chosen"] for seed in (0, 0, 1)]
    assert sets[0] == sets[1] != sets[2]
    assert all(chosen[0] == 13 for chosen in sets)
    # Every other cloud may come second.
    second = [
        forgetting_coreset(real, 2, seen, seed).provenance["chosen"][1] for seed in range(190)
    ]
    assert set(second) == set(range(20)) - {13}


@pytest.mark.parametrize("coreset", OBSERVED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_features_of_any_precision(coreset, dtype):
    real = clouds_of([6, 5])
    rounded = observation_of(real).features.to(dtype)
    chosen = coreset(real, 4, observation_of(real, 1e4 * rounded))
    expected = coreset(real, 4, observation_of(real, (1e4 * rounded).double()))
    assert chosen.provenance == expected.provenance


@pytest.mark.parametrize("coreset", OBSERVED)
def test_clouds_on_a_device(coreset, device):
    real = clouds_of([6, 5])
    moved = [Data(pos=data.pos.to(device), y=data.y) for data in real]
    expected = coreset(real, 4, observation_of(real)).provenance["chosen"]
    assert coreset(moved, 4, observation_of(real)).provenance["chosen"] == expected


@pytest.mark.parametrize("coreset", OBSERVED)
def test_global_generator_is_left_alone_by_choosing(coreset):
    state = torch.get_rng_state()
    coreset(toy_set(), 2, observation_of(toy_set()))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"ppc": 0}, ValueError, "'ppc' must be finite and above 0, got 0"),
        ({"ppc": -0.5}, ValueError, "'ppc' must be finite and above 0, got -0.5"),
        ({"ppc": 0.5}, ValueError, "one cloud per class fits if it has at most"),
        ({"observation": torch.zeros(18, 4)}, TypeError, "'observation' must be an Observation"),
        ({"dataset": toy_set(per_class=5)}, ValueError, "18 clouds for 15 clouds"),
        (
            {"dataset": toy_set()[list(reversed(range(18)))]},
            ValueError,
            "'observation' must be of the clouds of 'dataset' in their order",
        ),
        ({"dataset": toy_set()[:6]}, ValueError, "every class must have a cloud"),
        ({"dataset": []}, ValueError, "must hold at least one cloud"),
        (
            {"dataset": [Data(pos=torch.rand(4 + c // 9, 3), y=c // 6) for c in range(18)]},
            ValueError,
            "the same number of points, got 4 to 5",
        ),
    ],
)
@pytest.mark.parametrize("coreset", OBSERVED)
def test_bad_arguments_of_observed(coreset, change, error, message):
    good = {"dataset": toy_set(), "ppc": 1, "observation": observation_of(toy_set())}
    with pytest.raises(error, match=message):
        coreset(**{**good, **change})


def test_bad_seed_of_forgetting():
    with pytest.raises(ValueError, match="'seed' must be at least 0"):
        forgetting_coreset(toy_set(), 1, observation_of(toy_set()), seed=-1)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(17, 2), r"'features' must have shape \[18, F\].* got \[17, 2\]"),
        (torch.zeros(18), r"'features' must have shape \[18, F\].* got \[18\]"),
        (torch.full((18, 2), torch.nan), "'features' must be finite, got 36"),
    ],
)
def test_bad_features_for_nearest_to_mean(features, message):
    with pytest.raises(ValueError, match=message):
        nearest_to_mean(PointCloudBank.from_dataset(toy_set()), features)


# The observation ##################################################################################


def forgetting_loop(y, shown):
    """The events of Toneva et al., cloud by cloud; shown are pairs of a batch and its guesses."""
    counts = []
    for i in range(len(y)):
        guesses = [int(g[index.tolist().index(i)]) for index, g in shown if i in index.tolist()]
        right = [guess == int(y[i]) for guess in guesses]
        events = sum(a and not b for a, b in pairwise(right))
        counts.append(events if any(right) else len(right))
    return counts


@given(
    guesses=st.integers(1, 6).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(0, 2), min_size=n, max_size=n), min_size=1, max_size=9
        )
    ),
    seed=st.integers(0, 2**16),
)
def test_forgetting_events_are_a_plain_loop(guesses, seed):
    source = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (len(guesses[0]),), generator=source)
    events, shown = ForgettingEvents(y), []
    for epoch in torch.tensor(guesses):
        for index in torch.randperm(len(y), generator=source).split(2):
            events(index, nn.functional.one_hot(epoch[index], 3).float())
            shown.append((index, epoch[index]))
    assert events.counts().tolist() == forgetting_loop(y, shown)


def test_never_learned_is_more_than_any_forgetting():
    events = ForgettingEvents(torch.tensor([0, 0, 0]))
    for epoch in range(5):  # Now right, now wrong; never right; always right.
        events(torch.arange(3), torch.eye(2)[[epoch % 2, 1, 0]])
    assert events.counts().tolist() == [2, 5, 0]


def test_observed_forgetting_is_that_of_the_training(device):
    seen = observe(toy_set(), TinyNet, ROUGH, seed=3, device=device, progress=False)
    bank, shown = PointCloudBank.from_dataset(toy_set(), device).normalize(), []
    with seeded(3, bank.device):
        net = TinyNet(3).to(device)
    fit(net, bank, ROUGH, 3, observer=lambda i, x: shown.append((i.cpu(), x.argmax(dim=1).cpu())))
    assert seen.forgetting.tolist() == forgetting_loop(bank.y.cpu(), shown)
    assert len(set(seen.forgetting.tolist())) > 2
    assert torch.equal(seen.features, global_features(net, bank).cpu())


@pytest.mark.parametrize("network", [TinyNet, NormNet, PointNet])
def test_global_features_are_the_maxima(network, device):
    sizes = [5, 9, 3, 7]
    pos = torch.rand(sum(sizes), 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    bank = PointCloudBank(
        pos.to(device),
        torch.tensor(sizes, device=device),
        torch.tensor([0, 1, 0, 1], device=device),
        ["a", "b"],
    )
    with seeded(0, device):
        net = network(2).to(device, torch.double)
    found = global_features(net, bank)
    assert not net.training
    assert found.shape == (4, net.point_channels)
    assert not found.requires_grad
    for row, cloud in zip(found, bank.pos.split(sizes), strict=True):
        with torch.no_grad():
            expected = net.point_features(Data(pos=cloud)).max(dim=0).values
        torch.testing.assert_close(row, expected)


def test_one_training_for_the_whole_set_and_the_observation(device):
    seen = {}

    def trainer(model, train, protocol, seed, bar):
        seen[seed] = watch(model, train, protocol, seed, bar)

    args = (toy_set(), toy_set(seed=1), TinyNet, ROUGH, [2, 5], device, False)
    assert evaluate(*args, trainer=trainer).to_dict() == evaluate(*args).to_dict()
    assert list(seen) == [2, 5]
    alone = observe(toy_set(), TinyNet, ROUGH, seed=5, device=device, progress=False)
    assert torch.equal(seen[5].features, alone.features)
    assert torch.equal(seen[5].forgetting, alone.forgetting)
    assert torch.equal(seen[5].y, alone.y)
    # Only who reads the clouds knows how they were before they were normalised.
    assert {**seen[5].config, "real_sha256": alone.config["real_sha256"]} == alone.config
    assert not torch.equal(seen[2].features, seen[5].features)


def test_observation_says_how_it_was_made():
    seen = observe(toy_set(), TinyNet, ROUGH, seed=1, progress=False)
    assert (seen.config["network"], seen.config["num_classes"]) == ("TinyNet", 3)
    assert seen.config["protocol"] == ROUGH.to_dict()
    assert (seen.config["seed"], seen.config["device"]) == (1, "cpu")
    assert seen.config["versions"]["torch"] == torch.__version__
    assert seen.y.tolist() == toy_set()._data.y.flatten().tolist()
    assert {x.device.type for x in (seen.features, seen.forgetting, seen.y)} == {"cpu"}


@pytest.mark.parametrize("coreset", OBSERVED)
def test_an_observation_of_other_clouds_with_the_same_labels(coreset):
    seen = observe(toy_set(), TinyNet, ROUGH, progress=False)
    assert seen.config["real_sha256"] == PointCloudBank.from_dataset(toy_set()).sha256()
    coreset(toy_set(), 1, seen)
    coreset(PointCloudBank.from_dataset(toy_set()), 1, seen)
    with pytest.raises(ValueError, match="'observation' must be of the clouds of 'dataset', got"):
        coreset(toy_set(seed=1), 1, seen)
    # One of before does not tell which clouds it is of.
    del seen.config["real_sha256"]
    coreset(toy_set(seed=1), 1, seen)


@pytest.mark.parametrize("normalize", [True, False])
def test_clouds_are_normalised_as_the_protocol_says(normalize):
    protocol = Protocol("x", epochs=1, lr=1e-4, normalize=normalize)
    moved = [Data(pos=5 + 3 * data.pos, y=data.y) for data in toy_set()]
    first, second = (observe(d, TinyNet, protocol, progress=False) for d in (toy_set(), moved))
    assert torch.allclose(first.features, second.features, rtol=0, atol=1e-4) == normalize


def test_observing_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    observe(toy_set(), PointNet, Protocol("x", epochs=1), progress=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_saved_observation(tmp_path):
    seen = observe(toy_set(), TinyNet, ROUGH, progress=False)
    seen.save(tmp_path / "new" / "seen")
    read = Observation.load(tmp_path / "new" / "seen")
    for name in ("features", "forgetting", "y"):
        assert torch.equal(getattr(read, name), getattr(seen, name))
    assert read.config == seen.config


def test_file_that_is_no_observation(tmp_path):
    with pytest.raises(FileNotFoundError, match="none at"):
        Observation.load(tmp_path / "none")
    random_coreset(toy_set()).save(tmp_path / "set")
    with pytest.raises(ValueError, match="must hold a training observation, it holds a synthetic"):
        Observation.load(tmp_path / "set")
    tensors = {"features": torch.zeros(3, 2), "y": torch.zeros(3, dtype=torch.long)}
    for name in tensors:
        rest = {key: value for key, value in tensors.items() if key != name}
        write_tensors(tmp_path / "part", rest, {"config": {}}, "training observation", 1)
        with pytest.raises(ValueError, match=rf"'.*part' is damaged: .*'{name}'"):
            Observation.load(tmp_path / "part")
    write_tensors(tmp_path / "part", tensors, {}, "training observation", 1)
    with pytest.raises(ValueError, match=r"'.*part' is damaged: .*'config'"):
        Observation.load(tmp_path / "part")
    tensors["forgetting"] = torch.zeros(2, dtype=torch.long)
    write_tensors(tmp_path / "part", tensors, {"config": {}}, "training observation", 1)
    with pytest.raises(ValueError, match="is damaged: 'forgetting' must be 3 integers"):
        Observation.load(tmp_path / "part")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features", torch.zeros(4), r"must have shape \[n, F\] .* got \[4\]"),
        (
            "features",
            torch.zeros(4, 2).long(),
            "must have .* a floating point dtype, got .* torch.int64",
        ),
        ("features", torch.full((4, 2), torch.inf), "must be finite, got 8"),
        ("forgetting", torch.zeros(3).long(), r"must be 4 integers.* got shape \[3\]"),
        ("forgetting", torch.zeros(4), "must be 4 integers.* torch.float32"),
        ("forgetting", torch.tensor([0, 1, -2, 0]), "must be at least 0, got -2"),
        ("y", torch.zeros(4, 1).long(), r"must be 4 integers.* got shape \[4, 1\]"),
        ("y", torch.zeros(4).bool(), "must be 4 integers.* torch.bool"),
    ],
)
def test_bad_observation(name, value, message):
    zeros = torch.zeros(4, dtype=torch.long)
    good = {"features": torch.zeros(4, 2), "forgetting": zeros, "y": zeros}
    with pytest.raises(ValueError, match=f"'{name}' {message}"):
        Observation(**{**good, name: value})


class NoBackbone(nn.Module):
    def forward(self, data):
        raise AssertionError("trained before it was checked")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"network": lambda n: NoBackbone()}, TypeError, "must be a Backbone.* got NoBackbone"),
        ({"seed": -1}, ValueError, "'seed' must be at least 0"),
        ({"dataset": toy_set()[:6]}, ValueError, "every class must have a cloud"),
    ],
)
def test_bad_arguments_of_observe(change, error, message):
    with pytest.raises(error, match=message):
        observe(**{"dataset": toy_set(), "network": TinyNet, "progress": False, **change})


# Clouds whose points are labelled with parts ######################################################


@pytest.fixture(scope="module")
def seen_parts():
    return observe(toy_parts(), TinySegmenter, ROUGH, progress=False, task="segmentation")


def test_observation_of_labelled_clouds(seen_parts, device, tmp_path):
    """It is that of the training that evaluates the whole set; and nothing is forgotten."""
    seen = {}

    def trainer(model, train, protocol, seed, bar):
        seen[seed] = watch(model, train, protocol, seed, bar, "segmentation")

    settings = {"progress": False, "task": "segmentation"}
    args = (toy_parts(), toy_parts(seed=1), TinySegmenter, ROUGH, [0], device)
    whole = evaluate(*args, trainer=trainer, **settings)
    assert whole.to_dict() == evaluate(*args, **settings).to_dict()
    torch.testing.assert_close(seen[0].features, seen_parts.features)
    assert (seen_parts.forgetting, seen[0].forgetting) == (None, None)
    assert seen_parts.features.shape == (12, 8)
    assert seen_parts.y.tolist() == [data.category.item() for data in toy_parts()]
    seen_parts.save(tmp_path / "seen")
    read = Observation.load(tmp_path / "seen")
    assert read.forgetting is None
    assert torch.equal(read.features, seen_parts.features)
    assert torch.equal(read.y, seen_parts.y)
    assert read.config == seen_parts.config


@pytest.mark.parametrize(
    ("coreset", "loop"), [(herding_coreset, herding_loop), (k_center_coreset, k_center_loop)]
)
@pytest.mark.parametrize("ppc", [1, 2, 5])
def test_coresets_of_labelled_clouds(coreset, loop, ppc, seen_parts, tmp_path):
    real = toy_parts()
    chosen = coreset(real, ppc, seen_parts, task="segmentation")
    index = loop(seen_parts.features.double(), seen_parts.y, ppc)
    assert chosen.provenance["chosen"] == index
    assert chosen.provenance["task"] == "segmentation"
    check_labelled(chosen)
    for data, i in zip(chosen, index, strict=True):
        # The very points, sorted by part, each in the order of the cloud.
        order = real[i].y.argsort(stable=True)
        assert torch.equal(data.pos, real[i].pos[order])
        assert torch.equal(data.y, real[i].y[order])
        assert torch.equal(data.category, real[i].category)
    bits = LabelledBank.from_dataset(real).budget(ppc).bits
    assert chosen.storage_bits == chosen.provenance["bits"] == bits
    chosen.save(tmp_path / "set")
    assert SyntheticPointCloudDataset(tmp_path / "set").provenance == chosen.provenance


def test_forgetting_is_of_clouds_with_one_label(seen_parts):
    with pytest.raises(ValueError, match=r"must hold forgetting events.* task here is 'segmentati"):
        forgetting_coreset(toy_parts(), 1, seen_parts, task="segmentation")


@pytest.mark.parametrize("coreset", OBSERVED)
def test_bad_tasks(coreset, seen_parts):
    with pytest.raises(ValueError, match=r"'task' must be a Task or one of .* got 'segment'"):
        coreset(toy_parts(), 1, seen_parts, task="segment")
    with pytest.raises(ValueError, match="'y' of cloud 0 must be one integer label"):
        coreset(toy_parts(), 1, seen_parts)
    with pytest.raises(ValueError, match="'dataset' must have 'part_names'"):
        coreset(toy_set(), 1, seen_parts, task="segmentation")


# From end to end ##################################################################################


@pytest.mark.parametrize("coreset", OBSERVED)
def test_from_training_to_file(coreset, tmp_path, device):
    real = toy_set(per_class=4)
    seen = observe(real, TinyNet, ROUGH, device=device, progress=False)
    chosen = coreset(real, 2, seen)
    assert [data.y.item() for data in chosen] == [0, 0, 1, 1, 2, 2]
    for data, i in zip(chosen, chosen.provenance["chosen"], strict=True):
        assert torch.equal(data.pos, real[i].pos)
        assert data.y == real[i].y
    assert len(set(chosen.provenance["chosen"])) == 6
    assert chosen.class_names == ["class0", "class1", "class2"]
    name = chosen.provenance["method"].replace("-", "_")
    assert f"{name}_coreset" == coreset.__name__
    assert chosen.provenance["ppc"] == 2
    assert chosen.provenance["seed"] == (0 if coreset is forgetting_coreset else None)
    assert chosen.provenance["observation"] == seen.config
    assert chosen.storage_bits == chosen.provenance["bits"] == StorageBudget(32, 3, 2).bits
    chosen.save(tmp_path / "set")
    assert SyntheticPointCloudDataset(tmp_path / "set").provenance == chosen.provenance


def test_what_is_no_tensor_is_refused():
    bank, y = PointCloudBank.from_dataset(toy_set()), toy_set().y
    with pytest.raises(TypeError, match=r"'features' must be a tensor of shape \[n F\], got list"):
        nearest_to_mean(bank, [[0.0]] * len(bank))
    for features, forgetting, labels, name in (
        ([[0.0]] * 18, None, y, "features"),
        (torch.rand(18, 4), [0] * 18, y, "forgetting"),
        (torch.rand(18, 4), None, None, "y"),
    ):
        with pytest.raises(TypeError, match=f"'{name}' must be a tensor"):
            Observation(features, forgetting, labels)
    with pytest.raises(TypeError, match="'observation' must be an Observation, got int"):
        difficulty_quotas(3)
