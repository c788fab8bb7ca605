"""The evaluation protocol."""

import json
import math
import os
from dataclasses import dataclass, replace
from functools import partial, wraps

import numpy as np
import pytest
import torch
from helpers import NormNet, TinyNet, TinySegmenter, toy_arrays, toy_parts, toy_set
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import MLP, PointNetConv, global_max_pool
from torch_geometric.transforms import Compose
from tqdm import tqdm

from torch_geometric_ddp import (
    CPU,
    PAPER,
    QUICK,
    SMOKE,
    Evaluation,
    Protocol,
    distill,
    evaluate,
    ops,
)
from torch_geometric_ddp._seeding import seeded
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.class_names import agree
from torch_geometric_ddp.clouds.views import in_order_for
from torch_geometric_ddp.coreset import observe
from torch_geometric_ddp.datasets import PointCloudArrays
from torch_geometric_ddp.evaluation import RandomRotation, fit, learning, seed_list
from torch_geometric_ddp.evaluation.learning import Learning
from torch_geometric_ddp.evaluation.together import fit_together
from torch_geometric_ddp.evaluation.training import batches_of
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.nn import BACKBONES, DGCNN, PointMamba, PointNet
from torch_geometric_ddp.nn.levels import Level
from torch_geometric_ddp.tasks import Accuracy
from torch_geometric_ddp.transforms import FarthestPointSample, NormalizeSphere

SHORT = Protocol("short", epochs=4, batch_size=4)
EASY = Protocol("easy", epochs=60, lr=0.05, batch_size=6)


def run(train=None, test=None, network=TinyNet, protocol=SHORT, seeds=2, **kwargs):
    train = toy_set() if train is None else train
    test = toy_set(seed=1) if test is None else test
    return evaluate(train, test, network, protocol, seeds, progress=False, **kwargs)


class Constant(nn.Module):
    """Always gives the class that it is told."""

    def __init__(self, label, num_classes=3):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.label, self.num_classes = label, num_classes

    def forward(self, data):
        logits = torch.zeros(data.num_graphs, self.num_classes, device=data.pos.device)
        logits[:, self.label] = 1e3
        return logits + 0 * self.bias


# What comes out ###################################################################################


def test_separable_problem_is_learned(device):
    result = run(protocol=EASY, device=device, seeds=3)
    assert result.values.tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(result.scores.confusion, 18 * torch.eye(3, dtype=torch.long))


def test_separable_problem_is_learned_by_pointnet():
    train, test = (toy_set(2, num_points=16, seed=seed) for seed in (0, 1))
    protocol = Protocol("short", epochs=25, batch_size=4)
    assert run(train, test, PointNet, protocol, seeds=1).mean == 1


def test_guess_of_a_constant(device):
    test = PointCloudArrays(
        toy_arrays(seed=1)[0][:13], toy_arrays()[1][:13], ["class0", "class1", "class2"]
    )
    result = run(test=test, network=lambda n: Constant(1), device=device, seeds=2)
    # Six, six and one clouds of the three classes, two networks.
    assert result.scores.confusion.tolist() == [[0, 12, 0], [0, 12, 0], [0, 2, 0]]
    assert result.values.tolist() == [6 / 13, 6 / 13]
    assert result.scores.per_class.tolist() == [[0, 1, 0]] * 2
    assert result.scores.class_means.tolist() == [pytest.approx(1 / 3)] * 2
    assert (result.mean, result.std) == (pytest.approx(6 / 13), 0)


def test_size_of_the_result():
    assert run(seeds=np.array([3, 8])).seeds == [3, 8]
    result = run(seeds=[3, 8, 5])
    assert result.seeds == [3, 8, 5]
    assert result.values.shape == (3,)
    assert result.values.dtype == torch.float64
    assert result.scores.confusions.shape == (3, 3, 3)
    assert result.scores.confusion.dtype == torch.int64
    assert result.scores.confusion.sum(dim=1).tolist() == [18, 18, 18]
    assert result.protocol == SHORT
    assert result.metric == "accuracy"
    assert result.scores.class_names == ["class0", "class1", "class2"]
    assert (result.num_clouds, result.num_points) == (18, 18 * 32)
    total = result.values.sum() * 18
    assert result.scores.confusion.diagonal().sum().item() == pytest.approx(total.item())


def test_it_says_first_what_it_is_going_to_do(capsys):
    sets = toy_set(), toy_set(seed=1)
    evaluate(*sets, TinyNet, SHORT, 2)
    said = capsys.readouterr()
    told = "To do: 2 networks (TinyNet) to train, protocol short: 4 epochs of 18 clouds, 20 steps "
    assert f"{told}each; tested on 18 clouds.\n" in said.err
    assert said.err.index(told) < said.err.index("Evaluate")
    assert said.out == ""
    # One of many: whoever gave it a name has said what it is for.
    evaluate(*sets, TinyNet, SHORT, [5], name="other")
    said = capsys.readouterr().err
    assert "other: 100%" in said
    assert "To do" not in said
    run()
    assert capsys.readouterr() == ("", "")


def test_names_of_one_set_are_those_of_the_other():
    clouds = [Data(pos=data.pos, y=data.y) for data in toy_set(num_classes=4, seed=1)]
    for train, test in ((toy_set(), clouds), (clouds, toy_set())):
        result = run(train, test, seeds=1)
        assert result.scores.class_names == ["class0", "class1", "class2", "3"]
    assert run(clouds, clouds, seeds=1).scores.class_names == ["0", "1", "2", "3"]


def table(rightly):
    """Of two classes of ten test clouds, how many a network got right."""
    a, b = rightly
    return [[a, 10 - a], [10 - b, b]]


def evaluation(*tables):
    scores = Accuracy(["a", "b"], torch.tensor(tables))
    return Evaluation(scores, "accuracy", list(range(len(tables))), SHORT, 4, 40)


def test_mean_and_standard_deviation():
    result = evaluation(table([5, 5]), table([8, 6]), table([9, 9]))
    assert result.values.tolist() == [0.5, 0.7, 0.9]
    assert result.mean == pytest.approx(0.7)
    assert result.std == pytest.approx(0.2)  # Of a sample, over n - 1.
    assert str(result) == "70.0 ± 20.0 % (accuracy, short protocol, 3 seeds)"


def test_one_seed_has_no_deviation():
    result = evaluation(table([4, 6]))
    assert math.isnan(result.std)
    assert result.to_dict()["std"] is None
    assert str(result) == "50.0 % (accuracy, short protocol, 1 seed)"


def test_class_accuracy():
    scores = evaluation([[3, 1], [2, 2]], [[4, 0], [1, 3]]).scores
    assert scores.per_class.tolist() == [[0.75, 0.5], [1.0, 0.75]]
    assert scores.class_means.tolist() == [0.625, 0.875]
    assert scores.values.dtype == scores.per_class.dtype == torch.float64


def test_class_accuracy_of_a_class_without_test_clouds():
    result = evaluation([[3, 1], [0, 0]])
    ((first, second),) = result.scores.per_class
    assert first == 0.75
    assert second.isnan()
    assert result.scores.class_means.tolist() == [0.75]
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()


def test_join():
    """Of clouds that are not as many in every class."""
    first = evaluation([[3, 1], [0, 2]], [[4, 0], [1, 1]])
    result = Evaluation.join([first, evaluation([[0, 4], [2, 0]])])
    assert result.values.tolist() == [5 / 6, 5 / 6, 0]
    assert result.scores.confusion.tolist() == [[7, 5], [3, 3]]
    assert result.seeds == [0, 1, 0]
    assert (result.metric, result.protocol, result.num_clouds) == ("accuracy", SHORT, 4)


def test_evaluations_are_compared_as_objects():
    """What they hold are tensors, which are neither equal nor not."""
    first, other = evaluation([[3, 1], [0, 2]]), evaluation([[3, 1], [0, 2]])
    assert first == first
    assert first != other
    assert {first: "first", other: "other"}[first] == "first"


def test_only_what_was_made_alike_is_joined():
    first = evaluation([[3, 1], [0, 2]])
    with pytest.raises(ValueError, match="must hold at least one, got none"):
        Evaluation.join([])
    for what, value in (("protocol", replace(SHORT, lr=1.0)), ("metric", "another")):
        with pytest.raises(ValueError, match=f"must have the same {what}, got"):
            Evaluation.join([first, replace(first, **{what: value})])


def test_to_dict():
    assert evaluation([[1, 1], [1, 1]], [[4, 0], [3, 3]]).to_dict() == {
        "accuracy": [0.5, 0.7],
        "class_accuracy": [0.5, 0.75],
        "metric": "accuracy",
        "mean": pytest.approx(0.6),
        "std": pytest.approx(0.2 / math.sqrt(2)),
        "confusion": [[5, 1], [4, 4]],
        "class_names": ["a", "b"],
        "seeds": [0, 1],
        "protocol": SHORT.to_dict(),
        "num_clouds": 4,
        "num_points": 40,
    }


# Repeatability ####################################################################################


class Keeper:
    """Makes networks and keeps them."""

    def __init__(self, kind=TinyNet):
        self.kind, self.made = kind, []

    def __call__(self, num_classes):
        self.made.append(self.kind(num_classes))
        return self.made[-1]


class DropNet(TinyNet):
    def forward(self, data):
        pooled = global_max_pool(self.point_features(data), data.batch)
        return self.head(nn.functional.dropout(pooled, 0.5, self.training))


def same(first, second):
    states = first.state_dict(), second.state_dict()
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("kind", [TinyNet, DropNet, NormNet])
def test_same_seed_is_the_same_to_the_bit(kind, device):
    first, second = Keeper(kind), Keeper(kind)
    run(network=first, seeds=[0, 1], device=device)
    with torch.random.fork_rng():
        torch.manual_seed(77)  # Nothing global matters, nor what other seeds went before.
        run(network=second, seeds=[1], device=device)
    assert same(first.made[1], second.made[0])
    assert not same(first.made[0], first.made[1])


@pytest.mark.parametrize(("num", "sizes"), [(9, [4, 5]), (8, [4, 4]), (10, [4, 4, 2]), (1, [1])])
def test_no_batch_of_a_single_cloud_that_is_left_over(num, sizes):
    bank, seen = PointCloudBank.from_dataset(toy_set(per_class=num)).select(torch.arange(num)), []
    fit(
        TinyNet(bank.num_classes),
        bank,
        replace(SMOKE, batch_size=4, epochs=1, min_steps=0),
        observer=lambda index, logits: seen.append(index.tolist()),
    )
    assert [len(index) for index in seen] == sizes
    assert sorted(i for index in seen for i in index) == list(range(num))


def test_global_generators_are_left_alone(device):
    state = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    run(network=DropNet, device=device)
    assert torch.equal(torch.get_rng_state(), state)
    after = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    assert all(torch.equal(a, b) for a, b in zip(cuda, after, strict=True))


@pytest.mark.parametrize("together", [1, 2])
def test_networks_have_the_type_of_the_clouds(together):
    """Whatever torch makes by default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        result = run(network=TinyNet, seeds=2, together=together)
        seen = observe(toy_set(), TinyNet, SHORT, progress=False)
    finally:
        torch.set_default_dtype(before)
    assert result.values.shape == (2,)
    assert seen.features.dtype == torch.float32


def test_number_of_seeds_counts_from_zero():
    assert run(seeds=3).seeds == [0, 1, 2]
    assert run(seeds=range(4, 6)).seeds == [4, 5]


# The protocol #####################################################################################


def test_paper_protocol():
    assert PAPER.to_dict() == {
        "name": "paper",
        "epochs": 500,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "batch_size": 8,
        "decay_after": 0.5,
        "decay": 0.1,
        "normalize": True,
        "min_steps": 0,
    }


@pytest.mark.parametrize(
    ("clouds", "epochs"), [(1, 100), (8, 100), (9, 100), (10, 50), (32, 25), (80, 20), (1000, 20)]
)
def test_least_number_of_steps(clouds, epochs):
    """A hundred steps of eight clouds at least, and twenty epochs at least."""
    protocol = replace(SMOKE, epochs=20, min_steps=100)
    assert protocol.epochs_for(clouds) == epochs
    assert SMOKE.epochs_for(clouds) == 2


@pytest.mark.parametrize("size", [1, 2, 8])
@pytest.mark.parametrize("num", [1, 2, 3, 8, 9, 10, 16, 17, 25])
def test_no_set_is_trained_for_fewer_than_the_least_steps(size, num):
    """Also not one whose last cloud would be alone in its batch and joins the one before."""
    protocol = replace(QUICK, batch_size=size)
    steps = len(batches_of(num, protocol, torch.Generator(), torch.device("cpu")))
    assert protocol.steps_per_epoch(num) == steps
    assert protocol.epochs_for(num) * steps >= protocol.min_steps


def test_small_sets_are_trained_for_more_epochs():
    seen = []
    bank = PointCloudBank.from_dataset(toy_set(per_class=1))
    protocol = replace(SMOKE, epochs=4, decay_after=0.5, min_steps=10)
    fit(TinyNet(3), bank, protocol, observer=lambda index, logits: seen.append(len(index)))
    assert seen == [3] * 10


def test_shortened_protocols_have_other_names():
    names = [protocol.name for protocol in (PAPER, CPU, QUICK, SMOKE)]
    assert len(set(names)) == 4
    epochs = [protocol.epochs for protocol in (PAPER, CPU, QUICK, SMOKE)]
    assert epochs == sorted(epochs, reverse=True)


@pytest.mark.parametrize("protocol", [PAPER, CPU, QUICK], ids=lambda protocol: protocol.name)
def test_ten_clouds_are_trained_until_they_leave_chance(protocol):
    """Ten classes at PPC 1: two steps an epoch, 500 epochs in the paper, and nowhere fewer."""
    assert 2 * protocol.epochs_for(10) == 1000


class Recorder(TinyNet):
    """Notes what it sees in training and in the test."""

    batches: list

    def forward(self, data):
        self.batches.append((self.training, data.pos.detach().clone(), data.y.tolist()))
        return super().forward(data)


@pytest.fixture
def batches(monkeypatch):
    monkeypatch.setattr(Recorder, "batches", [], raising=False)
    return Recorder.batches


def test_every_epoch_sees_every_cloud_once_in_a_new_order(batches):
    train = toy_set()
    run(train, network=Recorder, seeds=1, protocol=Protocol("x", epochs=3, batch_size=4))
    seen = [(pos, y) for training, pos, y in batches if training]
    assert [len(y) for _, y in seen] == [4, 4, 4, 4, 2] * 3
    epochs = [torch.cat([pos for pos, _ in seen[5 * i : 5 * i + 5]]) for i in range(3)]
    rows = [{tuple(point) for point in epoch.tolist()} for epoch in epochs]
    assert rows[0] == rows[1] == rows[2]
    assert len(rows[0]) == 18 * 32
    assert not torch.equal(epochs[0], epochs[1])


def test_clouds_are_normalised(batches):
    train = [Data(pos=5 + 3 * data.pos, y=data.y) for data in toy_set()]
    run(train, network=Recorder, seeds=1)
    for _, pos, _ in batches:
        for cloud in pos.view(-1, 32, 3):
            torch.testing.assert_close(cloud.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-5)
            assert cloud.norm(dim=1).max().item() == pytest.approx(1, rel=1e-5)


def test_clouds_may_stay_as_they_are(batches):
    run(network=Recorder, seeds=1, protocol=Protocol("x", epochs=1, normalize=False))
    seen = torch.cat([pos for training, pos, _ in batches if not training])
    assert torch.equal(seen, toy_set(seed=1)._data.pos)


def test_test_clouds_are_seen_once_without_training(batches):
    run(network=Recorder, seeds=2)
    seen = [y for training, _, y in batches if not training]
    assert sum(map(len, seen)) == 2 * 18


@pytest.mark.parametrize(
    ("epochs", "decay_after", "first"), [(4, 0.5, 2), (10, 0.8, 8), (5, 0.5, 2), (1, 0.5, 1)]
)
def test_learning_rate_decays_after_a_share_of_the_epochs(monkeypatch, epochs, decay_after, first):
    rates = []
    step = torch.optim.SGD.step

    def spy(self, *args, **kwargs):
        (group,) = self.param_groups
        rates.append(group["lr"])
        assert (group["momentum"], group["weight_decay"]) == (0.7, 0.01)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    settings = {"momentum": 0.7, "weight_decay": 0.01, "decay_after": decay_after, "decay": 0.2}
    run(protocol=Protocol("x", epochs, lr=0.1, batch_size=9, **settings), seeds=1)
    expected = [0.1] * (2 * first) + [0.1 * 0.2] * (2 * (epochs - first))
    assert rates == pytest.approx(expected)


def test_training_is_a_plain_loop():
    train, protocol = toy_set(), Protocol("x", epochs=2, batch_size=5, lr=0.1)
    keeper = Keeper()
    run(train, network=keeper, protocol=protocol, seeds=[4])
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = TinyNet(3)
    clouds = [NormalizeSphere()(data) for data in train]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    order = torch.Generator().manual_seed(4)
    for epoch in range(2):
        optimizer.param_groups[0]["lr"] = (0.1, 0.01)[epoch]
        chosen = [clouds[i] for i in torch.randperm(18, generator=order)]
        for batch in DataLoader(chosen, batch_size=5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(batch), batch.y).backward()
            optimizer.step()
    for mine, theirs in zip(keeper.made[0].parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def fitted(observer=None, kind=DropNet):
    bank = PointCloudBank.from_dataset(toy_set()).normalize()
    with seeded(4, bank.device):
        net = kind(3)
        fit(net, bank, SHORT, 4, observer=observer)
    return net


@pytest.mark.parametrize("kind", [TinyNet, DropNet, NormNet])
def test_fit_is_the_training_of_evaluate(kind):
    keeper = Keeper(kind)
    run(network=keeper, seeds=[4])
    assert same(keeper.made[0], fitted(kind=kind))


def test_observer_sees_every_forward_pass_and_changes_nothing(batches):
    seen = []
    net = fitted(lambda index, logits: seen.append((index, logits)), Recorder)
    clouds = PointCloudBank.from_dataset(toy_set()).normalize().dense()
    assert len(seen) == len(batches) == SHORT.epochs * 5
    for (index, logits), (training, pos, y) in zip(seen, batches, strict=True):
        assert training
        assert torch.equal(clouds[index].flatten(0, 1), pos)
        assert toy_set()._data.y[index].flatten().tolist() == y
        assert logits.shape == (len(index), 3)
        assert not logits.requires_grad
    assert same(net, fitted(kind=TinyNet))


def test_observer_gets_the_logits_of_the_loss():
    seen, losses = [], []
    bank = PointCloudBank.from_dataset(toy_set())

    class Bar(tqdm):
        def set_postfix(self, loss):
            losses.append(float(loss))

    protocol = Protocol("x", epochs=2, batch_size=18)
    with Bar(disable=True) as bar, seeded(0, bank.device):
        fit(TinyNet(3), bank, protocol, bar=bar, observer=lambda i, x: seen.append((bank.y[i], x)))
    expected = [nn.functional.cross_entropy(logits, y).item() for y, logits in seen]
    assert losses == pytest.approx(expected, abs=6e-4)  # The bar rounds.


def test_another_trainer():
    calls = []

    def trainer(model, train, protocol, seed, bar):
        calls.append((type(model), len(train), protocol, seed))
        bar.update(protocol.epochs)

    result = run(trainer=trainer, network=lambda n: Constant(1), seeds=[3, 7])
    assert calls == [(Constant, 18, SHORT, 3), (Constant, 18, SHORT, 7)]
    assert result.scores.confusion[:, 1].tolist() == [12, 12, 12]


class Wide(TinyNet):
    """Gives logits of more classes than there are."""

    def __init__(self, num_classes):
        super().__init__(num_classes + 2)


class Deep(TinyNet):
    """Gives logits for points that are none."""

    def forward(self, data):
        return super().forward(data)[:, :, None]


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize(("network", "got"), [(Wide, r"\[4, 5\]"), (Deep, r"\[4, 3, 1\]")])
def test_logits_of_other_classes_are_refused_in_the_first_step(network, got, together, monkeypatch):
    monkeypatch.setattr(torch.optim.SGD, "step", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(ValueError, match=rf"'network' must give .* \[B, 3\], got {got}"):
        run(network=network, together=together)


class ManyParts(TinySegmenter):
    """Gives logits of more parts than there are."""

    def __init__(self, num_parts, num_categories):
        super().__init__(num_parts + 1, num_categories)


@pytest.mark.parametrize("trained", [False, True])
def test_logits_of_other_parts_are_refused_in_the_first_step(trained, monkeypatch):
    if not trained:
        monkeypatch.setattr(torch.optim.SGD, "step", lambda *_: pytest.fail("it was trained"))
    given = {"trainer": lambda *args: None} if trained else {}
    parts = toy_parts()
    with pytest.raises(
        ValueError, match=r"'network' must give logits .* \[ΣN, 7\], got \[\d+, 8\]"
    ):
        evaluate(parts, parts, ManyParts, SMOKE, 1, progress=False, task="segmentation", **given)


def test_logits_of_other_classes_by_a_trainer_of_ones_own_are_refused():
    with pytest.raises(ValueError, match=r"'network' must give logits of shape \[B, 3\], got"):
        run(network=Wide, trainer=lambda *args: None)


@dataclass(frozen=True)
class Scaling:
    """Makes clouds larger or smaller."""

    factor: float

    def __call__(self, batch, generator=None):
        batch.pos = self.factor * batch.pos
        return batch


def test_a_change_of_clouds_of_ones_own_is_told():
    result = run(protocol=replace(SHORT, augment=Scaling(0.5)), seeds=1)
    told = json.loads(json.dumps(result.to_dict()))
    augment = {"object": f"{__name__}.Scaling", "settings": {"factor": 0.5}}
    assert told["protocol"] == {**SHORT.to_dict(), "augment": augment}


@dataclass(frozen=True)
class Flip:
    """Mirrors clouds; its fields are those of RandomRotation."""

    axis: int | None = None

    def __call__(self, batch, generator=None):
        return batch


@dataclass(frozen=True)
class Nothing:
    """Has no fields."""

    def __call__(self, batch, generator=None):
        return batch


def test_changes_of_the_same_fields_are_told_apart():
    own, theirs = (replace(SHORT, augment=one(axis=0)) for one in (Flip, RandomRotation))
    assert own.to_dict() != theirs.to_dict()
    assert theirs.to_dict()["augment"] == {"axis": 0}
    assert Protocol.from_dict(theirs.to_dict()) == theirs


@pytest.mark.parametrize("augment", [Flip(0), Nothing(), Scaling(0.5)])
def test_a_change_of_clouds_of_ones_own_is_not_made_again(augment):
    told = json.loads(json.dumps(replace(SHORT, augment=augment).to_dict()))
    with pytest.raises(ValueError, match=r"'augment' .* of this package, .*: give the protocol"):
        Protocol.from_dict(told)


@pytest.mark.parametrize("told", [{}, {"factor": 0.5}, 3])  # As files of before have them.
def test_fields_of_another_change_of_clouds_are_refused(told):
    with pytest.raises(ValueError, match=r"'augment' .* of this package, .*: give the protocol"):
        Protocol.from_dict({**SHORT.to_dict(), "augment": told})


@pytest.mark.parametrize(
    ("kwargs", "error", "name"),
    [
        ({"epochs": 0}, ValueError, "epochs"),
        ({"epochs": 1.5}, TypeError, "epochs"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"lr": 0.0}, ValueError, "lr"),
        ({"lr": "0.1"}, TypeError, "lr"),
        ({"momentum": -1.0}, ValueError, "momentum"),
        ({"weight_decay": math.nan}, ValueError, "weight_decay"),
        ({"decay": -0.1}, ValueError, "decay"),
        ({"decay_after": -0.1}, ValueError, "decay_after"),
        ({"augment": 3}, TypeError, "augment"),
        ({"augment": lambda batch, generator: batch}, TypeError, "augment"),
        ({"augment": RandomRotation}, TypeError, "augment"),
        ({"augment": Scaling(torch.ones(3))}, TypeError, "augment"),
    ],
)
def test_bad_protocol(kwargs, error, name):
    with pytest.raises(error, match=f"'{name}' must be"):
        Protocol("x", **{"epochs": 1, **kwargs})


# Data #############################################################################################


def ragged(seed):
    points, labels = toy_arrays(seed=seed)
    sizes = [12 + i for i in range(18)]
    return [
        Data(pos=torch.from_numpy(points[i][:n]), y=int(labels[i])) for i, n in enumerate(sizes)
    ]


def test_clouds_of_different_sizes(device):
    result = run(ragged(0), ragged(1), protocol=EASY, device=device, seeds=1)
    assert result.mean > 0.9
    assert result.num_points == sum(range(12, 30))


def test_clouds_of_different_sizes_with_pointnet(device):
    result = run(ragged(0), ragged(1), PointNet, SMOKE, seeds=1, device=device)
    assert result.scores.confusion.sum() == 18


@pytest.mark.parametrize(("known", "tested"), [(2, 3), (3, 2)])
def test_sets_with_other_numbers_of_classes(known, tested):
    names = []

    def network(num_classes):
        names.append(num_classes)
        return TinyNet(num_classes)

    result = run(toy_set(num_classes=known), toy_set(num_classes=tested), network, seeds=1)
    assert names == [3]
    assert result.scores.confusion.shape == (3, 3)
    assert result.scores.confusion.sum(dim=1).tolist() == [6, 6, 6 if tested == 3 else 0]
    assert result.scores.class_names == ["class0", "class1", "class2"]


@pytest.mark.parametrize(
    ("names", "others", "alike"),
    [
        (["0", "1"], ["0", "1", "2"], True),
        (["cup", "bed"], ["0", "1"], True),
        (["cup", "1"], ["0", "bed"], True),
        (["1", "0"], ["0", "1"], False),
        (["10", "20"], ["0", "1"], False),
        (["1", "0"], ["cup", "bed"], False),
    ],
)
def test_numbers_go_with_words_and_not_with_other_numbers(names, others, alike):
    assert agree(names, others) == agree(others, names) == alike


def test_sets_with_other_classes_are_refused():
    points, labels = toy_arrays()
    train = PointCloudArrays(points, labels, ["cup", "bed", "car"])
    test = PointCloudArrays(points, labels, ["bed", "cup", "car"])
    with pytest.raises(ValueError, match="'train_set' and 'test_set' must have the same classes"):
        run(train, test, network=None)


def test_labels_out_of_range():
    dataset = toy_set()
    dataset._data.y[3] = 7
    with pytest.raises(ValueError, match=r"labels must lie in 0..2"):
        run(test=dataset)


@pytest.mark.parametrize("role", ["train", "test"])
def test_empty_set(role):
    with pytest.raises(ValueError, match="must hold at least one cloud"):
        run(**{role: []})


@pytest.mark.parametrize(
    ("seeds", "error"),
    [
        (0, ValueError),
        ([], ValueError),
        (-1, ValueError),
        (True, TypeError),
        ([2, 0, 2], ValueError),
        ((1, torch.tensor(1)), ValueError),
    ],
)
def test_bad_seeds(seeds, error):
    with pytest.raises(error, match="'seeds' must"):
        run(seeds=seeds)


@pytest.mark.parametrize("settings", ["paper", None, [("name", "paper")]])
def test_settings_of_a_protocol_are_a_mapping(settings):
    with pytest.raises(TypeError, match="'settings' must be a mapping, got"):
        Protocol.from_dict(settings)


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_seeds_in_an_array_are_those_seeds(make):
    assert seed_list(make([3])) == [3]
    assert seed_list(make([3, 4])) == [3, 4]
    assert seed_list(make(3)) == [0, 1, 2]
    with pytest.raises(TypeError, match="'seeds' must be an integer, got"):
        seed_list(make([[3]]))


# Models of PyG ####################################################################################


class Plain(nn.Module):
    """A model as PyG's tutorials have it, which knows nothing of this package."""

    def __init__(self, num_classes):
        super().__init__()
        self.mlp = MLP([3, 32, 32])
        self.head = MLP([32, 32, num_classes], norm=None)

    def forward(self, data):
        return self.head(global_max_pool(self.mlp(data.pos), data.batch))


class Edges(nn.Module):
    """PointNet++'s convolution on a graph of the nearest neighbours."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv = PointNetConv(MLP([6, 16, 32], norm=None), MLP([32, 32], norm=None))
        self.head = nn.Linear(32, num_classes)

    def forward(self, data):
        dist = torch.cdist(data.pos, data.pos)
        dist.masked_fill_(data.batch[:, None] != data.batch, float("inf"))
        near = dist.topk(5, largest=False).indices
        own = torch.arange(len(near), device=near.device)[:, None].expand_as(near)
        edge_index = torch.stack([near.flatten(), own.flatten()])
        x = self.conv(data.pos, data.pos, edge_index).relu()
        return self.head(global_max_pool(x, data.batch))


@pytest.fixture(scope="module")
def synthetic():
    return distill(
        toy_set(per_class=8),
        method=ddp(2, num_morphs=3, anchor_lr=0.05, weight_lr=0.05, batch_size=4),
        network=TinyNet,
        steps=5,
        progress=False,
    )


@pytest.fixture(scope="module")
def sparse():
    """Test clouds of as many points as the distilled ones, which these small models need."""
    return toy_set(seed=1, pre_transform=Compose([NormalizeSphere(), FarthestPointSample(15)]))


@pytest.mark.parametrize("network", [Plain, Edges])
def test_model_of_pyg_on_a_distilled_set(synthetic, sparse, network):
    protocol = Protocol("gentle", epochs=100, lr=0.02, batch_size=4)
    assert run(synthetic, sparse, network, protocol, seeds=1).mean > 0.8


@pytest.mark.parametrize("network", [Plain, Edges])
def test_loop_of_pyg_on_a_distilled_set(synthetic, sparse, network):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network(synthetic.num_classes)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(40):
            for batch in DataLoader(synthetic, batch_size=8, shuffle=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(batch), batch.y).backward()
                optimizer.step()
    model.eval()
    (batch,) = DataLoader(sparse, batch_size=len(sparse))
    with torch.no_grad():
        assert (model(batch).argmax(dim=1) == batch.y).float().mean() > 0.8


# Divergence #######################################################################################


class Ruined(nn.Module):
    """Learns as it should, and gives NaN for clouds that it is tested on."""

    def __init__(self, num_classes):
        super().__init__()
        self.net = TinyNet(num_classes)

    def forward(self, data):
        return self.net(data) * (1.0 if self.training else math.nan)


class Wild(TinyNet):
    def forward(self, data):
        return 1e30 * super().forward(data) ** 2


def test_a_network_whose_loss_is_nan_has_no_accuracy():
    """It would guess the first class, and reach chance."""
    epochs = []

    def trainer(model, train, protocol, seed, bar):
        bar.update = lambda: epochs.append(seed)
        fit(model, train, protocol, seed, bar)

    with pytest.raises(FloatingPointError, match=r"network of seed 3: the loss of epoch 1 is nan"):
        run(network=Wild, protocol=Protocol("long", 50, lr=1e30), seeds=[3, 4], trainer=trainer)
    assert epochs == [3]  # No epoch more.


def test_a_network_that_gives_nan_has_no_accuracy():
    with pytest.raises(FloatingPointError, match=r"network of seed 0: .* test clouds is NaN"):
        run(network=Ruined)


def test_a_segmenter_that_gives_nan_has_no_score():
    class Torn(TinySegmenter):
        def forward(self, data):
            return super().forward(data) * (1.0 if self.training else math.nan)

    with pytest.raises(FloatingPointError, match=r"network of seed 0: .* test clouds is NaN"):
        evaluate(
            toy_parts(), toy_parts(seed=1), Torn, SHORT, 1, progress=False, task="segmentation"
        )


# Seeds side by side ###############################################################################


def test_seeds_side_by_side_are_those_of_one_thread(one_thread, capsys):
    sets = toy_set(), toy_set(seed=1)
    own, other = (evaluate(*sets, NormNet, SHORT, [5, 2, 7], workers=n) for n in (1, 2))
    assert torch.equal(own.scores.confusion, other.scores.confusion)
    assert own.to_dict() == other.to_dict()
    assert capsys.readouterr().err.count("12/12") >= 2  # The epochs of all processes.


def test_a_network_that_diverges_in_another_process():
    with pytest.raises(FloatingPointError, match=r"network of seed [01]: .* clouds is NaN"):
        run(network=Ruined, workers=2)


@pytest.mark.parametrize("name", ["network", "trainer"])
def test_what_no_other_process_finds_is_refused_first(name):
    def own(*args):
        pytest.fail("it began to work")

    with pytest.raises(ValueError, match=f"'{name}' must be a function or class of a module"):
        run(**{name: own}, workers=2)


def test_a_protocol_that_no_other_process_finds_is_refused_first():
    @dataclass(frozen=True)
    class Own(Nothing):
        pass

    with pytest.raises(ValueError, match="'protocol' must be made of classes of a module"):
        run(protocol=replace(SHORT, augment=Own()), workers=2)


class Dying(TinyNet):
    """Ends its process, as a lack of memory does."""

    def forward(self, data):
        os._exit(1)


def test_a_process_that_dies_is_told_of():
    with pytest.raises(ChildProcessError, match=r"trains networks died\. .*'workers'.*__main__"):
        run(network=Dying, workers=2)


# Seeds trained together ###########################################################################

SMALL_STEPS = Protocol("small steps", epochs=6, batch_size=4, lr=0.1, augment=RandomRotation())


def trained(monkeypatch, network, together, num=7):
    """What three networks are after their training, whose last batch has a cloud of its own."""
    kept, score = [], Learning._score

    def noted(self, model):
        assert self.train.device == next(model.parameters()).device
        kept.append({key: value.clone() for key, value in model.state_dict().items()})
        return score(self, model)

    with monkeypatch.context() as patch:
        patch.setattr(Learning, "_score", noted)
        sets = toy_set(per_class=num), toy_set(seed=1)
        result = run(*sets, network, SMALL_STEPS, [5, 2, 7], together=together)
    return kept, result


@pytest.mark.parametrize("network", [partial(PointNet, dropout=0.0), NormNet, TinyNet])
def test_seeds_together_are_those_of_their_own_runs(network, monkeypatch, one_thread):
    """Initial values, order, last batch, rotations, decay, momentum, BatchNorm and the test."""
    (own, alone), (pair, joined) = (trained(monkeypatch, network, n) for n in (1, 2))
    assert [len(own), len(pair)] == [3, 3]
    for one, other in zip(own, pair, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-3, atol=1e-5)
    assert alone.to_dict() == joined.to_dict()
    # They did move, and apart from each other.
    with seeded(5, torch.device("cpu")):
        start = network(3).state_dict()
    for other in (start, own[1]):
        apart = [(value - other[key]).abs().max() for key, value in own[0].items()]
        assert max(apart) > 1e-2


def test_dropout_of_seeds_together_differs():
    """Between the networks; and the same seeds draw the same again."""

    class Same(TinyNet):
        def __init__(self, num_classes):
            with seeded(0, torch.device("cpu")):
                super().__init__(num_classes)

        def forward(self, data):
            kept = nn.functional.dropout(torch.ones(3), 0.5, self.training)
            return super().forward(data) * kept

    bank = PointCloudBank.from_dataset(toy_set()).normalize()
    runs = []
    for _ in range(2):
        models = [Same(3), Same(3)]
        fit_together(models, bank, SHORT, [0, 0], tqdm(disable=True))
        runs.append([torch.cat([p.flatten() for p in m.parameters()]) for m in models])
    assert torch.equal(*(run[0] for run in runs))
    assert not torch.allclose(*runs[0], atol=1e-4)


def test_a_network_that_diverges_among_others():
    with pytest.raises(FloatingPointError, match=r"network of seed 2: the loss of epoch \d+ is"):
        run(network=Explodes, seeds=[0, 2], together=2)
    with pytest.raises(FloatingPointError, match=r"network of seed [01]: .* clouds is NaN"):
        run(network=Ruined, together=2)


class Explodes(TinyNet):
    """Begins with infinite weights, but for the seed 0."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        if torch.initial_seed() == 2:
            with torch.no_grad():
                next(self.parameters()).fill_(math.inf)


def test_networks_that_cannot_be_trained_together_are_refused():
    with pytest.raises(TypeError, match="'together' must be 1 for a network with operations that"):
        run(network=DGCNN, together=2)
    sizes = [Data(pos=torch.rand(n, 3), y=n % 2) for n in (8, 9, 10)]
    with pytest.raises(ValueError, match="'together' must be 1 for training clouds of different"):
        run(sizes, together=2)
    with pytest.raises(ValueError, match="'together' must be 1 where 'workers' is above 1, got 3"):
        run(workers=2, together=3)
    with pytest.raises(ValueError, match="'together' must be 1 with a 'trainer' of one's own"):
        run(trainer=lambda *args: None, together=2)


def test_networks_that_are_made_asleep_are_trained_together_as_alone():
    values = [
        run(network=lambda *sizes: NormNet(*sizes).eval(), together=n).to_dict() for n in (1, 2)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("given", [{"workers": 2}, {"trainer": lambda *args: None}])
def test_what_cannot_go_together_is_refused_before_data_are_read(given):
    class Unread(list):
        def __iter__(self):
            pytest.fail("data are read")

    with pytest.raises(ValueError, match="'together' must be 1 w"):
        evaluate(Unread(), Unread(), TinyNet, SHORT, 2, together=2, **given)


def test_a_step_of_many_takes_hardly_more_operations_than_one_of_few():
    """On any device: what grows with the networks is the order of the clouds."""
    bank, counts = PointCloudBank.from_dataset(toy_set()).normalize(), []
    for number in (2, 8):
        taken = []
        for epochs in (1, 2):
            models = [PointNet(3) for _ in range(number)]
            with Operations() as operations:
                protocol = Protocol("counted", epochs, batch_size=2)
                fit_together(models, bank, protocol, range(number), tqdm(disable=True))
            taken.append(operations.count)
        counts.append(taken[1] - taken[0])
    assert counts[1] - counts[0] < 0.1 * counts[0]


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


# Clouds in the order of a network #################################################################

ORDERED = [name for name, make in BACKBONES.items() if make(3).num_ordered is not None]


def orders(monkeypatch):
    """The numbers of clouds that are put in order from now on."""
    seen, real = [], ops.farthest_point_order

    def noted(pos, *args):
        seen.append(len(pos))
        return real(pos, *args)

    monkeypatch.setattr(ops, "farthest_point_order", noted)
    return seen


def test_networks_with_centres_are_ordered():
    assert {"PointNet2SSG", "PointNet2MSG", "PointConv", "PointTransformer"} <= {*ORDERED}
    assert not {"PointNet", "PointNetBN", "DGCNN"} & {*ORDERED}


def test_labelled_points_stay_where_they_are():
    """Their labels would not go with them."""

    class Centred(TinySegmenter):
        num_ordered = 4

    protocol = Protocol("ordered", epochs=2, batch_size=4)
    sets = [toy_parts(seed=seed) for seed in (0, 1)]
    found = [
        evaluate(*sets, make, protocol, [3], progress=False, task="segmentation")
        for make in (TinySegmenter, Centred)
    ]
    assert torch.equal(found[0].scores.values, found[1].scores.values)
    assert found[0].mean > 0


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("sizes", [None, (20, 32, 24)], ids=["one size", "several"])
def test_clouds_are_put_in_order_once_and_figures_stay(name, sizes, monkeypatch):
    make = partial(PointMamba, depth=2) if name == "PointMamba" else BACKBONES[name]
    sets = []
    for seed in (0, 1):
        clouds = [*toy_set(num_points=32, per_class=2, seed=seed)]
        for i, data in enumerate(clouds):
            data.pos = data.pos[: 32 if sizes is None else sizes[i % 3]]
        sets.append(clouds)
    protocol, found = Protocol("ordered", epochs=2, batch_size=4), []
    for once in (True, False):
        if not once:
            monkeypatch.setattr(learning, "_ordered", lambda bank, model: bank)
        seen = orders(monkeypatch)
        found.append(evaluate(*sets, make, protocol, [3, 4], progress=False).to_dict())
        count = len(sets[0]) + len(sets[1])
        assert sum(seen) == (count if once else 2 * (2 * len(sets[0]) + len(sets[1])))
    assert found[0] == found[1]


def test_clouds_of_a_trainer_that_only_wraps_fit_are_put_in_order_once(monkeypatch):
    """It trains as the other does, on the same points."""
    trained, sets = [], [[*toy_set(num_points=32, per_class=2, seed=seed)] for seed in (0, 1)]

    @wraps(fit)
    def trainer(model, *args):
        fit(model, *args)
        trained.append(model)

    protocol, make, found = Protocol("ordered", epochs=2, batch_size=4), BACKBONES["PointConv"], []
    for one in (fit, trainer):
        seen = orders(monkeypatch)
        found.append(evaluate(*sets, make, protocol, [3], progress=False, trainer=one).to_dict())
        assert sum(seen) == len(sets[0]) + len(sets[1])
    assert found[0] == found[1]
    assert len(trained) == 1


@pytest.mark.parametrize("change", [{"augment": RandomRotation()}, {}])
def test_clouds_that_move_are_ordered_in_every_batch(change, monkeypatch):
    """Those that a protocol turns, and those of a trainer of one's own."""
    sets = [[*toy_set(num_points=64, per_class=4, seed=seed)] for seed in (0, 1)]
    seen = orders(monkeypatch)

    def trainer(*args):
        fit(*args)

    kwargs = {} if change else {"trainer": trainer}
    protocol = Protocol("moved", epochs=3, batch_size=4, **change)
    evaluate(*sets, BACKBONES["PointNet2SSG"], protocol, [3], progress=False, **kwargs)
    assert sum(seen) == 3 * len(sets[0]) + len(sets[1])


def test_ordered_clouds_say_so_and_forget_it_where_they_move():
    bank = PointCloudBank.from_dataset(toy_set(num_points=64)).normalize()
    ordered = in_order_for(bank, 8)
    index = torch.tensor([3, 1])
    assert ordered.batch(index).in_order_for == 8
    assert "in_order_for" not in bank.batch(index)
    assert "in_order_for" not in ordered.moved(bank.pos).batch(index)
    assert "in_order_for" not in ordered.select(index).batch(torch.tensor([0]))
    assert "in_order_for" not in ordered.farthest_points(16).batch(index)
    for num in (8, 7):  # Of another number it is looked for.
        ours, theirs = (Level.of(one.batch(index), num).dense for one in (ordered, bank))
        assert torch.equal(ours[:, :num], theirs[:, :num])
        assert num != 8 or torch.equal(ours, theirs)
    for cloud, other in zip(bank.dense(), ordered.dense(), strict=True):
        assert sorted(cloud.tolist()) == sorted(other.tolist())
