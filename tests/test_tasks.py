"""The task objects, and what networks are worth by each, against scores made by hand."""

import json
from dataclasses import FrozenInstanceError
from functools import partial

import pytest
import torch
from helpers import TinyNet, TinySegmenter, toy_parts, toy_set
from torch_geometric.data import Data

from torch_geometric_ddp import Protocol, evaluate
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.nn import BACKBONES, SEGMENTERS, Backbone, PointNet, PointNetSegmentation
from torch_geometric_ddp.tasks import (
    TASKS,
    Accuracy,
    Classification,
    MeanIoU,
    Scores,
    Segmentation,
    Task,
    find_task,
)

SHORT = Protocol("short", epochs=2, batch_size=4)
NETWORKS = {"classification": TinyNet, "segmentation": TinySegmenter}
SETS = {"classification": toy_set, "segmentation": toy_parts}
NAMES = sorted(TASKS)


class Kept:
    """Makes networks and keeps them."""

    def __init__(self, make):
        self.make, self.made = make, []

    def __call__(self, *sizes):
        self.made.append(self.make(*sizes))
        return self.made[-1]


# Finding one ######################################################################################


@pytest.mark.parametrize("name", NAMES)
def test_task_by_its_name(name):
    task = find_task(name)
    assert task is TASKS[name] is find_task(task)
    assert task.name == name


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("segment", ValueError),
        ("", ValueError),
        (None, TypeError),
        (Segmentation, TypeError),
        (["segmentation"], TypeError),
    ],
    ids=["segment", "empty", "None", "class", "list"],
)
def test_no_such_task(wrong, error):
    message = r"'task' must be a Task or one of \['classification', 'segmentation'\], got "
    with pytest.raises(error, match=message):
        find_task(wrong)


@pytest.mark.parametrize("key", ["name", "metric", "class_metric", "one_label"])
def test_a_task_that_says_too_little_is_refused_before_any_work(key, monkeypatch):
    class Own(Classification):
        """A task of one's own."""

    assert isinstance(find_task(Own()), Own)
    monkeypatch.delattr(Classification, key)
    with pytest.raises(TypeError, match=f"'task' must have .* got Own without {key}$"):
        find_task(Own())


@pytest.mark.parametrize("name", NAMES)
def test_what_a_task_says_of_itself(name):
    task = TASKS[name]
    assert task.network in task.backbones.values()
    assert task.network.__name__ in task.backbones
    assert all(issubclass(make, Backbone) for make in task.backbones.values())
    assert task.metric != task.class_metric


def test_networks_of_the_tasks():
    assert TASKS["classification"].backbones is BACKBONES
    assert TASKS["segmentation"].backbones is SEGMENTERS
    assert TASKS["classification"].network is PointNet
    assert TASKS["segmentation"].network is PointNetSegmentation
    assert TASKS["classification"].one_label
    assert not TASKS["segmentation"].one_label


@pytest.mark.parametrize(
    ("name", "kind", "sizes"),
    [("classification", PointCloudBank, (3,)), ("segmentation", LabelledBank, (7, 3))],
)
def test_bank_of_a_task(name, kind, sizes, device):
    task = TASKS[name]
    bank = task.read(SETS[name](), device)
    assert (type(bank), bank.device.type) == (kind, device.type)
    assert task.network_sizes(bank, bank) == sizes
    # What a batch of the clouds is read into is the same bank again.
    again = task.bank_of(bank.batch(torch.arange(len(bank), device=device)), bank)
    assert type(again) is kind
    assert again.sha256() == bank.sha256()


# Both tasks by one function #######################################################################


def by_hand(name, model, test):
    """The figure that networks are compared by, and that of every class, cloud by cloud."""
    values, classes = [], []
    model.eval()
    for data in test:
        pos = data.pos - data.pos.mean(dim=0)
        pos = pos / pos.norm(dim=1).max()
        whole = torch.zeros(len(pos), dtype=torch.long)
        cloud = Data(pos=pos, batch=whole, ptr=torch.tensor([0, len(pos)]), num_graphs=1)
        if name == "classification":
            guess = model(cloud).argmax(dim=1)
            values.append(float(guess == data.y))
            classes.append(int(data.y))
            continue
        cloud.category = data.category
        own = list(test.category_parts.values())[int(data.category)]
        logits = model(cloud)
        guess = torch.tensor(own)[logits[:, own].argmax(dim=1)]
        ious = []
        for part in own:
            both = int(((guess == part) & (data.y == part)).sum())
            either = int(((guess == part) | (data.y == part)).sum())
            ious.append(both / either if either else 1.0)
        values.append(sum(ious) / len(ious))
        classes.append(int(data.category))
    each = [
        [value for value, own in zip(values, classes, strict=True) if own == c]
        for c in sorted(set(classes))
    ]
    return sum(values) / len(values), [sum(some) / len(some) for some in each]


@pytest.mark.parametrize("as_name", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_one_evaluation_of_both_tasks(name, as_name):
    """Of either task the scores are those that are made by hand."""
    train, test = (SETS[name](seed=seed) for seed in (0, 1))
    kept = Kept(NETWORKS[name])
    task = name if as_name else TASKS[name]
    result = evaluate(train, test, kept, SHORT, [3, 4], progress=False, task=task)
    assert len(kept.made) == 2
    for i, model in enumerate(kept.made):
        value, classes = by_hand(name, model, test)
        assert float(result.values[i]) == pytest.approx(value, abs=1e-6)
        assert result.scores.per_class[i].tolist() == pytest.approx(classes, abs=1e-6)
        assert float(result.scores.class_means[i]) == pytest.approx(sum(classes) / 3, abs=1e-6)
    assert result.mean == pytest.approx(float(result.values.mean()))
    assert result.metric == TASKS[name].metric
    assert result.scores.class_names == list(train.class_names)


@pytest.mark.parametrize("name", NAMES)
def test_default_network_of_an_evaluation(name):
    seen = []

    def trainer(model, train, protocol, seed, bar):
        seen.append(type(model))

    sets = (SETS[name](per_class=2), SETS[name](per_class=2, seed=1))
    evaluate(*sets, protocol=SHORT, seeds=1, progress=False, trainer=trainer, task=name)
    assert seen == [TASKS[name].network]


@pytest.mark.parametrize(
    ("train", "task"), [(toy_parts, "classification"), (toy_set, "segmentation")]
)
def test_sets_of_the_other_task(train, task):
    with pytest.raises(ValueError, match=r"'y' of cloud 0 must be one int|must have 'part_names'"):
        evaluate(train(), train(), NETWORKS[task], SHORT, 1, progress=False, task=task)


# Scores ###########################################################################################


def accuracies(num=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Accuracy(["a", "b"], torch.randint(1, 9, (num, 2, 2), generator=generator))


def ious(num=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return MeanIoU(
        ["a", "b"], torch.rand(num, generator=generator), torch.rand(num, 2, generator=generator)
    )


@pytest.mark.parametrize("make", [accuracies, ious])
def test_join(make):
    parts = [make(2), make(1, seed=1), make(3, seed=2)]
    joined = type(parts[0]).join(iter(parts))
    assert type(joined) is type(parts[0])
    assert isinstance(joined, Scores)
    assert joined.class_names == ["a", "b"]
    for name in ("values", "per_class", "class_means"):
        assert torch.equal(getattr(joined, name), torch.cat([getattr(s, name) for s in parts]))
    assert joined.values.shape == (6,)
    assert joined.per_class.shape == (6, 2)
    alone = type(parts[0]).join(parts[:1])
    assert alone.to_dict() == parts[0].to_dict()


@pytest.mark.parametrize("make", [accuracies, ious])
def test_scores_as_json(make):
    values = make().to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    with pytest.raises(FrozenInstanceError):
        make().class_names = []


def test_means_leave_out_classes_without_test_clouds():
    nan = float("nan")
    scores = MeanIoU(["a", "b", "c"], torch.zeros(2), torch.tensor([[0.5, nan, 1.0]] * 2))
    assert scores.class_means.tolist() == [0.75, 0.75]
    assert scores.to_dict()["per_category"] == [[0.5, None, 1.0]] * 2
    scores = Accuracy(["a", "b"], torch.tensor([[[0, 0], [1, 3]]]))
    assert scores.class_means.tolist() == [0.75]
    assert scores.values.tolist() == [0.75]


# A task of one's own ##############################################################################


class Halves(Classification):
    """Whether a cloud is of the first class, judged like any classification."""

    name = "halves"
    metric = "hits"
    network = property(lambda self: partial(TinyNet))

    def read(self, dataset, device=None, dtype=torch.float32, progress=False):
        bank = super().read(dataset, device, dtype, progress)
        return PointCloudBank(bank.pos, bank.sizes, (bank.y > 0).long(), ["first", "other"])


def test_task_of_ones_own():
    """It goes wherever a task is asked for, by the object."""
    assert isinstance(Halves(), Task)
    assert find_task(Halves()).name == "halves"
    sets = (toy_set(), toy_set(seed=1))
    result = evaluate(*sets, protocol=SHORT, seeds=1, progress=False, task=Halves())
    assert result.metric == "hits"
    assert result.scores.class_names == ["first", "other"]
    assert result.scores.confusion.sum(dim=1).tolist() == [6, 12]
