"""The examples and benchmarks as a user starts them: as programs, with small settings."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import toy_arrays

from torch_geometric_ddp import PointCloudArrays, SyntheticPointCloudDataset

ROOT = Path(__file__).resolve().parent.parent
ROWS = ["random clouds", "initial set", "distilled", "whole set"]
SMALL = ["--num-morphs", "2", "--protocol", "smoke", "--eval-seeds", "2", "--steps", "2"]
SHAPES = [*SMALL, "--num-per-class", "8", "--num-points", "64"]


def start(*args, program="distill.py", folder="examples"):
    # Warnings do not stop the program, but those of its own would be seen by its users.
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(ROOT / folder / program), *map(str, args)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=400,
    )


def read(out):
    return json.loads((out / "results.json").read_text())


def table(stdout):
    """The rows of the printed table, by their first column."""
    rows = [line.strip("| \n").split("|") for line in stdout.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows[1:]}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("example") / "shapes"


@pytest.fixture(scope="module")
def first(out):
    """The program on the embedded data."""
    done = start(*SHAPES, "--out", out)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The program on a file of the user's own, without the whole set."""
    folder = tmp_path_factory.mktemp("own")
    train, test = toy_arrays(), toy_arrays(seed=1)
    np.savez(
        folder / "mine.npz",
        train_points=train[0],
        train_labels=train[1],
        test_points=test[0],
        test_labels=test[1],
        class_names=np.array(["a", "b", "c"]),
    )
    done = start(*SMALL, "--skip-whole", "--data", folder / "mine.npz", "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    return folder / "out", done


def test_table(first, out):
    rows, results = table(first.stdout), read(out)["results"]
    assert list(rows) == list(results) == ROWS
    for name, (clouds, points, bits, accuracy) in rows.items():
        result = results[name]
        assert int(clouds.replace(",", "")) == result["num_clouds"]
        assert int(points.replace(",", "")) == result["num_points"]
        assert int(bits.replace(",", "")) == result["bits"]
        shown = f"{100 * result['mean']:.1f} ± {100 * result['std']:.1f} % ("
        assert accuracy.startswith(shown)
        assert "smoke" in accuracy


def test_sizes(first, out):
    results = read(out)["results"]
    assert [results[name]["num_clouds"] for name in ROWS] == [10, 60, 60, 80]
    budget = 96 * 64 * 10
    assert results["random clouds"]["bits"] == budget
    assert results["initial set"]["bits"] == results["distilled"]["bits"] <= budget
    assert results["whole set"]["bits"] == 8 * budget


def test_files(first, out):
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.safetensors",
        "distilled.png",
        "distilled.safetensors",
        "results.json",
    ]
    assert (out / "distilled.png").read_bytes().startswith(b"\x89PNG")
    for path in out.iterdir():
        assert path.name in first.stdout


def test_distilled_set(first, out):
    synthetic = SyntheticPointCloudDataset(out / "distilled.safetensors")
    assert len(synthetic) == 60
    assert synthetic.class_names[:2] == ["airplane", "bed"]
    assert synthetic.provenance == read(out)["provenance"]
    assert synthetic.provenance["steps"] == 2
    assert synthetic.provenance["source"] == "shapes"


def test_results(first, out):
    found = read(out)
    assert 0 < found["distill_seconds"] < found["seconds"]
    for result in found["results"].values():
        assert len(result["accuracy"]) == 2
        assert result["seeds"] == [0, 1]
        assert np.sum(result["confusion"]) == 2 * 40  # Four test clouds of each of ten classes.
        assert result["protocol"]["epochs"] <= 2


def test_second_start_takes_no_new_steps(first, out):
    checkpoint = (out / "checkpoint.safetensors").read_bytes()
    before = read(out)
    done = start(*SHAPES, "--skip-whole", "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "checkpoint.safetensors").read_bytes() == checkpoint
    after = read(out)
    assert list(after["results"]) == ROWS[:3]
    for name, result in after["results"].items():
        assert result == before["results"][name]
    assert after["provenance"] == before["provenance"]


def test_own_file(own):
    out, done = own
    results = read(out)["results"]
    assert list(table(done.stdout)) == list(results) == ROWS[:3]
    assert results["distilled"]["class_names"] == ["a", "b", "c"]
    assert read(out)["provenance"]["source"] == "mine"
    synthetic = SyntheticPointCloudDataset(out / "distilled.safetensors")
    assert len(synthetic) == 3 * 6
    assert PointCloudArrays.from_npz(out.parent / "mine.npz").class_names == synthetic.class_names


def test_other_settings_in_the_same_folder(own):
    out, _ = own
    settings = [*SMALL, "--skip-whole", "--seed", "1"]
    done = start(*settings, "--data", out.parent / "mine.npz", "--out", out)
    assert done.returncode != 0
    assert "is of another run: it differs in seed" in done.stderr


def test_missing_file(tmp_path):
    done = start("--data", tmp_path / "none.npz", "--out", tmp_path / "out")
    assert done.returncode != 0
    assert f"'path' must be an existing .npz file, got '{tmp_path / 'none.npz'}'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_unknown_option():
    done = start("--number-of-steps", "3")
    assert done.returncode == 2
    assert "unrecognized arguments: --number-of-steps 3" in done.stderr


# compare.py #######################################################################################


def compare(out, *args):
    small = ["--num-per-class", "6", "--num-points", "48", "--steps", "1"]
    return start(*small, *args, "--out", out, program="compare.py")


def test_compare(tmp_path):
    done = compare(tmp_path, "--methods", "random", "SADM", "whole", "--seeds", "0", "1")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows) == ["random", "SADM", "whole"]
    assert all("±" in row[2] for row in rows.values())
    assert rows["SADM"][8] == "1"
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert "| SADM | 1 |" in (tmp_path / "table.md").read_text()
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [run["method"] for run in runs] == ["random", "SADM", "whole"] * 2

    again = compare(tmp_path, "--methods", "random", "SADM", "whole", "--seeds", "0", "1")
    assert again.returncode == 0, again.stderr
    assert table(again.stdout) == rows
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 6


def test_compare_learning_rates_on_a_validation_split(tmp_path):
    args = ["--methods", "random", "DM", "--lr", "0.1", "10", "--validate", "0.34", "--seeds", "0"]
    done = compare(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    assert list(table(done.stdout)) == ["random", "DM, lr 0.1", "DM, lr 10"]
    assert "held out from the training set" in done.stdout
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    # Two of six clouds of every class are held out.
    assert runs[1]["provenance"]["num_real_clouds"] == 40
    assert [run["settings"].get("lr") for run in runs] == [None, 0.1, 10.0]
    assert compare(tmp_path, "--validate", "1.5").returncode != 0


# cross_architecture.py ############################################################################


def test_cross_architecture(tmp_path):
    """A matrix of two backbones, which takes over what compare.py has made."""
    data = ["--num-per-class", "4", "--num-points", "32", "--steps", "1", "--seeds", "0"]
    first = start(*data, "--methods", "DDP", "--out", tmp_path, program="compare.py")
    assert first.returncode == 0, first.stderr
    sets = [path.name for path in (tmp_path / "sets").iterdir()]
    two = ["--backbones", "PointNet2MSG", "PointNet", "--whole-points", "16", "--whole-epochs", "3"]
    done = start(*data, *two, "--out", tmp_path, program="cross_architecture.py")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows) == ["random", "SADM", "DDP", "whole, 16 points"]
    assert [row[:2] for row in rows.values()] == [
        ["-", "1"],
        ["PointNet", "1"],
        ["PointNet", "1"],
        ["-", "-"],
    ]
    assert all(0 <= float(value) <= 100 for row in rows.values() for value in row[2:])
    assert "| method | distilled with | PPC | PointNet2MSG | PointNet |" in done.stdout
    assert "| DDP | PointNet | 1 |" in (tmp_path / "matrix.md").read_text()
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert len(runs) == 8
    assert "preset smoke, 1 steps, whole set 3 epochs" in done.stdout
    whole = [run for run in runs if run["method"] == "whole, 16 points"]
    assert [run["epochs"] for run in whole] == [3, 3]
    ddp = [run for run in runs if run["method"] == "DDP"]
    assert [run["backbone"] for run in ddp] == ["PointNet", "PointNet2MSG"]
    assert [run["set"] for run in ddp] == [f"sets/{sets[0]}"] * 2


def test_cross_architecture_with_few_centres(tmp_path):
    args = ["--num-per-class", "2", "--num-points", "32", "--seeds", "0", "--methods", "SADM"]
    args += ["--backbones", "PointNet", "PointMamba", "--mamba-centers", "2"]
    args += ["--distill-with", "PointMamba", "--steps", "1"]
    done = start(*args, "--out", tmp_path, program="cross_architecture.py")
    assert done.returncode == 0, done.stderr
    assert "| method | distilled with | PPC | PointNet | PointMamba, 2 centres |" in done.stdout
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert [run["backbone"] for run in runs] == ["PointMamba, 2 centres", "PointNet"]
    assert "| SADM | PointMamba, 2 centres | 1 |" in done.stdout


@pytest.mark.parametrize(
    ("arg", "value", "message"),
    [
        ("--whole-points", "64", "--whole-points must lie in 1..32, got 64"),
        ("--mamba-centers", "0", "--mamba-centers must be at least 1, got 0"),
    ],
)
def test_cross_architecture_refuses(arg, value, message, tmp_path):
    args = ["--num-per-class", "2", "--num-points", "32", arg, value]
    done = start(*args, "--out", tmp_path, program="cross_architecture.py")
    assert done.returncode != 0
    assert message in done.stderr


# tune.py ##########################################################################################


def tune(out, *args):
    small = ["--num-per-class", "6", "--num-points", "48", "--steps", "1", "--epochs", "1"]
    small += ["--validate", "0.34", "--num-morphs", "0", "4", "--protocol", "smoke"]
    small += ["--min-steps", "3"]
    return start(*small, *args, "--out", out, program="tune.py")


def test_tune(tmp_path):
    """Two processes, a front, and a command line that makes the same set again."""
    args = ["--trials", "5", "--objectives", "accuracy,bits", "--workers", "2"]
    done = tune(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["trials"] == 5
    assert found["failed"] == {}
    rows = table(done.stdout[done.stdout.index("| settings") :])
    assert list(rows) == ["best found", "published"]
    letters = ("num_anchors", "anchor_points", "num_morphs")
    assert rows["best found"][:3] == [str(found["best"][name]) for name in letters]
    assert found["published"]["num_anchors"] == 4
    for result in found["test"].values():
        assert result["seeds"] == [0, 1]
        assert np.sum(result["confusion"]) == 2 * 30  # All three test clouds of every class.
        assert result["protocol"]["name"] == "smoke, 1 epochs, at least 3 steps"
    pictures = {"distilled.png", "history.png", "importances.png", "parallel.png", "pareto.png"}
    names = {path.name for path in tmp_path.iterdir()}
    assert pictures | {"distilled.safetensors", "results.json", "study.journal"} <= names

    again = start(*shlex.split(found["command"])[2:], "--skip-whole")
    assert again.returncode == 0, again.stderr
    ours, theirs = (
        SyntheticPointCloudDataset(tmp_path / name / "distilled.safetensors")
        for name in (".", "distill")
    )
    assert all(np.allclose(a.pos, b.pos) for a, b in zip(ours, theirs, strict=True))


def test_tune_without_room(tmp_path):
    done = tune(tmp_path, "--num-anchors", "60", "70")
    assert done.returncode != 0
    assert "nothing in the search space fits the storage of ppc=1" in done.stderr
    assert not (tmp_path / "study.journal").exists()


# train_on_synthetic.py ############################################################################


def test_train_on_synthetic(first, out):
    """An ordinary PyG program learns from the distilled set of the first example."""
    file = out / "distilled.safetensors"
    done = start(file, "--epochs", "12", program="train_on_synthetic.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Epoch  10", "Epoch  12"]
    assert 0 <= float(lines[-1].split()[-2]) <= 100


def test_train_on_synthetic_wants_the_same_classes(own):
    file = own[0] / "distilled.safetensors"
    done = start(file, program="train_on_synthetic.py")
    assert done.returncode == 1
    assert "Put a test set with the classes" in done.stderr


# segment.py #######################################################################################


def segment(out, *args):
    small = ["--num-points", "32", "--width", "0.1", "--num-morphs", "2", "--steps", "2"]
    small += ["--protocol", "smoke", "--min-steps", "0"]
    return start(*small, *args, "--out", out, program="segment.py")


def test_segment(tmp_path):
    done = segment(tmp_path, "--num-per-class", "4")
    assert done.returncode == 0, done.stderr
    found = read(tmp_path)
    sets, categories = done.stdout.split("| category")
    rows = table(sets)
    assert list(rows) == list(found["results"]) == ROWS
    for name, (clouds, points, bits, scores) in rows.items():
        result = found["results"][name]
        assert int(clouds.replace(",", "")) == result["num_clouds"]
        assert int(points.replace(",", "")) == result["num_points"]
        assert int(bits.replace(",", "")) == result["bits"]
        assert scores.startswith(f"{100 * np.mean(result['instance']):.1f} ± ")
        assert f"{100 * np.mean(result['category']):.1f} ± " in scores
        assert result["seeds"] == [0, 1]
    shown = table(f"| category{categories}")
    assert list(shown) == found["results"]["distilled"]["class_names"]
    assert len(shown) == 10
    expected = 100 * np.mean(found["results"]["distilled"]["per_category"], axis=0)
    np.testing.assert_allclose([float(row[2]) for row in shown.values()], expected, atol=0.051)
    assert (tmp_path / "distilled.png").read_bytes().startswith(b"\x89PNG")

    synthetic = SyntheticPointCloudDataset(tmp_path / "distilled.safetensors")
    assert synthetic.provenance == found["provenance"]
    assert len(synthetic) == 60
    assert synthetic[0].y.shape == (len(synthetic[0].pos),)
    # Points and, for each of 38 parts, the length of a run: the same for all within the budget.
    budget = 10 * 96 * 32 + 32 * 38
    bits = [found["results"][name]["bits"] for name in ROWS]
    assert bits[0] == budget
    assert bits[1] == bits[2] <= budget
    assert bits[3] == 4 * budget


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A file of labelled clouds of two categories."""
    rng = np.random.default_rng(0)
    labels = np.arange(2).repeat(8)
    points = rng.standard_normal((16, 48, 3)).astype(np.float32)
    part_labels = (points[..., 2] > 0).astype(np.int64) + 2 * labels[:, None]
    path = tmp_path_factory.mktemp("parts") / "parts.npz"
    np.savez(
        path,
        points=points,
        part_labels=part_labels,
        labels=labels,
        split=np.array(["train", "train", "train", "train", "train", "train", "test", "test"] * 2),
        class_names=np.array(["ball", "cube"]),
        part_names=np.array(["ball/low", "ball/high", "cube/low", "cube/high"]),
        category_parts=np.array([[True, True, False, False], [False, False, True, True]]),
    )
    return path


def test_segment_own_file_turned_at_random(parts, tmp_path):
    args = ["--data", parts, "--rotate", "--resplit", "3", "--skip-whole", "--ungrouped"]
    done = segment(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    found = read(tmp_path)
    assert list(found["results"]) == ROWS[:3]
    assert found["resplit"] == 3
    result = found["results"]["distilled"]
    assert result["class_names"] == ["ball", "cube"]
    assert result["protocol"]["augment"] == {"axis": None}
    assert found["provenance"]["method"] == "DDP, ungrouped"
    assert found["provenance"]["grouped"] is False
    assert found["provenance"]["num_points"] == 32


def test_segment_on_a_validation_split(parts, tmp_path):
    args = ["--data", parts, "--categories", "ball", "--validate", "0.34", "--skip-whole"]
    done = segment(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    # Two of six clouds are held out.
    assert read(tmp_path)["provenance"]["num_real_clouds"] == 4
    assert read(tmp_path)["results"]["distilled"]["class_names"] == ["ball"]


def test_every_backbone_agrees_with_another_way_to_compute_it():
    args = ["--clouds", "2", "--points", "100", "--repeats", "1", "--train"]
    done = start(*args, program="backbone_time.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert {name: row[2] for name, row in rows.items()} == {
        "PointNet": "dense",
        "PointNet2SSG": "PyG",
        "PointNet2MSG": "PyG",
        "DGCNN": "PyG",
        "PointConv": "dense",
        "PointTransformer": "PyG",
        "PointMamba": "dense",
    }
    # DGCNN may decide otherwise between two neighbours that are equally near.
    assert all(float(row[-1]) < (1e-2 if name == "DGCNN" else 1e-5) for name, row in rows.items())


def test_step_time():
    args = ["--num-anchors", "1", "--num-morphs", "2", "--clouds", "60", "--repeats", "1"]
    done = start(*args, program="step_time.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows) == ["ours", "bare network", "plain loops"]
    assert rows["ours"][-1] == "1.00"


def test_summarize(first, out):
    done = start(out, out, program="summarize.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    rows, runs = table(done.stdout), read(out)["results"]
    assert list(rows) == list(runs)  # Those of whoever used the folder last.
    for name, row in rows.items():
        each = [f"{100 * x:.1f}" for x in 2 * runs[name]["accuracy"]]
        assert row[-1] == ", ".join(each)
