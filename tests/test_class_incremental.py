"""Class-incremental learning from exemplars: its metrics, its runs and what they see."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import TinyNet, toy_set
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from torch_geometric_ddp import (
    SMOKE,
    ParametricShapes,
    StorageBudget,
    SyntheticPointCloudDataset,
    evaluate,
)
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    ClassIncremental,
    Coreset,
    Distilled,
    Preset,
    average_accuracy,
    incremental_markdown,
    mean_forgetting,
    plot_increments,
)
from torch_geometric_ddp.comparison.incremental_report import joined_increments
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.nn import BACKBONES

PRESET = Preset("tiny", replace(SMOKE, epochs=3), SMOKE, 2, 2)
DDP = Distilled("DDP", {"num_anchors": 2, "num_morphs": 3}, build=ddp)
NAMES = [f"class{i}" for i in range(5)]


def lab_of(out, num_increments=2, **kwargs):
    sets = (toy_set(num_classes=5, seed=seed) for seed in (0, 1))
    values = {"preset": PRESET, "network": TinyNet, "source": "toy", **kwargs}
    return ClassIncremental(*sets, out, num_increments, **values)


def lines(out):
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


# Metrics ##########################################################################################


def test_metrics_by_hand():
    matrix = [[0.9], [0.5, 0.8], [0.6, 0.2, 0.7]]
    # Best before the last step: 0.9 and 0.8; after it 0.6 and 0.2.
    assert mean_forgetting(matrix) == pytest.approx((0.3 + 0.6) / 2)
    # Also where the first classes were known best after the second increment.
    assert mean_forgetting([[0.5], [0.9, 0.8], matrix[2]]) == mean_forgetting(matrix)
    assert average_accuracy([0.9, 0.65, 0.5]) == pytest.approx(2.05 / 3)
    assert mean_forgetting([[0.4]]) == 0


def test_metrics_of_no_increments():
    with pytest.raises(ValueError, match="'accuracies' must hold that of at least one increment"):
        average_accuracy([])
    for matrix in ([], [[]], [[0.9], [0.5]]):
        with pytest.raises(ValueError, match="'matrix' must have a row for each of at least one"):
            mean_forgetting(matrix)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_nothing_is_forgotten_where_nothing_changes(accuracies):
    matrix = [accuracies[: i + 1] for i in range(len(accuracies))]
    assert mean_forgetting(matrix) == 0
    lost = [*matrix[:-1], [0.0] * len(accuracies)]
    assert mean_forgetting(lost) == pytest.approx(average_accuracy(accuracies[:-1]))


class NamedClouds(list):
    """Some clouds of the toy classes, which are known by name nevertheless."""

    class_names = NAMES


# Runs #############################################################################################


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("incremental")
    lab = lab_of(out, 3)
    rows = [ENTRIES["random"], ENTRIES["herding"], CONTROLS["random 32x6"], DDP, ENTRIES["whole"]]
    return out, lab, lab.run(lab.cells(rows, 1, (0, 1)))


def test_every_increment_is_a_line(made):
    out, lab, runs = made
    assert lab.failures == {}
    assert lab.classes_seen == [2, 4, 5]
    assert lines(out) == runs
    assert len(runs) == 5 * 2 * 3
    for i, run in enumerate(runs):
        assert run["classes_seen"] == [2, 4, 5][: i % 3 + 1]
        assert len(run["increment_accuracies"]) == i % 3 + 1
        assert run["class_names"] == NAMES
        sizes = torch.tensor([2, 2, 1][: i % 3 + 1])
        each = torch.tensor(run["increment_accuracies"])
        # Every class has as many test clouds.
        assert run["value"] == pytest.approx(float((each * sizes).sum() / sizes.sum()))
        assert run["num_points"] >= run["num_clouds"]
        assert run["evaluate_seconds"] > 0
        if run["method"] == "whole":
            assert run["num_points"] == 32 * run["num_clouds"]
            assert run["num_clouds"] == 6 * run["classes_seen"][-1]
            assert run["budget_bits"] is None
        else:
            seen = run["classes_seen"][-1]
            assert run["bits"] <= seen * StorageBudget(32, 1, 1).bits
            assert run["budget_bits"] == StorageBudget(32, 5, 1).bits
    packed = [run["num_clouds"] for run in runs if run["method"] == "random 32x6"]
    assert packed[2] > 5


def test_the_whole_set_at_fewer_points(tmp_path):
    lab = lab_of(tmp_path, 3)
    runs = lab.run(lab.cells([ENTRIES["whole"].at(8)], 1, (0,)))
    assert [run["num_points"] for run in runs] == [8 * run["num_clouds"] for run in runs]
    assert {run["method"] for run in runs} == {"whole, 8 points"}
    assert [run["bits"] for run in runs] == [6 * 96 * 8 * seen for seen in (2, 4, 5)]


def test_a_row_that_the_network_does_not_serve_is_refused(tmp_path):
    lab = lab_of(tmp_path, 3, network=BACKBONES["DGCNN"])
    with pytest.raises(TypeError, match="as gradients are matched, which DGCNN is not"):
        list(lab.cells([ENTRIES["random"], ENTRIES["DC"]], 1, (0,)))


def test_bits_are_those_of_all_sets_that_are_kept(made):
    """Of every increment seen, whether networks are trained on it now or were before."""
    out, lab, runs = made
    kept = {path: SyntheticPointCloudDataset(path) for path in (out / "sets").iterdir()}
    assert len(kept) == 4 * 2 * 3
    rows = [ENTRIES["random"], ENTRIES["herding"], CONTROLS["random 32x6"], DDP]
    for cell in lab.cells(rows, 1, (0, 1)):
        own = [kept.pop(one.set_path(cell)) for one in lab._increments]
        assert [one.class_names for one in own] == [NAMES[:2], NAMES[2:4], NAMES[4:]]
        bits = [one.storage_bits for one in own]
        told = [
            run["bits"]
            for run in runs
            if (run["method"], run["seed"]) == (cell.entry.name, cell.seed)
        ]
        assert told == [*itertools.accumulate(bits)]
        if cell.entry.name in ("random", "herding"):  # A cloud of 32 points a class.
            assert bits == [2 * 96 * 32, 2 * 96 * 32, 96 * 32]
    assert kept == {}
    whole = [run["bits"] for run in runs if run["method"] == "whole"]
    assert whole == [6 * 96 * 32 * seen for seen in (2, 4, 5)] * 2


def test_exemplars_beyond_the_budget_of_an_increment_are_refused(tmp_path):
    """Also where all classes together would have the room."""

    class Greedy(Coreset):
        def run(self, lab, cell):
            return lab.judge(cell, random_coreset(lab.train_set, cell.ppc + 1))

    lab = lab_of(tmp_path, 3)
    runs = lab.run(lab.cells([Greedy("greedy"), ENTRIES["random"]], 1, (0,)))
    assert [run["method"] for run in runs] == ["random"] * 3
    assert lines(tmp_path) == runs
    assert len(list((tmp_path / "sets").iterdir())) == 3
    ((name, reason),) = lab.failures.items()
    assert name == "greedy, PPC 1, TinyNet, seed 0"
    assert reason.startswith("BudgetError: ")
    assert "more than the budget of 6144 bits" in reason


def test_an_increment_is_what_its_parts_give(made):
    """The same accuracy by hand: exemplars of each increment alone, then all of them together."""
    _, _, runs = made
    real, test = toy_set(num_classes=5), toy_set(num_classes=5, seed=1)
    clouds = []
    for start, stop in ((0, 2), (2, 4)):
        part = [data for data in real if start <= int(data.y) < stop]
        for data in part:
            data.y -= start
        for data in random_coreset(part, 1, 1):
            data.y += start
            clouds.append(data)
    seen = [data for data in test if int(data.y) < 4]

    result = evaluate(
        NamedClouds(clouds), NamedClouds(seen), TinyNet, PRESET.protocol, [1], progress=False
    )
    (found,) = (
        run
        for run in runs
        if (run["method"], run["seed"], run["classes_seen"]) == ("random", 1, [2, 4])
    )
    assert found["value"] == result.mean
    table = result.scores.confusion.double()
    first, second = table[:2].diagonal().sum() / 12, table[2:4, 2:4].diagonal().sum() / 12
    assert found["increment_accuracies"] == pytest.approx([float(first), float(second)])


def test_finished_increments_are_not_made_again(made, monkeypatch):
    out, _, runs = made
    trained, text = [], (out / "runs.jsonl").read_text()
    monkeypatch.setattr(
        ClassIncremental, "_learn", lambda self, cell, number: trained.append(number)
    )
    monkeypatch.setattr(Distilled, "run", lambda *args: pytest.fail("it is distilled again"))
    lab = lab_of(out, 3)
    assert lab.run(lab.cells([ENTRIES["random"], DDP], 1, (0, 1))) == [
        run
        for seed in (0, 1)
        for run in runs
        if run["seed"] == seed and run["method"] in ("random", "DDP")
    ]
    assert trained == []
    assert (out / "runs.jsonl").read_text() == text


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    whole = lab_of(tmp_path / "whole")
    expected = whole.run(whole.cells([DDP], 1, (0,)))
    learn, count = ClassIncremental._learn, []

    def fragile(self, cell, number):
        count.append(number)
        if len(count) == 2:
            raise KeyboardInterrupt
        return learn(self, cell, number)

    monkeypatch.setattr(ClassIncremental, "_learn", fragile)
    lab = lab_of(tmp_path / "torn")
    with pytest.raises(KeyboardInterrupt):
        lab.run(lab.cells([DDP], 1, (0,)))
    assert len(lines(tmp_path / "torn")) == 1
    found = lab.run(lab.cells([DDP], 1, (0,)))
    assert count == [0, 1, 1]
    assert [run["value"] for run in found] == [run["value"] for run in expected]
    assert list((tmp_path / "torn" / "checkpoints").glob("*")) == []


def test_increments_see_their_own_classes_only(tmp_path, monkeypatch):
    seen = []
    original = Distilled.run

    def noted(self, bench, cell):
        seen.append((bench.bank.class_names, bench.bank.y.unique().tolist()))
        return original(self, bench, cell)

    monkeypatch.setattr(Distilled, "run", noted)
    lab = lab_of(tmp_path, 3)
    lab.run(lab.cells([DDP], 1, (0,)))
    assert seen == [(NAMES[:2], [0, 1]), (NAMES[2:4], [0, 1]), (NAMES[4:], [0])]


def test_what_makes_another_run(tmp_path):
    first = lab_of(tmp_path)
    base = first.run(first.cells([ENTRIES["random"]], 1, (0,)))
    changes = (
        {"num_increments": 5},
        {"preset": replace(PRESET, protocol=SMOKE)},
        {"preset": replace(PRESET, num_networks=2)},
        {"backbone": "other"},
    )
    for change in changes:
        before = len(lines(tmp_path))
        lab = lab_of(tmp_path, **change)
        lab.run(lab.cells([ENTRIES["random"]], 1, (0,)))
        assert len(lines(tmp_path)) == before + lab.num_increments
    again = lab_of(tmp_path)
    assert again.run(again.cells([ENTRIES["random"]], 1, (0,))) == base


def test_a_network_that_is_trained_otherwise_is_observed_anew(tmp_path):
    for times, whole in enumerate((SMOKE, replace(SMOKE, epochs=1)), start=1):
        lab = lab_of(tmp_path, preset=replace(PRESET, whole=whole))
        lab.run(lab.cells([ENTRIES["herding"]], 1, (0,)))
        assert len([*(tmp_path / "observations").iterdir()]) == times * lab.num_increments


def test_a_row_without_room_leaves_the_others(tmp_path):
    lab = lab_of(tmp_path)
    rows = [CONTROLS["random 32x32"], CONTROLS["random 32x4"]]
    runs = lab.run(lab.cells(rows, 1 / 4, (0,)))
    assert {run["method"] for run in runs} == {"random 32x4"}
    ((name, reason),) = lab.failures.items()
    assert name == "random 32x32, PPC 0.25, TinyNet, seed 0"
    assert reason.startswith("BudgetError: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_increments": 6}, "'num_increments' must be at most 5, got 6"),
        ({"num_increments": 0}, "'num_increments' must be at least 1, got 0"),
        ({"preset": "cpu"}, "'preset' must be a Preset, got str"),
        ({"source": 3}, "'source' must"),
    ],
)
def test_refused(tmp_path, change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        lab_of(tmp_path, **change)


def test_other_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="must have the same classes"):
        ClassIncremental(toy_set(), ParametricShapes(num_per_class=1, num_points=32), tmp_path, 2)
    lab = lab_of(tmp_path)
    with pytest.raises(ValueError, match="'seed' must"):
        lab.cells([DDP], 1, (-1,))  # Before the first one is asked for.
    with pytest.raises(ValueError, match="'seed' must"):  # That of the second network.
        lab_of(tmp_path, preset=replace(PRESET, num_networks=2)).cells([DDP], 1, (2**63 - 1,))
    with pytest.raises(ValueError, match="'ppc' must"):
        lab.cells([DDP], 0, (0,))


def test_what_is_named_twice_counts_once(made):
    _, lab, runs = made
    mine = [run for run in runs if (run["method"], run["seed"]) == ("random", 0)]
    assert lab.run(lab.cells([ENTRIES["random"]] * 2, 1, (0, 0))) == mine
    assert "random" in incremental_markdown(mine)


def test_one_number_is_one_run_whatever_its_type(made):
    _, lab, runs = made
    cells = list(lab.cells([ENTRIES["random"]], 1.0, np.arange(1)))
    assert lab.run(cells) == [run for run in runs if (run["method"], run["seed"]) == ("random", 0)]


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ((0, 1), "none of increment 1: class0, class1"),
        ((4,), "none of increment 3: class4"),
        ((2, 3, 4), "none of increment 2: class2, class3"),
    ],
)
def test_an_increment_without_test_clouds_is_refused_before_any_work(tmp_path, lacking, message):
    train = toy_set(num_classes=5)
    test = NamedClouds(data for data in train if int(data.y) not in lacking)
    with pytest.raises(ValueError, match=f"'test_set' must hold clouds .*{message}"):
        ClassIncremental(train, test, tmp_path, 3, PRESET, TinyNet)


def test_test_clouds_of_a_class_that_no_increment_has_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'test_set' must hold clouds of the 3 .* class 4"):
        ClassIncremental([*toy_set(3)], [*toy_set(5)], tmp_path, 3, PRESET, TinyNet)


def test_a_class_without_test_clouds_beside_one_that_has_them(tmp_path):
    train = toy_set(num_classes=5)
    test = NamedClouds(data for data in train if int(data.y))
    lab = ClassIncremental(train, test, tmp_path, 3, PRESET, TinyNet)
    runs = lab.run(lab.cells([ENTRIES["random"]], 1, (0,)))
    assert all(0 <= value <= 1 for run in runs for value in run["increment_accuracies"])


class Unserved(type(ENTRIES["whole"])):
    def serves(self, task):
        return False


@pytest.mark.parametrize(
    ("row", "ppc", "message"),
    [
        (ENTRIES["random"], 7, "'ppc' must not ask for more bits than .* of 6 clouds"),
        (replace(ENTRIES["random"], quotas=(1.0,) * 5), 1, "'quotas' must"),
        (Unserved("own"), 1, "the row 'own' needs clouds with one label each"),
    ],
)
def test_rows_that_an_increment_cannot_have_are_refused_before_any_work(
    tmp_path, row, ppc, message
):
    # All other classes together have room for seven clouds a class.
    train = [data for i, data in enumerate(toy_set(num_classes=5, per_class=9)) if i < 42]
    lab = ClassIncremental(train, train, tmp_path, 3, PRESET, TinyNet)
    with pytest.raises(ValueError, match=message):
        list(lab.cells([row], ppc, (0,)))


# Table and picture ################################################################################


def test_table_and_picture(made, tmp_path, monkeypatch):
    _, _, runs = made
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: kept.append(figure))
    head, _, *body = incremental_markdown(runs).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *body[:5])]
    heads = ["method", "average %", "last %", "forgetting", "seeds", "clouds", "bits"]
    assert cells[0] == heads
    assert [line[0] for line in cells[1:]] == ["random", "herding", "random 32x6", "DDP", "whole"]
    found = [run for run in runs if run["method"] == "DDP"]
    seeds = [[run for run in found if run["seed"] == seed] for seed in (0, 1)]
    each = {
        "average %": [
            average_accuracy([run["value"] for run in increments]) for increments in seeds
        ],
        "last %": [increments[-1]["value"] for increments in seeds],
        "forgetting": [
            mean_forgetting([run["increment_accuracies"] for run in increments])
            for increments in seeds
        ],
    }
    for name, values in each.items():
        mean, std = torch.tensor(values).double().mean(), torch.tensor(values).double().std()
        assert cells[4][heads.index(name)] == f"{100 * mean:.1f} ± {100 * std:.1f}"
    assert body[-1] == (
        "Left out, though the strongest real clouds known at these bits: `mirrored 32x5` (PPC 1)."
    )
    plot_increments(runs, tmp_path / "picture.png", "toy")
    (axes,) = kept[0].axes
    curves = {c.get_label(): c.lines[0].get_xydata() for c in axes.containers}
    assert list(curves) == ["random", "herding", "random 32x6", "DDP", "whole"]
    assert curves["DDP"][:, 0].tolist() == [2, 4, 5]
    assert curves["DDP"][-1, 1] == pytest.approx(100 * sum(each["last %"]) / 2)


def test_runs_that_were_not_made_alike_are_never_averaged(made):
    _, _, runs = made
    mine = [run for run in runs if run["method"] == "random"]
    other = [{**run, "protocol": {**run["protocol"], "lr": 7.0}, "value": 0.0} for run in mine]
    once, twice = (incremental_markdown(these).splitlines() for these in (mine, mine + other))
    assert len(twice) == len(once) + 1
    (line,) = (line for line in once if line.startswith("| random"))
    _, *cells = (cell.strip() for cell in line.strip("|").split("|"))
    name, *same = (cell.strip() for cell in twice[2].strip("|").split("|"))
    assert (name, same) == ("random, protocol lr 0.01", cells)
    assert twice[3].startswith("| random, protocol lr 7.0 ")
    # Likewise increments of other classes, and another storage.
    other = [{**run, "classes_seen": [3, 4, 5][: len(run["classes_seen"])]} for run in mine]
    assert [*joined_increments(mine + other)] == [
        "random, after 2, 4, 5 classes",
        "random, after 3, 4, 5 classes",
    ]
    other = [{**run, "backbone": "Other"} for run in mine]
    assert [*joined_increments(mine + other)] == [f"random, {mine[0]['backbone']}", "random, Other"]
    # No name says how these differ.
    made = {**mine[0]["protocol"], "lr": int(mine[0]["protocol"]["epochs"])}
    first = [{**run, "protocol": made} for run in mine]
    other = [{**run, "protocol": {**made, "lr": float(made["lr"])}} for run in mine]
    assert [*joined_increments(first + other)] == ["random", "random (2)"]
    other = [{**run, "ppc": 2} for run in mine]
    assert [*joined_increments(mine + other)] == ["random, PPC 1", "random, PPC 2"]


def test_runs_that_lack_increments_are_left_out(made, tmp_path):
    _, _, runs = made
    torn = [run for run in runs if run["method"] != "DDP" or len(run["classes_seen"]) < 3]
    assert "DDP" not in incremental_markdown(torn)
    assert incremental_markdown([]) == "No runs.\n"
    with pytest.raises(ValueError, match="at least one run with all of its increments"):
        plot_increments([], tmp_path / "picture.png")


def test_runs_of_different_increments_stand_beside_each_other(made, tmp_path, monkeypatch):
    _, _, runs = made
    three = [run for run in runs if run["method"] == "random"]
    first = [run for run in three if len(run["classes_seen"]) < 3]
    two = [{**run, "classes_seen": [3, 5][: len(run["classes_seen"])]} for run in first]
    torn = [{**run, "classes_seen": [2, 3], "seed": 0} for run in first[:1]]
    assert "increment" not in incremental_markdown(two + torn)
    lines = incremental_markdown(two + three + torn).splitlines()[2:4]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [line[0] for line in cells] == ["random, 2 increments", "random, 3 increments"]
    for line, own in zip(cells, (two, three), strict=True):
        alone = incremental_markdown(own).splitlines()[2].strip("|").split("|")
        assert line[1:] == [cell.strip() for cell in alone[1:]]
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: kept.append(figure))
    plot_increments(two + three, tmp_path / "picture.png")
    assert kept[0].axes[0].get_xticks().tolist() == [2, 3, 4, 5]


def test_increments_before_a_failure_are_given(tmp_path, monkeypatch):
    learn = ClassIncremental._learn

    def failing(lab, cell, number):
        if number == 1:
            raise MemoryError("full")
        return learn(lab, cell, number)

    lab = lab_of(tmp_path, 3)
    with monkeypatch.context() as patch:
        patch.setattr(ClassIncremental, "_learn", failing)
        runs = lab.run(lab.cells([ENTRIES["random"]], 1, (0,)))
    assert [run["classes_seen"] for run in runs] == [[2]]
    assert runs == lines(tmp_path)
    assert len(lab.failures) == 1
    assert incremental_markdown(runs) == "No runs.\n"  # It lacks increments.
    again = lab.run(lab.cells([ENTRIES["random"]], 1, (0,)))
    assert [run["classes_seen"] for run in again] == [[2], [2, 4], [2, 4, 5]]
    assert again[:1] == runs
