"""Every argument of the functions that take long: a bad value is refused before the first step."""

import inspect
import json
from dataclasses import asdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TinyNet, toy_set
from torch_geometric.data import Batch, Data

from torch_geometric_ddp import (
    Method,
    Protocol,
    StorageBudget,
    SyntheticPointCloudDataset,
    distill,
    evaluate,
)
from torch_geometric_ddp._checks import check_float
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.clouds import PointCloudBank, hold_out
from torch_geometric_ddp.comparison import ClassIncremental, Distilled, Lab
from torch_geometric_ddp.coreset import (
    Observation,
    forgetting_coreset,
    herding_coreset,
    k_center_coreset,
    observe,
    point_mixup_coreset,
    random_coreset,
    watch,
)
from torch_geometric_ddp.evaluation import RandomRotation, fit
from torch_geometric_ddp.matching import SADM, KernelRegression
from torch_geometric_ddp.methods import (
    Distillation,
    ddp,
    dm,
    full_resolution,
    mirrored,
    morphing,
    packed,
    pcc,
    pkr,
)
from torch_geometric_ddp.parameterization import Float16, FullResolution, Parameterization
from torch_geometric_ddp.tuning import PackedSpace, SearchSpace, tune

SHORT = Protocol("short", epochs=1)
FEW = ddp(num_anchors=2, num_morphs=1)
SEEN = Observation(torch.rand(18, 4), torch.arange(18), toy_set().y, {})

# What no argument of a kind may be.
NUMBERS = ["1", None, True, b"1", [1], {}, 1 + 0j, torch.tensor(1.5), int]
WHOLE = [*NUMBERS, 1.5, float("nan"), -1, -(2**70)]
SEEDS = [*WHOLE, 2**63, 2**64]
FLAGS = [0, 1, None, "no", [], np.bool_(True)]
CALLS = ["PointNet", 1, [], {}, b"x", 1.5]
TEXTS = [1, b"x", Path("x"), np.int64(3), ["x"], object(), True, torch.zeros(1), 1.5]
DEVICES = ["cuda:99", "no such", "", -1, 99, 2**64, 1.5, True, b"cpu", [], object(), "meta"]
PLACES = [1, b"run", [], {}, True, 1.5, torch.zeros(1), ".", "/dev/null/run", "a\0b"]
CLOUD = toy_set()[0]
SETS = [1, None, "clouds", b"clouds", {}, torch.zeros(2, 3), np.zeros((2, 3)), 1.5, list, object()]
SETS += [CLOUD, Batch.from_data_list([CLOUD, CLOUD])]  # Which are gone through by their attributes.
PROTOCOLS = ["quick", None, 5, {}, Protocol]
TASKS = ["segment", None, 1, [], {}, b"classification", Protocol]
MADE = [*CALLS, TinyNet(3)]  # A network in the place of what makes one can be called, too.
NETWORKS = [*MADE, int, torch.nn.Linear, lambda: 1, lambda a, b, c, d, e: 1, Data]
SHARES = [*NUMBERS, float("nan"), float("inf"), 0, -1.0, 2**64, 1e30]
QUOTAS = ["sizes", None, 1, True, b"size", {}, [], [1.0], [1, "2", 3], [0, 1, 1], int, object()]


def without(values, *accepted):
    """The values that are refused, less some that the argument takes."""
    return [v for v in values if not any(v is a for a in accepted)]


OF_DISTILL = {
    "dataset": SETS,
    "ppc": SHARES,
    "steps": without(WHOLE, None),
    "network": NETWORKS,
    "task": TASKS,
    "normalize": FLAGS,
    "seed": SEEDS,
    "device": DEVICES,
    "source": TEXTS,
    "checkpoint": PLACES,
    "classes_per_chunk": [*without(WHOLE, None), 0],
    "progress": FLAGS,
    "callback": CALLS,
    "retries": WHOLE,
    "stream": FLAGS,
    "cache": without(PLACES, "."),
    "class_names": ["abc", 1, {}, {"a", "b", "c"}, ["a", None, "c"], ["a", "a", "b"], ["a"], []],
    "quotas": QUOTAS,
}
GIVEN = {
    "dataset": toy_set(),
    "steps": 1,
    "network": TinyNet,
    "checkpoint": "new/run.safetensors",
    "progress": False,
}
OF_CORESET = {"dataset": SETS, "ppc": SHARES, "task": TASKS, "quotas": QUOTAS}
OBSERVED = {"observation": [None, 1, "seen", {}, torch.rand(18, 4)]}
STORED = {
    "num_points": [*without(WHOLE, None), 0, 33],
    "codec": ["float16", None, 1, FullResolution],
}
COUNTED = ["0", None, -1, 0, True, 1.5, [], ["0"], [True], [1.5], [-1], [2**64], b"1", 2**64]

# A function, arguments that it takes, and of every argument what it must refuse.
WALK = {
    "distill": (distill, {**GIVEN, "method": FEW}, {**OF_DISTILL, "method": [*CALLS, None, ddp]}),
    "Method.distill": (FEW.distill, GIVEN, OF_DISTILL),
    "evaluate": (
        evaluate,
        {"train_set": toy_set(), "test_set": toy_set(seed=1), "network": TinyNet},
        {
            "train_set": SETS,
            "test_set": SETS,
            "network": NETWORKS[:-4],
            "protocol": PROTOCOLS,
            "seeds": COUNTED,
            "device": DEVICES,
            "progress": FLAGS,
            "name": TEXTS,
            "trainer": [*CALLS, None],
            "task": TASKS,
            "workers": [*WHOLE, 0],
            "together": [*WHOLE, 0],
        },
    ),
    "Protocol": (
        Protocol,
        {"name": "short", "epochs": 1},
        {
            "name": [*TEXTS, None],
            "epochs": [*WHOLE, 0],
            "lr": [*NUMBERS, -0.1, 0, float("nan"), float("inf"), 10**400],
            "momentum": [*NUMBERS, -0.1, 1, 1.5, float("nan"), 10**400],
            "weight_decay": [*NUMBERS, -0.1, float("nan")],
            "batch_size": [*WHOLE, 0],
            "decay_after": [*NUMBERS, -0.1, 1.1, float("nan")],
            "decay": [*NUMBERS, -0.1, float("inf")],
            "normalize": FLAGS,
            "min_steps": WHOLE,
            "augment": CALLS,
        },
    ),
    "Method": (
        Method,
        {"name": "own", "storing": full_resolution(), "matching": KernelRegression, "steps": 1},
        {
            "name": [*TEXTS, None],
            "storing": [*CALLS, None],
            "matching": [*CALLS, None, KernelRegression()],
            "steps": WHOLE,
            "start": [*CALLS, None],
            "batch_size": [*WHOLE, 0],
            "optimizer": [*CALLS, None],
            "loops": [*CALLS, None],
            "networks": [*CALLS, None],
            "choose": CALLS,
            "schedule": CALLS,
            "sees_stored": FLAGS,
            "within": CALLS,
        },
    ),
    "observe": (
        observe,
        {"dataset": toy_set(), "network": TinyNet, "protocol": SHORT, "progress": False},
        {
            "dataset": SETS,
            "network": [*MADE, lambda num_classes: 3],
            "protocol": PROTOCOLS,
            "seed": SEEDS,
            "device": DEVICES,
            "progress": FLAGS,
            "task": TASKS,
        },
    ),
    "random_coreset": (
        random_coreset,
        {"dataset": toy_set()},
        {**OF_CORESET, **STORED, "seed": SEEDS},
    ),
    "herding_coreset": (
        herding_coreset,
        {"dataset": toy_set(), "ppc": 1, "observation": SEEN},
        {**OF_CORESET, **STORED, **OBSERVED},
    ),
    "k_center_coreset": (
        k_center_coreset,
        {"dataset": toy_set(), "ppc": 1, "observation": SEEN},
        {**OF_CORESET, **STORED, **OBSERVED},
    ),
    "forgetting_coreset": (
        forgetting_coreset,
        {"dataset": toy_set(), "ppc": 1, "observation": SEEN},
        {**OF_CORESET, **OBSERVED, "seed": SEEDS},
    ),
    "tune": (
        tune,
        {"dataset": toy_set(), "network": TinyNet, "storage": None, "progress": False},
        {
            "dataset": SETS,
            "ppc": SHARES,
            "space": ["wide", 1, {}, (1, 2)],
            "n_trials": [*WHOLE, 0],
            "storage": [*PLACES, "grpc://host"],
            "study_name": [*TEXTS, None],
            "objectives": ["score", None, 1, (), ("bits",), ("score", "x"), [["score"]]],
            "steps": [*WHOLE, 0],
            "seeds": COUNTED,
            "protocol": PROTOCOLS,
            "share": [*NUMBERS, 0, 1, -1, 1.5, float("nan")],
            "looks": ["0.5", None, 1, (0,), (1.0,), ("0.5",), (None,), (float("nan"),)],
            "method": [*CALLS, None, dm, lambda **settings: 3],
            "network": MADE,
            "task": TASKS,
            "sampler": [*CALLS, None],
            "pruner": ["median", 1, [], object()],
            "seed_by_seed": FLAGS,
            "begun": CALLS,
            "seed": SEEDS,
            "normalize": FLAGS,
            "device": DEVICES,
            "lost_after": ["1", -1, float("nan"), True, []],
            "cache": without(PLACES, "."),
            "progress": FLAGS,
        },
    ),
    "Lab": (
        Lab,
        {"train_set": toy_set(), "test_set": toy_set(seed=1), "out": "out"},
        {
            "train_set": SETS,
            "test_set": SETS,
            "out": ["/dev/null/out", 1, b"out", None, [], 1.5],
            "preset": ["cpu", None, 1],
            "backbones": ["PointNet", 1, [1], {"x": 1}, {1: TinyNet}, {"x": TinyNet(3)}],
            "device": DEVICES,
            "source": [*TEXTS, None],
            "task": TASKS,
            "stream": FLAGS,
            "cache": without(PLACES, "."),
        },
    ),
    "ClassIncremental": (
        ClassIncremental,
        {"train_set": toy_set(), "test_set": toy_set(seed=1), "out": "out", "num_increments": 3},
        {
            "train_set": SETS,
            "test_set": SETS,
            "out": ["/dev/null/out", 1, b"out", None, [], 1.5],
            "num_increments": [*WHOLE, 0, 4],
            "preset": ["cpu", None, 1],
            "network": [*MADE, None],
            "backbone": TEXTS,
            "device": DEVICES,
            "source": [*TEXTS, None],
        },
    ),
    "SyntheticPointCloudDataset": (
        SyntheticPointCloudDataset,
        {"source": FullResolution(torch.rand(3, 8, 3), 3)},
        {
            "source": [None, 1, b"x", [], torch.rand(3, 8, 3)],
            "split": ["test", None, 1],
            "transform": CALLS,
            "pre_transform": CALLS,
            "pre_filter": CALLS,
            "class_names": ["abc", 1, {}, ["a", None, "c"], ["a", "a", "b"], ["a"], []],
            "provenance": [1, "x", [1]],
        },
    ),
}
CASES = [
    pytest.param(name, argument, value, id=f"{name}-{argument}-{i}")
    for name, (_, _, bad) in WALK.items()
    for argument, values in bad.items()
    for i, value in enumerate(values)
]


@pytest.mark.parametrize("name", WALK)
def test_every_argument_is_walked(name):
    function, _, bad = WALK[name]
    assert sorted(bad) == sorted(inspect.signature(function).parameters)


@pytest.mark.parametrize(("name", "argument", "value"), CASES)
def test_a_bad_value_is_refused_before_any_step(name, argument, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def late(*args, **kwargs):
        pytest.fail("it began to work")

    monkeypatch.setattr(Distillation, "step", late)
    monkeypatch.setattr(TinyNet, "forward", late)
    function, given, _ = WALK[name]
    with pytest.raises((TypeError, ValueError), match=f"'{argument}'"):
        function(**{**given, argument: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WALK)
def test_the_other_arguments_of_the_walk_are_good(name, tmp_path, monkeypatch):
    """Else all values of an argument would be refused for the sake of another."""

    class Begun(Exception):  # noqa: N818
        pass

    def begin(*args, **kwargs):
        raise Begun

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Distillation, "step", begin)
    monkeypatch.setattr(TinyNet, "forward", begin)
    monkeypatch.setattr("torch_geometric_ddp.tuning.study._work_off", begin)
    function, given, _ = WALK[name]
    try:
        function(**given)
    except Begun:
        assert name in ("distill", "Method.distill", "evaluate", "observe", "tune")
    else:
        assert name not in ("distill", "Method.distill", "evaluate", "observe", "tune")


# What could not be written at the end #############################################################


class Named(list):
    """Clouds with a name or names of classes."""

    def __init__(self, **attributes):
        super().__init__(toy_set())
        self.__dict__.update(attributes)


def test_whole_numbers_of_numpy_are_whole_numbers(tmp_path):
    """They are written as those of Python are."""
    one, data = np.int64(1), toy_set()
    protocol = Protocol("short", epochs=one, batch_size=np.int64(8), min_steps=np.int64(0))
    assert json.dumps(protocol.to_dict()) == json.dumps(SHORT.to_dict())
    seen = observe(data, TinyNet, protocol, one, progress=False)
    seen.save(tmp_path / "seen.safetensors")
    for chosen in (random_coreset(data, one, one), forgetting_coreset(data, one, seen, one)):
        chosen.save(tmp_path / "set.safetensors")
        assert SyntheticPointCloudDataset(tmp_path / "set.safetensors").provenance["seed"] == 1
    space = SearchSpace(num_anchors=(2, 3), num_morphs=(0, 4), anchor_step=2)
    given = {"space": space, "steps": one, "seeds": [one], "seed": one, "protocol": protocol}
    storage = tmp_path / "study.journal"
    tune(data, one, n_trials=one, storage=storage, network=TinyNet, progress=False, **given)
    budget = StorageBudget(np.int64(32), np.int64(3), label_bits=np.int64(0))
    assert {type(value) for value in (budget.bits, budget.num_points, budget.label_bits)} == {int}
    assert json.dumps(RandomRotation(np.int64(2)).axis) == "2"
    model, bank = TinyNet(3), PointCloudBank.from_dataset(data)
    fit(model, bank, SHORT, one)
    assert json.dumps(watch(model, bank, SHORT, one).config["seed"]) == "1"


@pytest.mark.parametrize(
    ("method", "given"),
    [
        (FEW, {"classes_per_chunk": np.int64(2), "retries": np.int64(1)}),
        (ddp(np.int64(2), np.int64(8), np.int64(1), fill=True, batch_size=np.int64(2)), {}),
        (pkr(np.int64(8), np.int64(4), visits=np.int64(1), num_trained=1, ages=[np.int64(0)]), {}),
    ],
)
def test_whole_numbers_of_numpy_end_in_a_set_and_its_checkpoint(method, given, tmp_path):
    place = tmp_path / "run.safetensors"
    given = {**given, "seed": np.int64(1), "steps": np.int64(1), "checkpoint": place}
    synthetic = distill(toy_set(), 1, method, network=TinyNet, progress=False, **given)
    synthetic.save(tmp_path / "set.safetensors")
    assert place.exists()


def test_a_row_in_chunks_of_a_number_of_numpy_is_that_of_python():
    one, other = (Distilled("DDP", classes_per_chunk=kind(2)) for kind in (np.int64, int))
    assert json.dumps(one.identity()) == json.dumps(other.identity())
    assert one.changed({"num_morphs": np.int64(4)}) == other.changed({"num_morphs": 4})
    with pytest.raises(TypeError, match="'classes_per_chunk' must be an integer, got float"):
        Distilled("DDP", classes_per_chunk=1.5)


def test_a_coreset_of_a_number_of_numpy(tmp_path):
    random_coreset(toy_set(), num_points=np.int64(16)).save(tmp_path / "set.safetensors")
    point_mixup_coreset(toy_set(), num_anchors=np.int64(2)).save(tmp_path / "set.safetensors")


@pytest.mark.parametrize(
    "make",
    [
        lambda codec: full_resolution(codec=codec),
        lambda codec: packed(8, codec),
        lambda codec: mirrored(8, codec),
        lambda codec: morphing(codec=codec),
        lambda codec: ddp(weight_codec=codec),
    ],
)
@pytest.mark.parametrize("codec", [Float16, "float16", None])
def test_a_codec_that_is_none_is_refused_where_it_is_given(make, codec):
    with pytest.raises(TypeError, match="codec' must be a Codec, such as Float16"):
        make(codec)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x: ddp(grouped=x), "grouped"),
        (lambda x: ddp(adaptive=x), "adaptive"),
        (lambda x: morphing(adaptive=x), "adaptive"),
        (lambda x: morphing(anchor_points=8, fill=x), "fill"),
        (lambda x: pkr(mirror=x), "mirror"),
        (lambda x: SADM(absolute=x), "absolute"),
        (lambda x: SearchSpace(no_penalty=x), "no_penalty"),
    ],
)
@pytest.mark.parametrize("value", ["no", 1, None])
def test_a_flag_that_is_none_is_refused_where_it_is_given(make, name, value):
    with pytest.raises(TypeError, match=f"'{name}' must be True or False"):
        make(value)


def test_what_chooses_must_be_callable():
    with pytest.raises(TypeError, match="'choose' must be callable, got str"):
        pcc("nearest")


def test_a_setting_that_shape_morphing_has_not_is_refused_where_it_is_given():
    with pytest.raises(TypeError, match="shape morphing has no setting 'depth'"):
        ddp(depth=4)
    with pytest.raises(TypeError, match="'method' must take what 'space' draws, num_points, "):
        tune(toy_set(), 1, space=PackedSpace(num_points=(8, 16)), storage=None)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64, np.uint8, Fraction])
def test_numbers_of_any_kind_are_numbers_of_python(kind):
    one = check_float("lr", kind(1))
    assert (one, type(one)) == (1.0, float)
    with pytest.raises(ValueError, match="'lr' must be finite and above 0, got 0"):
        check_float("lr", kind(0), exclusive=True)
    for minimum in (1, 0.5):
        assert check_float("lr", kind(1), minimum) == 1
    with pytest.raises(ValueError, match="'lr' must be finite and at least 2, got 1"):
        check_float("lr", kind(1), 2)


@pytest.mark.parametrize("kind", [np.float16, np.float32, float])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1"])
def test_numbers_of_any_kind_are_finite_and_not_below(kind, value):
    with pytest.raises(ValueError, match="'lr' must be finite and at least 0, got"):
        check_float("lr", kind(value))


@pytest.mark.parametrize("value", [*NUMBERS, np.bool_(True), np.array([1.0]), Decimal(1)])
def test_what_is_no_number_is_none(value):
    with pytest.raises(TypeError, match="'lr' must be a number, got"):
        check_float("lr", value)


@pytest.mark.parametrize("half", [np.float32(0.5), np.float16(0.5), Fraction(1, 2)])
def test_numbers_of_any_kind_are_written_as_those_of_python(half, tmp_path):
    """Whatever they are the setting of; nothing of them is left for JSON to refuse at the end."""
    names = ("lr", "momentum", "weight_decay", "decay_after", "decay")
    ours, theirs = (Protocol("short", 1, **dict.fromkeys(names, x)) for x in (half, 0.5))
    assert json.dumps(ours.to_dict()) == json.dumps(theirs.to_dict())
    kept = Protocol("short", 1, lr=1, decay=1).to_dict()
    assert (json.dumps(kept["lr"]), json.dumps(kept["decay"])) == ("1", "1")  # As before.
    for make in (
        lambda x: ddp(uniformity_lambda=x),
        lambda x: pkr(lr=x, ridge=x),
    ):
        assert json.dumps(describe(make(half))) == json.dumps(describe(make(0.5)))
    spaces = [SearchSpace(anchor_share=(x, 1.0), anchor_lr=(x, 2.0)) for x in (half, 0.5)]
    assert len({json.dumps(asdict(space)) for space in spaces}) == 1
    packed = [PackedSpace(lr=(x, 2.0), ridge=(x, 2.0)) for x in (half, 0.5)]
    assert len({json.dumps(asdict(space)) for space in packed}) == 1
    method, data = (
        ddp(num_anchors=2, num_morphs=1, uniformity_lambda=half, anchor_lr=half),
        toy_set(),
    )
    made = [
        distill(data, half, method, steps=1, network=TinyNet, progress=False),
        random_coreset(data, 1 + half),
        distill(
            data,
            half,
            pkr(8, 4, lr=half, ridge=half, num_trained=1, ages=(0,), visits=0),
            steps=1,
            network=TinyNet,
            progress=False,
        ),
    ]
    for i, one in enumerate(made):
        one.save(tmp_path / "set.safetensors")
        again = SyntheticPointCloudDataset(tmp_path / "set.safetensors")
        assert again.provenance["ppc"] == (1.5 if i == 1 else 0.5)
    assert [len(part) for part in hold_out([*data], half)] == [
        len(part) for part in hold_out([*data], 0.5)
    ]
    given = {"steps": 1, "seeds": 1, "protocol": SHORT, "network": TinyNet, "progress": False}
    tune(
        data,
        1,
        space=spaces[0],
        n_trials=1,
        share=half,
        looks=[half],
        lost_after=half,
        **given,
        storage=tmp_path / "study.journal",
    )


@pytest.mark.parametrize("name", [Path("x"), b"x", 3, torch.zeros(1), None, ""])
def test_a_name_of_a_data_set_that_is_no_text_is_not_taken(name, tmp_path):
    synthetic = distill(Named(name=name), 1, FEW, steps=1, network=TinyNet, progress=False)
    synthetic.save(tmp_path / "set.safetensors")
    assert synthetic.provenance["source"] == "Named"


@pytest.mark.parametrize("names", ["abc", [1, 2, 3], ["a", None, "c"], {1, 2, 3}, ["a", "a", "b"]])
def test_names_of_classes_are_looked_at_first(names, monkeypatch):
    monkeypatch.setattr(Distillation, "step", None)
    with pytest.raises((TypeError, ValueError), match="'class_names'"):
        distill(Named(class_names=names), 1, FEW, network=TinyNet, progress=False)


def test_names_in_an_array_are_names():
    data = Named(class_names=np.array(["a", "b", "c"]))
    bank = PointCloudBank.from_dataset(data)
    assert bank.class_names == ["a", "b", "c"]
    assert all(type(name) is str for name in bank.class_names)


def test_points_that_ask_for_a_gradient(tmp_path):
    data = [Data(pos=d.pos.clone().requires_grad_(), y=d.y) for d in toy_set()]
    synthetic = distill(data, 1, FEW, steps=1, network=TinyNet, progress=False)
    synthetic.save(tmp_path / "set.safetensors")


def test_settings_that_a_file_cannot_hold(monkeypatch):
    class Odd(FullResolution):
        def sizes(self):
            return {**super().sizes(), "place": Path("x")}

    def storing(bank, budget, start, generator, task):
        return Odd(bank.dense()[:: len(bank) // 3], 3)

    try:
        monkeypatch.setattr(Distillation, "step", None)
        method = Method("odd", storing, dm().matching, 1)
        with pytest.raises(TypeError, match=r"'Odd.sizes.place' must be what JSON can hold"):
            method.distill(toy_set(), network=TinyNet, progress=False)
    finally:
        del Parameterization.registry["Odd"]


def test_a_checkpoint_goes_into_a_new_folder(tmp_path):
    path = tmp_path / "new" / "run.safetensors"
    distill(toy_set(), 1, FEW, steps=1, network=TinyNet, progress=False, checkpoint=path)
    assert [p.name for p in path.parent.iterdir()] == ["run.safetensors"]
