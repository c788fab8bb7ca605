"""The search: feasible settings only, and one study whatever happens to its processes."""

import datetime
import faulthandler
import functools
import math
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
import torch
from helpers import TinyNet, TinySegmenter, environment, toy_parts, toy_set
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from optuna.trial import FixedTrial, TrialState
from torch_geometric.data import Data

from torch_geometric_ddp import QUICK, SMOKE, StorageBudget, evaluate
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.clouds.splits import hold_out, redrawn, stratified
from torch_geometric_ddp.methods import ddp, pkr, trained_networks
from torch_geometric_ddp.parameterization import PointSet, ShapeMorphing
from torch_geometric_ddp.tuning import (
    Objective,
    PackedSpace,
    SearchSpace,
    TuningResult,
    plot_tuning,
    tune,
    workers,
    write_html,
)
from torch_geometric_ddp.tuning.objective import DIRECTIONS
from torch_geometric_ddp.tuning.pictures import _plain_number
from torch_geometric_ddp.tuning.workers import counted

ROOT = Path(__file__).resolve().parent.parent
SPACE = SearchSpace(num_anchors=(2, 3), num_morphs=(0, 4), anchor_step=4)
LETTERS = ("num_anchors", "anchor_points", "num_morphs", "uniformity_lambda")


class WideNet(TinyNet):
    def __init__(self, num_classes, width=1.0):
        super().__init__(num_classes)


def search(storage=None, n_trials=5, dataset=None, **kwargs):
    kwargs = {"space": SPACE, "steps": 2, "network": TinyNet, "protocol": SMOKE, **kwargs}
    dataset = toy_set() if dataset is None else dataset
    kwargs = {"share": 0.34, "looks": (), "progress": False, **kwargs}
    return tune(dataset, kwargs.pop("ppc", 1), storage=storage, n_trials=n_trials, **kwargs)


def states(result):
    return [trial.state.name for trial in result.study.trials]


def params(trials):
    return [trial.params for trial in trials]


# Space ############################################################################################

ranges = st.tuples(st.integers(1, 12), st.integers(0, 8)).map(lambda p: (p[0], p[0] + p[1]))
morphs = st.tuples(st.integers(0, 70), st.integers(0, 60)).map(lambda p: (p[0], p[0] + p[1]))
shares = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda p: (min(p), max(p)))


@given(ranges, morphs, shares, st.integers(1, 20), st.integers(1, 300), st.booleans())
def test_only_what_fits_is_sampled(anchors, morphs, share, step, num_points, no_penalty):
    space = SearchSpace(anchors, morphs, share, step, no_penalty=no_penalty)
    budget = StorageBudget(num_points, 3, 2)
    cost = 3 * anchors[0] + morphs[0] * (anchors[0] - 1)
    if cost > 3 * num_points:
        with pytest.raises(ValueError, match="nothing in the search space fits"):
            space.check(budget)
        return
    space.check(budget)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [FixedTrial(space.published(budget)), *(study.ask() for _ in range(10))]
    for trial in trials:
        found = space.sample(trial, budget)
        m, n, l, _ = (found[name] for name in LETTERS)  # noqa: E741
        assert anchors[0] <= m <= anchors[1]
        assert morphs[0] <= l <= morphs[1]
        assert 1 <= n <= num_points  # At least one part of a real cloud is that large.
        assert 96 * m * n + 32 * l * (m - 1) <= 96 * num_points
        largest = ShapeMorphing.largest_anchor_points(budget, m, l)
        assert n >= max(1, int(share[0] * largest) - step + 1)
        assert n <= max(1, share[1] * largest)


def test_every_sample_is_accepted():
    """By the code that knows the storage, in bits."""
    bank = PointCloudBank.from_dataset(toy_set())
    budget, study = StorageBudget(32, 3, 2), optuna.create_study()
    space = SearchSpace((1, 20), (0, 40), (0.01, 1.0))
    for _ in range(15):
        loop = ddp(**space.sample(study.ask(), budget)).begin(bank, 2, network=TinyNet)
        assert loop.parameterization.check_budget(budget) <= budget.bits


def test_published_settings():
    budget = StorageBudget(1024, 10)
    published = dict(zip(LETTERS, (4, 252, 16, 1000.0), strict=True))
    assert SearchSpace().published_settings(budget) == published
    space = SearchSpace(no_penalty=True, anchor_lr=(0.1, 10.0), weight_lr=(1.0, 10.0))
    rates = {"anchor_lr": 2.5, "weight_lr": 1.0}
    assert space.published_settings(budget) == {**published, **rates}
    # What does not fit is adapted: 96 * 3 * 1 + 32 * 4 * 2 <= 96 * 6.
    assert SearchSpace((2, 3), (0, 4)).published_settings(StorageBudget(6, 3)) == {
        **published,
        "num_anchors": 3,
        "anchor_points": 1,
        "num_morphs": 4,
    }
    assert SearchSpace((5, 9), (1, 2)).published_settings(budget)["num_anchors"] == 5


def test_fixed_and_optional_parameters():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    budget = StorageBudget(1024, 10)
    fixed = SearchSpace((4, 4), (16, 16), (1.0, 1.0), uniformity_lambda=(1000.0, 1000.0))
    assert fixed.sample(study.ask(), budget) == SearchSpace().published_settings(budget)
    choice = SearchSpace(no_penalty=True)
    drawn = [choice.sample(study.ask(), budget)["uniformity_lambda"] for _ in range(30)]
    assert 5 < drawn.count(0.0) < 25
    assert all(10 <= value <= 1e5 for value in drawn if value)
    rates = SearchSpace(anchor_lr=(0.1, 10.0))
    assert set(rates.sample(study.ask(), budget)) == {*LETTERS, "anchor_lr"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_anchors": (0, 3)}, ValueError, "'num_anchors' must be at least 1"),
        ({"num_anchors": (3, 2)}, ValueError, "'num_anchors' must not end below its start"),
        ({"num_anchors": 4}, TypeError, "'num_anchors' must be a tuple of the two ends"),
        ({"num_morphs": (0.0, 2)}, TypeError, "'num_morphs' must be an integer"),
        ({"anchor_share": (0.0, 1.0)}, ValueError, "'anchor_share' must be finite and above 0"),
        ({"anchor_share": (0.5, 1.1)}, ValueError, "'anchor_share' must end at 1 at most"),
        ({"uniformity_lambda": (0.0, 1.0)}, ValueError, "'uniformity_lambda' must be finite and"),
        ({"anchor_lr": (1.0,)}, TypeError, "'anchor_lr' must be a tuple"),
        ({"anchor_step": 0}, ValueError, "'anchor_step' must be at least 1"),
    ],
)
def test_bad_spaces(arguments, error, message):
    with pytest.raises(error, match=message):
        SearchSpace(**arguments)


@given(
    st.tuples(st.integers(1, 20), st.integers(0, 60)).map(lambda p: (2 * p[0], 2 * sum(p))),
    st.tuples(st.integers(1, 8), st.integers(0, 2)).map(lambda p: (p[0], sum(p))),
    st.sampled_from([(True,), (False,), (True, False)]),
    st.floats(0.01, 2),
)
def test_only_packed_clouds_that_fit_are_sampled(num_points, depth, mirror, ppc):
    space = PackedSpace(num_points, depth, mirror, lr=(1e-3, 1e-1))
    budget = StorageBudget(64, 3, ppc)

    def bits(settings):
        codec = PointSet(settings["depth"], half=settings["mirror"])
        size = settings["num_points"] // (1 + settings["mirror"])
        return codec.sure_bits((3, size, 3)) + 8 * settings["mirror"]

    dearest = {"num_points": num_points[0], "depth": depth[1], "mirror": all(mirror)}
    if num_points[0] > 64 or bits(dearest) > budget.bits:
        with pytest.raises(ValueError, match="nothing in the search space fits"):
            space.check(budget)
        return
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for trial in (FixedTrial(space.published(budget)), *(study.ask() for _ in range(10))):
        found = space.sample(trial, budget)
        assert num_points[0] <= found["num_points"] <= min(64, num_points[1])
        assert found["num_points"] % 2 == 0
        assert depth[0] <= found["depth"] <= depth[1]
        assert found["mirror"] in mirror
        assert 1e-3 <= found["lr"] <= 1e-1
        assert bits(found) <= budget.bits


def test_search_of_packed_clouds():
    """The count follows from points and bits, and the first trial has the usual settings."""
    small = {"ages": (0, 2), "num_trained": 1, "real_per_class": 4, "visits": 2}
    method = functools.partial(pkr, **small)
    result = search(n_trials=4, ppc=0.5, space=PackedSpace((4, 16)), method=method, steps=1)
    assert result.reasons == {}
    first, *others = (trial.user_attrs for trial in result.completed)
    assert first["settings"] == {"num_points": 16, "depth": 5, "mirror": True}
    assert len({tuple(trial["settings"].values()) for trial in others}) == 3
    assert all(0 < trial["bits"] <= StorageBudget(32, 3, 0.5).bits for trial in (first, *others))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_points": (3, 8)}, ValueError, "'num_points' must be even"),
        ({"num_points": (8, 4)}, ValueError, "'num_points' must not end below its start"),
        ({"num_points": 8}, TypeError, "'num_points' must be a tuple of the two ends"),
        ({"depth": (0, 4)}, ValueError, "'depth' must be at least 1"),
        ({"depth": (4, 11)}, ValueError, "'depth' must be from 1 to 10 bits"),
        ({"mirror": True}, TypeError, "'mirror' must be a tuple of different truth"),
        ({"mirror": (1, 0)}, TypeError, "'mirror' must be a tuple of different truth"),
        ({"mirror": (True, True)}, TypeError, "'mirror' must be a tuple of different truth"),
        ({"mirror": ()}, TypeError, "'mirror' must be a tuple of different truth"),
        ({"lr": (0.0, 1.0)}, ValueError, "'lr' must be finite and above 0"),
        ({"ridge": 0.1}, TypeError, "'ridge' must be a tuple"),
    ],
)
def test_bad_packed_spaces(arguments, error, message):
    with pytest.raises(error, match=message):
        PackedSpace(**arguments)


def test_small_lambda_is_no_penalty():
    bank = PointCloudBank.from_dataset(toy_set()).normalize()
    space = SearchSpace((2, 2), (3, 3), uniformity_lambda=(1e-12, 1e4), no_penalty=True)
    base, budget = {"num_anchors": 2, "num_morphs": 3, "anchor_share": 0.5}, StorageBudget(32, 3)

    def losses(**chosen):
        loop = ddp(**space.sample(FixedTrial({**base, **chosen}), budget)).begin(
            bank, network=TinyNet
        )
        loop.run(3, progress=False)
        return loop.losses

    none = losses(penalty=False)
    assert losses(penalty=True, uniformity_lambda=1e-12) == pytest.approx(none, rel=1e-6)
    assert losses(penalty=True, uniformity_lambda=1e4) != pytest.approx(none, rel=1e-3)


# Study ############################################################################################


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "new" / "study.journal"
    return path, search(path, 5, looks=(0.5,), seeds=2)


def test_study(done):
    path, result = done
    assert states(result) == ["COMPLETE"] * 5
    assert path.is_file()
    first, *others = result.study.trials
    assert first.params == SPACE.published(StorageBudget(32, 3))
    assert first.user_attrs["published"] is True
    assert result.published.number == 0
    assert not any("published" in trial.user_attrs for trial in others)
    for trial in result.study.trials:
        assert len(trial.user_attrs["scores"]) == 2
        assert trial.value == pytest.approx(sum(trial.user_attrs["scores"]) / 2)
        assert trial.user_attrs["settings"] == SPACE.sample(FixedTrial(trial.params), result.budget)
        assert trial.user_attrs["bits"] <= result.budget.bits
        assert list(trial.intermediate_values) == [1]
        assert set(trial.user_attrs["seconds"]) == {"prepare", "distill", "look", "evaluate"}
    assert result.metric == "accuracy"
    assert result.best.value == max(trial.value for trial in result.completed)
    assert result.settings == result.best.user_attrs["settings"]
    assert sum(result.importances().values()) == pytest.approx(1)
    assert set(result.importances()) == set(first.params)
    assert 0 < result.idle_share < 1
    assert result.reasons == {}


def test_score_is_what_its_parts_give(done):
    """The value of a trial, made by hand: the test clouds are held out and never distilled."""
    _, result = done
    bank = PointCloudBank.from_dataset(toy_set()).normalize()
    real, held = (bank.select(index) for index in stratified(bank.y, 0.34, 0))
    assert len(real) == 12
    assert len(held) == 6
    trial = result.study.trials[1]
    method = ddp(**trial.user_attrs["settings"])
    for seed in (0, 1):
        own = method.distill(list(real), steps=2, seed=seed, network=TinyNet, progress=False)
        accuracy = evaluate(own, held, TinyNet, SMOKE, [seed], progress=False).mean
        assert accuracy == trial.user_attrs["scores"][seed]


def test_the_pruner_sees_the_set_as_it_is_at_a_look():
    """What a set of that many steps reaches after a quarter of the epochs, with the first seed."""
    dataset = toy_set(num_classes=6, per_class=30)
    protocol = replace(SMOKE, epochs=8, lr=0.1, batch_size=2)
    method = functools.partial(ddp, anchor_lr=0.5)
    settings = {"protocol": protocol, "method": method, "steps": 2, "seeds": [3, 4], "share": 0.5}
    result = search(None, 2, dataset, looks=(0.5,), **settings)
    bank = PointCloudBank.from_dataset(dataset).normalize()
    real, held = (bank.select(index) for index in stratified(bank.y, 0.5, 0))

    def reached(steps, epochs, seed):
        values = []
        for trial in result.completed:
            own = method(**trial.user_attrs["settings"]).distill(
                list(real), steps=steps, seed=seed, network=TinyNet, progress=False
            )
            short = replace(protocol, epochs=epochs)
            values.append(evaluate(own, held, TinyNet, short, [seed], progress=False).mean)
        return values

    assert [list(trial.intermediate_values) for trial in result.completed] == [[1], [1]]
    seen = [trial.intermediate_values[1] for trial in result.completed]
    assert seen == reached(1, 2, 3)
    # Which is no chance: other steps, other epochs or another seed give other figures.
    others = [reached(*other) for other in ((2, 2, 3), (1, 8, 3), (1, 2, 4))]
    assert seen not in others


def test_time_of_trials_that_went_to_no_task():
    """Of four seconds three, of those that completed."""
    study = optuna.create_study(direction="maximize")
    begun, took = datetime.datetime(2026, 1, 1), datetime.timedelta(seconds=4)
    for state, value, seconds in (
        (TrialState.COMPLETE, 0.5, {"distill": 2.0, "evaluate": 1.0}),
        (TrialState.PRUNED, None, {"distill": 0.1}),
    ):
        trial = optuna.trial.create_trial(state=state, value=value, user_attrs={"seconds": seconds})
        trial.datetime_start, trial.datetime_complete = begun, begun + took
        study.add_trial(trial)
    result = TuningResult(study, StorageBudget(32, 3), ("score",), "accuracy")
    assert result.idle_share == 0.25
    empty = optuna.create_study(direction="maximize")
    assert replace(result, study=empty).idle_share == 0


def test_finished_study_is_not_begun_again(done, monkeypatch):
    path, result = done
    monkeypatch.setattr(Objective, "__call__", None)
    again = search(path, 5, looks=(0.5,), seeds=2)
    assert params(again.study.trials) == params(result.study.trials)


def test_resumed_study_is_the_same(tmp_path):
    """The published trial comes once, and what follows is what would have followed."""
    whole = search(None, 13)
    path = tmp_path / "study.journal"
    for n_trials in (1, 4, 13):
        resumed = search(path, n_trials)
        assert states(resumed) == ["COMPLETE"] * n_trials
    assert params(resumed.study.trials) == params(whole.study.trials)
    assert len({str(one) for one in params(resumed.study.trials)}) == 13


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"steps": 3}, "steps"),
        ({"space": SearchSpace((2, 3))}, "space"),
        ({"dataset": toy_set(seed=1)}, "data"),
        ({"normalize": False}, "normalize"),
        ({"method": functools.partial(ddp, batch_size=4)}, "method"),
        ({"objectives": ("score", "bits")}, "objectives"),
        ({"network": functools.partial(WideNet, width=0.5)}, "network"),
        ({"protocol": QUICK}, "protocol"),
    ],
)
def test_other_settings_on_the_same_study(done, other, named):
    path, _ = done
    with pytest.raises(ValueError, match=rf"of another search: it differs in {named} \("):
        search(path, 9, **{"looks": (0.5,), "seeds": 2, **other})


def test_a_machine_that_rounds_in_another_way_joins(tmp_path, monkeypatch):
    search(tmp_path / "study.journal", 1)
    normalize = PointCloudBank.normalize

    def rounded(self):
        bank = normalize(self)
        bank.pos.mul_(1 + 2**-22)
        return bank

    monkeypatch.setattr(PointCloudBank, "normalize", rounded)
    assert states(search(tmp_path / "study.journal", 2)) == ["COMPLETE"] * 2


def test_infeasible_space_is_refused_before_the_first_trial(tmp_path):
    space = SearchSpace(num_anchors=(4, 8), num_morphs=(40, 50))
    path = tmp_path / "study.journal"
    with pytest.raises(ValueError, match="nothing in the search space fits the storage of ppc=1"):
        search(path, space=space)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_trials": 0}, ValueError, "'n_trials' must be at least 1"),
        ({"steps": 0}, ValueError, "'steps' must be at least 1"),
        ({"seeds": ()}, ValueError, "'seeds' must hold at least one"),
        ({"objectives": ("bits",)}, ValueError, "'objectives' must be 'score', alone or"),
        ({"objectives": ("score", "speed")}, ValueError, "got .'score', 'speed'"),
        ({"looks": (1.0,)}, ValueError, "'looks' must lie between 0 and 1"),
        ({"share": 1.0}, ValueError, "'share' must lie between 0 and 1"),
        ({"share": 0.01}, ValueError, "'share'=0.01 holds no cloud out of 18"),
        ({"ppc": 0}, ValueError, "'ppc' must be finite and above 0, got 0"),
        ({"ppc": 1000}, ValueError, "'ppc' must not ask for more bits than the"),
        ({"ppc": StorageBudget(64, 3)}, TypeError, "'ppc' must be a number"),
        ({"method": functools.partial(ddp, speed=1)}, TypeError, "speed"),
        ({"task": "segment"}, ValueError, "'task' must be a Task or one of"),
        ({"task": "segmentation"}, ValueError, "'dataset' must have 'part_names'"),
        ({"dataset": toy_parts()}, ValueError, "'y' of cloud 0 must be one integer label"),
        ({"storage": "grpc://host"}, ValueError, "'storage' must name a host and a port"),
        (
            {"seed_by_seed": True, "objectives": ("score", "bits")},
            ValueError,
            "'seed_by_seed' must be False for several 'objectives'",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        search(**arguments)


def test_data_is_read_once_and_subsets_are_shared(monkeypatch):
    """Trials that differ only in what comes later split the clouds once, and score them once."""
    read, splits = [], []
    dataset = [data for data in toy_set()]
    partition = PointCloudBank.partition

    class Once:
        def __iter__(self):
            read.append(self)
            return iter(dataset)

    def counting(self, *args):
        splits.append(args[:2])
        return partition(self, *args)

    monkeypatch.setattr(PointCloudBank, "partition", counting)
    space = SearchSpace((2, 2), (0, 4), (0.7, 1.0), anchor_step=4)
    result = search(None, 6, Once(), space=space, seeds=2)
    assert len(read) == 1
    assert 0 < len(splits) == len(set(splits)) < len(result.completed)


def test_networks_of_all_seeds_are_trained_once(tmp_path, monkeypatch):
    """Five seeds come in turn, trial by trial; with a folder another search trains none."""
    trained, train = [], trained_networks._train
    monkeypatch.setattr(
        trained_networks, "_train", lambda *args: trained.append(args[2].seed) or train(*args)
    )
    few = {"ages": (0, 1), "num_trained": 1, "real_per_class": 2, "visits": 1}
    kwargs = {"method": functools.partial(pkr, **few), "space": PackedSpace((8, 16)), "steps": 1}
    assert search(None, 2, seeds=5, **kwargs).reasons == {}
    assert trained == [0, 1, 2, 3, 4]
    first = search(None, 1, seeds=[7], cache=tmp_path, **kwargs)
    again = search(None, 1, seeds=[7], cache=tmp_path, **kwargs)
    assert trained[5:] == [7]
    assert [path.suffix for path in tmp_path.glob("networks-*")] == [".safetensors"]
    assert again.best.values == first.best.values


@pytest.mark.parametrize("kind", ["sqlite", "relative", "object"])
def test_storages(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = {
        "sqlite": f"sqlite:///{tmp_path}/study.db",
        "relative": "deep/study.journal",
        "object": optuna.storages.InMemoryStorage(),
    }[kind]
    for n_trials in (1, 2):
        result = search(storage, n_trials, study_name="mine")
    assert states(result) == ["COMPLETE"] * 2
    assert optuna.load_study(study_name="mine", storage=result.study._storage).trials
    assert result.study.metric_names == ["score"]


def test_pareto_front(tmp_path):
    result = search(None, 8, objectives=("score", "bits"), looks=(0.5,))
    assert states(result) == ["COMPLETE"] * 8
    assert all(trial.values[1] == trial.user_attrs["bits"] for trial in result.completed)
    assert all(not trial.intermediate_values for trial in result.completed)
    for trial in result.completed:
        beaten = any(
            other.values[0] >= trial.values[0]
            and other.values[1] <= trial.values[1]
            and other.values != trial.values
            for other in result.completed
        )
        assert (trial.number in {found.number for found in result.front}) == (not beaten)
    assert result.best.values[0] == max(trial.values[0] for trial in result.completed)
    assert set(result.importances()) == set(result.best.params)
    assert [path.name for path in plot_tuning(result, tmp_path)][-1] == "pareto.png"


def test_seconds_as_an_objective():
    result = search(None, 2, objectives=("score", "seconds"), seeds=2)
    for trial in result.completed:
        assert trial.values[1] == pytest.approx(trial.user_attrs["seconds"]["distill"] / 2)


def test_pruning():
    class Impatient(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number > 0 and trial.last_step == 2

    result = search(None, 3, steps=4, looks=(0.25, 0.5), pruner=Impatient())
    assert states(result) == ["COMPLETE", "PRUNED", "PRUNED"]
    assert [list(trial.intermediate_values) for trial in result.study.trials] == [[1, 2]] * 3
    assert "evaluate" not in result.study.trials[1].user_attrs["seconds"]
    assert len(result.finished) == 3
    assert result.best.number == 0


def test_looks_and_objectives_that_are_iterated_once():
    names = (name for name in ("score",))
    result = search(None, 1, steps=4, looks=(share for share in (0.25, 0.5)), objectives=names)
    assert [list(trial.intermediate_values) for trial in result.study.trials] == [[1, 2]]
    assert result.study.user_attrs["identity"]["looks"] == [0.25, 0.5]
    assert result.objectives == ("score",)


# Segmentation #####################################################################################


def search_parts(storage=None, n_trials=3, **kwargs):
    space = SearchSpace(num_anchors=(2, 3), num_morphs=(0, 4), anchor_step=2)
    kwargs = {"space": space, "network": TinySegmenter, "task": "segmentation", **kwargs}
    return search(storage, n_trials, toy_parts(), **kwargs)


def test_search_of_segmentation(tmp_path):
    """The score is the instance mIoU on clouds that are held out, made by hand."""
    result = search_parts(tmp_path / "study.journal", seeds=2, looks=(0.5,))
    assert states(result) == ["COMPLETE"] * 3
    assert result.metric == "instance mIoU"
    bank = LabelledBank.from_dataset(toy_parts()).normalize()
    real, held = (bank.select(index) for index in stratified(bank.y, 0.34, 0))
    assert (len(real), len(held)) == (9, 3)
    trial = result.study.trials[1]
    assert list(trial.intermediate_values) == [1]
    method, task = ddp(**trial.user_attrs["settings"]), {"task": "segmentation", "progress": False}
    scores = []
    for seed in (0, 1):
        own = method.distill(real, steps=2, seed=seed, network=TinySegmenter, **task)
        scores.append(evaluate(own, held, TinySegmenter, SMOKE, [seed], **task).mean)
    assert trial.user_attrs["scores"] == scores
    assert trial.user_attrs["bits"] == own.storage_bits <= result.budget.bits
    assert [path.name for path in plot_tuning(result, tmp_path)] == ["history.png", "parallel.png"]
    with pytest.raises(ValueError, match="of another search: it differs in network"):
        search_parts(tmp_path / "study.journal", seeds=2, looks=(0.5,), network=None)


def test_task_is_part_of_a_study(done):
    path, _ = done
    with pytest.raises(ValueError, match=r"of another search: it differs in .*task \("):
        search_parts(path, looks=(0.5,), seeds=2)


def test_default_network_is_that_of_the_task():
    result = search_parts(None, 1, network=None, steps=1)
    assert result.study.user_attrs["identity"]["network"] == "PointNetSegmentation"
    assert states(result) == ["COMPLETE"]


# Failures #########################################################################################


def test_failing_trials_are_recorded(monkeypatch):
    errors = {1: MemoryError("no room"), 2: torch.OutOfMemoryError("full"), 3: KeyError("x")}
    original = Objective.__call__

    def failing(self, trial, settings):
        if trial.number in errors:
            raise errors[trial.number]
        return original(self, trial, settings)

    monkeypatch.setattr(Objective, "__call__", failing)
    result = search(None, 5)
    assert states(result) == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    assert result.reasons == {
        1: "MemoryError: no room",
        2: "OutOfMemoryError: full",
        3: "KeyError: 'x'",
    }


def test_a_trial_too_large_to_choose_fails_with_the_reason(monkeypatch):
    monkeypatch.setattr("torch_geometric_ddp.methods.exchange.free_bytes", lambda device: 0)
    result = search(n_trials=2, space=PackedSpace((8, 16)), method=pkr, steps=1)
    assert states(result) == ["FAIL", "FAIL"]
    assert all(text.startswith("MemoryError: to choose ") for text in result.reasons.values())


def test_nan(done):
    result = search(None, 2, method=functools.partial(ddp, anchor_lr=1e30))
    assert states(result) == ["FAIL", "FAIL"]
    assert "FloatingPointError: the loss of step 2 is" in result.reasons[0]
    assert "distill" in result.study.trials[0].user_attrs["seconds"]
    with pytest.raises(ValueError, match="no trial of the study has completed"):
        result.best  # noqa: B018


def test_interruption(tmp_path, monkeypatch):
    path, stopped = tmp_path / "study.journal", []
    original = Objective.__call__

    def interrupted(self, trial, settings):
        if trial.number == 2 and not stopped:
            stopped.append(trial.params)
            raise KeyboardInterrupt
        return original(self, trial, settings)

    monkeypatch.setattr(Objective, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(path, 4)
    result = search(path, 4)
    assert states(result) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert len(result.finished) == 4
    assert result.study.trials[3].params == stopped[0]
    assert result.study.trials[2].user_attrs["reason"] == "interrupted"


def test_interruption_that_is_cut_short(tmp_path, monkeypatch):
    """Settings are tried again, and once, although the process ends before it has told all."""
    path = tmp_path / "study.journal"

    def interrupted(self, trial, settings):
        raise KeyboardInterrupt

    def cut(*args, **kwargs):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "__call__", interrupted)
        patch.setattr(workers, "finish", cut)
        with pytest.raises(SystemExit):
            search(path, 2)
    result = search(path, 2)
    assert states(result) == ["FAIL", "COMPLETE", "COMPLETE"]
    first, again, other = result.study.trials
    assert again.params == first.params != other.params


def left_running(path, **worker):
    """A study with one finished trial and one that somebody left."""
    result = search(path, 1)
    trial = result.study.ask()
    SPACE.sample(trial, result.budget)
    if worker:
        trial.set_user_attr("worker", {"host": socket.gethostname(), "run": "x", **worker})
    return trial


def dead():
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = workers._start_of(psutil.Process(child.pid))
    child.wait()
    return {"pid": child.pid, "started": started}


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere a start is told by the clock")
def test_a_process_lives_on_when_the_clock_is_set(tmp_path, monkeypatch):
    started = workers._start_of(psutil.Process(os.getppid()))
    trial = left_running(tmp_path / "study.journal", pid=os.getppid(), started=started)
    booted = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted + 3600.0)
    (running,) = trial.study.get_trials(states=(TrialState.RUNNING,))
    assert workers._lives(running, None)
    running.user_attrs["worker"]["started"] += 10.0
    assert not workers._lives(running, None)


@pytest.mark.parametrize("kind", ["dead", "number given again", "earlier call"])
def test_trial_of_a_dead_process_is_repeated_once(kind, tmp_path):
    path = tmp_path / "study.journal"
    worker = {
        "dead": dead,
        "number given again": lambda: {"pid": os.getppid(), "started": 1.0},
        "earlier call": lambda: {"pid": os.getpid(), "started": 1.0},
    }[kind]()
    lost = left_running(path, **worker)
    result = search(path, 3)
    assert states(result) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert [trial.number for trial in result.finished] == [0, 2, 3]
    again = result.study.trials[2]
    assert again.params == lost.params
    assert again.user_attrs["repeats"] == 1
    # A second death is not repeated, so that the study comes to an end.
    other = tmp_path / "other.journal"
    left_running(other, **worker).set_user_attr("attempt", 2)
    result = search(other, 3)
    assert states(result) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert result.reasons == {1: "its process died"}


def test_trial_that_two_machines_repeat_is_repeated_once(tmp_path):
    path = tmp_path / "study.journal"
    lost = left_running(path, host="elsewhere", pid=1, started=1.0)
    lost.study.tell(lost.number, state=TrialState.FAIL)
    (trial,) = (one for one in lost.study.trials if one.number == lost.number)
    for _ in range(2):
        workers.repeat(lost.study, trial, 2)
    result = search(path, 3)
    assert states(result) == ["COMPLETE", "FAIL", "COMPLETE", "FAIL", "COMPLETE"]
    assert [one.number for one in result.finished] == [0, 2, 4]
    first, again, other = (result.study.trials[number].params for number in (1, 2, 4))
    assert again == first != other
    assert "given_back" in result.study.trials[3].user_attrs


def test_process_that_died_while_it_repeated_a_trial(tmp_path):
    path = tmp_path / "study.journal"
    lost = left_running(path, **dead())
    lost.study.tell(lost.number, state=TrialState.FAIL)
    result = search(path, 2)
    assert states(result) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert result.study.trials[2].params == lost.params


def test_trial_that_nobody_has_claimed_yet(tmp_path, monkeypatch):
    path = tmp_path / "study.journal"
    lost = left_running(path)
    monkeypatch.setattr("torch_geometric_ddp.tuning.workers._GRACE", 0.0)
    result = search(path, 2)
    assert states(result) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert result.study.trials[2].params == lost.params


def test_trial_of_another_machine(tmp_path):
    """It is left to that machine and not waited for, unless it takes too long."""
    path = tmp_path / "study.journal"
    left_running(path, host="elsewhere", pid=1, started=1.0)
    result = search(path, 3)
    assert states(result) == ["COMPLETE", "RUNNING", "COMPLETE"]
    assert len(result.finished) == 2
    result = search(path, 3, lost_after=0.0)
    assert states(result) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert len(result.finished) == 3


def test_a_worker_tells_since_when_it_is_at_work(tmp_path):
    """A database may tell the time of another zone."""
    path = tmp_path / "study.journal"
    left_running(path, host="elsewhere", pid=1, started=1.0, since=time.time() - 7200)
    assert states(search(path, 1, lost_after=10000.0)) == ["COMPLETE", "RUNNING"]
    assert states(search(path, 2, lost_after=3600.0)) == ["COMPLETE", "FAIL", "COMPLETE"]
    own = search(path, 2).study.trials[-1].user_attrs["worker"]
    assert abs(time.time() - own["since"]) < 600


def test_a_seed_may_be_larger_than_those_of_samplers():
    assert states(search(None, 1, seed=2**40)) == ["COMPLETE"]


def test_result_of_a_trial_that_was_taken_for_lost(monkeypatch, caplog):
    original = Objective.__call__

    def slow(self, trial, settings):
        values = original(self, trial, settings)
        if trial.number == 1:
            trial.study.tell(1, state=TrialState.FAIL)
        return values

    monkeypatch.setattr(Objective, "__call__", slow)
    result = search(None, 2)
    assert states(result)[:2] == ["COMPLETE", "FAIL"]
    assert len(result.finished) == 2
    assert "trial 1 was finished by another machine" in caplog.text


def worker(path, dies):
    """What each of the two processes below runs: none goes on before both have a trial."""
    warnings.simplefilter("ignore")
    faulthandler.dump_traceback_later(500, exit=True)
    original, me = Objective.__call__, os.getpid()

    def at_work(study):
        return {t.user_attrs["worker"]["pid"] for t in study.trials if t.user_attrs.get("worker")}

    def call(self, trial, settings):
        while at_work(trial.study) == {me}:  # As long as the load takes.
            time.sleep(0.25)
        if dies:
            os.kill(me, signal.SIGKILL)
        return original(self, trial, settings)

    Objective.__call__ = call
    search(path, 6)


def two_workers(storage, timeout):
    """Two processes on a study, after the first was killed and the second has done its work."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", f"import test_tuning as t; t.worker({storage!r}, {dies})"],
            env=environment(ROOT / "tests"),
            stderr=subprocess.PIPE,
            text=True,
        )
        for dies in (True, False)
    ]
    try:
        errors = [child.communicate(timeout=timeout)[1] for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert [child.returncode for child in children] == [-signal.SIGKILL, 0], errors
    return children


def test_two_processes_of_which_one_is_killed(tmp_path):
    path = tmp_path / "study.journal"
    children = two_workers(str(path), timeout=600)
    trials = search(path, 6).study.trials
    assert len(trials) == 7
    (lost,) = (trial for trial in trials if trial.state == TrialState.FAIL)
    assert lost.user_attrs["worker"]["pid"] == children[0].pid
    rest = counted(trials)
    assert [trial.state for trial in rest] == [TrialState.COMPLETE] * 6
    assert len({str(trial.params) for trial in rest}) == 6
    (again,) = (trial for trial in rest if "repeats" in trial.user_attrs)
    assert again.user_attrs["repeats"] == lost.number
    assert again.params == lost.params
    assert sum("published" in trial.user_attrs for trial in rest) == 1
    assert {trial.user_attrs["worker"]["pid"] for trial in rest} == {children[1].pid}


def test_a_trial_that_two_machines_took_is_of_the_one_that_signed_it_last(monkeypatch):
    original, signed = optuna.Trial.set_user_attr, []

    def set_user_attr(self, key, value):
        original(self, key, value)
        if key == "worker" and not signed:
            signed.append(self.number)
            original(self, key, {**value, "host": "other", "run": "other"})

    monkeypatch.setattr(optuna.Trial, "set_user_attr", set_user_attr)
    first, second = search(None, 2).study.trials
    assert (first.state, first.user_attrs["worker"]["host"]) == (TrialState.RUNNING, "other")
    assert second.state == TrialState.COMPLETE
    assert second.user_attrs["worker"]["host"] == socket.gethostname()


@pytest.mark.parametrize("sampler", ["tpe", "gp", "auto", "random"])
def test_a_machine_that_is_always_second_takes_trials_of_its_own(sampler, monkeypatch):
    """Another one, which shares no lock, takes a trial whenever this one is about to."""
    original, others = optuna.Study.ask, []

    def ask(self, *args, **kwargs):
        if not any(trial.state == TrialState.WAITING for trial in self.get_trials()):
            others.append(original(self))
            others[-1].set_user_attr("worker", {"host": "other"})
            SPACE.sample(others[-1], StorageBudget(32, 3, 1))
            assert len(others) < 20, "this one takes none"
        return original(self, *args, **kwargs)

    monkeypatch.setattr(optuna.Study, "ask", ask)
    trials = search(n_trials=9, sampler=sampler).study.trials
    mine = [trial for trial in trials if trial.user_attrs["worker"]["host"] != "other"]
    assert (len(mine), len(others)) == (5, 4)
    drawn = [tuple(trial.params.values()) for trial in trials]
    assert len(set(drawn)) == 9


def test_a_grid_that_is_drawn_does_not_end_the_study():
    """Optuna's grids stop a study when they are, which they may only where Optuna runs it."""
    one, two = params(search(n_trials=3, sampler="random").study.trials[1:])
    key = "uniformity_lambda"
    grid = {name: [value] for name, value in one.items()} | {key: [one[key], two[key]]}
    result = search(n_trials=5, sampler=lambda seed: optuna.samplers.GridSampler(grid, seed=0))
    drawn = params(result.study.trials[1:])
    assert {each[key] for each in drawn[:2]} == {*grid[key]}
    assert len(drawn) == 4


# Pictures #########################################################################################


def test_pictures(done, tmp_path, monkeypatch):
    _, result = done
    paths = plot_tuning(result, tmp_path / "new")
    assert [path.name for path in paths] == ["history.png", "importances.png", "parallel.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    before = paths[0].read_bytes()
    with monkeypatch.context() as patch:

        def full(figure, path, **kwargs):
            Path(path).write_bytes(b"half")
            raise OSError("the disk is full")

        patch.setattr(Figure, "savefig", full)
        with pytest.raises(OSError, match="the disk is full"):
            plot_tuning(result, tmp_path / "new")
    assert paths[0].read_bytes() == before
    for wrong, error in ((5, TypeError), (paths[0], ValueError)):
        with pytest.raises(error, match="'folder' must be a "):
            plot_tuning(result, wrong)
    pages = write_html(result, tmp_path / "pages")
    assert len(pages) == (3 if optuna.visualization.is_available() else 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((29363.4, "29,363"), (1000, "1,000"), (252, "252"), (0.25, "0.25"), (2.5, "2.5")),
        *((0.000123456, "0.0001235"), (71.4285, "71.43"), (True, "yes"), (0.0, "0")),
    ],
)
def test_numbers_of_pictures_are_plain(value, text):
    assert _plain_number(value) == text


def test_the_best_trial_is_marked_and_the_front_is_a_step_line(done, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    _, result = done
    plot_tuning(result, tmp_path)
    axes = figures[-1].axes[0]
    marked = [line for line in axes.lines if line.get_label() == "best trial"]
    assert len(marked) == 1
    assert f"the best {100 * result.best.values[0]:.1f} %" in axes.get_title()
    texts = [text.get_text() for text in axes.texts]
    # The numbers of the best trial come last, and last of them what it reached.
    assert texts[-1] == _plain_number(100 * result.best.values[0])
    assert not any("e+" in text or "e-" in text for text in texts)
    several = search(None, 3, objectives=("score", "seconds"))
    plot_tuning(several, tmp_path)
    (front,) = [line for line in figures[-1].axes[0].lines if line.get_label() == "Pareto front"]
    assert front.get_drawstyle() == "steps-post"
    assert len(front.get_xdata()) == len(several.front)


def drawn(trials, objectives, folder):
    """The result of a study with trials of these values, numbered from 0."""
    directions = [DIRECTIONS[name] for name in objectives]
    study = optuna.create_study(directions=directions)
    for i, values in enumerate(trials):
        sizes = {"size": optuna.distributions.IntDistribution(0, 9)}
        told = {"settings": {"size": i}}
        study.add_trial(
            optuna.create_trial(
                values=values, params={"size": i}, distributions=sizes, user_attrs=told
            )
        )
    result = TuningResult(study, StorageBudget(64, 3, 1), objectives)
    return result, plot_tuning(result, folder)


@pytest.mark.parametrize(
    ("objectives", "trials", "best"),
    [
        (("score",), [[0.5], [0.9], [0.9], [0.1]], 1),
        (("score", "bits"), [[0.9, 5.0], [0.9, 3.0], [0.9, 3.0], [0.1, 1.0]], 1),
    ],
)
def test_of_trials_that_tie_the_one_that_is_reported_is_marked(
    objectives, trials, best, monkeypatch, tmp_path
):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    result, paths = drawn(trials, objectives, tmp_path)
    assert result.best.number == best
    (axes,) = figures[[path.name for path in paths].index("parallel.png")].axes
    (line,) = (line for line in axes.lines if line.get_label() == "best trial")
    assert line.get_ydata()[0] == pytest.approx(best / 3)


def test_a_front_of_three_objectives_is_no_line_over_two(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    trials = [[0.5, 9.0, 1.0], [0.9, 5.0, 7.0], [0.1, 3.0, 3.0]]
    drawn(trials, ("score", "bits", "seconds"), tmp_path)
    label = "Pareto front of 3 objectives"
    (front,) = (one for one in figures[-1].axes[0].lines if one.get_label() == label)
    assert (len(front.get_xdata()), front.get_linestyle(), front.get_marker()) == (3, "None", "o")


def test_pictures_of_another_search_are_removed(done, tmp_path):
    _, result = done
    for name in ("history", "importances", "pareto"):
        for suffix in ("png", "html"):
            (tmp_path / f"{name}.{suffix}").write_text("of another search")
    (tmp_path / "others.png").write_text("of nobody")
    pictures, pages = plot_tuning(result, tmp_path), write_html(result, tmp_path)
    assert {*tmp_path.iterdir()} == {*pictures, *pages, tmp_path / "others.png"}
    few, pictures = drawn([[0.5]], ("score",), tmp_path)
    assert write_html(few, tmp_path) == []
    assert {*tmp_path.iterdir()} == {*pictures, tmp_path / "others.png"}


def test_pages_go_into_a_folder_that_can_be_written_to(done, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="'folder' must be a folder that can be written to"):
        write_html(done[1], tmp_path / "file")
    with pytest.raises(TypeError, match="'folder' must be a path, got int"):
        write_html(done[1], 3)


def test_pictures_of_one_trial_without_penalty(tmp_path):
    space = SearchSpace((2, 2), (0, 0), no_penalty=True, anchor_lr=(0.1, 1.0))
    result = search(None, 1, space=space)
    assert result.importances() == {}
    assert [path.name for path in plot_tuning(result, tmp_path)] == ["history.png", "parallel.png"]


def drawn_axes(trials, monkeypatch, tmp_path):
    """The axes of the parallel coordinates of trials with such settings and distributions."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    study = optuna.create_study(direction="maximize")
    for i, (settings, params, distributions) in enumerate(trials):
        study.add_trial(
            optuna.create_trial(
                params=params,
                distributions=distributions,
                value=0.1 * i,
                user_attrs={"settings": settings},
            )
        )
    budget = StorageBudget(64, 3, 1)
    plot_tuning(TuningResult(study, budget, ("score",), "accuracy"), tmp_path)
    figure = figures[-1]
    figure.canvas.draw()
    return figure.axes[0]


def test_pictures_of_settings_of_any_kind(monkeypatch, tmp_path):
    settings = [
        {"start": "real", "points": None},
        {"start": "no$se", "points": 8},
        {"points": 16, "more": [1, 2]},
    ]
    axes = drawn_axes([(one, {}, {}) for one in settings], monkeypatch, tmp_path)
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names == ["start", "points", "more", "accuracy %"]
    first, second, best = (line.get_ydata() for line in axes.lines[-3:])
    assert (first[0], second[0]) == (1, 0)  # In the order of their names.
    assert math.isnan(best[0])
    assert math.isnan(first[2])
    assert {"no$se", "real", "None", "16", "[1, 2]"} <= {text.get_text() for text in axes.texts}


def test_an_axis_is_logarithmic_where_its_range_is(monkeypatch, tmp_path):
    distributions = {
        "rate": optuna.distributions.FloatDistribution(0.001, 1, log=True),
        "share": optuna.distributions.FloatDistribution(0.001, 1),
        "halves": optuna.distributions.IntDistribution(4, 400, log=True),
    }
    trials = []
    for rate, share, halves in ((0.01, 0.01, 4), (0.1, 0.1, 40), (1.0, 1.0, 400)):
        params = {"rate": rate, "share": share, "halves": halves}
        settings = {"rate": rate, "share": share, "num_points": 2 * halves}
        trials.append((settings, params, distributions))
    axes = drawn_axes(trials, monkeypatch, tmp_path)
    middle = axes.lines[-2].get_ydata()
    assert middle[0] == pytest.approx(0.5)
    assert middle[1] == pytest.approx(0.09 / 0.99)
    assert middle[2] == pytest.approx(0.5)  # It is twice a number that is drawn so.


def test_pictures_of_no_completed_trial(tmp_path):
    study = optuna.create_study(direction="maximize")
    result = TuningResult(study, StorageBudget(64, 3, 1), ("score",), "accuracy")
    with pytest.raises(ValueError, match="'result' must have a trial that has completed"):
        plot_tuning(result, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# Splits ###########################################################################################


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 5),
)
def test_stratified(y, share, seed):
    y = torch.tensor(y)
    counts = torch.bincount(y)
    quota = (share * counts).round().minimum((counts - 1).clamp_min(0)).long()
    if quota.sum() == 0:
        with pytest.raises(ValueError, match="holds no cloud out of"):
            stratified(y, share, seed)
        return
    kept, held = stratified(y, share, seed)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(y)))
    assert torch.equal(torch.bincount(y[held], minlength=len(counts)), quota)
    assert set(y[kept].tolist()) == set(y.tolist())
    assert torch.equal(stratified(y, share, seed)[1], held)


def test_split_depends_on_the_seed():
    y = torch.arange(3).repeat(20)
    assert not torch.equal(stratified(y, 0.5, 0)[1].sort()[0], stratified(y, 0.5, 1)[1].sort()[0])


def test_hold_out():
    dataset = toy_set()
    kept, held = hold_out(dataset, 0.34)
    assert (len(kept), len(held)) == (12, 6)
    assert kept.class_names == dataset.class_names
    listed = hold_out(list(dataset), 0.34)
    for ours, theirs in zip((kept, held), listed, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a.pos, b.pos)


@pytest.mark.parametrize(
    ("read", "dataset"), [(PointCloudBank, toy_set()), (LabelledBank, toy_parts())]
)
def test_hold_out_of_a_bank(read, dataset):
    bank = read.from_dataset(dataset)
    for ours, theirs in zip(hold_out(bank, 0.34), hold_out(dataset, 0.34), strict=True):
        assert type(ours) is read
        assert ours.class_names == bank.class_names
        for a, b in zip(ours, theirs, strict=True):
            assert all(torch.equal(a[key].flatten(), b[key].flatten()) for key in a.to_dict())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (None, "'dataset' must be a data set"),
        ([], "'dataset' must hold at least one cloud, got none"),
        ([Data(pos=torch.zeros(1, 3))], "'y' of cloud 0 must be one integer label, got None"),
        ([Data(y=torch.tensor([0, 1]))], "'y' of cloud 0 must be one integer label, got"),
        ([Data(y=0.5)], "'y' of cloud 0 must be one integer label, got 0.5"),
        (
            [Data(y=torch.tensor([0, 1]), category="a")],
            "'category' of cloud 0 must be one integer label, got 'a'",
        ),
        (Data(y=0), "'dataset' must be a data set or a sequence of Data, got one Data"),
        ([Data(y=0), Data(y=-1)], r"must have labels in 0\.\.65535, got -1\.\.0"),
        ([Data(y=0), Data(y=70000)], r"must have labels in 0\.\.65535, got 0\.\.70000"),
    ],
)
def test_hold_out_names_what_it_cannot_split(dataset, message):
    with pytest.raises((TypeError, ValueError), match=message):
        hold_out(dataset, 0.5)


@pytest.mark.parametrize("category", ["office", 7, torch.tensor([3])])
def test_hold_out_follows_the_labels_whatever_else_is_called_a_category(category):
    plain = [Data(pos=torch.rand(4, 3), y=torch.tensor([i % 2])) for i in range(8)]
    other = [Data(pos=data.pos, y=data.y, category=category) for data in plain]
    for ours, theirs in zip(hold_out(other, 0.5), hold_out(plain, 0.5), strict=True):
        assert [int(data.y) for data in ours] == [int(data.y) for data in theirs]


class Stream(torch.utils.data.IterableDataset):
    """Clouds without numbers."""

    def __iter__(self):
        return iter(toy_set())


@pytest.mark.parametrize("make", [Stream, lambda: (data for data in toy_set())])
def test_hold_out_needs_clouds_with_numbers(make):
    with pytest.raises(TypeError, match=r"'dataset' must be .* whose items are numbered"):
        hold_out(make(), 0.5)


def test_labels_that_are_identifiers_are_split_as_small_ones():
    y = torch.tensor([0, 1, 1, 0, 2, 2])
    for ours, theirs in zip(stratified(10**12 * y, 0.5), stratified(y, 0.5), strict=True):
        assert torch.equal(ours, theirs)


def test_hold_out_refuses_labels_beyond_the_classes():
    dataset = toy_set()
    dataset.class_names = dataset.class_names[:2]
    with pytest.raises(ValueError, match=r"must have labels in 0\.\.1, got 0\.\.2"):
        hold_out(dataset, 0.5)


@pytest.mark.parametrize(
    "y",
    [
        torch.zeros(2, 2),
        torch.tensor([0, -1]),
        torch.tensor([0.0, 1.0]),
        torch.tensor([True, True, False, False]),
    ],
)
def test_stratified_names_labels_that_are_none(y):
    with pytest.raises(ValueError, match="'y' must"):
        stratified(y, 0.5)


@pytest.mark.parametrize("y", [[0, 0, 1, 1], np.array([0, 0, 1, 1]), None, "0011"])
def test_what_is_split_must_be_a_tensor(y):
    with pytest.raises(TypeError, match=r"'y' must be a tensor of shape \[n\], got"):
        stratified(y, 0.5)
    with pytest.raises(TypeError, match=r"'y' must be a tensor of shape \[n\], got"):
        redrawn(y)


@pytest.mark.parametrize("split", [functools.partial(stratified, share=0.5), redrawn])
@pytest.mark.parametrize("seed", [-1, 2**63, 2**64])
def test_seeds_that_no_generator_takes(split, seed):
    with pytest.raises(ValueError, match="'seed' must be at"):
        split(torch.tensor([0, 0, 1, 1]), seed=seed)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_bad_share(share):
    with pytest.raises(ValueError, match="'share' must"):
        hold_out(toy_set(), share)
