"""Kernel ridge regression: its loss, the networks that it is seen by, and what it chooses."""

import inspect
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from helpers import NormNet, TinyNet, toy_set
from torch_geometric.data import Data

from torch_geometric_ddp import SMOKE, StorageBudget
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.comparison import Distilled, Lab, Preset
from torch_geometric_ddp.matching import KernelRegression
from torch_geometric_ddp.matching.kernel_regression import JointFeatures, regression_loss
from torch_geometric_ddp.methods import (
    Method,
    TrainedNetworks,
    choosing,
    chosen_by_regression,
    cosine,
    ddp,
    packed_count,
    pkr,
    trained_networks,
)
from torch_geometric_ddp.methods.choosing import exchange_of
from torch_geometric_ddp.methods.exchange import Exchange
from torch_geometric_ddp.methods.storing import full_resolution, packed
from torch_geometric_ddp.nn import HookedBackbone
from torch_geometric_ddp.parameterization import Float16
from torch_geometric_ddp.transforms import NormalizeSphere

FEW = partial(TrainedNetworks, sizes=(8, 16), ages=(0, 2, 5), num_trained=2, real_per_class=4)
ADAM = partial(torch.optim.Adam)


def bank_of(num_points=32):
    return PointCloudBank.from_dataset(toy_set(num_points=num_points)).normalize()


def method(**kwargs):
    settings = {"optimizer": ADAM, "networks": FEW, "schedule": cosine} | kwargs
    return Method("regression", full_resolution(lr=0.01), KernelRegression, 6, **settings)


def loss_loop(x, labels, s, y, num_classes, ridge):
    """The squared errors cloud by cloud, by NumPy."""
    x, s, y = x.numpy(), s.numpy(), y.numpy()
    kernel = np.array([[a @ b for b in s] for a in s])
    kernel += ridge * np.mean(np.diag(kernel)) * np.eye(len(s))
    known = np.eye(num_classes)[y] - 1 / num_classes
    errors = []
    for row, label in zip(x, labels, strict=True):
        guess = np.array([row @ b for b in s]) @ np.linalg.inv(kernel) @ known
        errors.append(np.sum((guess - np.eye(num_classes)[label] + 1 / num_classes) ** 2))
    return np.array(errors)


def test_loss_is_that_of_a_loop():
    g = torch.Generator().manual_seed(0)
    x, s = (torch.randn(n, 7, generator=g, dtype=torch.double) for n in (9, 5))
    labels, y = torch.arange(9) % 3, torch.tensor([0, 1, 2, 0, 1])
    ours = regression_loss(x, labels, s, y, 3, 0.01)
    np.testing.assert_allclose(ours.numpy(), loss_loop(x, labels, s, y, 3, 0.01), rtol=1e-9)


def test_real_clouds_that_are_stored_are_predicted():
    """With hardly any ridge the stored clouds know their own labels."""
    s = torch.randn(6, 20, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    y = torch.arange(6) % 3
    assert float(regression_loss(s, y, s, y, 3, 1e-9).max()) < 1e-12
    # And with much of it they say nothing: the error is that of one label less the mean.
    far = regression_loss(s, y, s, y, 3, 1e9)
    assert far.tolist() == pytest.approx([2 / 3] * 6, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_layer_that_is_alike_for_all_clouds_tells_nothing(value):
    told = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    joint = JointFeatures.of([told, torch.full((6, 3), value)])
    assert joint.scale[4:].tolist() == [0.0] * 3
    alone = JointFeatures.of([told])
    torch.testing.assert_close(joint.scale[:4], alone.scale / 2**0.5)
    other = joint([told, torch.full((6, 3), value + 0.01)])
    torch.testing.assert_close(other[:, :4], alone([told]) / 2**0.5)


def test_layers_count_alike_and_are_centred():
    g = torch.Generator().manual_seed(2)
    real = [
        torch.randn(30, f, generator=g, dtype=torch.double) * scale + 5
        for f, scale in ((4, 100.0), (9, 0.01))
    ]
    x = JointFeatures.of(real)(real)
    assert x.shape == (30, 13)
    assert x.mean(dim=0).abs().max() < 1e-12
    for part in (x[:, :4], x[:, 4:]):
        assert float(part.square().sum(dim=1).mean()) == pytest.approx(0.5)


def test_gradient():
    net = TinyNet(3).double().eval().requires_grad_(False)
    g = torch.Generator().manual_seed(3)
    real = torch.randn(3, 4, 10, 3, generator=g, dtype=torch.double)
    y = torch.arange(3).repeat_interleave(2)

    def loss(pos):
        return KernelRegression()(net, {"pos": real}, from_dense(pos, y=y)).sum()

    pos = torch.randn(6, 5, 3, generator=g, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(loss, pos)


def test_synthetic_clouds_are_seen_as_in_evaluation():
    net, real = TinyNet(3).eval(), torch.randn(3, 4, 10, 3)
    pos, y = torch.randn(6, 5, 3), torch.arange(3).repeat_interleave(2)
    moved = 7 * pos + 3
    sizes = torch.full((6,), 5)
    unit = NormalizeSphere.apply(pos.flatten(0, 1), sizes).view_as(pos)
    losses = [
        KernelRegression()(net, {"pos": real}, from_dense(p, y=y)) for p in (pos, moved, unit)
    ]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(losses[2], losses[0])
    raw = KernelRegression(normalize=False)
    torch.testing.assert_close(raw(net, {"pos": real}, from_dense(unit, y=y)), losses[0])
    assert not torch.allclose(raw(net, {"pos": real}, from_dense(moved, y=y)), losses[0], rtol=0.1)


def test_known_features_take_the_place_of_the_clouds():
    bank = bank_of()
    networks = FEW(TinyNet, bank, 8, torch.Generator().manual_seed(0))
    network = networks.fresh()
    known = networks.known(network)
    assert sorted(known) == ["features", "mean", "scale"]
    assert known["features"].shape == (3, 4, 16)
    assert known["mean"].shape == known["scale"].shape == (3, 16)
    y = torch.arange(3).repeat_interleave(2)
    synthetic = from_dense(torch.randn(6, 5, 3), y=y)
    # A known cloud is a real one of the class.
    every = network.cloud_layers(from_dense(bank.dense()))[0]
    for c in range(3):
        mine = every[bank.y == c]
        raw = known["features"][c] / known["scale"][c] + known["mean"][c]
        gaps = (raw[:, None] - mine).norm(dim=-1).amin(dim=1)
        assert float(gaps.max()) < 1e-5
    ours = KernelRegression()(network, {"pos": torch.zeros(3, 8, 32, 3), **known}, synthetic)
    assert ours.shape == (3,)


def test_classes_weigh_as_they_are_told():
    """By size every real cloud counts alike: the loss is the mean over all of them."""
    sizes = (3, 6, 2)
    clouds = [data for c, n in enumerate(sizes) for data in toy_set()[6 * c : 6 * c + n]]
    bank, net = PointCloudBank.from_dataset(clouds).normalize(), TinyNet(3).eval()
    synthetic = from_dense(torch.randn(6, 5, 3), y=torch.arange(3).repeat_interleave(2))
    means = KernelRegression()(net, {"pos": bank.dense()[[0, 3, 9]][:, None]}, synthetic) * 3
    for weigh, weights in {
        "uniform": (1, 1, 1),
        "size": sizes,
        "sqrt-size": [n**0.5 for n in sizes],
        (4, 1, 1): (4, 1, 1),
    }.items():
        matching = KernelRegression(weigh=weigh)
        views = matching.prepare(bank, 5)
        real = {key: view[[0, 3, 9]][:, None] for key, view in views.items()}
        ours = matching(net, real, synthetic)
        torch.testing.assert_close(ours, means * torch.tensor(weights) / sum(weights))


def test_pkr_weighs_the_clouds_it_chooses_and_moves_alike(monkeypatch):
    seen = {}

    def spy(*args):
        seen["weigh"] = args[-1]
        return exchange_of(*args)

    monkeypatch.setattr(choosing, "exchange_of", spy)
    for kwargs, weigh in (({}, "size"), ({"weigh": [1, 2, 3]}, (1.0, 2.0, 3.0))):
        loop = pkr(8, **FEW_PKR, **kwargs).begin(bank_of(), network=TinyNet)
        assert loop.matching.weigh == seen["weigh"] == weigh


@pytest.mark.parametrize(
    ("weigh", "error", "message"),
    [
        ("even", ValueError, "'weigh' must be one of 'uniform', 'sqrt-size', 'size' or numbers"),
        (3, TypeError, "'weigh' must be a name or a number for every class, got"),
        ([1, 0, 1], ValueError, "'weigh' must be finite and above 0"),
    ],
)
def test_wrong_weights(weigh, error, message):
    for make in (KernelRegression, pkr):
        with pytest.raises(error, match=message):
            make(weigh=weigh)


def test_weights_of_other_classes_are_refused_before_networks_are_trained(monkeypatch):
    monkeypatch.setattr(trained_networks, "_train", None)
    with pytest.raises(ValueError, match="'weigh' must have a number for each of 3 classes, got 2"):
        pkr(8, **FEW_PKR, weigh=[1, 2]).begin(bank_of(), network=TinyNet)


def test_networks_are_trained_once_and_repeatable():
    bank = bank_of()
    first = FEW(TinyNet, bank, 8, torch.Generator().manual_seed(4)).members()
    assert FEW(TinyNet, bank, 8, torch.Generator().manual_seed(4)).members() is first
    again = FEW(TinyNet, bank_of(), 8, torch.Generator().manual_seed(4)).members()
    other = FEW(TinyNet, bank_of(), 8, torch.Generator().manual_seed(5)).members()
    assert len(first) == 2 * 3
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.features, b.features)
        assert not torch.equal(a.features, c.features)
        assert not any(p.requires_grad for p in a.network.parameters())
        assert not a.network.training
    # Later ages know more than the first.
    weights = [member.network.head.weight for member in first]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[3])


def members_of(folder, network=NormNet, seed=4, few=FEW, num_points=32):
    """Those of a bank that nobody has asked before, as in another process."""
    bank = bank_of(num_points)
    bank.keep_in(folder)
    return few(network, bank, 8, torch.Generator().manual_seed(seed)).members()


@pytest.fixture
def batches(monkeypatch):
    """Counts the batches that networks are trained on from now on."""
    seen, make = [], trained_networks._batch
    monkeypatch.setattr(trained_networks, "_batch", lambda *args: seen.append(1) or make(*args))
    return seen


def test_networks_of_a_file_are_those_that_were_trained(tmp_path, batches):
    first = members_of(tmp_path)
    assert batches
    batches.clear()
    again = members_of(tmp_path)
    assert not batches
    assert len(again) == len(first) == 2 * 3
    pos = torch.randn(2, 32, 3)
    for a, b in zip(first, again, strict=True):
        assert a.tensors().keys() == b.tensors().keys()
        assert all(torch.equal(x, b.tensors()[name]) for name, x in a.tensors().items())
        assert torch.equal(a.network(from_dense(pos)), b.network(from_dense(pos)))
        assert not any(p.requires_grad for p in b.network.parameters())
        assert not b.network.training


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 5},
        {"network": TinyNet},
        {"num_points": 16},
        {"few": partial(FEW, ages=(0, 2, 4))},
        {"few": partial(FEW, real_per_class=3)},
    ],
)
def test_networks_of_a_file_are_no_others(tmp_path, batches, other):
    members_of(tmp_path)
    batches.clear()
    members_of(tmp_path, **other)
    assert batches


def test_networks_of_another_number_of_threads_are_others(tmp_path, batches, one_thread):
    members_of(tmp_path)
    batches.clear()
    torch.set_num_threads(2)
    members_of(tmp_path)
    assert batches


class Tied(NormNet):
    """A network, two of whose parameters are one."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.again = self.mlp[0]


def test_networks_with_tied_parameters_are_kept(tmp_path, batches):
    members_of(tmp_path, Tied)
    batches.clear()
    (first, *_) = members_of(tmp_path, Tied)
    assert not batches
    assert first.network.again.weight is first.network.mlp[0].weight


class Scaled(torch.nn.Module):
    """A layer of one's own."""

    def forward(self, x):
        return 2 * x


def of_layers(num_classes):
    """A network that a function makes."""
    model = TinyNet(num_classes)
    model.mlp.append(Scaled())
    return HookedBackbone(model, "mlp", num_classes=num_classes, point_channels=16)


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        (NormNet, NormNet),
        (NormNet, TinyNet),  # Its base.
        (of_layers, of_layers),
        (of_layers, TinyNet),
        (of_layers, Scaled),
        (of_layers, HookedBackbone),
        (partial(of_layers), Scaled),
    ],
)
def test_networks_whose_code_changed_are_trained_anew(
    tmp_path, batches, monkeypatch, network, changes
):
    members_of(tmp_path, network)
    assert batches
    batches.clear()
    members_of(tmp_path, network)
    assert not batches
    source = inspect.getsource

    def changed(value):
        return source(value) + ("# Changed." if value is changes else "")

    monkeypatch.setattr(inspect, "getsource", changed)
    members_of(tmp_path, network)
    assert batches


def test_networks_that_cannot_be_written_are_not_lost(tmp_path, monkeypatch):
    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr("torch_geometric_ddp.methods.member_files.write_tensors", full)
    with pytest.warns(UserWarning, match=r"could not be kept in '.*': no space left"):
        members = members_of(tmp_path)
    assert len(members) == 2 * 3
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_of_networks_is_written_anew(tmp_path, batches):
    expected = members_of(tmp_path)
    (path,) = tmp_path.glob("networks-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    batches.clear()
    assert torch.equal(members_of(tmp_path)[-1].features, expected[-1].features)
    assert batches
    batches.clear()
    members_of(tmp_path)
    assert not batches


def test_a_run_with_networks_of_a_file_is_the_same_run(tmp_path, batches):
    settings = {"visits": 3, "ages": (0, 2), "num_trained": 1, "real_per_class": 4}
    sets = []
    for cache in (None, tmp_path, tmp_path):
        batches.clear()
        rest = {"network": TinyNet, "steps": 3, "progress": False, "cache": cache}
        sets.append(pkr(8, **settings).distill(toy_set(), 1, **rest))
    assert not batches
    first, *others = (one.parameterization.storage() for one in sets)
    for storage in others:
        assert storage.keys() == first.keys()
        assert all(torch.equal(tensor, storage[name]) for name, tensor in first.items())


def test_no_network_begins_like_one_that_a_set_is_judged_by():
    judges = []
    for seed in range(8):
        with seeded(seed, torch.device("cpu")):
            judges.append(TinyNet(3).state_dict())
    for seed in range(3):
        source = FEW(TinyNet, bank_of(), 8, torch.Generator().manual_seed(seed), ages=(0,))
        for member in source.members():
            own = member.network.state_dict()
            same = [all(torch.equal(own[k], v) for k, v in judge.items()) for judge in judges]
            assert not any(same)


def test_runs_with_the_networks_of_before_are_other_runs():
    row, told = Distilled("PKR", build=pkr), {"revision": 2}
    assert row.identity().items() >= told.items()
    assert "revision" not in Distilled("DDP", build=ddp).identity()
    source = FEW(TinyNet, bank_of(), 8, torch.Generator())
    assert source.config().items() >= told.items()


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"ages": ()}, ValueError, "'ages' must be ascending"),
        ({"ages": (5, 2)}, ValueError, "'ages' must be ascending"),
        ({"ages": (-1,)}, ValueError, "'ages' must be at least 0"),
        ({"sizes": ()}, ValueError, "'sizes' must hold at least one"),
        ({"sizes": (0,)}, ValueError, "'sizes' must be at least 1"),
        ({"num_trained": 0}, ValueError, "'num_trained' must be at least 1"),
        ({"real_per_class": 1.5}, TypeError, "'real_per_class' must be an integer"),
    ],
)
def test_wrong_networks(kwargs, error, message):
    with pytest.raises(error, match=message):
        TrainedNetworks(TinyNet, bank_of(), 8, torch.Generator(), **kwargs)


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_wrong_ridge(ridge):
    with pytest.raises(ValueError, match="'ridge' must be finite and above 0"):
        KernelRegression(ridge)


def test_networks_that_runs_share_are_not_trained_further():
    with pytest.raises(ValueError, match=r"'outer_loops' must be 1 with TrainedNetworks, .* got 5"):
        method(loops=lambda ppc: (5, 1)).begin(bank_of(), network=TinyNet)


def test_real_clouds_of_another_scale_are_refused():
    clouds = [Data(pos=500 * data.pos, y=data.y) for data in toy_set()]
    with pytest.raises(ValueError, match="'normalize' must be True where networks are trained"):
        pkr(8, **FEW_PKR).distill(clouds, 1, network=TinyNet, progress=False, normalize=False)
    pkr(8, **FEW_PKR).distill(clouds, 1, network=TinyNet, progress=False, steps=1)


def test_a_cloud_of_one_place_is_named():
    clouds = list(toy_set())
    clouds[4] = Data(pos=torch.ones(32, 3), y=clouds[4].y)
    with pytest.raises(ValueError, match=r"whose points all lie at one place .* cloud 4$"):
        pkr(8, **FEW_PKR).distill(clouds, 1, network=TinyNet, progress=False)


def test_all_classes_at_once():
    with pytest.raises(ValueError, match="compares all classes at once, got 1"):
        method().begin(bank_of(), network=TinyNet, classes_per_chunk=1)


def test_learning_lowers_the_loss():
    loop = method().begin(bank_of(), 2, network=TinyNet, steps=60)
    loop.run(60, progress=False)
    assert np.mean(loop.losses[-10:]) < 0.9 * np.mean(loop.losses[:10])


def test_resumes_to_the_bit(tmp_path):
    def begin():
        return method().begin(bank_of(), 1, 3, TinyNet, steps=6)

    whole = begin()
    whole.run(6, progress=False)
    half = begin()
    half.run(3, progress=False, checkpoint=tmp_path / "c.safetensors")
    rest = begin()
    rest.load_checkpoint(tmp_path / "c.safetensors")
    rest.run(6, progress=False)
    assert rest.losses == whole.losses
    assert torch.equal(rest.parameterization.pos, whole.parameterization.pos)
    ages = partial(FEW, ages=(0, 1))
    other = method(networks=ages).begin(bank_of(), 1, 3, TinyNet, steps=6)
    with pytest.raises(ValueError, match=r"it differs in .*ages"):
        other.load_checkpoint(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"lr": -1.0}, {}, "'lr' must be finite and at least 0"),
        ({"ridge": 0.0}, {}, "'ridge' must be finite and above 0"),
        ({"visits": -1}, {}, "'visits' must be at least 0"),
        ({}, {"classes_per_chunk": 1}, "compares all classes at once"),
        ({}, {"network": torch.nn.Linear}, "'network' must make a Backbone"),
        ({}, {"ppc": 1e-6}, "does not fit the storage"),
    ],
)
def test_what_cannot_run_is_refused_before_networks_are_trained(
    settings, arguments, message, monkeypatch
):
    monkeypatch.setattr(TrainedNetworks, "members", None)
    with pytest.raises((TypeError, ValueError), match=message):
        pkr(8, **settings).distill(
            toy_set(), **{"ppc": 1, "network": TinyNet, "progress": False, **arguments}
        )


class Closing(torch.optim.SGD):
    """An optimiser that evaluates the loss several times, as LBFGS does."""

    def step(self, closure):
        return super().step(closure)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"loops": lambda ppc: (5, 1)}, ValueError, "'outer_loops' must be 1 with TrainedNetworks"),
        ({"optimizer": Closing}, TypeError, "whose step needs no closure, got Closing"),
        (
            {"optimizer": lambda groups: None},
            TypeError,
            "'optimizer' must make .*, got one of None",
        ),
    ],
)
def test_a_method_that_cannot_run_is_refused_before_networks_are_trained(
    changes, error, message, monkeypatch
):
    monkeypatch.setattr(TrainedNetworks, "members", None)
    with pytest.raises(error, match=message):
        replace(pkr(8), **changes).begin(bank_of(), network=TinyNet)


def test_the_check_before_choosing_draws_nothing():
    """So that what is chosen is what it was."""
    generator = torch.Generator().manual_seed(3)
    index = bank_of().draw(2, generator)
    chosen = method(choose=chosen_by_regression(packed(8, Float16()).form, visits=0))
    loop = chosen.begin(bank_of(), 2, 3, TinyNet)
    pos = loop.parameterization.pos.detach()
    assert torch.equal(pos, bank_of().dense()[index.flatten()])
    assert torch.equal(loop.generator.get_state(), generator.get_state())


@pytest.mark.parametrize("visits", [0, 2])
def test_networks_that_diverge_are_trained_once(visits, monkeypatch):
    trained = []

    def diverge(*args):
        trained.append(1)
        raise FloatingPointError("a network that was trained on the real clouds diverged")

    monkeypatch.setattr(trained_networks, "_train", diverge)
    with pytest.raises(FloatingPointError, match="on the real clouds diverged"):
        pkr(8, visits=visits, **FEW_PKR).distill(
            toy_set(), 1, network=TinyNet, progress=False, retries=3
        )
    assert len(trained) == 1


class StopError(Exception):
    """What ends a run in the middle."""


def test_what_was_chosen_is_not_lost_where_a_step_fails(tmp_path, monkeypatch):
    rest = {"ppc": 1, "network": TinyNet, "progress": False, "steps": 3}
    chosen = pkr(8, visits=6, **FEW_PKR)
    whole = chosen.distill(toy_set(), **rest)

    def stop(loop):
        raise StopError

    path = tmp_path / "run.safetensors"
    with pytest.raises(StopError):
        chosen.distill(toy_set(), **rest, checkpoint=path, callback=stop)
    monkeypatch.setattr(choosing, "exchange_of", None)
    again = chosen.distill(toy_set(), **rest, checkpoint=path)
    ours, theirs = again.parameterization.storage(), whole.parameterization.storage()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert again.provenance == whole.provenance


FEW_PKR = {"ages": (0, 2), "num_trained": 2, "real_per_class": 4}


def free(monkeypatch, num):
    monkeypatch.setattr("torch_geometric_ddp.methods.exchange.free_bytes", lambda device: num)


def test_a_set_too_large_to_choose_is_refused_before_networks_are_trained(monkeypatch):
    clouds = 3 * packed_count(StorageBudget(32, 3), 8, 5)
    # In each of four networks, of sixteen features: those of 18 real clouds and of the set, the
    # kernels of all to twelve real ones, and twice those of the set to itself and to these twelve.
    needed = 4 * (4 * (16 * (18 + clouds) + 18 * 12) + 16 * (clouds**2 + 12 * clouds))
    monkeypatch.setattr(TrainedNetworks, "members", None)
    free(monkeypatch, needed - 1)
    message = (
        f"to choose {clouds:,} clouds by 4 networks takes {needed:,} bytes, and {needed - 1:,} are "
        "free: .*'ppc'.*'visits'=0"
    )
    with pytest.raises(MemoryError, match=message):
        pkr(8, **FEW_PKR).distill(toy_set(), 1, network=TinyNet, progress=False)
    pkr(8, visits=0, **FEW_PKR).begin(bank_of(), 1, network=TinyNet)
    free(monkeypatch, needed)
    with pytest.raises(TypeError, match="not callable"):  # The networks, which come next.
        pkr(8, **FEW_PKR).begin(bank_of(), 1, network=TinyNet)


def test_a_row_too_large_to_choose_fails_with_the_reason(tmp_path, monkeypatch):
    free(monkeypatch, 0)
    preset = Preset("tiny", SMOKE, SMOKE, 1, 1)
    lab = Lab(toy_set(), toy_set(seed=1), tmp_path, preset, {"Tiny": TinyNet})
    (cell,) = lab.cells([Distilled("PKR", FEW_PKR, build=pkr)], [1], [0])
    assert lab.run([cell]) == []
    assert lab.failures[str(cell)].startswith("MemoryError: to choose ")


def test_a_run_that_goes_on_chooses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    chosen = method(choose=chosen_by_regression(packed(8, Float16()).form, visits=6))
    whole = chosen.begin(bank_of(), 1, 3, TinyNet)
    whole.run(6, progress=False)
    half = chosen.begin(bank_of(), 1, 3, TinyNet, checkpoint=path)
    half.run(3, progress=False, checkpoint=path)
    monkeypatch.setattr(choosing, "exchange_of", None)
    rest = chosen.begin(bank_of(), 1, 3, TinyNet, checkpoint=path)
    assert rest.num_steps == 3
    rest.run(6, progress=False)
    assert rest.losses == whole.losses
    assert torch.equal(rest.parameterization.pos, whole.parameterization.pos)


def test_rates_fall_by_a_cosine():
    loop = method().begin(bank_of(), network=TinyNet, steps=4)
    rates = []
    loop.run(4, False, callback=lambda now: rates.append(now.optimizer.param_groups[0]["lr"]))
    assert rates == pytest.approx([0.01 * f for f in (1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5)])


def exchange(bank, num=2, seed=0, weigh="uniform"):
    members = FEW(TinyNet, bank, 8, torch.Generator().manual_seed(seed)).members()
    index = bank.draw(num, torch.Generator().manual_seed(seed)).flatten()
    return exchange_of(bank, members, packed(8, Float16()).form, 0.01, index, weigh)


def loss_of(search, index, added, weights=(1, 1, 1)):
    """The loss of a set, and the matrices that it is made from, by solving."""
    chosen = search.features[:, index].double()
    kernel = chosen @ chosen.mT
    inverse = torch.stack(
        [k.add(r * torch.eye(len(k))).inverse() for k, r in zip(kernel, added, strict=True)]
    )
    known = torch.eye(3, dtype=torch.double)[index // 6] - 1 / 3
    cross = search.crosses[:, index].mT.double()
    wanted = torch.eye(3, dtype=torch.double).repeat_interleave(4, dim=0) - 1 / 3
    errors = cross @ inverse @ known - wanted
    weights = 3 * torch.tensor(weights, dtype=torch.double) / sum(weights)
    each = weights.repeat_interleave(4)[:, None]
    return float((each * errors.square()).sum(dim=2).mean()), inverse, each.sqrt() * errors


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 5)])
def test_exchanges_take_the_best_and_stay_exact(weights):
    """Against solving anew for every candidate, also after many exchanges."""
    bank, g = bank_of(), torch.Generator().manual_seed(6)
    search = exchange(bank, weigh=weights)
    first = search.features[:, search.index].square().sum(dim=2).mean(dim=1)
    added = 0.01 * first.double()
    taken = 0
    for _ in range(40):
        place = int(torch.randint(6, (), generator=g))
        own = (bank.y == bank.y[search.index[place]]).nonzero().flatten()
        before, losses = search.index.clone(), {}
        for cloud in own.tolist():
            if cloud not in before.tolist():
                other = before.clone()
                other[place] = cloud
                losses[cloud] = loss_of(search, other, added, weights)[0]
        now = loss_of(search, before, added, weights)[0]
        assert search.loss == pytest.approx(now, rel=1e-5)
        changed = search.visit(place, own)
        taken += changed
        best = min(losses, key=losses.get)
        assert changed == (losses[best] < now)
        if changed:
            assert int(search.index[place]) == best
            assert search.loss == pytest.approx(losses[best], rel=1e-5)
    assert taken > 3
    _, inverse, errors = loss_of(search, search.index, added, weights)
    torch.testing.assert_close(search.inverse, inverse, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(search.errors, errors, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        search.weights,
        search.inverse @ (torch.eye(3, dtype=torch.double)[bank.y[search.index]] - 1 / 3),
    )
    cross = search.crosses[:, search.index].mT.double()
    spread = search.roots[:, None] * (cross @ inverse)
    torch.testing.assert_close(search.spread, spread, rtol=1e-4, atol=1e-4)
    assert torch.equal(search.chosen, search.features[:, search.index])
    assert len(set(search.index.tolist())) == 6


def test_a_class_that_is_stored_whole_keeps_its_clouds():
    bank = bank_of()
    search = exchange(bank, num=6)
    before = search.index.clone()
    assert not any(search.visit(i, torch.arange(6) + i // 6 * 6) for i in range(18))
    assert torch.equal(search.index, before)


@pytest.mark.parametrize("threads", [1, 2])
def test_regression_on_any_number_of_threads(threads):
    """An LU decomposition of several matrices of this size hangs on two threads."""
    code = (
        "import torch; from torch_geometric_ddp.matching.kernel_regression import regression_loss;"
        f"torch.set_num_threads({threads}); s = torch.randn(3, 200, 64);"
        "y = torch.arange(200) % 10; print(regression_loss(s, y, s, y, 10, 0.01).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert "torch.Size([3, 200])" in done.stdout


def test_features_that_are_not_finite_are_never_chosen():
    search = exchange(bank_of())
    before = search.index.clone()
    search.features[:, [i for i in range(18) if i not in before]] = torch.nan
    assert not any(search.visit(i, torch.arange(6) + 6 * (i // 2)) for i in range(6))
    assert torch.equal(search.index, before)
    search.features[0, before[0]] = torch.inf
    y, labels = bank_of().y, torch.arange(3).repeat_interleave(4)
    with pytest.raises(FloatingPointError, match="has no inverse: its features are not finite"):
        Exchange(search.features, search.crosses, y, labels, 3, 0.1, before)


def test_a_kernel_without_an_inverse_gives_nan():
    s = torch.ones(4, 2) * 1e4
    y = torch.tensor([0, 0, 1, 1])
    assert regression_loss(s, y, s, y, 2, 1e-12).isnan().all()


def test_chosen_clouds_start_a_run():
    bank = bank_of()
    choose = chosen_by_regression(packed(8, Float16()).form, visits=30)
    loop = method(choose=choose).begin(bank, 2, 1, TinyNet)
    stored = loop.parameterization.pos.detach()
    assert stored.shape == (6, 32, 3)
    for c, cloud in enumerate(stored):
        assert any(torch.equal(cloud, real) for real in bank.dense()[bank.y == c // 2])
    plain = method().begin(bank, 2, 1, TinyNet).parameterization.pos
    assert not torch.equal(plain, stored)


def test_whether_a_run_can_begin_is_seen_without_training(monkeypatch):
    """Also of the method that a budget chooses, and what cannot begin is refused."""
    monkeypatch.setattr(trained_networks, "_train", None)
    method = pkr(**FEW_PKR)
    loop = method.begin(bank_of(), network=TinyNet, chooses=False)
    plain = pkr(**{**FEW_PKR, "visits": 0}).begin(bank_of(), network=TinyNet)
    assert torch.equal(loop.parameterization.halves, plain.parameterization.halves)
    with pytest.raises(ValueError, match="'num_points'=32 does not fit the storage of ppc"):
        method.begin(bank_of(), 1 / 1000, network=TinyNet, chooses=False)
