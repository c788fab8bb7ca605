"""Callbacks of a distillation: what trackers are told, and that a run does not notice."""

import csv
import importlib.util

import numpy as np
import pytest
import torch
from helpers import TinyNet, TinySegmenter, toy_parts, toy_set
from test_host_reads import Reads

from torch_geometric_ddp import Protocol, SyntheticPointCloudDataset, distill, evaluate
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.comparison import summarize
from torch_geometric_ddp.comparison.runs import RunLog
from torch_geometric_ddp.methods import METHODS, AveragedSGD, ddp, pcc, pkr
from torch_geometric_ddp.parameterization import Uniform
from torch_geometric_ddp.programs import command
from torch_geometric_ddp.tracking import Clouds, Looks, TensorBoardLogger, Tracker

SHORT = Protocol("short", epochs=2)
METHOD = ddp(num_anchors=2, num_morphs=1, anchor_lr=0.5)
tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed"
)


class Rows(list):
    """A tracker that keeps what it is told."""

    def log(self, told, step):
        self.append((step, told))


def run(callback=None, steps=6, **kwargs):
    given = {"network": TinyNet, "progress": False, **kwargs}
    return distill(toy_set(), 1, METHOD, steps=steps, callback=callback, **given)


def test_a_tracker_is_told_loss_and_rates():
    rows, losses = Rows(), []
    run(lambda loop: (Tracker(rows.log, every=2)(loop), losses.append(loop.losses[-1])))
    assert [step for step, _ in rows] == [2, 4, 6]
    for step, told in rows:
        rates = {"lr/anchors": 0.5, "lr/weights": 0.05}
        assert told == {"loss": pytest.approx(losses[step - 1] / 3), **rates}


def test_a_look_is_what_the_set_as_it_stands_reaches():
    rows, test = Rows(), toy_set(seed=1)
    look = Looks(test, every=3, protocol=SHORT, network=TinyNet, seeds=[4, 5])
    run(Tracker(rows.log, look, every=100))
    assert [step for step, _ in rows] == [3, 6]
    for step, told in rows:
        again = evaluate(run(steps=step), test, TinyNet, SHORT, [4, 5], progress=False)
        assert told == {"accuracy": again.mean}


def test_a_look_is_taken_where_the_run_computes(monkeypatch):
    """Also where the real clouds lie elsewhere, as with 'stream'."""
    loop, seen = METHOD.begin(PointCloudBank.from_dataset(toy_set()), network=TinyNet), []
    loop.device = torch.device("cpu:0")  # The same to compute on, and not equal to that of a cloud.

    def noted(train, test, network, protocol, seeds, device=None, **kwargs):
        seen.append(device)
        return evaluate(train, test, network, protocol, seeds, device, **kwargs)

    monkeypatch.setattr("torch_geometric_ddp.tracking.evaluate", noted)
    assert Looks(toy_set(seed=1), protocol=SHORT, network=TinyNet)(loop)
    assert seen == [loop.device] != [loop.bank.device]


def test_parts_are_looked_at_by_their_own_figure():
    rows, real = Rows(), toy_parts()
    look = Looks(real, every=1, protocol=SHORT, network=TinySegmenter)
    clouds = Clouds(every=1)
    distill(
        real,
        1,
        METHOD,
        steps=1,
        task="segmentation",
        network=TinySegmenter,
        progress=False,
        callback=Tracker(rows.log, look, clouds),
    )
    ((_, told),) = rows
    assert 0 <= told["instance mIoU"] <= 1
    assert {"clouds/cup", "clouds/lamp", "clouds/ball"} < told.keys()


def test_clouds_are_those_of_the_set():
    rows, made = Rows(), []
    clouds = Clouds(every=6, make=lambda points: made.append(points) or len(made), number=1)
    synthetic = run(Tracker(rows.log, clouds, every=100))
    ((step, told),) = rows
    assert (step, told) == (6, {"clouds/class0": 1, "clouds/class1": 2, "clouds/class2": 3})
    for label, points in enumerate(made):
        assert isinstance(points, np.ndarray)
        torch.testing.assert_close(torch.from_numpy(points), synthetic[3 * label + 1].pos)


@pytest.mark.parametrize(
    "method",
    [
        ddp(num_anchors=2, num_morphs=1, optimizer=AveragedSGD),
        ddp(num_anchors=2, num_morphs=1, codec=Uniform(4), sees_stored=False),
    ],
    ids=["mean of the steps", "rounded afterwards"],
)
def test_clouds_are_as_they_are_stored(method):
    rows = Rows()
    tracker = Tracker(rows.log, Clouds(every=6), every=100)
    synthetic = distill(
        toy_set(), 1, method, steps=6, callback=tracker, network=TinyNet, progress=False
    )
    ((_, told),) = rows
    for label, points in enumerate(told.values()):
        torch.testing.assert_close(torch.from_numpy(points), synthetic[3 * label].pos)


@pytest.mark.parametrize("method", [*METHODS, "pcc"])
def test_clouds_of_every_method_are_told(method):
    few = pkr(8, depth=4, visits=0, ages=(0,), num_trained=1, real_per_class=2)
    first = pcc(lambda bank, num: bank.smallest(torch.arange(float(len(bank))), num))
    chosen = {"ddp": METHOD, "pkr": few, "pcc": first}.get(method, method)
    rows = Rows()
    tracker = Tracker(rows.log, Clouds(every=1))
    distill(toy_set(), 1, chosen, steps=1, callback=tracker, network=TinyNet, progress=False)
    ((_, told),) = rows
    clouds = [told[f"clouds/class{label}"] for label in range(3)]
    assert all(isinstance(cloud, np.ndarray) and cloud.shape[1:] == (3,) for cloud in clouds)


def test_a_test_set_that_does_not_fit_is_refused_at_the_first_step():
    for test_set in ([1, 2, 3], toy_parts()):
        told = Rows()
        look = Looks(test_set, every=5, protocol=SHORT, network=TinyNet)
        with pytest.raises((TypeError, ValueError), match="'test_set' of Looks: "):
            run(Tracker(told.log, look))
        assert told == []


def test_a_run_does_not_notice():
    torch.manual_seed(3)
    plain, state = run(), torch.get_rng_state()
    torch.manual_seed(3)
    look = Looks(toy_set(seed=1), every=2, protocol=SHORT, network=TinyNet)
    tracked = run(Tracker(Rows().log, look, Clouds(every=1)))
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in plain.parameterization.named_parameters():
        assert torch.equal(value, getattr(tracked.parameterization, name))


def test_loss_and_rates_are_read_from_the_host_alone():
    bank = PointCloudBank.from_dataset(toy_set()).normalize()
    loop = METHOD.begin(bank, 1, network=TinyNet)
    loop.run(1, progress=False)
    with Reads() as reads:
        Tracker(Rows().log, Clouds(every=10))(loop)
    assert not reads.counts


def test_lightnings_logger_takes_what_is_told(tmp_path):
    from pytorch_lightning.loggers import CSVLogger

    logger = CSVLogger(tmp_path)
    run(Tracker(logger.log_metrics))
    logger.save()
    (path,) = tmp_path.rglob("metrics.csv")
    with path.open() as file:
        rows = [*csv.DictReader(file)]
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(float(row["loss"]) > 0 and float(row["lr/anchors"]) == 0.5 for row in rows)


# As their documentations have them: only a dictionary and a step, by place.
def wandb_log(rows):
    def log(data, step=None, commit=None):
        assert commit is None
        rows.append((step, data))

    return log


def mlflow_log_metrics(rows):
    def log_metrics(metrics, step=None, synchronous=None):
        assert synchronous is None
        assert all(type(value) is float for value in metrics.values())
        rows.append((step, metrics))

    return log_metrics


@pytest.mark.parametrize("make", [wandb_log, mlflow_log_metrics])
def test_functions_of_trackers_fit(make):
    rows, losses = [], []
    tracker = Tracker(make(rows))
    run(lambda loop: (tracker(loop), losses.append(loop.losses[-1])), steps=3)
    rates = {"lr/anchors": 0.5, "lr/weights": 0.05}
    assert rows == [
        (step, {"loss": pytest.approx(loss / 3), **rates}) for step, loss in enumerate(losses, 1)
    ]
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Tracker(None), "log"),
        (lambda: Tracker(print, "looks"), "more"),
        (lambda: Tracker(print, print), "more.every"),
        *((lambda every=every: Tracker(print, every=every), "every") for every in (0, 1.5, "1")),
        (lambda: Looks(None), "test_set"),
        (lambda: Looks(toy_set(), 0), "every"),
        (lambda: Looks(toy_set(), protocol="quick"), "protocol"),
        (lambda: Looks(toy_set(), network="PointNet"), "network"),
        (lambda: Looks(toy_set(), seeds=0), "seeds"),
        (lambda: Clouds(0), "every"),
        (lambda: Clouds(make=1), "make"),
        (lambda: Clouds(number=-1), "number"),
        (lambda: TensorBoardLogger(1), "folder"),
        (lambda: TensorBoardLogger("/dev/null/board"), "folder"),
    ],
)
def test_a_bad_argument_is_refused(make, argument):
    with pytest.raises((TypeError, ValueError), match=f"'{argument}'"):
        make()


# TensorBoard #####################################################################################


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    return events


def meshes(events, step):
    """The vertices of the meshes that were written at a step, by the names of their tags."""
    from tensorboard.util.tensor_util import make_ndarray

    found = {}
    for tag in events.Tags()["tensors"]:
        if tag.endswith("VERTEX"):
            rows = {event.step: event.tensor_proto for event in events.Tensors(tag)}
            found[tag.removesuffix("_VERTEX")] = make_ndarray(rows[step])[0]
    return found


@tensorboard
def test_what_tensorboard_reads_back(tmp_path):
    rows = Rows()
    look = Looks(toy_set(seed=1), every=6, protocol=SHORT, network=TinyNet)
    with TensorBoardLogger(tmp_path / "new" / "run", Clouds(every=3), look) as board:
        synthetic = run(lambda loop: (board(loop), Tracker(rows.log, look)(loop)))
    events = read(tmp_path / "new" / "run")
    scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert {*scalars} == {"loss", "lr/anchors", "lr/weights", "accuracy"}
    for step, told in rows:
        for name, value in told.items():
            (event,) = (event for event in scalars[name] if event.step == step)
            assert event.value == pytest.approx(value)
    clouds = meshes(events, 6)
    assert {*clouds} == {"clouds/class0", "clouds/class1", "clouds/class2"}
    np.testing.assert_allclose(clouds["clouds/class1"], synthetic[3].pos, atol=1e-6)


@tensorboard
def test_numbers_of_any_kind_are_scalars(tmp_path):
    told = {"numpy": np.float32(0.5), "array": np.array(0.5), "torch": torch.tensor(0.5), "int": 1}
    with TensorBoardLogger(tmp_path) as board:
        board.write(told, 3)
    events = read(tmp_path)
    assert {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]} == {
        **dict.fromkeys(told, 0.5),
        "int": 1.0,
    }


@tensorboard
def test_steps_that_a_resumed_run_repeats_are_told_once(tmp_path):
    for steps in ((1, 2, 3), (3, 4)):  # The first process was stopped after its checkpoint.
        with TensorBoardLogger(tmp_path) as board:
            for step in steps:
                board.write({"loss": float(steps[0])}, step)
    events = read(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1), (2, 1), (3, 3), (4, 3)]


def test_without_tensorboard_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("torch_geometric_ddp.tracking.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="the extra 'track'"):
        TensorBoardLogger(tmp_path / "board")
    words = ["--num-per-class", "2", "--num-points", "32", "--tensorboard", str(tmp_path / "x")]
    with pytest.raises(SystemExit, match="the extra 'track'"):
        command.main(["distill", *words, "--out", str(tmp_path / "out")])
    assert not list(tmp_path.iterdir())


@tensorboard
def test_the_program_tells_tensorboard_of_every_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch_geometric_ddp.memory.keep_freed_memory", lambda: None)
    words = ["--num-per-class", "2", "--num-points", "32", "--preset", "smoke", "--steps", "2"]
    words += ["--seeds", "0", "1", "--skip-whole"]
    for out, more in (("plain", []), ("told", ["--tensorboard", str(tmp_path / "board")])):
        assert command.main(["distill", *words, "--out", str(tmp_path / out), *more]) == 0
    words[-3:-1] = ["0"]
    more = ["--num-anchors", "2", "--tensorboard", str(tmp_path / "board")]
    assert command.main(["distill", *words, "--out", str(tmp_path / "other"), *more]) == 0
    folders = sorted(folder.name for folder in (tmp_path / "board").iterdir())
    ids = [RunLog(tmp_path / out / "runs.jsonl").read() for out in ("told", "other")]
    assert folders == sorted(
        f"ddp-ppc1-seed{run['seed']}-{run['id']}"
        for runs in ids
        for run in runs.values()
        if run["method"] == "DDP"
    )
    assert len(folders) == 3
    (plain,) = (run["id"] for run in ids[0].values() if (run["method"], run["seed"]) == ("DDP", 0))
    folders = [f"ddp-ppc1-seed0-{plain}"]
    events = read(tmp_path / "board" / folders[0])
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert "clouds/airplane" in meshes(events, 2)
    runs = [RunLog(tmp_path / out / "runs.jsonl").read() for out in ("plain", "told")]
    assert runs[0].keys() == runs[1].keys()  # It is no part of what makes a run the same run.
    assert [str(row) for row in summarize(runs[0].values())] == [
        str(row) for row in summarize(runs[1].values())
    ]
    sets = [
        SyntheticPointCloudDataset(tmp_path / out / "distilled.safetensors")
        for out in ("plain", "told")
    ]
    assert torch.equal(sets[0].pos, sets[1].pos)
