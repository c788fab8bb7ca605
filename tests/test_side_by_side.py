"""Runs of several seeds side by side: the same figures, and nothing lost where one fails."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from helpers import TinyNet, environment, lab_of, toy_set

from torch_geometric_ddp import SMOKE
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    ClassIncremental,
    Coreset,
    CrossResolution,
    Distilled,
    Preset,
)
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.programs import command

DDP = Distilled("DDP", {"num_anchors": 2, "num_morphs": 3}, build=ddp)


def lines(out, name="runs.jsonl"):
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def unmeasured(value):
    """Figures without what each process measures of itself."""
    if isinstance(value, dict):
        return {
            key: unmeasured(one)
            for key, one in value.items()
            if not key.endswith("seconds") and key not in ("step_bytes", "pid")
        }
    return [unmeasured(one) for one in value] if isinstance(value, list) else value


class Pid(Coreset):
    """Tells in which process it is made."""

    def run(self, lab, cell):
        return {**super().run(lab, cell), "pid": os.getpid()}


class Huge(Coreset):
    """Needs more memory than there is."""

    def run(self, lab, cell):
        raise MemoryError(f"seed {cell.seed}")


class Broken(Coreset):
    """Fails under one seed in a way that ends a comparison."""

    def run(self, lab, cell):
        if cell.seed == 1:
            raise ZeroDivisionError("of a row")
        return super().run(lab, cell)


def no_process(monkeypatch):
    place = "torch_geometric_ddp.comparison.side_by_side.ProcessPoolExecutor"
    monkeypatch.setattr(place, lambda *args: pytest.fail("a process is started"))


def test_the_figures_are_those_of_one_thread(tmp_path, one_thread, capfd, monkeypatch):
    rows = [Pid("random"), ENTRIES["herding"], DDP, ENTRIES["whole"]]
    own, other = (lab_of(tmp_path / name) for name in ("one", "two"))
    cells = list(own.cells(rows, (1, 2), (5, 0, 2)))
    runs = own.run(cells)
    found = other.run(cells, workers=2)
    assert unmeasured(found) == unmeasured(runs)
    assert other.failures == {}
    assert {run["threads"] for run in runs} == {1}
    # A seed's own, in its order; the network that herding observes is trained once.
    assert len(lines(tmp_path / "two")) == len(runs) == 3 * (2 * 3 + 1)
    pids = {}
    for seed in (0, 2, 5):
        pids[seed] = {run["pid"] for run in found if run["seed"] == seed and "pid" in run}
        assert len(pids[seed]) == 1  # What a process keeps of a seed is there for its next run.
        made = [run["id"] for run in lines(tmp_path / "two") if run["seed"] == seed]
        assert made == [run["id"] for run in lines(tmp_path / "one") if run["seed"] == seed]
        shown = (tmp_path / "two" / "workers" / f"seed-{seed}.txt").read_text()
        assert "Distill" in shown
        assert "herding" in shown
    assert len(set.union(*pids.values())) == 2
    assert os.getpid() not in set.union(*pids.values())
    # What is shown here tells which runs are being made.
    assert "DDP, PPC 2, Tiny, seed 5" in capfd.readouterr().err
    # They are there, and nothing is made again.
    no_process(monkeypatch)
    assert lab_of(tmp_path / "two").run(cells, workers=2) == other.run(cells)
    assert len(lines(tmp_path / "two")) == len(runs)


def test_a_failed_run_leaves_the_others(tmp_path, capfd):
    lab = lab_of(tmp_path)
    cells = list(lab.cells([Huge("huge"), ENTRIES["random"]], (1,), (0, 1)))
    runs = lab.run(cells, workers=2)
    assert [(run["method"], run["seed"]) for run in runs] == [("random", 0), ("random", 1)]
    reasons = {f"huge, PPC 1, Tiny, seed {seed}": f"MemoryError: seed {seed}" for seed in (0, 1)}
    assert lab.failures == json.loads((tmp_path / "failures.json").read_text()) == reasons
    assert "Failed: huge, PPC 1, Tiny, seed 1: MemoryError: seed 1" in capfd.readouterr().err


def test_what_ends_a_comparison_keeps_what_was_made(tmp_path):
    lab = lab_of(tmp_path)
    rows = [ENTRIES["random"], Broken("broken"), replace(ENTRIES["random"], name="after")]
    cells = list(lab.cells(rows, (1,), (0, 1, 2, 3)))
    with pytest.raises(ZeroDivisionError, match="of a row"):
        lab.run(cells, workers=2)
    made = {(run["method"], run["seed"]) for run in lines(tmp_path)}
    assert ("random", 1) in made
    assert ("after", 1) not in made
    # It goes on where it was, as soon as the row is mended.
    mended = [cell for cell in cells if cell.entry.name != "broken"]
    assert len(lab.run(mended, workers=2)) == 2 * 4
    assert len(lines(tmp_path)) == len({run["id"] for run in lines(tmp_path)})


class Dying(Coreset):
    """Dies under one seed, as of want of memory."""

    def run(self, lab, cell):
        if cell.seed == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(lab, cell)


def test_a_process_that_dies_is_told_of(tmp_path):
    lab = lab_of(tmp_path)
    cells = list(lab.cells([ENTRIES["random"], Dying("dying")], (1,), (0, 1)))
    with pytest.raises(
        ChildProcessError, match=r"of 'dying, PPC 1, Tiny, seed 1' died: .*workers'"
    ):
        lab.run(cells, workers=2)
    assert ("random", 1) in {(run["method"], run["seed"]) for run in lines(tmp_path)}


class Sleeping(Coreset):
    """Says in which process it is, and never ends."""

    def run(self, lab, cell):
        (lab.out / f"{os.getpid()}.pid").touch()
        time.sleep(1000)


def assert_ended(processes):
    """Waits for the end of processes, and leaves none behind."""
    _, alive = psutil.wait_procs(processes, 100)
    for process in alive:
        process.kill()
    assert not alive


def test_processes_end_with_the_one_that_is_killed(tmp_path):
    text = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "if __name__ == '__main__':\n"
        "    from helpers import lab_of\n"
        "    from test_side_by_side import Sleeping\n"
        "    lab = lab_of(sys.argv[2])\n"
        "    lab.run(lab.cells([Sleeping('sleeping')], (1,), (0, 1)), workers=2)\n"
    )
    script = tmp_path / "main.py"
    script.write_text(text)
    words = [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        pids = []
        while len(pids) < 2:
            assert process.poll() is None
            time.sleep(0.1)
            pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
        workers = [psutil.Process(pid) for pid in pids]
        process.kill()
    assert_ended(workers)


def test_processes_of_a_search_end_with_the_one_that_is_killed(tmp_path):
    words = "tune --workers 2 --trials 1000 --num-per-class 6 --num-points 32 --preset smoke"
    command = [sys.executable, "-m", "torch_geometric_ddp", *words.split(), "--out", str(tmp_path)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment(), **quiet) as process:
        while not (tmp_path / "study.journal").exists():  # At least one of them is at work.
            assert process.poll() is None
            time.sleep(0.1)
        children = psutil.Process(process.pid).children()
        process.kill()
    assert len(children) == 2
    assert_ended(children)


def test_increments_side_by_side(tmp_path, one_thread, monkeypatch):
    every = []
    for workers in (1, 2):
        sets = (toy_set(num_classes=4, seed=seed) for seed in (0, 1))
        preset = Preset("tiny", SMOKE, SMOKE, 2, 2)
        lab = ClassIncremental(*sets, tmp_path / str(workers), 2, preset, TinyNet, source="toy")
        every.append(unmeasured(lab.run(lab.cells([ENTRIES["random"]], 1, (0, 1)), workers)))
    assert every[0] == every[1]
    no_process(monkeypatch)
    assert unmeasured(lab.run(lab.cells([ENTRIES["random"]], 1, (0, 1)), 2)) == every[1]


@pytest.mark.parametrize(
    ("program", "module"),
    [
        *((name, "lab") for name in ("distill", "segment", "compare", "cross", "sensitivity")),
        ("resolution", "resolution"),
        ("continual", "class_incremental"),
    ],
)
def test_programs_pass_the_number_on(program, module, tmp_path, monkeypatch):
    place = f"torch_geometric_ddp.comparison.{module}.carry_out"
    monkeypatch.setattr("torch_geometric_ddp.memory.keep_freed_memory", lambda: None)

    class AskedError(Exception):
        pass

    def asked(cells, make, failures, folder, name, workers=1):
        raise AskedError(workers)

    monkeypatch.setattr(place, asked)
    words = ["--num-per-class", "2", "--num-points", "32", "--preset", "smoke", "--seeds", "0", "1"]
    with pytest.raises(AskedError, match="3"):
        command.main([program, *words, "--workers", "3", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("more", "alone", "message"),
    [
        (["--tensorboard", "board"], True, "--tensorboard must go with '--workers 1', got 2"),
        ([], False, "--workers must be 1 for 2 ranks, got 2"),
    ],
)
def test_what_cannot_be_side_by_side_is_refused(more, alone, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch_geometric_ddp.memory.keep_freed_memory", lambda: None)
    if not alone:
        several(monkeypatch, "torch_geometric_ddp.methods.ranks.Ranks.here")
    with pytest.raises(SystemExit, match=message):
        command.main(["distill", *more, "--workers", "2", "--num-per-class", "2"])
    assert not list(tmp_path.iterdir())


def several(monkeypatch, place):
    monkeypatch.setattr(place, lambda: Ranks(0, 2))


def test_ranks_are_not_run_side_by_side(tmp_path, monkeypatch):
    lab = lab_of(tmp_path)
    several(monkeypatch, "torch_geometric_ddp.comparison.runs.Ranks.here")
    with pytest.raises(
        ValueError, match="'workers' must be 1 where there are several ranks, got 2"
    ):
        lab.run(lab.cells([ENTRIES["random"]], (1,), (0, 1)), workers=2)


def test_resolutions_side_by_side(tmp_path, one_thread, monkeypatch):
    rows = [ENTRIES["random"], CONTROLS["random 32x6"]]
    every = []
    for workers in (1, 2):
        lab = lab_of(tmp_path / str(workers), num_points=64)
        matrix = CrossResolution(lab, (16, 64), (8, 64))
        runs = matrix.run(list(lab.cells(rows, (1,), (0, 1))), workers)
        every.append(unmeasured(runs))
        assert lab.failures == {}
    assert every[0] == every[1]
    assert [run["method"] for run in every[0]] == ["random", "random", "random 32x6"] * 2
    no_process(monkeypatch)
    assert unmeasured(matrix.run(list(lab.cells(rows, (1,), (0, 1))), 2)) == every[1]


@pytest.mark.parametrize(
    ("workers", "error", "message"),
    [
        (0, ValueError, "'workers' must be at least 1, got 0"),
        ("2", TypeError, "'workers' must be an integer"),
    ],
)
def test_refused(tmp_path, workers, error, message):
    lab = lab_of(tmp_path)
    with pytest.raises(error, match=message):
        lab.run(lab.cells([ENTRIES["random"]], (1,), (0,)), workers)
    assert not (tmp_path / "runs.jsonl").exists()


def test_what_no_other_process_finds_is_refused(tmp_path):
    lab = lab_of(tmp_path)
    row = Distilled("DDP", {}, build=lambda: ddp(num_anchors=2))
    (tmp_path / "failures.json").write_text("{}")
    with pytest.raises(ValueError, match="must be functions or classes of a module"):
        lab.run(lab.cells([row], (1,), (0, 1)), workers=2)
    assert [path.name for path in tmp_path.iterdir()] == ["failures.json"]  # As it was.
