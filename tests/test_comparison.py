"""The harness: every method once, under the same conditions, and never twice."""

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import TinyNet, toy_set

from torch_geometric_ddp import SMOKE, StorageBudget, SyntheticPointCloudDataset, evaluate
from torch_geometric_ddp.comparison import (
    ENTRIES,
    Coreset,
    Distilled,
    Entry,
    Lab,
    Preset,
    Whole,
    markdown,
    plot_comparison,
    summarize,
)
from torch_geometric_ddp.coreset import herding_coreset, observe, random_coreset
from torch_geometric_ddp.methods import ddp

WHOLE = replace(SMOKE, name="whole", epochs=3)
PRESET = Preset("tiny", SMOKE, WHOLE, 2, 2)
SMALL = {"num_anchors": 2, "num_morphs": 3}
DDP = Distilled("DDP", SMALL, build=ddp)


def lab_of(out, preset=PRESET, **kwargs):
    backbones = {"Tiny": TinyNet}
    return Lab(toy_set(), toy_set(seed=1), out, preset, backbones, source="toy", **kwargs)


def run(out, entries, ppcs=(1,), seeds=(0,), **kwargs):
    lab = lab_of(out, **kwargs)
    return lab.run(lab.cells(entries, ppcs, seeds))


def lines(out):
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """All entries that there are, with anchors that fit the small clouds."""
    out = tmp_path_factory.mktemp("every")
    entries = [
        replace(e, settings={**SMALL, **e.settings}) if getattr(e, "build", None) is ddp else e
        for e in ENTRIES.values()
    ]
    return out, run(out, entries, (1, 3), (0, 1))


def test_every_entry(every):
    out, runs = every
    assert len(runs) == 2 * (2 * (len(ENTRIES) - 1) + 1)  # The whole set has no budget.
    assert {run["id"]: run for run in lines(out)} == {run["id"]: run for run in runs}
    assert {run["method"] for run in runs} == set(ENTRIES)
    for run in runs:
        assert 0 <= run["accuracy"] <= 1
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
        optimised = run["method"] in ("DM", "DC", "PCC", "SADM", "DDP") or "DDP-" in run["method"]
        steps = 2 if optimised and run["method"] != "DDP-initial" else 0
        assert run["steps"] == steps
        assert (run.get("step_seconds") or 0) >= 0
        assert ((run.get("step_seconds") or 0) > 0) == (steps > 0)


def test_a_run_is_what_its_parts_give(every, tmp_path):
    """The same accuracy, made by hand."""
    _, runs = every
    found = {(r["method"], r["ppc"], r["seed"]): r["accuracy"] for r in runs}
    real, test = toy_set(), toy_set(seed=1)

    def by_hand(train_set, protocol=SMOKE):
        result = evaluate(train_set, test, TinyNet, protocol, [1], progress=False)
        return float(result.accuracy)

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
    run(tmp_path, [replace(DDP, settings={**SMALL, "lr": 1.0})])
    run(tmp_path, entries[:1], ppcs=(1, 2))
    assert made == ["random", "DDP", "DDP", "random"]
    assert lines(tmp_path)[: len(first)] == first


def test_a_changed_default_is_another_run(tmp_path):
    def build(lr=0.5):
        return ddp(lr=lr, **SMALL)

    def other(lr=1.0):
        return ddp(lr=lr, **SMALL)

    for make, count in ((build, 1), (build, 1), (other, 2)):
        run(tmp_path, [Distilled("DDP", build=make)])
        assert len(lines(tmp_path)) == count
    assert [line["settings"] for line in lines(tmp_path)] == [{"lr": 0.5}, {"lr": 1.0}]


def test_torn_last_line(tmp_path):
    first = run(tmp_path, [ENTRIES["random"]], seeds=(0, 1))
    text = (tmp_path / "runs.jsonl").read_text()
    (tmp_path / "runs.jsonl").write_text(text[:-30])
    again = run(tmp_path, [ENTRIES["random"]], seeds=(0, 1))
    assert [r["accuracy"] for r in again] == [r["accuracy"] for r in first]


def test_killed_run_goes_on(tmp_path, monkeypatch):
    preset = replace(PRESET, steps=60)
    whole = run(tmp_path / "whole", [DDP], preset=preset)
    lab = lab_of(tmp_path / "killed", preset)
    loops = []

    class Interruption(Exception):  # noqa: N818
        pass

    begin = type(ddp()).begin

    def fragile(self, *args):
        loop = begin(self, *args)
        step = loop.step

        def failing():
            if loop.num_steps == 55 and len(loops) == 1:
                raise Interruption
            return step()

        loop.step = failing
        loops.append(loop)
        return loop

    monkeypatch.setattr(type(ddp()), "begin", fragile)
    cells = list(lab.cells([DDP], (1,), (0,)))
    with pytest.raises(Interruption):
        lab.run(cells)
    assert lab.checkpoint(cells[0]).exists()
    (found,) = lab.run(cells)
    assert loops[-1].losses == loops[-1].losses[:60]
    assert len(loops) == 2
    assert found["loss"] == whole[0]["loss"]
    assert found["accuracy"] == whole[0]["accuracy"]
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


def test_a_set_beyond_the_budget_is_refused(tmp_path):
    class Greedy(Coreset):
        def run(self, lab, cell):
            return lab.judge(cell, random_coreset(lab.train_set, cell.ppc + 1))

    with pytest.raises(ValueError, match="more than the budget of 9216 bits"):
        run(tmp_path, [Greedy("greedy")])
    assert not (tmp_path / "runs.jsonl").exists()


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
    assert entry.settings["lr"] == 0.5
    assert DDP.settings == SMALL


# Table and picture ################################################################################


def made(method, accuracy, ppc=1, seed=0, **kwargs):
    return {
        "method": method,
        "backbone": "Tiny",
        "ppc": ppc,
        "seed": seed,
        "accuracy": accuracy,
        "budget_bits": 100,
        "bits": 90,
        "num_clouds": 3,
        "steps": 0,
        **kwargs,
    }


RUNS = [
    made("random", 0.2),
    made("random", 0.4, seed=1),
    made("random", 0.5, ppc=3),
    made("DDP", 0.6, steps=7, step_seconds=0.5, step_bytes=2_000_000),
    made("DDP", 0.8, seed=1, steps=7, step_seconds=1.5, step_bytes=2_000_000),
    made("whole", 0.9, budget_bits=None),
]


def test_table():
    rows = [line.strip("| ").split(" | ") for line in markdown(summarize(RUNS)).splitlines()]
    head, body = rows[0], [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    assert head[:4] == ["method", "PPC", "backbone", "accuracy %"]
    assert [row["method"] for row in body] == ["random", "random", "DDP", "whole"]
    assert [row["PPC"] for row in body] == ["1", "3", "1", "-"]
    assert [row["accuracy %"] for row in body] == ["30.0 ± 14.1", "50.0", "70.0 ± 14.1", "90.0"]
    assert [row["above random"] for row in body] == ["+0.0", "+0.0", "+40.0", "-"]
    assert [row["below whole"] for row in body] == ["60.0", "40.0", "20.0", "0.0"]
    assert body[2]["steps"] == "7"
    assert body[2]["MB/step"] == "2"
    assert body[0]["s/step"] == "-"


def test_table_without_references():
    text = markdown(summarize([RUNS[3]]))
    assert "| DDP | 1 | Tiny | 60.0 | 1 | - | - |" in text


def test_row():
    rows = summarize(RUNS)
    assert rows[0].mean == pytest.approx(0.3)
    assert rows[0].std == pytest.approx(math.sqrt(0.02))
    assert math.isnan(rows[1].std)
    assert rows[2].median("step_seconds") == pytest.approx(0.5)
    assert rows[0].median("step_seconds") is None


def test_picture(tmp_path):
    plot_comparison(summarize(RUNS), tmp_path / "new" / "table.png", "toy")
    assert (tmp_path / "new" / "table.png").read_bytes().startswith(b"\x89PNG")


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
