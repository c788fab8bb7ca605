"""The harness: every method once, under the same conditions, and never twice."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import (
    PRESET,
    TOY_PARTS,
    WHOLE,
    NormNet,
    TinyNet,
    TinySegmenter,
    check_labelled,
    lab_of,
    toy_parts,
    toy_set,
)
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch_geometric.data import Data

from torch_geometric_ddp import SMOKE, Protocol, StorageBudget, SyntheticPointCloudDataset, evaluate
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    PRESETS,
    Coreset,
    CrossResolution,
    Distilled,
    Entry,
    Lab,
    ObservedCoreset,
    Preset,
    Sensitivity,
    Standing,
    Whole,
    class_markdown,
    cost_markdown,
    dd_ranking_score,
    hard_label_recovery,
    improvement_over_random,
    markdown,
    plot_bits,
    plot_comparison,
    plot_increments,
    plot_transfer,
    pool_splits,
    share_of_whole,
    strongest_control,
    summarize,
    transfer_markdown,
    transfer_matrix,
)
from torch_geometric_ddp.comparison import runs as run_files
from torch_geometric_ddp.comparison.report import aligned, counted, labelled
from torch_geometric_ddp.coreset import (
    herding_coreset,
    k_center_coreset,
    observe,
    random_coreset,
)
from torch_geometric_ddp.evaluation import RandomRotation
from torch_geometric_ddp.methods import Distillation, ddp, dm, pkr
from torch_geometric_ddp.methods.starts import tanh_noise
from torch_geometric_ddp.nn import BACKBONES, PointNet, PointNetSegmentation
from torch_geometric_ddp.tasks import TASKS, Classification, Segmentation
from torch_geometric_ddp.transforms import FarthestPointSample
from torch_geometric_ddp.visualize import plot_clouds

SMALL = {"num_anchors": 2, "num_morphs": 3}
TINY = {"num_points": 8, "visits": 3, "ages": (0, 2), "num_trained": 1, "real_per_class": 4}
DDP = Distilled("DDP", SMALL, build=ddp)


def run(out, entries, ppcs=(1,), seeds=(0,), **kwargs):
    lab = lab_of(out, **kwargs)
    return lab.run(lab.cells(entries, ppcs, seeds))


def lines(out):
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """All entries that there are, with anchors that fit the small clouds."""
    out = tmp_path_factory.mktemp("every")
    small = {ddp: SMALL, pkr: TINY}
    entries = [
        replace(e, settings={**small.get(getattr(e, "build", None), {}), **e.settings})
        for e in ENTRIES.values()
    ]
    return out, run(out, entries, (1, 3), (0, 1))


def test_every_entry(every):
    out, runs = every
    assert len(runs) == 2 * (2 * (len(ENTRIES) - 1) + 1)  # The whole set has no budget.
    assert {run["id"]: run for run in lines(out)} == {run["id"]: run for run in runs}
    assert {run["method"] for run in runs} == set(ENTRIES)
    for run in runs:
        assert 0 <= run["value"] <= 1
        assert (run["metric"], run["class_metric"]) == ("accuracy", "class accuracy")
        # Every class has as many test clouds.
        assert run["class_mean"] == pytest.approx(run["value"])
        assert run["class_mean"] == pytest.approx(sum(run["per_class"]) / 3)
        assert run["class_names"] == ["class0", "class1", "class2"]
        assert (run["task"], run["network"]) == ("classification", "helpers.TinyNet")
        assert run["backbone"] == "Tiny"
        if run["method"] == "whole":
            assert (run["num_clouds"], run["budget_bits"]) == (18, None)
            assert (run["protocol"], run["whole"]["name"], run["epochs"]) == (None, "whole", 3)
            continue
        assert (run["protocol"]["name"], run["epochs"]) == ("smoke", 2)
        chosen = run["method"] in ("herding", "k-center", "forgetting", "PCC")
        assert (run["whole"] is not None) == chosen
        assert run["bits"] <= run["budget_bits"] == StorageBudget(32, 3, run["ppc"]).bits
        stored = SyntheticPointCloudDataset(out / run["set"])
        assert len(stored) == run["num_clouds"]
        assert stored.storage_bits == run["bits"]


def test_steps_and_their_time(every):
    _, runs = every
    for run in runs:
        named = ("DM", "DC", "PCC", "SADM", "DDP", "PKR")
        optimised = run["method"] in named or "DDP-" in run["method"]
        steps = 2 if optimised and run["method"] != "DDP-initial" else 0
        assert run["steps"] == steps
        if steps:
            assert run["step_seconds"] > 0
        else:  # Nothing, and not no time.
            assert run.get("step_seconds") is None


def test_a_run_is_what_its_parts_give(every, tmp_path):
    """The same accuracy, made by hand."""
    _, runs = every
    found = {(r["method"], r["ppc"], r["seed"]): r["value"] for r in runs}
    real, test = toy_set(), toy_set(seed=1)

    def by_hand(train_set, protocol=SMOKE):
        result = evaluate(train_set, test, TinyNet, protocol, [1], progress=False)
        return float(result.values)

    assert found["random", 3, 1] == by_hand(random_coreset(real, 3, 1))
    assert found["whole", 1, 1] == by_hand(real, WHOLE)
    seen = observe(real, TinyNet, WHOLE, 1, progress=False)
    assert found["herding", 3, 1] == by_hand(herding_coreset(real, 3, seen))
    own = ddp(**SMALL).distill(real, 3, steps=2, network=TinyNet, seed=1, progress=False)
    assert found["DDP", 3, 1] == by_hand(own)


def test_finished_runs_are_not_made_again(tmp_path, monkeypatch):
    entries = [ENTRIES["random"], DDP, ENTRIES["whole"]]
    first = run(tmp_path, entries)
    text = (tmp_path / "runs.jsonl").read_text()
    made = []
    for kind in (Coreset, Distilled, Whole):
        original = kind.run
        monkeypatch.setattr(
            kind, "run", lambda self, *a, _run=original: made.append(self.name) or _run(self, *a)
        )
    assert run(tmp_path, entries) == first
    assert (tmp_path / "runs.jsonl").read_text() == text
    assert made == []
    # What is new is added: another seed, another PPC, other settings, other data.
    run(tmp_path, entries[:2], seeds=(0, 1))
    assert made == ["random", "DDP"]
    run(tmp_path, [replace(DDP, settings={**SMALL, "anchor_lr": 1.0})])
    run(tmp_path, entries[:1], ppcs=(1, 2))
    assert made == ["random", "DDP", "DDP", "random"]
    assert lines(tmp_path)[: len(first)] == first


def test_a_changed_default_is_another_run(tmp_path):
    def build(lr=0.5):
        return ddp(anchor_lr=lr, **SMALL)

    def other(lr=1.0):
        return ddp(anchor_lr=lr, **SMALL)

    for make, count in ((build, 1), (build, 1), (other, 2)):
        run(tmp_path, [Distilled("DDP", build=make)])
        assert len(lines(tmp_path)) == count
    told = [line["settings"] for line in lines(tmp_path)]
    assert [settings.pop("build") for settings in told] == [describe(build), describe(other)]
    assert told == [{"lr": 0.5}, {"lr": 1.0}]


def test_another_function_of_a_user_is_another_run(tmp_path):
    """What it does is no setting, but its code tells it; that of the package has a name."""

    def row(kind, make):
        return {
            "build": lambda: Distilled("mine", build=lambda: make),
            "draw": lambda: Coreset("mine", draw=lambda *a, **k: make(*a, **k)),
            "choose": lambda: ObservedCoreset("mine", choose=lambda *a, **k: make(*a, **k)),
        }[kind]()

    pairs = {
        "build": (dm(), ddp(**SMALL)),
        "draw": (random_coreset, partial(random_coreset, num_points=8)),
        "choose": (herding_coreset, k_center_coreset),
    }
    for kind, makes in pairs.items():
        for count, make in enumerate(makes, start=1):
            run(tmp_path / kind, [row(kind, make)])
            mine = [line for line in lines(tmp_path / kind) if line["method"] == "mine"]
            assert len(mine) == count
    for entry in (*ENTRIES.values(), *CONTROLS.values()):
        assert not {"build", "draw", "choose"} & entry.identity().keys()
    told = [Coreset("mine", draw=partial(random_coreset, num_points=n)).identity() for n in (8, 9)]
    assert told[0] != told[1]


def test_rows_that_are_made_otherwise_need_names_of_their_own(tmp_path):
    """What fails is noted by its name, and a table would add the one to the other."""
    lab = Lab(toy_set(), toy_set(seed=1), tmp_path, PRESET, {"Tiny": TinyNet})
    with pytest.raises(ValueError, match="'entries' must have a name each, got two rows 'DDP'"):
        lab.cells(
            [DDP, ENTRIES["random"], replace(DDP.changed({"anchor_lr": 0.5}), name="DDP")],
            (1,),
            (0,),
        )
    assert len([*lab.cells([DDP, DDP], (1,), (0,))]) == 2


def test_rows_that_cannot_be_made_are_told_before_any_run(tmp_path):
    networks = {"Tiny": TinyNet, "DGCNN": BACKBONES["DGCNN"]}
    lab = Lab(toy_set(), toy_set(seed=1), tmp_path, PRESET, networks)
    with pytest.raises(TypeError, match="as gradients are matched, which DGCNN is not"):
        list(lab.cells([ENTRIES["random"], ENTRIES["DC"]], (1,), (0,)))
    assert len([*lab.cells([ENTRIES["DC"]], (1,), (0,), ["Tiny"])]) == 1
    for settings in ({"num_anchors": 0}, {"num_morphs": -1}, {"anchor_lr": -1.0}):
        (name,) = settings
        with pytest.raises(ValueError, match=f"'{name}' must be"):
            ENTRIES["DDP"].changed(settings)
    for row, name in (("DDP", "anchor_lr"), ("DM", "lr")):
        with pytest.raises(ValueError, match=f"'{name}' must be"):
            ENTRIES[row].at(-1.0)
    for num in (0, 33):
        with pytest.raises(ValueError, match="'num_points' must be"):
            ENTRIES["PKR"].changed({"num_points": num})


def test_rows_of_more_points_than_clouds_have_leave_the_others_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(Lab, "observation", None)  # Which takes long.
    names = ["herding 64x6", "random 64x6", "mirrored 64x6", "PKR 64", "DDP 64x6"]
    lab = lab_of(tmp_path)
    rows = [*(CONTROLS[name] for name in names), ENTRIES["random"]]
    (made,) = lab.run(lab.cells(rows, (1,), (0,)))
    assert made["method"] == "random"
    assert len(lab.failures) == len(names)
    for why in lab.failures.values():
        assert why.startswith("TooFewPointsError: ")
        assert "must be at most the 32 of a real cloud, got 64" in why


def test_nothing_is_computed_of_real_clouds_for_a_row_without_steps(tmp_path, monkeypatch):
    prepared, original = [], Distillation.prepare

    def prepare(self, progress=False):
        prepared.append(self.num_steps)
        original(self, progress)

    monkeypatch.setattr(Distillation, "prepare", prepare)
    run(tmp_path, [replace(ENTRIES["DDP-initial"], settings=SMALL)])
    assert prepared == []
    run(tmp_path, [DDP])
    assert prepared


def test_a_set_that_is_there_is_not_made_again_to_be_judged_otherwise(tmp_path, monkeypatch):
    rows = [DDP, ENTRIES["random"], ENTRIES["herding"]]
    first = run(tmp_path, rows)
    fresh = replace(PRESET, protocol=replace(PRESET.protocol, epochs=3), num_networks=2)
    expected = run(tmp_path / "elsewhere", rows, preset=fresh)
    monkeypatch.setattr(Distilled, "distil", None)
    lab = lab_of(tmp_path, fresh)
    cells = list(lab.cells(rows, (1,), (0,)))
    assert lab.to_do(cells).steps == []
    again = lab.run(cells)
    machine = ("distill_seconds", "evaluate_seconds", "step_seconds", "step_bytes")
    for ours, theirs, before in zip(again, expected, first, strict=True):
        assert {**ours, **dict.fromkeys(machine)} == {**theirs, **dict.fromkeys(machine)}
        assert ours["id"] != before["id"]
        assert ours.get("step_seconds") == before.get("step_seconds")
        both = (SyntheticPointCloudDataset(tmp_path / run["set"]) for run in (ours, before))
        mine, theirs = (one.parameterization.storage() for one in both)
        same = all(torch.equal(mine[name], theirs[name]) for name in theirs)
        # What is observed is the last of the networks, another one where there are two.
        assert same == (ours["method"] != "herding")
    # Other real clouds, settings or steps make another set.
    monkeypatch.undo()
    others = [lab_of(tmp_path, num_points=40), lab_of(tmp_path, replace(fresh, steps=3))]
    for other, row in zip((*others, lab), (DDP, DDP, DDP.changed({"num_morphs": 2})), strict=True):
        (cell,) = other.cells([row], (1,), (0,))
        assert len(other.to_do([cell]).steps) == 1


def test_a_preset_that_does_not_normalise_is_refused():
    raw = replace(SMOKE, normalize=False)
    for protocols in ((raw, SMOKE), (SMOKE, raw)):
        with pytest.raises(ValueError, match="must have normalize=True"):
            Preset("raw", *protocols, 1, 1)


def test_chance_of_a_choice_is_that_of_the_run(tmp_path):
    first, second = run(tmp_path, [ENTRIES["forgetting"]], seeds=(0, 1))
    assert [made["provenance"]["seed"] for made in (first, second)] == [0, 1]
    assert first["settings"] == {"seed": "that of the run"}


def test_torn_last_line(tmp_path):
    first = run(tmp_path, [ENTRIES["random"]], seeds=(0, 1))
    text = (tmp_path / "runs.jsonl").read_text()
    (tmp_path / "runs.jsonl").write_text(text[:-30])
    again = run(tmp_path, [ENTRIES["random"]], seeds=(0, 1))
    assert [r["value"] for r in again] == [r["value"] for r in first]


def test_killed_run_goes_on(tmp_path, monkeypatch):
    preset = replace(PRESET, steps=60)
    lab = lab_of(tmp_path / "killed", preset)
    loops, steps = [], []

    class Interruption(Exception):  # noqa: N818
        pass

    begin = type(ddp()).begin

    def fragile(self, *args, **kwargs):
        loop = begin(self, *args, **kwargs)
        step, number = loop.step, len(loops)
        steps.append([])

        def failing():
            if loop.num_steps == 55 and number == 1:
                raise Interruption
            steps[number].append(loop.num_steps)
            return step()

        loop.step = failing
        loops.append(loop)
        return loop

    monkeypatch.setattr(type(ddp()), "begin", fragile)
    whole = run(tmp_path / "whole", [DDP], preset=preset)
    cells = list(lab.cells([DDP], (1,), (0,)))
    with pytest.raises(Interruption):
        lab.run(cells)
    assert lab.checkpoint(cells[0]).exists()
    (found,) = lab.run(cells)
    # The losses of the run that was never killed, of which only the last steps are made again.
    assert loops[-1].losses == loops[0].losses
    assert len(loops[0].losses) == 60
    assert steps == [[*range(60)], [*range(55)], [*range(50, 60)]]
    assert len(loops) == 3
    assert found["loss"] == whole[0]["loss"]
    assert found["value"] == whole[0]["value"]
    assert (found["distill_seconds"], whole[0]["distill_seconds"] > 0) == (None, True)
    assert not lab.checkpoint(cells[0]).exists()


def test_observation_is_made_once_and_found_again(tmp_path, monkeypatch):
    trained = []
    judge = Lab.judge_whole
    monkeypatch.setattr(
        Lab, "judge_whole", lambda self, cell: trained.append(cell.seed) or judge(self, cell)
    )
    run(tmp_path, [ENTRIES["herding"], ENTRIES["k-center"], ENTRIES["whole"]], seeds=(0, 1))
    assert trained == [0, 1]
    run(tmp_path, [ENTRIES["forgetting"], ENTRIES["PCC"]], seeds=(0, 1))
    assert trained == [0, 1]
    for path in (tmp_path / "observations").iterdir():
        path.unlink()
    run(tmp_path, [ENTRIES["forgetting"]], ppcs=(2,), seeds=(1,))
    assert trained == [0, 1, 1]


def test_failures_that_are_noted_at_once_are_all_noted(tmp_path):
    def note(who):
        for i in range(40):
            run_files._keep_failures(tmp_path / "failures.json", {f"{who} {i}": "why"}, set())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(note, "ab"))
    assert len(json.loads((tmp_path / "failures.json").read_text())) == 80


def test_a_damaged_set_of_a_folder_says_how_to_go_on(tmp_path):
    run(tmp_path, [DDP])
    (path,) = (tmp_path / "sets").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    lab = lab_of(tmp_path)
    (cell,) = lab.cells([DDP], (1,), (0,))
    with pytest.raises(ValueError, match=f"{path.name}' is truncated .* remove it, and it is made"):
        lab.synthetic(cell)
    path.unlink()
    assert len(lab.synthetic(cell)) > 0


def test_failed_run_leaves_the_others(tmp_path):
    wild = replace(DDP, name="wild", settings={**SMALL, "anchor_lr": 1e38})
    preset = replace(PRESET, steps=6)
    lab = lab_of(tmp_path, preset)
    found = lab.run(lab.cells([wild, ENTRIES["random"]], (1,), (0,)))
    assert [run["method"] for run in found] == ["random"]
    assert [run["method"] for run in lines(tmp_path)] == ["random"]
    ((name, reason),) = lab.failures.items()
    assert name == "wild, PPC 1, Tiny, seed 0"
    assert reason.startswith("FloatingPointError: the loss of step")
    assert json.loads((tmp_path / "failures.json").read_text()) == lab.failures
    # Another comparison in this folder notes its own beside it.
    lab = lab_of(tmp_path, preset)
    lab.run(lab.cells([ENTRIES["random"], replace(wild, name="wilder")], (1,), (0,)))
    noted = json.loads((tmp_path / "failures.json").read_text())
    assert noted == {name: reason} | lab.failures
    assert len(noted) == 2
    for one in ("wild", "wilder"):
        lab.run(lab.cells([replace(DDP, name=one)], (1,), (0,)))
    assert not (tmp_path / "failures.json").exists()


def test_runs_that_were_not_made_alike_are_columns_and_rows_of_their_own():
    def line(protocol, backbone, value):
        made = {"method": "DM", "ppc": 1, "budget_bits": 8, "metric": "accuracy", "seed": 0}
        made |= {"backbone": backbone, "protocol": {"name": protocol}, "steps": 2}
        made |= {"distilled_with": "Tiny"} if backbone != "Tiny" else {}
        return {**made, "value": value, "per_class": [value], "class_names": ["a"]}

    runs = [line("one", "Tiny", 0.1), line("two", "Tiny", 0.2), line("two", "Norm", 0.3)]
    (head, _, body) = class_markdown(summarize(runs[:2])).splitlines()
    assert [[cell.strip() for cell in text.split("|")[1:-1]] for text in (head, body)] == [
        ["class", "DM, protocol one", "DM, protocol two"],
        ["a", "10.0", "20.0"],
    ]
    named = [row.method for row in labelled(summarize(runs))]
    assert named == ["DM, protocol one", "DM, protocol two", "DM from Tiny"]
    # Two protocols of one name beside one of another.
    runs_of_three = [*runs[:2], line("two", "Tiny", 0.3)]
    runs_of_three[2]["protocol"]["lr"] = 1
    found = [row.method for row in labelled(summarize(runs_of_three))]
    assert found == ["DM, protocol one", "DM, protocol name two", "DM, protocol name two, lr 1"]
    # What differs at one storage is told at every one, where a line joins them.
    more = [{**run, "ppc": 3} for run in runs[:1]]
    assert labelled(summarize([*runs, *more]))[-1].method == "DM, protocol one"
    # No name says how these differ, and one is that of the first column.
    alike = [{**runs[0], "method": "class", "settings": {"a": value}} for value in (1, 1.0)]
    (head, _, body) = class_markdown(summarize(alike)).splitlines()
    assert [text.strip() for text in head.split("|")[1:-1]] == ["class", "class (2)", "class (3)"]
    # Sets of one network that were made otherwise, each learned by another network.
    rows = transfer_matrix([runs[0], runs[2]], [ENTRIES["DM"]])
    assert [row.method for row in rows] == ["DM, protocol one", "DM, protocol two"]
    rows = transfer_matrix(runs, [ENTRIES["DM"]])
    assert [{name: cell.mean for name, cell in row.cells.items()} for row in rows] == [
        {"Tiny": pytest.approx(0.1)},
        {"Tiny": pytest.approx(0.2), "Norm": pytest.approx(0.3)},
    ]
    assert [str(row) for row in rows] == [
        "DM, protocol one from Tiny, PPC 1",
        "DM, protocol two from Tiny, PPC 1",
    ]
    # Two networks of one name, too.
    runs = [
        {**runs[0], "network": size, "value": value} for size, value in (("a", 0.1), ("b", 0.2))
    ]
    rows = transfer_matrix(runs, [ENTRIES["DM"]])
    assert [row.cells["Tiny"].mean for row in rows] == [pytest.approx(0.1), pytest.approx(0.2)]


def test_a_failure_that_succeeds_later_is_none(tmp_path):
    lab, wrong = lab_of(tmp_path), [True]

    class Fickle(Coreset):
        def run(self, lab, cell):
            if wrong:
                raise MemoryError("full")
            return super().run(lab, cell)

    cells = list(lab.cells([Fickle("fickle")], (1,), (0, 1)))
    assert lab.run(cells) == []
    assert len(lab.failures) == 2
    wrong.clear()
    assert len(lab.run(cells[:1])) == 1
    assert [*lab.failures] == [str(cells[1])]
    assert json.loads((tmp_path / "failures.json").read_text()) == lab.failures
    assert len(lab.run(cells)) == 2
    assert lab.failures == {}
    assert not (tmp_path / "failures.json").exists()


class Huge(Coreset):
    def run(self, lab, cell):
        torch.empty(2**50)  # More than any machine has.


class Stopping(Coreset):
    def run(self, lab, cell):
        raise KeyboardInterrupt


def test_a_cpu_without_memory_is_noted_also_where_a_later_run_is_stopped(tmp_path):
    lab = lab_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        lab.run(lab.cells([Huge("huge"), ENTRIES["random"], Stopping("stop")], (1,), (0,)))
    assert [run["method"] for run in lines(tmp_path)] == ["random"]
    ((name, reason),) = json.loads((tmp_path / "failures.json").read_text()).items()
    assert name == "huge, PPC 1, Tiny, seed 0"
    assert reason.startswith("MemoryError: ")
    assert "allocate" in reason


def test_a_first_rank_without_memory_stops(tmp_path, monkeypatch):
    """Going on, it would leave the others behind in the midst of a set."""

    class Wide(Distilled):
        def distil(self, lab, cell):
            torch.empty(2**50)

    first = SimpleNamespace(alone=False, size=2, from_first=lambda cell: None)
    monkeypatch.setattr(
        "torch_geometric_ddp.comparison.entries.Ranks", SimpleNamespace(here=lambda: first)
    )
    lab = lab_of(tmp_path)
    with pytest.raises(RuntimeError, match=r"rank 0 of 2 stops, and so do the others: .*allocate"):
        lab.run(lab.cells([Wide("wide", SMALL)], (1,), (0,)))


def test_the_file_of_a_set_tells_its_figure(tmp_path):
    (made,) = run(tmp_path, [ENTRIES["random"]], seeds=(1,))
    own = SyntheticPointCloudDataset(tmp_path / made["set"])
    told = own.provenance["evaluated"]
    assert told["value"] == made["value"]
    assert told["test_sha256"] == made["data"]["test"]
    assert (told["backbone"], told["source"]) == ("Tiny", "toy")
    protocol = Protocol.from_dict(told["protocol"])
    assert protocol == SMOKE
    again = evaluate(own, toy_set(seed=1), TinyNet, protocol, told["seeds"], progress=False)
    assert again.mean == told["value"]


def test_a_protocol_from_its_settings():
    turning = replace(SMOKE, augment=RandomRotation(axis=1))
    assert Protocol.from_dict(json.loads(json.dumps(turning.to_dict()))) == turning
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        Protocol.from_dict({**SMOKE.to_dict(), "speed": 1})


def test_a_set_beyond_the_budget_is_refused(tmp_path):
    class Greedy(Coreset):
        def run(self, lab, cell):
            return lab.judge(cell, random_coreset(lab.train_set, cell.ppc + 1))

    lab = lab_of(tmp_path)
    found = lab.run(lab.cells([Greedy("greedy"), ENTRIES["random"]], (1,), (0,)))
    assert [run["method"] for run in found] == ["random"]
    assert [run["method"] for run in lines(tmp_path)] == ["random"]
    ((_, reason),) = lab.failures.items()
    assert reason.startswith("BudgetError: ")
    assert "more than the budget of 9216 bits" in reason


@pytest.mark.parametrize(
    ("name", "ppc"),
    [("random 64x32", 1 / 24), ("mirrored 64x6", 1 / 128), ("DDP 64x4", 1 / 24), ("DDP", 1 / 16)],
)
def test_a_row_without_room_leaves_the_others(tmp_path, name, ppc):
    rows = [{**ENTRIES, **CONTROLS}[name], CONTROLS["random 64x4"]]
    train, test = (toy_set(num_points=128, per_class=8, seed=seed) for seed in (0, 1))
    lab = Lab(train, test, tmp_path, PRESET, {"Tiny": TinyNet})
    found = lab.run(lab.cells(rows, (ppc, 1 / 4, 1), (0,)))
    assert all("BudgetError" in reason for reason in lab.failures.values())
    assert f"{name}, PPC {ppc}, Tiny, seed 0" in lab.failures
    assert 1 in [run["ppc"] for run in found if run["method"] == name]
    assert [run["ppc"] for run in found if run["method"] == "random 64x4"][-1] == 1


def test_several_networks_on_one_set(tmp_path):
    """Seed 1 trains networks 2 and 3, and its figure is their mean."""
    preset = replace(PRESET, num_networks=2)
    (made,) = run(tmp_path, [ENTRIES["random"]], seeds=(1,), preset=preset)
    own = random_coreset(toy_set(), 1, 1)
    result = evaluate(own, toy_set(seed=1), TinyNet, SMOKE, [2, 3], progress=False)
    assert made["values"] == result.values.tolist()
    assert made["value"] == result.mean
    assert made["class_mean"] == pytest.approx(float(result.scores.class_means.mean()))
    assert made["per_class"] == pytest.approx(result.scores.per_class.mean(dim=0).tolist())
    assert made["num_networks"] == 2


def test_of_several_networks_the_last_is_observed(tmp_path, monkeypatch):
    """Also where the run was interrupted, and one of before left what another network learned."""
    preset = replace(PRESET, num_networks=2)
    lab = lab_of(tmp_path, preset)
    last = observe(toy_set(), TinyNet, WHOLE, 3, progress=False)  # Seed 1 trains 2 and 3.
    path = lab._observation_path("Tiny", 1)
    observe(toy_set(), TinyNet, WHOLE, 2, progress=False).save(path)
    assert torch.equal(lab.observation("Tiny", 1).features, last.features)
    path.unlink()

    def torn(model, train, protocol, seed, bar, task):
        assert seed == 3
        raise KeyboardInterrupt

    monkeypatch.setattr("torch_geometric_ddp.comparison.lab.watch", torn)
    with pytest.raises(KeyboardInterrupt):
        lab.observation("Tiny", 1)
    assert not path.exists()
    monkeypatch.undo()
    assert torch.equal(lab.observation("Tiny", 1).features, last.features)
    (value,) = {run["value"] for run in lines(tmp_path)}
    sets = toy_set(), toy_set(seed=1)
    assert value == evaluate(*sets, TinyNet, WHOLE, [2, 3], progress=False).mean


class Moved(list):
    """Clouds that a transform moves at random whenever they are read."""

    times = 0

    def __iter__(self):
        self.times += 1
        return (Data(pos=d.pos + 0.1 * torch.randn_like(d.pos), y=d.y) for d in super().__iter__())


@pytest.mark.parametrize("stream", [False, True])
def test_every_data_set_is_read_once(tmp_path, stream):
    """Of clouds that a transform draws, every run is of the very ones that its line tells."""
    train, test = Moved(toy_set()), Moved(toy_set(seed=1))
    lab = Lab(train, test, tmp_path, PRESET, {"Tiny": TinyNet}, stream=stream)
    runs = lab.run(lab.cells([ENTRIES[n] for n in ("random", "herding", "whole")], (1,), (0,)))
    CrossResolution(lab, (8,), (8,)).run(lab.cells([ENTRIES["whole"]], (1,), (0,)))
    assert (train.times, test.times) == (1, 1)
    for run in runs:
        assert run["data"] == {"train": lab.bank.sha256(), "test": lab.test_set.sha256()}
    sets = lab.train_set, lab.test_set
    assert runs[-1]["value"] == evaluate(*sets, TinyNet, WHOLE, [0], progress=False).mean


@pytest.mark.parametrize(
    ("make", "task"),
    [
        (toy_set, "classification"),
        (lambda seed: [*toy_set(seed=seed)], "classification"),  # Without names.
        (lambda seed: [far(data) for data in toy_set(seed=seed)], "classification"),
        (toy_parts, "segmentation"),
    ],
    ids=["named", "list", "far", "parts"],
)
def test_a_data_set_that_was_read_is_worth_the_same(make, task):
    sets = [make(seed=seed) for seed in (0, 1)]
    banks = [TASKS[task].read(one) for one in sets]
    for bank, one in zip(banks, sets, strict=True):
        again, first = (TASKS[task].read(of).normalize() for of in (bank, one))
        assert again.sha256() == first.sha256()
    given = {"seeds": 1, "progress": False, "task": task, "protocol": SMOKE}
    given["network"] = TinySegmenter if task == "segmentation" else TinyNet
    assert evaluate(*banks, **given).to_dict() == evaluate(*sets, **given).to_dict()


def far(data):
    """The cloud so far from the origin that single precision blurs it."""
    return Data(pos=data.pos.double() + 1e6, y=data.y)


def test_test_clouds_choose_nothing(tmp_path):
    """Another test set changes accuracies, and nothing that is trained on."""
    sets = []
    for seed in (1, 2):
        out = tmp_path / str(seed)
        lab = Lab(toy_set(), toy_set(seed=seed), out, PRESET, {"Tiny": TinyNet})
        for found in lab.run(lab.cells([ENTRIES["herding"], ENTRIES["PCC"], DDP], (1,), (0,))):
            sets.append(SyntheticPointCloudDataset(out / found["set"])._data.pos)
    for first, second in zip(sets[:3], sets[3:], strict=True):
        assert torch.equal(first, second)


def test_learning_rate_of_ones_own():
    entry = DDP.at(0.5)
    assert entry.name == "DDP, lr 0.5"
    storing = entry.build(**entry.settings)
    assert storing.steps == 2000
    assert entry.settings["anchor_lr"] == 0.5
    assert DDP.settings == SMALL


@pytest.mark.parametrize("name", ["anchors", "DDP-initial", "mirrored 32x5", "PKR 32-chosen"])
def test_what_is_not_moved_has_no_learning_rates(name):
    row = {**ENTRIES, **CONTROLS}[name]
    assert row.at_rates([0.5, 2.0]) == [row]
    assert [one.name for one in DDP.at_rates([0.5, 2.0])] == ["DDP, lr 0.5", "DDP, lr 2"]


# One backbone distils, others are trained #########################################################

INITIAL = replace(ENTRIES["DDP-initial"], settings=SMALL)
BOTH = {"Tiny": TinyNet, "Norm": NormNet}


def transfer(out, entries, ppcs=(1,), seeds=(0,), backbones=None, distill_with=("Tiny",), **kwargs):
    lab = Lab(toy_set(), toy_set(seed=1), out, kwargs.pop("preset", PRESET), BOTH, source="toy")
    return lab, lab.run(lab.cells(entries, ppcs, seeds, backbones, distill_with))


@pytest.fixture
def made(monkeypatch):
    """Which sets are optimised, in their order."""
    names = []
    original = Distilled.run

    def counted(self, lab, cell):
        names.append(str(cell))
        return original(self, lab, cell)

    monkeypatch.setattr(Distilled, "run", counted)
    return names


def test_identity_of_ordinary_runs_stays(tmp_path):
    """Finished measurements are found again only if what makes a run the same run stays."""
    lab, _ = transfer(tmp_path, [])
    lab._data = {"train": "0" * 16, "test": "1" * 16}
    smoke = {"name": "smoke", "epochs": 2, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005}
    smoke |= {"batch_size": 8, "decay_after": 0.5, "decay": 0.1, "normalize": True, "min_steps": 0}
    whole = smoke | {"name": "whole", "epochs": 3}
    key = {"source": "toy", "task": "classification", "data": lab._data, "method": "herding"}
    key |= {"settings": {}, "backbone": "Tiny", "network": "helpers.TinyNet"}
    key |= {"ppc": 1, "seed": 0, "steps": 0, "protocol": smoke, "whole": whole}

    def build(num_anchors=4, num_morphs=16, lr=0.5, start=tanh_noise):
        return ddp(num_anchors, None, num_morphs, anchor_lr=lr, start=start)

    made = Distilled("made", SMALL, build=build)
    rows = [ENTRIES["herding"], made, ENTRIES["whole"], DDP]
    herding, distilled, upper, own = lab.cells(rows, (1,), (0,), ["Tiny"])
    assert lab._key(herding) == key
    settings = {**SMALL, "lr": 0.5, "start": "tanh_noise", "build": describe(build)}
    assert lab._key(distilled) == key | {
        "method": "made",
        "settings": settings,
        "steps": 2,
        "whole": None,
    }
    assert [lab._identity(cell) for cell in (herding, own, upper)] == [
        "1e212f620aa5f0ff",
        "d3d82578b741a96f",
        "bff3149b3529ceec",
    ]
    # A set of the very backbone that is trained is an ordinary run.
    (same,) = lab.cells([DDP], (1,), (0,), ["Tiny"], ["Tiny"])
    assert same == own
    other = replace(own, backbone="Norm", distilled_with="Tiny")
    assert other.source == own
    trained = {"backbone": "Norm", "network": "helpers.NormNet"}
    maker = {"distilled_with": "Tiny", "distilling_network": "helpers.TinyNet"}
    assert lab._key(other) == lab._key(own) | trained | maker


def test_one_number_is_one_run_whatever_its_type(tmp_path):
    """Its identity is that of the number as Python has it."""
    lab = lab_of(tmp_path)
    cells = [*lab.cells([ENTRIES["random"]], (1, 1.5), (3,))]
    for ppcs in ((1.0, 1.5), (np.int64(1), np.float64(1.5)), np.array([1.0, 1.5])):
        preset = replace(PRESET, num_networks=np.int64(1), steps=np.int64(2))
        other = lab_of(tmp_path, preset)
        again = [*other.cells([ENTRIES["random"]], ppcs, np.array([3]))]
        assert [*map(lab._identity, again)] == [*map(lab._identity, cells)]
    assert len(other.run(again)) == 2
    assert [type(line["seed"]) for line in lines(tmp_path)] == [int, int]


def identities(out, **changes):
    """The identities of a row that distils, of one that chooses, of the whole, of a transfer."""
    values = {"preset": PRESET, "backbones": BOTH, "task": "classification", **changes}
    task = values["task"]
    train, test = ((toy_parts if task == "segmentation" else toy_set)(seed=seed) for seed in (0, 1))
    lab = Lab(train, test, out, source="toy", **values)
    lab._data = {}
    ddp = DDP.changed({"grouped": False})  # No network is made, as these are for one task only.
    rows = [ddp, ENTRIES["herding"], ENTRIES["whole"]]
    cells = [
        *lab.cells(rows, (1,), (0,), ["Tiny"]),
        *lab.cells([ddp], (1,), (0,), ["Norm"], ["Tiny"]),
    ]
    return [lab._identity(cell) for cell in cells]


class WideNet(TinyNet):
    def __init__(self, num_classes, width=1.0):
        super().__init__(num_classes)


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({}, [False, False, False, False]),
        ({"task": "segmentation"}, [True, True, True, True]),
        ({"backbones": {**BOTH, "Tiny": partial(WideNet, width=0.5)}}, [True, True, True, True]),
        ({"backbones": {**BOTH, "Norm": partial(WideNet)}}, [False, False, False, True]),
        ({"preset": replace(PRESET, name="other", num_seeds=9)}, [False, False, False, False]),
        ({"preset": replace(PRESET, steps=3)}, [True, False, False, True]),
        ({"preset": replace(PRESET, num_networks=2)}, [True, True, True, True]),
        # Only what the whole set is trained for hangs on its protocol.
        ({"preset": replace(PRESET, whole=SMOKE)}, [False, True, True, False]),
        ({"preset": replace(PRESET, protocol=WHOLE)}, [True, True, False, True]),
    ],
    ids=[
        "nothing",
        "task",
        "width",
        "other network",
        "name",
        "steps",
        "networks",
        "whole",
        "protocol",
    ],
)
def test_what_makes_a_run_another_one(tmp_path, changes, differs):
    first, other = identities(tmp_path), identities(tmp_path, **changes)
    assert [a != b for a, b in zip(first, other, strict=True)] == differs
    assert len(set(first)) == 4


def test_width_of_a_network_is_part_of_its_runs(tmp_path):
    widths = [
        identities(tmp_path, backbones={**BOTH, "Tiny": partial(WideNet, width=width)})
        for width in (0.25, 0.5, 0.25)
    ]
    assert widths[0] == widths[2]
    assert not {*widths[0]} & {*widths[1]}


def test_transferred_sets_are_those_of_their_source(tmp_path, monkeypatch):
    """Bit for bit, whether they come from the memory or from the file; and so what they teach."""
    seen = {}
    original = Lab._evaluate

    def noted(self, cell, train_set, *args):
        seen[str(cell)] = torch.stack([data.pos for data in train_set])
        return original(self, cell, train_set, *args)

    monkeypatch.setattr(Lab, "_evaluate", noted)
    entries = [ENTRIES["herding"], ENTRIES["SADM"], ENTRIES["PCC"], DDP]
    _, runs = transfer(tmp_path, entries)
    assert [(r["backbone"], r.get("distilled_with")) for r in runs] == (
        [("Tiny", None)] * 4 + [("Norm", "Tiny")] * 4
    )
    for source, other in zip(runs[:4], runs[4:], strict=True):
        name = other["method"]
        ours, theirs = (
            seen[f"{name}{made}, seed 0"] for made in (", PPC 1, Tiny", " from Tiny, PPC 1, Norm")
        )
        assert torch.equal(ours, theirs)
        for key in ("method", "settings", "ppc", "seed", "steps", "set", "bits", "provenance"):
            assert other[key] == source[key], key
        stored = SyntheticPointCloudDataset(tmp_path / source["set"])
        by_hand = evaluate(stored, toy_set(seed=1), NormNet, SMOKE, [0], progress=False)
        assert other["value"] == float(by_hand.values)
    assert len(list((tmp_path / "sets").iterdir())) == 4


def test_no_set_is_made_twice(tmp_path, made):
    """What a comparison has made is taken over, and a finished matrix makes nothing."""
    ordinary = run(tmp_path, [ENTRIES["random"], DDP])
    _, runs = transfer(tmp_path, [ENTRIES["random"], DDP])
    assert made == ["DDP, PPC 1, Tiny, seed 0"]
    assert runs[:2] == ordinary
    text = (tmp_path / "runs.jsonl").read_text()
    assert transfer(tmp_path, [ENTRIES["random"], DDP])[1] == runs
    assert (tmp_path / "runs.jsonl").read_text() == text
    # A second backbone to distil with: its own set, for both; random clouds stay as they are.
    _, more = transfer(tmp_path, [ENTRIES["random"], DDP], distill_with=["Tiny", "Norm"])
    assert made == ["DDP, PPC 1, Tiny, seed 0", "DDP, PPC 1, Norm, seed 0"]
    assert len(more) == 6
    assert len(lines(tmp_path)) == 6
    assert [r for r in more if r in runs] == runs


def test_source_that_is_not_trained_itself(tmp_path, made):
    """The set is made by an ordinary run, which is not part of the matrix, and again if lost."""
    lab, (found,) = transfer(tmp_path, [DDP], backbones=["Norm"])
    assert (found["backbone"], found["distilled_with"]) == ("Norm", "Tiny")
    assert made == ["DDP, PPC 1, Tiny, seed 0"]
    source, other = lines(tmp_path)
    assert (source["backbone"], other) == ("Tiny", found)
    assert "distilled_with" not in source
    (tmp_path / found["set"]).unlink()
    (cell,) = lab.cells([DDP], (1,), (0,), ["Tiny"])
    again = lab.synthetic(cell)
    assert again.storage_bits == found["bits"]
    assert len(made) == 2


def test_failed_source_is_not_tried_for_every_backbone(tmp_path, made):
    wild = replace(DDP, name="wild", settings={**SMALL, "anchor_lr": 1e38})
    entries, preset = [wild, ENTRIES["random"]], replace(PRESET, steps=6)
    for backbones in (["Tiny", "Norm"], ["Norm", "Tiny"]):
        made.clear()
        lab, runs = transfer(tmp_path, entries, backbones=backbones, preset=preset)
        assert made == ["wild, PPC 1, Tiny, seed 0"]
        assert [r["method"] for r in runs] == ["random", "random"]
        assert sorted(lab.failures) == [
            "wild from Tiny, PPC 1, Norm, seed 0",
            "wild, PPC 1, Tiny, seed 0",
        ]
        assert len({*lab.failures.values()}) == 1
    # The next time it is tried again.
    lab.run(lab.cells([wild], (1,), (0,), ["Norm"], ["Tiny"]))
    assert len(made) == 2


@pytest.mark.parametrize("entry", [ENTRIES["random"], INITIAL, DDP], ids=lambda entry: entry.name)
def test_uses_network(tmp_path, entry):
    """A row that uses none has the same set whatever the backbone, and one that does has not."""
    lab, _ = transfer(tmp_path, [entry], distill_with=None)
    sets = [lab.synthetic(cell)._data.pos for cell in lab.cells([entry], (1,), (0,))]
    assert torch.equal(*sets) == (not entry.uses_network)


def test_cells_of_a_matrix(tmp_path):
    lab, _ = transfer(tmp_path, [])
    entries = [ENTRIES["random"], INITIAL, DDP, ENTRIES["whole"]]
    names = [str(c) for c in lab.cells(entries, (1, 2), (5,), ["Norm"], ["Tiny", "Norm"])]
    assert names == [
        "random, PPC 1, Norm, seed 5",
        "DDP-initial, PPC 1, Norm, seed 5",
        "DDP from Tiny, PPC 1, Norm, seed 5",
        "DDP, PPC 1, Norm, seed 5",
        "whole, PPC 1, Norm, seed 5",
        "random, PPC 2, Norm, seed 5",
        "DDP-initial, PPC 2, Norm, seed 5",
        "DDP from Tiny, PPC 2, Norm, seed 5",
        "DDP, PPC 2, Norm, seed 5",
    ]
    for wrong in ({"backbones": ["Huge"]}, {"distill_with": ["Huge"]}):
        with pytest.raises(ValueError, match="one of Tiny, Norm, got 'Huge'"):
            next(lab.cells(entries, (1,), (0,), **wrong))
    for wrong, message in (
        ({"ppcs": (1, 0)}, "'ppc' must be finite and above 0, got 0"),
        ({"ppcs": (1, 1000)}, "'ppc' must not ask for more bits than the"),
        ({"seeds": (-1,)}, "'seed'"),
    ):
        with pytest.raises(ValueError, match=message):
            next(lab.cells(entries, **{"ppcs": (1,), "seeds": (0,), **wrong}))
    cells = [*lab.cells([ENTRIES["random"]], (1,), (0,))]
    assert len(lab.run(cells + cells)) == 2  # A run that is asked for twice counts once.


def test_whole_set_at_fewer_points(tmp_path):
    """It is another run, tested on the same clouds, and leaves what coresets know alone."""
    lab = lab_of(tmp_path)
    full, few = lab.run(lab.cells([ENTRIES["whole"], ENTRIES["whole"].at(8)], (1, 3), (0,)))
    assert (few["method"], few["settings"]) == ("whole, 8 points", {"num_points": 8})
    assert (few["num_points"], few["bits"], few["budget_bits"]) == (18 * 8, 18 * 8 * 96, None)
    assert len(list((tmp_path / "observations").iterdir())) == 1
    seen = observe(toy_set(), TinyNet, WHOLE, 0, progress=False)
    assert torch.equal(lab.observation("Tiny", 0).features, seen.features)
    sampled = toy_set(pre_transform=FarthestPointSample(8))
    by_hand = evaluate(sampled, toy_set(seed=1), TinyNet, WHOLE, [0], progress=False)
    assert few["value"] == float(by_hand.values)
    assert few["id"] != full["id"]
    with pytest.raises(ValueError, match="'num_points' must be at least 1, got 0"):
        ENTRIES["whole"].at(0)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_learns_the_whole_set(tmp_path, name):
    """And is observed; the last batch holds a single cloud."""
    once = replace(SMOKE, epochs=1)
    preset = Preset("once", once, once, 1, 1)
    train, test = (toy_set(per_class=3, num_points=16, seed=seed) for seed in (0, 1))
    lab = Lab(train, test, tmp_path, preset, {name: BACKBONES[name]})
    (found,) = lab.run(lab.cells([ENTRIES["whole"]], (1,), (0,)))
    assert (found["num_clouds"], found["epochs"]) == (9, 1)
    features = lab.observation(name, 0).features
    assert len(features) == 9
    assert bool((features.std(dim=0) > 0).any())


# Segmentation #####################################################################################

PARTS = [
    replace(ENTRIES[name], settings={**SMALL, **ENTRIES[name].settings})
    if name.startswith("DDP")
    else ENTRIES[name]
    for name in ("random", "DDP-initial", "DDP", "DM", "herding", "whole")
]


def parts_lab(out, **kwargs):
    values = {"preset": PRESET, "backbones": {"Tiny": TinySegmenter}, "source": "toy", **kwargs}
    return Lab(toy_parts(), toy_parts(seed=1), out, task="segmentation", **values)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    out = tmp_path_factory.mktemp("segmented")
    lab = parts_lab(out)
    return lab, lab.run(lab.cells(PARTS, (1, 2), (0, 1)))


def test_entries_of_segmentation(segmented):
    lab, runs = segmented
    assert [run["method"] for run in runs[:11]] == [
        *(entry.name for entry in PARTS),
        *(entry.name for entry in PARTS[:-1]),
    ]
    assert len(runs) == 22
    for run in runs:
        assert (run["metric"], run["class_metric"]) == ("instance mIoU", "class mIoU")
        assert 0 <= run["value"] <= 1
        # Every category has as many test clouds.
        assert run["class_mean"] == pytest.approx(run["value"], abs=1e-6)
        assert run["per_class"][2] == 1  # It has one part.
        assert run["class_names"] == list(TOY_PARTS)
        assert (run["task"], run["network"]) == ("segmentation", "helpers.TinySegmenter")
        if run["method"] == "whole":
            continue
        assert run["bits"] <= run["budget_bits"] == lab.bank.budget(run["ppc"]).bits
        stored = SyntheticPointCloudDataset(lab.out / run["set"])
        check_labelled(stored)
        assert (len(stored), stored.storage_bits) == (run["num_clouds"], run["bits"])
        assert run["provenance"]["task"] == "segmentation"


def test_a_run_of_segmentation_is_what_its_parts_give(segmented):
    """The same mIoU, made by hand."""
    _, runs = segmented
    found = {(r["method"], r["ppc"], r["seed"]): r for r in runs}
    real, test = toy_parts(), toy_parts(seed=1)
    task = {"task": "segmentation", "progress": False}

    def agrees(method, ppc, train_set, protocol=SMOKE):
        result = evaluate(train_set, test, TinySegmenter, protocol, [1], **task)
        run = found[method, ppc, 1]
        assert run["value"] == result.mean
        assert run["class_mean"] == float(result.scores.class_means)
        assert run["per_class"] == result.scores.per_category[0].tolist()

    agrees("random", 2, random_coreset(real, 2, 1, task="segmentation"))
    agrees("whole", 1, real, WHOLE)
    seen = observe(real, TinySegmenter, WHOLE, 1, **task)
    agrees("herding", 2, herding_coreset(real, 2, seen, task="segmentation"))
    make = partial(ddp(**SMALL).distill, real, 2, network=TinySegmenter, seed=1, **task)
    agrees("DDP-initial", 2, make(steps=0))
    agrees("DDP", 2, make(steps=2))
    agrees("DM", 2, dm().distill(real, 2, steps=2, network=TinySegmenter, seed=1, **task))


def test_tables_of_segmentation(segmented, tmp_path):
    _, runs = segmented
    rows = summarize(runs)
    (head, *body), _ = cells_of(markdown(rows))
    assert head[:4] == ["method", "PPC", "instance mIoU %", "class mIoU %"]
    assert len(body) == 11
    (first, *classes), _ = cells_of(class_markdown(rows))
    assert first[:3] == ["class", "random, PPC 1", "DDP-initial, PPC 1"]
    assert [line[0] for line in classes] == list(TOY_PARTS)
    matrix = transfer_matrix(runs, PARTS)
    figure = plot_transfer(matrix, ["Tiny"], tmp_path / "matrix.png")
    assert figure.axes[1].get_ylabel() == "instance mIoU %"
    plot_comparison(rows, tmp_path / "table.png")
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")


def test_default_backbone_is_that_of_the_task(tmp_path):
    assert parts_lab(tmp_path, backbones=None).backbones == {
        "PointNetSegmentation": PointNetSegmentation
    }
    lab = Lab(toy_set(), toy_set(seed=1), tmp_path)
    assert lab.backbones == {"PointNet": PointNet}


@pytest.mark.parametrize("name", ["forgetting", "DC", "PCC", "SADM"])
def test_rows_that_do_not_serve_the_task_are_refused_before_any_work(tmp_path, name, monkeypatch):
    def never(*args):
        raise AssertionError("a run was made")

    monkeypatch.setattr(Lab, "_result", never)
    lab = parts_lab(tmp_path)
    assert not ENTRIES[name].serves(lab.task)
    with pytest.raises(ValueError, match=f"row '{name}' .* the task 'segmentation' has not"):
        lab.run(lab.cells([ENTRIES["random"], ENTRIES[name]], (1,), (0,)))
    assert not (tmp_path / "runs.jsonl").exists()


def test_rows_that_serve_a_task():
    serving = {name for name, entry in ENTRIES.items() if entry.serves(Segmentation())}
    assert set(ENTRIES) - serving == {"forgetting", "DC", "PCC", "PKR", "SADM", "point-mixup"}
    assert all(entry.serves(Classification()) for entry in ENTRIES.values())


@pytest.mark.parametrize("size", [1, 4])
def test_whole_labelled_set_at_fewer_points(tmp_path, size):
    lab = parts_lab(tmp_path)
    (few,) = lab.run(lab.cells([ENTRIES["whole"].at(size)], (1,), (0,)))
    assert few["num_points"] == 12 * size
    sampled = lab.bank.farthest_points(size)
    by_hand = evaluate(
        sampled, toy_parts(seed=1), TinySegmenter, WHOLE, [0], progress=False, task="segmentation"
    )
    assert few["value"] == by_hand.mean


def test_sets_that_do_not_fit_the_task(tmp_path):
    for train, test, task, message in (
        (toy_set(), toy_set(), "segmentation", "'dataset' must have 'part_names'"),
        (toy_parts(), toy_set(), "segmentation", "'dataset' must have 'part_names'"),
        (toy_parts(), toy_parts(), "classification", "'y' of cloud 0 must be one integer label"),
        (toy_set(), toy_set(), "segment", "'task' must be a Task or one of"),
    ):
        with pytest.raises(ValueError, match=message):
            Lab(train, test, tmp_path, task=task)


# Table and picture ################################################################################


def line_of(method, value, ppc=1, seed=0, **kwargs):
    return {
        "method": method,
        "backbone": "Tiny",
        "task": "classification",
        "ppc": ppc,
        "seed": seed,
        "metric": "accuracy",
        "value": value,
        "class_metric": "class accuracy",
        "class_mean": value / 2,
        "class_names": ["a", "b", "c"],
        "per_class": [value, 0.0, None],
        "budget_bits": 300 * ppc,
        "bits": 90,
        "num_clouds": 3,
        "steps": 0,
        **kwargs,
    }


RUNS = [
    line_of("random", 0.2),
    line_of("random", 0.4, seed=1),
    line_of("random", 0.5, ppc=3),
    line_of("DDP", 0.6, steps=7, step_seconds=0.5, step_bytes=2_000_000),
    line_of("DDP", 0.8, seed=1, steps=7, step_seconds=1.5, step_bytes=2_000_000),
    line_of("whole", 0.9, budget_bits=None),
]


def cells_of(text):
    """The cells of a table, line by line without its rule, and the lines under it."""
    found, notes = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        (found if line.startswith("|") else notes).append(cells if line.startswith("|") else line)
    return [found[0], *found[2:]], [note for note in notes if note]


def body_of(text):
    (head, *lines), _ = cells_of(text)
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_table():
    text = markdown(summarize(RUNS))
    body = body_of(text)
    heads = ["method", "PPC", "seeds", "accuracy %", "class accuracy %"]
    assert [*body[0]] == [*heads, "of whole", "HLR", "IOR", "score"]
    assert [row["method"] for row in body] == ["random", "random", "DDP", "whole"]
    assert [row["seeds"] for row in body] == ["2", "1", "2", "1"]
    assert [row["PPC"] for row in body] == ["1", "3", "1", "-"]
    assert [row["accuracy %"] for row in body] == ["30.0 ± 14.1", "50.0", "70.0 ± 14.1", "90.0"]
    means = [row["class accuracy %"] for row in body]
    assert means == ["15.0 ± 7.1", "25.0", "35.0 ± 7.1", "45.0"]
    assert [row["IOR"] for row in body] == ["+0.0", "+0.0", "+40.0", "-"]
    assert [row["HLR"] for row in body] == ["60.0", "40.0", "20.0", "0.0"]
    assert [row["of whole"] for row in body] == ["33 %", "56 %", "78 %", "100 %"]
    scores = [(math.exp(a) - 1 / math.e) / (math.e - 1 / math.e) for a in (-0.3, -0.2, 0.1)]
    assert [row["score"] for row in body] == [*(f"{score:.2f}" for score in scores), "-"]
    # Lines of a table are equally long, so that its columns stand below each other.
    assert len({len(line) for line in text.splitlines() if line.startswith("|")}) == 1


def test_small_random_clouds_are_the_reference_where_whole_ones_have_no_room():
    small = [line_of(name, value, 0.5) for name, value in (("mirrored 32x5", 0.3), ("DDP", 0.7))]
    large = [line_of(name, value) for name, value in (("mirrored 32x5", 0.4), ("DDP", 0.8))]
    text = markdown(summarize([*small, *large, RUNS[-1]]))
    assert [row["IOR"] for row in body_of(text)] == ["+0.0", "+40.0", "-", "-", "-"]
    assert [row["score"] != "-" for row in body_of(text)] == [True, True, False, False, False]
    over = "IOR and score at PPC 0.5: over `mirrored 32x5`."
    assert cells_of(text)[1][1:] == ["No test clouds of: c.", over]
    own = markdown(summarize([line_of("random", 0.1, 0.5), *small]))  # A row of a user's.
    assert [row["IOR"] for row in body_of(own)] == ["+0.0", "+20.0", "+60.0"]
    assert "IOR and score at" not in own


def test_classes_without_test_clouds_stand_under_the_table():
    every = [{**run, "per_class": [0.5, 0.5, 0.0]} for run in RUNS]
    assert "No test clouds" not in markdown(summarize(every))
    every[-1]["per_class"] = [None, 0.5, None]
    assert "\nNo test clouds of: a, c.\n" in markdown(summarize(every))


def test_what_all_rows_have_in_common_stands_under_the_table():
    _, notes = cells_of(markdown(summarize(RUNS)))
    assert notes[0] == "All rows: Tiny."
    text = markdown(summarize([*RUNS[:2], *RUNS[3:5], {**RUNS[-1], "seed": 1}, RUNS[-1]]))
    assert [*body_of(text)[0]][:2] == ["method", "accuracy %"]
    assert cells_of(text)[1][0] == "All rows: PPC 1, Tiny, 2 seeds."
    both = [*RUNS, *({**run, "backbone": "Norm"} for run in RUNS)]
    assert [row["backbone"] for row in body_of(markdown(summarize(both)))[:5]] == [
        *["Tiny"] * 4,
        "Norm",
    ]


def apart(*changes, **common):
    """The columns that tell rows apart which differ in these only."""
    runs = [{**RUNS[3], **common, **one} for one in changes]
    texts = [table(summarize([*runs, RUNS[0]])) for table in (markdown, cost_markdown)]
    heads = ["method", "PPC", "accuracy %", "clouds", "bits", "s/step", "MB/step"]
    known = [*heads, "class accuracy %", "of whole", "HLR", "IOR", "score"]
    found = [
        [{key: row[key] for key in row if key not in known} for row in body_of(text)]
        for text in texts
    ]
    return [found[0], [{k: v for k, v in row.items() if k != "steps"} for row in found[1]]]


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        (
            [{}, {"distilled_with": "A", "distilling_network": "a"}],
            {"distilled with": ["Tiny", "A", "-"]},
        ),
        (
            [{"settings": {"a": 1, "b": 2}}, {"settings": {"a": 1, "b": 3, "c": "x"}}],
            {"settings": ["b 2", "b 3, c x", "-"]},
        ),
        ([{}, {"num_networks": 3}], {"networks": ["1", "3", "1"]}),
        (
            [{"protocol": {"name": name, "epochs": 2}} for name in ("cpu", "cpu, epochs 2")],
            {"protocol": ["cpu", "cpu, epochs 2", "-"]},
        ),
        (
            [{"whole": {"name": "w", "epochs": num}} for num in (2, 3)],
            {"whole set": ["epochs 2", "epochs 3", "-"]},
        ),
        ([{"network": "N"}, {"network": {"partial": "N"}}], {"network": ["N", "partial N", "-"]}),
    ],
)
def test_rows_of_one_name_are_told_apart(changes, columns):
    ((head, cells),) = columns.items()
    expected = [{head: cell} for cell in cells]
    assert apart(*changes) == [expected, expected]
    assert apart(changes[0]) == [[{}, {}]] * 2


def test_rows_of_one_name_are_told_apart_by_steps():
    assert apart({"steps": 5}, {"steps": 6})[0] == [{"steps": n} for n in ("5", "6", "0")]


def on_split(split, runs=RUNS[:2] + RUNS[3:]):
    """The same runs on another split, which are others."""
    return [{**run, "data": {"test": split}, "id": f"{split} {run}"} for run in runs]


def test_splits_are_pooled_in_one_table():
    first, second = on_split("a"), on_split("b")
    for run in second:
        run["value"] += 0.1
    assert len(summarize([*first, *second])) == 6
    runs = pool_splits([*first, *second, first[0]])
    assert [run["split"] for run in runs] == [0] * 5 + [1] * 5
    assert all(run["data"] == [{"test": "a"}, {"test": "b"}] for run in runs)
    rows = summarize(runs)
    assert [row.values for row in rows] == [
        pytest.approx(values) for values in ([0.2, 0.4, 0.3, 0.5], [0.6, 0.8, 0.7, 0.9], [0.9, 1.0])
    ]
    text = markdown(rows)
    assert [row["seeds"] for row in body_of(text)] == ["2", "2", "1"]
    assert body_of(text)[1]["of whole"] == "79 %"
    assert cells_of(text)[1][0] == "All rows: PPC 1, Tiny, 2 splits."
    # Where a split lacks seeds, or a row lacks a split, which is compared with none.
    text = markdown(summarize(pool_splits([*first, *second[:3]])))
    assert [(row["splits"], row["seeds"]) for row in body_of(text)] == [
        *(("2", "2"), ("2", "1 to 2"), ("1", "1")),
    ]
    assert [row["of whole"] for row in body_of(text)] == ["-", "-", "100 %"]
    assert [row["IOR"] for row in body_of(text)] == ["+0.0", "+35.0", "-"]
    alone = markdown(summarize(pool_splits([*first[:1], *second[:1]])))
    assert cells_of(alone)[1][0] == "All rows: PPC 1, Tiny, 2 splits, 1 seed each."
    assert pool_splits([]) == []
    with pytest.raises(ValueError, match="one data set, with the same source, got None and other"):
        pool_splits([*first, *on_split("c", [{**RUNS[0], "source": "other"}])])


def test_table_of_costs():
    text = cost_markdown(summarize(RUNS))
    body = body_of(text)
    assert [*body[0]][-5:] == ["clouds", "bits", "steps", "s/step", "MB/step"]
    assert (body[2]["steps"], body[2]["s/step"], body[2]["MB/step"]) == ("7", "1.00", "2")
    assert (body[0]["bits"], body[0]["steps"], body[0]["s/step"]) == ("90", "-", "-")


def test_table_without_references():
    (row,) = body_of(markdown(summarize([RUNS[3]])))
    assert [row[key] for key in ("accuracy %", "of whole", "HLR", "IOR", "score")] == [
        "60.0",
        *"----",
    ]
    assert markdown([]) == cost_markdown([]) == class_markdown([]) == "No runs.\n"


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"data": {"test": "1"}}, ["of whole", "HLR", "IOR", "score"]),
        ({"network": "another"}, ["of whole", "HLR", "IOR", "score"]),
        ({"num_networks": 3}, ["of whole", "HLR", "IOR", "score"]),
        # How the whole set is trained is told by its own protocol.
        ({"protocol": {"epochs": 7}}, ["IOR", "score"]),
        ({"seed": 5}, []),
    ],
)
def test_only_figures_that_were_made_alike_are_compared(change, missing):
    other = {**RUNS[3], **change}
    row = body_of(markdown(summarize([RUNS[0], other, RUNS[-1]])))[1]
    assert [key for key in ("of whole", "HLR", "IOR", "score") if row[key] == "-"] == missing


def line_under(preset, method, value, observes=False, **changes):
    """A line of a run under a preset, as the harness writes it."""
    made, whole = PRESETS[preset], method == "whole"
    told = {"protocol": None if whole else made.protocol.to_dict()}
    told["whole"] = made.whole.to_dict() if whole or observes else None
    budget = {"budget_bits": None} if whole else {}
    return line_of(method, value, **json.loads(json.dumps(told)), **budget, **changes)


def test_every_row_is_compared_with_the_whole_set_of_its_preset():
    runs = [
        line_under("quick", "whole", 0.8),
        line_under("paper", "whole", 0.9),
        line_under("paper", "random", 0.45),
        line_under("quick", "random", 0.4),
    ]
    body = body_of(markdown(summarize(runs)))
    assert [row["of whole"] for row in body] == ["100 %", "100 %", "50 %", "50 %"]
    # Of no known preset: what nothing tells stays open, and what other rows tell goes for all.
    mine = {"name": "mine", "epochs": 7}
    runs += [{**runs[-1], "protocol": mine, "ppc": 3}]
    (*_, last) = body_of(markdown(summarize(runs)))
    assert [last[key] for key in ("of whole", "HLR", "score")] == ["-", "-", "-"]
    runs += [{**line_under("paper", "herding", 0.6, observes=True), "protocol": mine, "ppc": 3}]
    (*_, last, herding) = body_of(markdown(summarize(runs)))
    assert [row["of whole"] for row in (last, herding)] == ["44 %", "67 %"]
    # A single one needs no telling.
    (_, last) = body_of(markdown(summarize([runs[0], runs[-2]])))
    assert last["of whole"] == "50 %"


def test_rows_with_quotas_stand_above_random_clouds_with_the_same():
    divided = {"quotas": "size"}
    uneven = {**RUNS[0], "method": "random, quotas size", "value": 0.4, **divided}
    ddp = {**RUNS[3], "method": "DDP, quotas size", **divided}
    runs = [RUNS[0], uneven, RUNS[3], ddp]
    body = body_of(markdown(summarize(runs)))
    above = [RUNS[0]["value"], 0.4, RUNS[0]["value"], 0.4]
    assert [row["IOR"] for row in body] == [
        f"{100 * (run['value'] - least):+.1f}" for run, least in zip(runs, above, strict=True)
    ]
    # Where one kind of random clouds is there only, all rows stand above it.
    (_, last) = body_of(markdown(summarize([uneven, RUNS[3]])))
    assert last["IOR"] == f"{100 * (RUNS[3]['value'] - 0.4):+.1f}"


def test_fewer_points_of_the_whole_set_are_not_the_whole_set():
    fewer = line_of("whole, 8 points", 0.95, budget_bits=None, settings={"num_points": 8})
    body = body_of(markdown(summarize([*RUNS, fewer])))
    assert [row["HLR"] for row in body] == ["60.0", "40.0", "20.0", "0.0", "-5.0"]
    alone = body_of(markdown(summarize([RUNS[0], fewer])))
    assert [row["HLR"] for row in alone] == ["-", "-"]


def long_line(method, **kwargs):
    """A line whose figures take the most room that they can take."""
    return line_of(method, 0.101, seed=0, **kwargs), line_of(method, 1.0, seed=1, **kwargs)


def test_tables_fit_a_terminal():
    """All rows of one budget, and those that are known by name under two and two backbones."""
    whole = line_of("whole", 0.99, budget_bits=None)
    one = [run for name in ("random", *CONTROLS) for run in long_line(name)]
    several = [
        run
        for name in ENTRIES
        for ppc in (1, 10)
        for backbone in ("PointNet", "DGCNN")
        for run in long_line(name, ppc=ppc, backbone=backbone)
    ]
    for runs in ([*one, whole], several):
        for table in (markdown(summarize(runs)), cost_markdown(summarize(runs))):
            lines = [line for line in table.splitlines() if line.startswith("|")]
            assert max(map(len, lines)) <= 100


def test_the_strongest_control_is_named_where_it_is_missing():
    def notes(*runs):
        _, untested, *found = cells_of(markdown(summarize(runs)))[1]
        assert untested == "No test clouds of: c."
        return found

    bits = 3 * 98_304  # Those of three clouds of 1,024 points.
    whole = line_of("whole", 0.9, budget_bits=None)
    assert notes(whole) == []
    left_out = "Left out, though the strongest real clouds known at these bits: "
    random = line_of("random", 0.2, budget_bits=bits)
    quarter = line_of("random", 0.2, ppc=0.25, budget_bits=bits // 4)
    assert notes(random, whole) == [f"{left_out}`mirrored 32x5` (PPC 1)."]
    assert notes(random, quarter, whole) == [f"{left_out}`mirrored 32x5` (PPC 1, 0.25)."]
    control = line_of("mirrored 32x5", 0.8, budget_bits=bits)
    assert notes(random, control, whole) == []
    assert notes(random, control, quarter) == [f"{left_out}`mirrored 32x5` (PPC 0.25)."]
    assert notes(random, {**control, "backbone": "Norm"}, whole) != []
    divided = {**control, "method": "mirrored 32x5, quotas size", "quotas": "size"}
    assert notes({**random, "quotas": "size"}, divided, whole) == []
    other = {**control, "method": "mirrored 32x5, lr 2"}
    assert notes(random, other) == [f"{left_out}`mirrored 32x5` (PPC 1)."]
    parts = {**random, "task": "segmentation"}
    assert notes(parts) == [f"{left_out}`random 32x5 in order` (PPC 1)."]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_strongest_control_serves_its_task(task):
    control = strongest_control(task)
    assert control.serves(task)
    assert CONTROLS[control.name] == control


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_metrics(own, random, whole, weight):
    recovery, improvement = (
        hard_label_recovery(own, whole),
        improvement_over_random(own, random),
    )
    score = dd_ranking_score(recovery, improvement, weight)
    assert -1e-9 <= score <= 1 + 1e-9
    better = dd_ranking_score(recovery - 0.1, improvement + 0.1, weight)
    assert better > score
    standing = Standing(own, random, whole)
    assert (standing.recovery, standing.improvement) == (recovery, improvement)
    assert standing.score == dd_ranking_score(recovery, improvement)


def test_metrics_by_hand():
    assert share_of_whole(0.6, 0.8) == pytest.approx(0.75)
    assert math.isnan(share_of_whole(0.6, 0.0))
    assert dd_ranking_score(-1, 1) == pytest.approx(1)
    assert dd_ranking_score(1, -1) == pytest.approx(0)
    # DDP and DM on ModelNet10 as published: 87.7, 25.8 and, of the whole set, 92.18.
    alpha = 0.25 * 0.619 - 0.75 * 0.0448
    expected = (math.exp(alpha) - math.exp(-1)) / (math.exp(1) - math.exp(-1))
    assert dd_ranking_score(0.0448, 0.619, 0.25) == pytest.approx(expected)
    for weight in (-0.1, 1.1):
        with pytest.raises(ValueError, match="'weight' must"):
            dd_ranking_score(0.1, 0.1, weight)
    assert Standing(0.5) == Standing(0.5, None, None)
    assert Standing(0.5, random=0.4).score is None


def test_table_of_classes():
    assert cells_of(class_markdown(summarize(RUNS)))[0] == [
        ["class", "random, PPC 1", "random, PPC 3", "DDP, PPC 1", "whole"],
        ["a", "30.0", "50.0", "70.0", "90.0"],
        ["b", "0.0", "0.0", "0.0", "0.0"],
        ["c", *"----"],
    ]
    two = [line_of("DDP", 0.6), line_of("DDP", 0.5, backbone="Norm")]
    assert class_markdown(summarize(two)).startswith("| class | DDP, Tiny | DDP, Norm |\n")


def test_row():
    rows = summarize(RUNS)
    assert (rows[0].values, rows[0].metric) == ([0.2, 0.4], "accuracy")
    assert rows[0].mean == pytest.approx(0.3)
    assert rows[0].std == pytest.approx(math.sqrt(0.02))
    assert math.isnan(rows[1].std)
    assert rows[2].median("step_seconds") == pytest.approx(1.0)  # As in the documentation.
    assert rows[0].median("step_seconds") is None


def test_picture(tmp_path):
    plot_comparison(summarize(RUNS), tmp_path / "new" / "table.png", "toy")
    assert (tmp_path / "new" / "table.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def kept(monkeypatch):
    """The figures that are saved."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    return figures


def test_bars_of_three_storages_are_readable(tmp_path, kept):
    runs = [
        line_of(name, 0.3 + 0.05 * i + 0.1 * k, ppc=ppc)
        for i, name in enumerate(("random", "DDP", "SADM", "DM"))
        for k, ppc in enumerate((1, 3, 10))
    ]
    plot_comparison(summarize([*runs, RUNS[-1]]), tmp_path / "table.png", "toy")
    (axes,) = kept[0].axes
    assert len(axes.patches) == 12  # None for the whole set,
    lines = {line.get_label(): line.get_ydata()[0] for line in axes.lines}
    assert lines["whole 90.0"] == pytest.approx(90)  # which is a line.
    assert {key: lines[f"random, PPC {key}"] for key in (1, 3, 10)} == {
        1: pytest.approx(30),
        3: pytest.approx(40),
        10: pytest.approx(50),
    }
    canvas = FigureCanvasAgg(kept[0])
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    assert len(boxes) == 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    # Only the whole set: there is nothing else to draw as bars.
    plot_comparison(summarize(RUNS[-1:]), tmp_path / "table.png")
    assert len(kept[1].axes[0].patches) == 1


def test_pictures_tell_rows_of_one_method_apart(tmp_path, kept):
    """Sets of another network, and of other steps, have bars and curves of their own."""
    runs = [line_of("DDP", value) | {"steps": steps} for value, steps in ((0.6, 3), (0.7, 9))]
    runs.append(line_of("DDP", 0.5) | {"steps": 3, "distilled_with": "Other"})
    plot_comparison(summarize(runs), tmp_path / "table.png")
    (axes,) = kept[0].axes
    places = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in axes.patches}
    assert places == {0: pytest.approx(60), 1: pytest.approx(70), 2: pytest.approx(50)}
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names == ["DDP, steps 3", "DDP, steps 9", "DDP from Other"]
    plot_bits(summarize(runs), tmp_path / "bits.png")
    assert [curve.get_label() for curve in kept[1].axes[0].containers] == names
    random = [line_of("random", 0.2) | {"protocol": {"name": name}} for name in ("one", "two")]
    plot_comparison(summarize(random), tmp_path / "table.png")
    dotted = [line.get_label() for line in kept[2].axes[0].lines if line.get_linestyle() == ":"]
    assert dotted == ["random, protocol one", "random, protocol two"]


LONG = "a title, of a preset, a protocol, steps, networks, tested on clouds held out, " * 4


def beyond(figure, texts):
    """Those of the texts that are cut on a side."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [(text, text.get_window_extent(canvas.get_renderer())) for text in texts]
    ends = figure.bbox
    return [
        text
        for text, box in boxes
        if not (ends.x0 <= box.x0 <= box.x1 <= ends.x1 and ends.y0 <= box.y0 <= box.y1 <= ends.y1)
    ]


def pictures(path):
    """What draws every picture of a comparison to a path, with a long title."""
    rows = summarize(RUNS)
    seen = {"classes_seen": [3], "increment_accuracies": [0.5], "budget_bits": 300}
    return {
        "bars": lambda: plot_comparison(rows, path, LONG),
        "bits": lambda: plot_bits(rows, path, LONG),
        "matrix": lambda: plot_transfer(
            transfer_matrix(RUNS, [*map(ENTRIES.get, ("random", "DDP", "whole"))]),
            ["Tiny"],
            path,
            LONG,
        ),
        "sensitivity": lambda: Sensitivity(ENTRIES["DDP"], {"num_anchors": [2]}).plot(
            rows, path, LONG
        ),
        "classes": lambda: plot_increments([{**RUNS[0], **seen}], path, LONG),
    }


@pytest.mark.parametrize("picture", ["bars", "bits", "matrix", "sensitivity", "classes"])
def test_a_picture_is_written_whole_or_not_at_all(picture, tmp_path, monkeypatch):
    path, write = tmp_path / "any.png", Figure.savefig
    draw = pictures(path)[picture]
    draw()
    before = path.read_bytes()

    def full(*args, **kwargs):
        write(*args, **kwargs)
        raise OSError("the disk is full")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="the disk is full"):
        draw()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["any.png"]
    monkeypatch.setattr(Figure, "add_subplot", lambda *args: pytest.fail("it is drawn"))
    monkeypatch.setattr(Figure, "subplots", lambda *args, **kwargs: pytest.fail("it is drawn"))
    for wrong, error in (
        (tmp_path / "any.foo", ValueError),
        (5, TypeError),
        (tmp_path, ValueError),
    ):
        with pytest.raises(error, match="'path' must "):
            pictures(wrong)[picture]()


@pytest.mark.parametrize("picture", ["bars", "bits", "matrix", "sensitivity", "classes", "clouds"])
def test_a_long_title_is_within_its_picture(picture, tmp_path, kept):
    draw = {
        **pictures(tmp_path / "any.png"),
        "clouds": lambda: kept.append(plot_clouds([[torch.rand(5, 3)]], ["a"], ["b"], LONG)),
    }[picture]
    draw()
    (title,) = [text for text in kept[0].texts if "a title" in text.get_text()]
    assert " ".join(title.get_text().split()) == LONG.strip()
    assert not beyond(kept[0], [title])
    (axes, *_) = kept[0].axes
    assert axes.get_window_extent().height > 0.2 * kept[0].dpi  # It leaves room for the rest.


def test_curve_over_bits(tmp_path, kept):
    plot_bits(summarize(RUNS), tmp_path / "bits.png", "toy")
    (axes,) = kept[0].axes
    assert (kept[0].get_suptitle(), axes.get_title()) == ("toy", "Tiny")
    assert axes.get_xscale() == "log"
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["whole"].get_ydata() == pytest.approx([90, 90])
    curves = {c.get_label(): c.lines[0].get_xydata().tolist() for c in axes.containers}
    assert curves["random"] == [[100, pytest.approx(30)], [300, pytest.approx(50)]]
    assert curves["DDP"] == [[100, pytest.approx(70)]]
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert left < 100 < 300 < right  # All points are within the picture.
    assert low < 30 - 100 * math.sqrt(0.02) < 90 < high
    with pytest.raises(ValueError, match="at least one row with a budget"):
        plot_bits(summarize(RUNS[-1:]), tmp_path / "bits.png")


def test_entry_of_ones_own(tmp_path):
    """Anything that makes a set within the budget joins the table."""

    class First(Entry):
        def run(self, lab, cell):
            keep = list(range(0, 18, 6))
            chosen = SyntheticPointCloudDataset(random_coreset(lab.train_set).parameterization)
            with torch.no_grad():
                chosen.parameterization.pos.copy_(lab.bank.dense()[keep])
            return lab.judge(cell, chosen)

    (found,) = run(tmp_path, [First("first")])
    assert found["method"] == "first"
    assert found["bits"] == found["budget_bits"]


BY_A, BY_B = {"distilled_with": "A"}, {"distilled_with": "B"}
MATRIX = [ENTRIES[name] for name in ("random", "SADM", "DDP", "whole")]


def matrix():
    """Two backbones distil, three are trained; some runs are missing."""
    runs = []
    for seed in (0, 1):
        for backbone in ("A", "B", "C"):
            add = {"backbone": backbone, "seed": seed}
            runs.append(line_of("whole", 0.9, budget_bits=None, **add))
            runs.append(
                line_of("DDP", 0.7 + 0.1 * seed, **add, **({} if backbone == "A" else BY_A))
            )
            if (backbone, seed) != ("B", 1):
                runs.append(line_of("DDP", 0.6, **add, **({} if backbone == "B" else BY_B)))
            runs.append(line_of("DDP", 0.5, ppc=3, **add, **({} if backbone == "B" else BY_B)))
            if backbone != "C":
                runs.append(line_of("random", 0.2, **add))
    return transfer_matrix(runs, MATRIX)


def test_matrix_rows():
    rows = matrix()
    assert [str(row) for row in rows] == [
        "random, PPC 1",
        "DDP from A, PPC 1",
        "DDP from B, PPC 1",
        "DDP from B, PPC 3",
        "whole",
    ]
    assert [list(row.cells) for row in rows] == [["A", "B"]] + [["A", "B", "C"]] * 4
    assert rows[1].cells["C"].values == [0.7, 0.7 + 0.1]
    assert len(rows[2].cells["B"].values) == 1
    assert transfer_matrix([], MATRIX) == []


def test_matrix_table():
    found, notes = cells_of(transfer_markdown(matrix(), ["C", "A", "B"]))
    assert found == [
        ["method", "distilled with", "PPC", "C", "A", "B"],
        ["random", "-", "1", "-", "20.0 ± 0.0", "20.0 ± 0.0"],
        ["DDP", "A", "1", "75.0 ± 7.1", "75.0 ± 7.1", "75.0 ± 7.1"],
        ["DDP", "B", "1", "60.0 ± 0.0", "60.0 ± 0.0", "60.0 (1)"],
        ["DDP", "B", "3", "50.0 ± 0.0", "50.0 ± 0.0", "50.0 ± 0.0"],
        ["whole", "-", "-", "90.0 ± 0.0", "90.0 ± 0.0", "90.0 ± 0.0"],
    ]
    assert notes[0] == "Means over 2 seeds, or as many as stand in brackets."
    assert "`mirrored 32x5` (PPC 1, 3)." in notes[1]


def test_names_of_any_letters_leave_a_table_as_it_is():
    names = ["a|b", "椅子", "cafe\u0301", "ｗ"]
    head, rule, *lines = aligned({"class": names, "|": [*"1234"]}).splitlines()
    assert head == r"| class | \| |"
    assert rule == "|-------|----|"
    assert lines == [
        r"| a\|b  | 1  |",
        "| 椅子  | 2  |",
        "| cafe\u0301  | 3  |",
        "| ｗ    | 4  |",
    ]
    assert markdown(summarize([line_of("a|b", 0.5)])).splitlines()[2].startswith(r"| a\|b ")


def test_what_means_are_of_stands_under_a_table():
    one, two = (summarize([line_of("a", 0.5, seed=i) for i in range(num)])[0] for num in (1, 2))
    assert counted([one, None]) == (["50.0", ""], ["Means over 1 seed."])
    assert counted([two, two]) == (["50.0 ± 0.0"] * 2, ["Means over 2 seeds."])
    assert counted([one, two])[0] == ["50.0 (1)", "50.0 ± 0.0"]
    splits = [{**run, "split": i} for i in range(3) for run in two.runs]
    assert counted(summarize(splits))[1] == ["Means over 6 runs of 3 splits."]
    assert counted([]) == ([], [])


def test_heat_map(tmp_path):
    figure = plot_transfer(matrix(), ["C", "A", "B"], tmp_path / "new" / "matrix.png", "toy")
    axes, bar = figure.axes
    rows = [str(row) for row in matrix()]
    assert [text.get_text() for text in axes.get_yticklabels()] == rows
    assert [text.get_text() for text in axes.get_xticklabels()] == ["C", "A", "B"]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(texts) == 3 * 5
    assert texts[0, 0] == ""
    assert texts[1, 0] == "20.0 ± 0.0"
    assert texts[2, 2] == "60.0 (1)"
    values = axes.images[0].get_array()
    assert values.mask.nonzero() == ([0], [0])  # Random clouds were not given to C.
    assert values[1].tolist() == pytest.approx([75.0] * 3)
    # Frames stand where the backbone that distilled is trained: A in the second column.
    frames = [(round(p.get_x() + 0.47), round(p.get_y() + 0.45)) for p in axes.patches]
    assert frames == [(1, 1), (2, 2), (2, 3)]
    assert bar.get_ylabel() == "accuracy %"
    assert axes.get_xlabel() == "backbone that is trained and tested"
    assert axes.get_ylabel() == "set that is trained on"
    (legend,) = figure.legends
    assert legend.get_texts()[0].get_text() == "distilled with the backbone that is trained"
    assert figure.get_suptitle() == "toy"
    assert (tmp_path / "new" / "matrix.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="rows and columns, got 0 and 1"):
        plot_transfer([], ["A"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "'steps' must be at least 0"),
        ({"num_seeds": 0}, "'num_seeds' must be at least 1"),
        ({"num_networks": 0}, "'num_networks' must be at least 1"),
    ],
)
def test_bad_presets(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESET, **change)


@pytest.mark.parametrize("name", ["cpu", "quick"])
def test_presets_by_their_protocols(name):
    """The same words mean the same protocol everywhere."""
    assert PRESETS[name].protocol.name == name
    assert PRESETS[name].protocol.min_steps >= 1000


def test_whole_sets_are_trained_as_long_as_distilled_ones():
    """Also a whole set of few clouds, which would be no upper bound after ten epochs."""
    preset = PRESETS["cpu"]
    assert preset.whole.epochs_for(3991) == 10
    distilled = 200 / preset.protocol.batch_size * preset.protocol.epochs_for(200)
    for num in (100, 900, 3991):
        steps = -(-num // preset.whole.batch_size) * preset.whole.epochs_for(num)
        assert 0.9 * distilled <= steps <= 1.1 * distilled


def test_a_picture_of_no_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'rows' must hold at least one row, got none"):
        plot_comparison([], tmp_path / "table.png")


def test_a_matrix_without_the_row_of_a_run_is_refused():
    with pytest.raises(ValueError, match="'entries' must have the row of every run, DM have not"):
        transfer_matrix(RUNS, [ENTRIES["DM"]])


def test_cells_are_checked_before_the_first_one_is_asked_for(tmp_path):
    lab = Lab(toy_set(), toy_set(seed=1), tmp_path, PRESET, {"Tiny": TinyNet})
    with pytest.raises(ValueError, match="'seed' must be at least 0, got -1"):
        lab.cells([ENTRIES["random"]], [1], [-1])


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ((3, SMOKE, SMOKE, None, 1), "name"),
        (("a", "cpu", SMOKE, None, 1), "protocol"),
        (("a", SMOKE, "cpu", None, 1), "whole"),
        (("a", SMOKE, SMOKE, 1.5, 1), "steps"),
    ],
)
def test_a_preset_of_other_types_is_refused(given, name):
    with pytest.raises(TypeError, match=f"'{name}' must be"):
        Preset(*given)


def test_a_break_in_a_name_does_not_break_a_table():
    assert aligned({"class": ["c\nd", "e"]}) == "| class |\n|-------|\n| c d   |\n| e     |\n"


def test_long_names_of_bars_stand_in_lines(tmp_path, monkeypatch):
    """At blanks alone, so that every setting can be read."""
    figures = []
    monkeypatch.setattr(
        "torch_geometric_ddp.comparison.bars.save_figure",
        lambda figure, *args, **kwargs: figures.append(figure),
    )
    name = "PKR(visits=4, ages=(0, 2, 4), num_trained=1, real_per_class=200)"
    row = summarize(RUNS[:1])[0]
    plot_comparison([replace(row, method=name), row], tmp_path / "table.png")
    (axes,) = figures[0].axes
    lines = axes.get_xticklabels()[0].get_text().split("\n")
    assert len(lines) == 3
    assert " ".join(lines) == name
