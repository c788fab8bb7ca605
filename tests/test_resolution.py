"""The matrix of the points of training and test clouds."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import PRESET, WHOLE, TinyNet, TinySegmenter, lab_of, toy_parts, toy_set

from torch_geometric_ddp import SMOKE, evaluate
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    CrossResolution,
    Distilled,
    Lab,
    markdown,
    plot_transfer,
    resolution_markdown,
    resolution_matrix,
    summarize,
)
from torch_geometric_ddp.comparison.resolution import spread_resolutions
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.evaluation import fit
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.tasks import Classification

ROWS = [ENTRIES["random"], CONTROLS["random 32x6"], ENTRIES["whole"]]


def run(lab, train_points=(16, 32, 64), test_points=(8, 64), seeds=(0, 1), rows=ROWS):
    matrix = CrossResolution(lab, train_points, test_points)
    return matrix.run(list(lab.cells(rows, (1,), seeds)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("resolution")
    lab = lab_of(out, num_points=64)
    return out, lab, run(lab)


def test_rows_are_those_that_a_set_has_points_for(made):
    out, lab, runs = made
    assert lab.failures == {}
    rows = [(run["method"], run["train_points"]) for run in runs if run["seed"] == 0]
    assert rows == [
        *(("random", num) for num in (16, 32, 64)),
        *(("random 32x6", num) for num in (16, 32)),
        *(("whole", num) for num in (16, 32, 64)),
    ]
    lines = (out / "resolutions.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == runs
    for run in runs:
        assert run["test_points"] == [8, 64]
        assert len(run["at_points"]) == 2
        assert run["value"] == run["at_points"][0]
        assert run["class_mean"] == run["class_means_at_points"][0]
        # Every class has as many test clouds.
        assert run["class_means_at_points"] == pytest.approx(run["at_points"])
        assert run["num_points"] == run["num_clouds"] * run["train_points"]
        assert run["evaluate_seconds"] > 0
        assert (run["device"], run["threads"]) == ("cpu", torch.get_num_threads())
        assert run["protocol"]["name"] == ("whole" if run["method"] == "whole" else "smoke")
    stored = {run["method"]: (run["bits"], run["num_clouds"]) for run in runs}
    cloud = 3 * 32 * 64
    assert stored["whole"] == (18 * cloud, 18)
    assert stored["random"] == (3 * cloud, 3)
    assert 3 * cloud / 2 < stored["random 32x6"][0] <= 3 * cloud


@pytest.mark.parametrize(("method", "points"), [("random", 16), ("random", 64), ("whole", 32)])
def test_a_cell_is_what_its_parts_give(made, method, points):
    _, _, runs = made
    sets = toy_set(num_points=64), toy_set(num_points=64, seed=1)
    train, test = (PointCloudBank.from_dataset(one).normalize() for one in sets)
    protocol = WHOLE
    if method == "random":
        train = PointCloudBank.from_dataset(random_coreset(sets[0], 1, 1)).normalize()
        protocol = SMOKE
    (found,) = (
        run["at_points"]
        for run in runs
        if (run["method"], run["train_points"], run["seed"]) == (method, points, 1)
    )
    for num, value in zip((8, 64), found, strict=True):
        args = train.farthest_points(points), test.farthest_points(num), TinyNet, protocol, [1]
        assert evaluate(*args, progress=False).mean == value


def test_clouds_of_every_resolution_are_normalised(tmp_path, monkeypatch):
    middles, score = [], Classification.score

    def looked_at(self, model, train, test):
        middles.append(test.dense().mean(dim=1))
        return score(self, model, train, test)

    monkeypatch.setattr(Classification, "score", looked_at)
    run(lab_of(tmp_path, num_points=64), test_points=(8, 4), seeds=(0,), rows=ROWS[:1])
    assert len(middles) > 1
    torch.testing.assert_close(torch.cat(middles), torch.zeros(len(middles) * 18, 3))


def test_a_network_is_trained_once_for_all_resolutions_of_test_clouds(tmp_path, monkeypatch):
    trained = []

    def counted(*args):
        trained.append(1)
        return fit(*args)

    monkeypatch.setattr("torch_geometric_ddp.comparison.resolution.fit", counted)
    lab = lab_of(tmp_path, num_points=64)
    runs = run(lab, test_points=(8, 16, 32, 64), seeds=(0,), rows=ROWS[:1])
    assert len(trained) == len(runs) == 3
    # In whatever order they are asked for.
    again = run(lab, test_points=(64, 8, 32, 16), seeds=(0,), rows=ROWS[:1])
    assert again == runs
    assert len(trained) == 3
    # Other networks are another run, and so are other points.
    other = lab_of(tmp_path, replace(PRESET, num_networks=2), 64)
    run(other, (16,), seeds=(0,), rows=ROWS[:1])
    assert len(trained) == 5
    run(other, (16,), (8,), seeds=(0,), rows=ROWS[:1])
    assert len(trained) == 7


def test_sets_of_a_comparison_are_taken_over(tmp_path, monkeypatch):
    lab = lab_of(tmp_path, num_points=64)
    cells = list(lab.cells(ROWS[:1], (1,), (0,)))
    lab.run(cells)
    monkeypatch.setattr(Lab, "judge", lambda *args: pytest.fail("the set is made again"))
    assert len(run(lab, (16,), seeds=(0,), rows=ROWS[:1])) == 1


class Shallow(TinyNet):
    """A network with a size of its own."""

    def __init__(self, num_classes, depth=1):
        super().__init__(num_classes)


def test_a_set_of_another_network_tells_apart_those_that_are_trained_on_it(tmp_path):
    """The name of its file tells of the network that it was made with only."""
    sets = [toy_set(num_points=64, seed=seed) for seed in (0, 1)]
    found = []
    for depth in (1, 2, 1):
        networks = {"Tiny": TinyNet, "Other": partial(Shallow, depth=depth)}
        lab = Lab(*sets, tmp_path, PRESET, networks, source="toy")
        row = [Distilled("DDP", {"num_anchors": 2, "num_morphs": 3}, build=ddp)]
        cells = list(lab.cells(row, (1,), (0,), ["Other"], distill_with=["Tiny"]))
        found += CrossResolution(lab, (8,), (8,)).run(cells)
    assert [run["id"] == found[0]["id"] for run in found] == [True, False, True]
    own = CrossResolution(lab, (8,), (8,)).run(lab.cells(row, (1,), (0,), ["Other"]))
    names = [row.method for row in resolution_matrix([found[0], *own])]
    assert names == ["DDP from Tiny, 8 points", "DDP, 8 points"]
    longer = [{**run, "steps": 9, "seed": 1} for run in own]
    names = [row.method for row in resolution_matrix([*own, *longer])]
    assert names == [f"DDP, steps {own[0]['steps']}, 8 points", "DDP, steps 9, 8 points"]
    elsewhere = [{**run, "test_points": [4]} for run in own]
    names = [row.method for row in resolution_matrix([*own, *elsewhere])]
    assert names == ["DDP, 8 points", "DDP, 8 points (2)"]
    assert len((tmp_path / "resolutions.jsonl").read_text().splitlines()) == 3


def test_a_set_of_another_network_takes_one_training_and_leaves_the_own_checkpoint(tmp_path):
    sets = [toy_set(num_points=64, seed=seed) for seed in (0, 1)]
    lab = Lab(*sets, tmp_path, PRESET, {"Tiny": TinyNet, "Other": Shallow}, source="toy")
    row = [Distilled("DDP", {"num_anchors": 2, "num_morphs": 3}, build=ddp)]
    (foreign,) = lab.cells(row, (1,), (0,), ["Other"], distill_with=["Tiny"])
    (own,) = lab.cells(row, (1,), (0,), ["Other"])
    lab.checkpoint(own).parent.mkdir(parents=True)
    lab.checkpoint(own).write_text("a run that was stopped")
    matrix = CrossResolution(lab, (8,), (8,))
    (run,) = matrix.run([foreign])
    # On the set of Tiny only Tiny was trained beside the runs of the matrix.
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [line["backbone"] for line in lines] == ["Tiny"]
    assert matrix.to_do([foreign]).num_runs == 0
    lab.run([foreign])
    assert lab.checkpoint(own).exists()
    assert resolution_markdown(resolution_matrix([run])).splitlines()[4] == "All rows: Other."
    (line,) = [line for line in lab.run([foreign]) if line["backbone"] == "Other"]
    assert markdown(summarize([line])).splitlines()[0].split("|")[2].strip() == "distilled with"


def test_whole_set_at_fewer_points(made):
    """It has no runs of more, and those of fewer are the same: samples are nested."""
    _, lab, runs = made
    (first, second) = run(lab, (8, 16, 32), seeds=(0,), rows=[ENTRIES["whole"].at(16)])
    assert (first["train_points"], second["train_points"]) == (8, 16)
    assert first["settings"] == second["settings"] == {"num_points": 16}
    (whole,) = (
        one for one in runs if (one["method"], one["train_points"], one["seed"]) == ("whole", 16, 0)
    )
    assert second["at_points"] == whole["at_points"]
    assert len(resolution_matrix([whole, second])) == 2


def test_lines_that_tell_less_are_found_and_stand_with_others(tmp_path):
    """What a line did not tell before is known by the run that finds it."""
    lab = lab_of(tmp_path, num_points=64)
    rows = [ROWS[0], ROWS[2]]
    expected = run(lab, (16,), seeds=(0,), rows=rows)
    told = ("id", "method", "backbone", "seed", "ppc", "budget_bits", "train_points")
    told += ("test_points", "metric", "value", "at_points", "protocol", "versions")
    measured = ("class_metric", "class_mean", "class_names", "class_means_at_points")
    measured += ("num_clouds", "num_points", "bits", "evaluate_seconds", "device", "threads")
    told += measured
    path = tmp_path / "resolutions.jsonl"
    old = [json.dumps({key: one[key] for key in told}) + "\n" for one in expected]
    path.write_text("".join(old))
    assert run(lab, (16,), seeds=(0,), rows=rows) == expected
    assert path.read_text() == "".join(old)
    found = resolution_matrix(run(lab, (16,), seeds=(0, 1), rows=rows))
    assert [len(row.cells["8"].values) for row in found] == [2, 2]
    # What only a new run would tell is not there, and nothing is made again for it.
    old = [json.dumps({key: one[key] for key in told if key not in measured}) for one in expected]
    path.write_text("\n".join(old) + "\n")
    assert run(lab, (16,), seeds=(0,), rows=rows) == [
        {key: value for key, value in one.items() if key not in measured} for one in expected
    ]
    with pytest.raises(ValueError, match=f"the line {expected[0]['id']} does not: remove that"):
        spread_resolutions(json.loads(line) for line in old)


def test_every_set_at_its_own_points(tmp_path):
    lab = lab_of(tmp_path, num_points=64)
    matrix = CrossResolution(lab, (48, 64), (8,), own_points=True)
    rows = [*ROWS, ENTRIES["whole"].at(16)]
    runs = matrix.run(lab.cells(rows, (1,), (0,)))
    assert lab.failures == {}
    assert [(run["method"], run["train_points"]) for run in runs] == [
        *(("random", num) for num in (48, 64)),
        ("random 32x6", 32),
        *(("whole", num) for num in (48, 64)),
        ("whole, 16 points", 16),
    ]
    # They are the runs of these points.
    assert run(lab, (32,), (8,), (0,), ROWS[1:2]) == runs[2:3]


@pytest.mark.parametrize("change", [{"steps": 7}, {"settings": {"a": 1}}, {"network": "other"}])
def test_lines_tell_what_they_were_made_with(made, change):
    _, _, runs = made
    mine = [one for one in runs if (one["method"], one["train_points"]) == ("random", 16)]
    assert {"source", "task", "data", "network", "settings", "steps", "whole"} <= mine[0].keys()
    assert len(resolution_matrix([*mine, *({**one, **change} for one in mine)])) == 2


def test_what_is_named_twice_counts_once(made):
    _, lab, runs = made
    mine = [one for one in runs if (one["method"], one["train_points"]) == ("random", 16)]
    assert run(lab, (16, 16), seeds=(0, 1, 0), rows=ROWS[:1]) == mine


def test_networks_are_trained_where_the_harness_computes(tmp_path, monkeypatch):
    """Also where the real clouds lie elsewhere, as with 'stream'."""
    lab, seen = lab_of(tmp_path, num_points=64), []
    lab.device = torch.device("cpu:0")  # The same to compute on, and not equal to that of a cloud.

    def noted(train, test, network, protocol, seeds, device=None, **kwargs):
        seen.append(device)
        return evaluate(train, test, network, protocol, seeds, device, **kwargs)

    monkeypatch.setattr("torch_geometric_ddp.comparison.resolution.evaluate", noted)
    assert len(run(lab, (16,), (8,), seeds=(0,), rows=[ROWS[0], ROWS[2]])) == 2
    assert seen == [lab.device] * 2 != [lab.bank.device] * 2


def test_segmentation(tmp_path):
    sets = (toy_parts(seed=seed) for seed in (0, 1))
    lab = Lab(*sets, tmp_path, PRESET, {"Tiny": TinySegmenter}, task="segmentation")
    (found,) = run(lab, (8,), (8, 24), seeds=(0,), rows=ROWS[:1])
    assert found["metric"] == "instance mIoU"
    assert all(0 <= value <= 1 for value in found["at_points"])


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ((), (8,), "'train_points' must hold at least one number, got none"),
        ((8,), (), "'test_points' must hold at least one number, got none"),
        ((0,), (8,), "'train_points' must be at least 1, got 0"),
        ((8, 65), (8,), "'train_points' must be at most 64, got 65"),
        ((8,), (65,), "'test_points' must be at most 64, got 65"),
        ((8,), (-1,), "'test_points' must"),
    ],
)
def test_refused(tmp_path, train, test, message):
    with pytest.raises(ValueError, match=message):
        CrossResolution(lab_of(tmp_path, num_points=64), train, test)


def test_a_set_of_too_few_points_says_why_it_has_no_run(tmp_path):
    lab = lab_of(tmp_path, num_points=64)
    assert run(lab, (64,), seeds=(0,), rows=[CONTROLS["random 32x6"]]) == []
    (reason,) = lab.failures.values()
    assert reason == "TooFewPointsError: its clouds have 32 points, fewer than 64"
    run(lab, (32,), seeds=(0,), rows=[CONTROLS["random 32x6"]])
    assert lab.failures == {}


@pytest.mark.parametrize("what", [(CrossResolution, "_cross"), (PointCloudBank, "farthest_points")])
def test_resolutions_that_fail_leave_the_others(what, tmp_path, monkeypatch):
    """Whether their training or their sampling does."""
    lab, original = lab_of(tmp_path, num_points=64), getattr(*what)

    def failing(self, *args, **kwargs):
        if kwargs.get("num_points", args[0] if args else None) == 32:
            raise FloatingPointError("no finite loss")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(*what, failing)
    runs = run(lab, (16, 32, 64), seeds=(0,), rows=ROWS[:1])
    assert [one["train_points"] for one in runs] == [16, 64]
    assert [*lab.failures.values()] == ["at 32 points FloatingPointError: no finite loss"]
    assert run(lab, (16, 32, 64), seeds=(0,), rows=ROWS[:1]) == runs
    assert run(lab, (32,), seeds=(0,), rows=ROWS[:1]) == []
    monkeypatch.setattr(*what, original)
    runs = run(lab, (16, 32, 64), seeds=(0,), rows=ROWS[:1])
    assert [one["train_points"] for one in runs] == [16, 32, 64]
    assert lab.failures == {}


def test_what_failed_is_tried_again(tmp_path, monkeypatch):
    lab = lab_of(tmp_path, num_points=64)
    matrix = CrossResolution(lab, (16,), (8,))
    cells = list(lab.cells([ENTRIES["random"]], (1,), (0,)))
    original = Lab.judge

    def full(self, cell, synthetic):
        raise MemoryError("full")

    monkeypatch.setattr(Lab, "judge", full)
    assert matrix.run(cells) == []
    assert [*lab.failures.values()] == ["MemoryError: full"]
    monkeypatch.setattr(Lab, "judge", original)
    assert len(matrix.run(cells)) == 1
    assert lab.failures == {}


def test_runs_that_were_not_made_alike_are_never_averaged(made):
    _, _, runs = made
    mine = [run for run in runs if run["method"] == "random" and run["train_points"] == 16]
    (row,) = resolution_matrix(mine)
    protocol = {**mine[0]["protocol"], "epochs": 99}
    others = [
        [{**run, "protocol": protocol, "at_points": [0.0, 0.0]} for run in mine],
        [{**run, "test_points": [8, 16]} for run in mine],
    ]
    for other in others:
        rows = resolution_matrix([*mine, *other])
        assert len(rows) == 2
        assert {key: str(cell) for key, cell in rows[0].cells.items()} == {
            key: str(cell) for key, cell in row.cells.items()
        }


def test_table_and_picture(made, tmp_path):
    _, _, runs = made
    rows = resolution_matrix(runs)
    head, _, *body, empty, network, means, note = resolution_markdown(rows).splitlines()
    assert (empty, network) == ("", "All rows: Tiny.")
    assert note.rpartition(": ")[2] == "`mirrored 32x5` (PPC 1)."
    assert means == f"Means over {len({run['seed'] for run in runs})} seeds."
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *body)]
    assert cells[0] == ["trained on", "PPC", "8", "64"]
    assert [line[:2] for line in cells[1:3]] == [
        ["random, 16 points", "1"],
        ["random, 32 points", "1"],
    ]
    assert cells[-1][:2] == ["whole, 64 points", "-"]
    own = [
        run["at_points"][1]
        for run in runs
        if (run["method"], run["train_points"]) == ("random", 16)
    ]
    assert rows[0].cells["64"].values == own
    assert cells[1][3] == str(rows[0].cells["64"])
    figure = plot_transfer(rows, ["8", "64"], tmp_path / "matrix.png", "toy")
    assert figure.axes[0].images[0].get_array()[0, 1] == pytest.approx(50 * sum(own))
    assert resolution_markdown([]) == "No runs.\n"
    control = [{**run, "method": "mirrored 32x5"} for run in runs if run["method"] == "random"]
    assert "Left out" not in resolution_markdown(resolution_matrix([*runs, *control]))
