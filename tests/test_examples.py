"""The examples and benchmarks as a user starts them: as programs, with small settings."""

import ast
import json
import re
import runpy
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, environment, parts_file, toy_arrays, toy_set

from torch_geometric_ddp import (
    ParametricShapes,
    PointCloudArrays,
    SyntheticPointCloudDataset,
)
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.comparison import ENTRIES
from torch_geometric_ddp.methods import METHODS, ddp
from torch_geometric_ddp.parameterization import FullResolution
from torch_geometric_ddp.programs.command import parser_of
from torch_geometric_ddp.programs.distill import rows_of
from torch_geometric_ddp.programs.rows import method_settings

ROWS = ["random", "initial", "DDP", "whole"]
SMALL = ["--num-morphs", "2", "--preset", "smoke", "--steps", "2"]
SHAPES = [*SMALL, "--num-per-class", "8", "--num-points", "64"]


def start(*args, program="distill.py", folder="examples"):
    # Warnings do not stop the program, but those of its own would be seen by its users.
    return subprocess.run(
        [sys.executable, str(ROOT / folder / program), *map(str, args)],
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=400,
    )


@pytest.fixture
def refused(monkeypatch, capsys):
    """Starts a program within this process, which ends with one line that says what is wrong."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.setattr("torch_geometric_ddp.memory.keep_freed_memory", lambda: None)

    def start(message, *args, program="distill.py"):
        monkeypatch.setattr(sys, "argv", [program, *map(str, args)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(ROOT / "examples" / program), run_name="__main__")
        printed = capsys.readouterr()
        assert printed.out == ""
        # The parser prints its line itself, after how it is used, and exits with 2.
        line = printed.err.splitlines()[-1] if caught.value.code == 2 else caught.value.code
        assert message in line
        assert "\n" not in line

    return start


def read(out):
    """The runs of a folder, by their rows and in the order of their seeds."""
    runs = {}
    for line in (out / "runs.jsonl").read_text().splitlines():
        run = json.loads(line)
        runs.setdefault(run["method"], []).append(run)
    return runs


def tables(stdout):
    """The printed tables, each by its first column."""
    found, before = [], ""
    for line in stdout.splitlines():
        if line.startswith("|---"):
            found.append({})
            head = cells_of(before)
        elif line.startswith("| ") and before.startswith("|"):
            found[-1][cells_of(line)[0]] = dict(zip(head, cells_of(line), strict=True))
        before = line
    return found


def values(row):
    """The cells of a row of :func:`tables` behind the first."""
    return [*row.values()][1:]


def cells_of(line):
    return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]


def table(stdout):
    """The first printed table, by its first column."""
    return tables(stdout)[0]


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


def spread(values):
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"


def check_tables(stdout, out, rows):
    """Holds what a program prints against the runs that it keeps."""
    shown, paired, costs, classes = tables(stdout)
    found = read(out)
    assert list(shown) == list(costs) == list(found) == rows
    for name, cells in shown.items():
        runs = found[name]
        assert [run["seed"] for run in runs] == [0, 1]
        metric, class_metric = (runs[0][key] for key in ("metric", "class_metric"))
        assert cells[f"{metric} %"] == spread([run["value"] for run in runs])
        assert cells[f"{class_metric} %"] == spread([run["class_mean"] for run in runs])
        clouds, bits = (int(costs[name][key].replace(",", "")) for key in ("clouds", "bits"))
        assert (clouds, bits) == (runs[0]["num_clouds"], runs[0]["bits"])
    name = rows[2]  # The distilled set.
    values = {row: [run["value"] for run in found[row]] for row in rows}
    strongest = max(rows[:2], key=lambda row: np.mean(values[row]))
    leads = 100 * (np.array(values[name]) - np.array(values[strongest]))
    assert list(paired) == [name]
    assert paired[name]["strongest not distilled"] == strongest
    assert paired[name]["above it"] == f"{leads.mean():+z.1f} ± {leads.std(ddof=1):.1f}"
    assert paired[name]["seeds above"] == f"{sum(leads > 0)} of 2"
    assert list(classes) == found[name][0]["class_names"]
    expected = 100 * np.mean([run["per_class"] for run in found[name]], axis=0)
    ours = [float(row[name]) for row in classes.values()]
    np.testing.assert_allclose(ours, expected, atol=0.051)
    title, *written, made_of = (out / "table.md").read_text().splitlines()
    assert f"\n{title}\n" in stdout
    assert set(written) <= {*stdout.splitlines(), ""}
    identities = {run["id"] for runs in found.values() for run in runs}
    assert set(made_of.split()[2:-1]) == identities
    return found


def test_table(first, out):
    found = check_tables(first.stdout, out, ROWS)
    data = "shapes, 64 points, 8 clouds per class"
    assert f"\n{data}, preset smoke, 2 steps (its figures mean nothing)\n" in first.stdout
    assert {run["metric"] for runs in found.values() for run in runs} == {"accuracy"}
    assert "All rows: PPC 1, PointNet, 2 seeds." in first.stdout
    assert "Left out, though the strongest real clouds known at these bits: `" in first.stdout
    (line,) = (line for line in first.stdout.splitlines() if "score" in line)
    heads = ["of whole", "HLR", "IOR", "score"]
    assert cells_of(line) == ["method", "accuracy %", "class accuracy %", *heads]


def test_sizes(first, out):
    runs = {name: runs[0] for name, runs in read(out).items()}
    assert [runs[name]["num_clouds"] for name in ROWS] == [10, 60, 60, 80]
    budget = 96 * 64 * 10
    assert runs["random"]["bits"] == budget
    assert runs["initial"]["bits"] == runs["DDP"]["bits"] <= budget
    assert runs["whole"]["bits"] == 8 * budget
    assert [runs[name]["steps"] for name in ROWS] == [0, 0, 2, 0]


def test_files(first, out):
    assert {path.name for path in out.iterdir()} >= {
        "distilled.png",
        "distilled.safetensors",
        "runs.jsonl",
        "sets",
        "table.md",
        "table.png",
    }
    assert len(list((out / "sets").iterdir())) == 3 * 2
    for name in ("distilled.png", "table.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert f"{out}/" in first.stdout


def test_distilled_set(first, out):
    """It is that of the first seed."""
    run = read(out)["DDP"][0]
    assert (out / "distilled.safetensors").read_bytes() == (out / run["set"]).read_bytes()
    synthetic = SyntheticPointCloudDataset(out / "distilled.safetensors")
    assert len(synthetic) == 60
    assert synthetic.class_names[:2] == ["airplane", "bed"]
    told = synthetic.provenance.pop("evaluated")
    assert synthetic.provenance == run["provenance"]
    assert told["value"] == run["value"]
    assert synthetic.provenance["steps"] == 2
    assert synthetic.provenance["source"] == "shapes"


def test_results(first, out):
    found = read(out)
    assert all(run["distill_seconds"] > 0 for run in found["DDP"])
    for runs in found.values():
        assert [run["seed"] for run in runs] == [0, 1]
        for run in runs:
            # Four test clouds of each of ten classes.
            assert len(run["per_class"]) == 10
            assert all(4 * value == round(4 * value) for value in run["per_class"])
            assert run["value"] == pytest.approx(np.mean(run["per_class"]))
            assert run["epochs"] <= 2
    # Every seed is a draw and a distillation of its own.
    for name in ("random", "DDP"):
        sets = [SyntheticPointCloudDataset(out / run["set"]) for run in found[name]]
        assert not np.array_equal(sets[0][0].pos, sets[1][0].pos)


def test_second_start_takes_no_new_steps(first, out):
    before = (out / "runs.jsonl").read_text()
    stamps = {path: path.stat().st_mtime_ns for path in (out / "sets").iterdir()}
    done = start(*SHAPES, "--skip-whole", "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "runs.jsonl").read_text() == before
    assert {path: path.stat().st_mtime_ns for path in (out / "sets").iterdir()} == stamps
    rows, again = table(first.stdout), table(done.stdout)
    assert list(again) == ROWS[:3]
    for name, row in again.items():
        for head in ("accuracy %", "class accuracy %", "IOR"):
            assert row[head] == rows[name][head]


def test_own_file(own):
    out, done = own
    found = check_tables(done.stdout, out, ROWS[:3])
    assert found["DDP"][0]["class_names"] == ["a", "b", "c"]
    assert found["DDP"][0]["provenance"]["source"] == "mine"
    synthetic = SyntheticPointCloudDataset(out / "distilled.safetensors")
    assert len(synthetic) == 3 * 6
    assert PointCloudArrays.from_npz(out.parent / "mine.npz").class_names == synthetic.class_names


def test_other_settings_in_the_same_folder(own):
    """They are other runs, beside those that are there."""
    out, _ = own
    before = (out / "runs.jsonl").read_text()
    args = [*SMALL, "--skip-whole", "--num-anchors", "3", "--seeds", "0"]
    done = start(*args, "--data", out.parent / "mine.npz", "--out", out)
    assert done.returncode == 0, done.stderr
    after = (out / "runs.jsonl").read_text()
    assert after.startswith(before)
    new = [json.loads(line) for line in after[len(before) :].splitlines()]
    # The random clouds are those of before.
    assert [run["method"] for run in new] == ["initial", "DDP"]
    assert {run["settings"]["num_anchors"] for run in new} == {3}
    assert len(SyntheticPointCloudDataset(out / "distilled.safetensors")) == 3 * 5


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], {"num_morphs": 4, "anchor_lr": 0.5}),
        (["--num-morphs", "0", "--anchor-lr", "2"], {"num_morphs": 0, "anchor_lr": 2.0}),
        (["--data", "mine.npz"], {}),
        (["--data", "mine.npz", "--weight-lr", "1"], {"weight_lr": 1.0}),
        (["--data", "mine.npz", "--ungrouped"], {"grouped": False}),
        (["--method", "ddp", "--data", "mine.npz", "--num-anchors", "3"], {"num_anchors": 3}),
    ],
    ids=["shapes", "shapes with options", "file", "file with a rate", "ungrouped", "by name"],
)
def test_settings_of_the_method(args, expected):
    """Only the generated shapes have others than the method itself."""
    settings = method_settings(parser_of("distill").parse_args(args))
    assert settings == {"num_anchors": 4, "uniformity_lambda": 1000.0, **expected}
    ddp(**settings)


@pytest.mark.parametrize("method", METHODS)
def test_settings_of_other_methods(method):
    """They are their own, but for PKR on the generated shapes, which is a first look."""
    parser = parser_of("distill")
    if method != "ddp":
        options = parser.parse_args(["--method", method, "--data", "mine.npz"])
        assert method_settings(options) == {}
    initial, distilled = rows_of(parser.parse_args(["--method", method]))
    known = ENTRIES[METHODS[method]().name]
    assert (distilled.name, distilled.build) == (known.name, known.build)
    assert initial.build is distilled.build
    assert bool(distilled.settings) == (method in ("ddp", "pkr"))
    METHODS[method](**distilled.settings)


def test_another_method(tmp_path):
    """PKR: what it chooses, and what it makes of that."""
    args = ["--method", "pkr", "--preset", "smoke", "--steps", "2", "--num-points", "64"]
    done = start(*args, "--num-per-class", "4", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = check_tables(done.stdout, tmp_path, ["random", "initial", "PKR", "whole"])
    initial, moved = found["initial"][0], found["PKR"][0]
    assert initial["provenance"]["method"] == moved["provenance"]["method"] == "PKR"
    assert (initial["steps"], moved["steps"]) == (0, 2)
    assert initial["bits"] == moved["bits"] <= 96 * 64 * 10
    assert (tmp_path / "distilled.safetensors").read_bytes() == (
        tmp_path / moved["set"]
    ).read_bytes()
    assert (tmp_path / "distilled.png").read_bytes().startswith(b"\x89PNG")


def test_missing_file(tmp_path, refused):
    message = f"'path' must be an existing .npz file, got '{tmp_path / 'none.npz'}'"
    refused(message, "--data", tmp_path / "none.npz", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_option(refused):
    refused("unrecognized arguments: --number-of-steps 3", "--number-of-steps", "3")


TINY = ["--num-per-class", "2", "--num-points", "32"]


@pytest.mark.parametrize(
    ("program", "args", "message"),
    [
        (
            "distill.py",
            ["--backbone", "PointNetXL"],
            "argument --backbone: must be one of PointNet, PointNetBN, PointNet2SSG, PointNet2MSG, "
            "DGCNN, PointConv, PointTransformer, PointMamba, PointNetSegmentation, "
            "PointNet2Segmentation, got 'PointNetXL'",
        ),
        (
            "segment.py",
            ["--backbone", "PointNet"],
            "for segmentation must be one of PointNetSegmentation, PointNet2Segmentation, got",
        ),
        ("compare.py", ["--backbones", "PointNet", "A"], "must be one of PointNet, "),
        ("cross_architecture.py", ["--distill-with", "A"], "must be one of PointNet, "),
        ("tune.py", ["--backbone", "A"], "must be one of PointNet, "),
        (
            "distill.py",
            ["--ppc", "0"],
            "argument --ppc: must be a number above 0, or as 1/16, got '0'",
        ),
        ("distill.py", ["--num-points", "many"], "argument --num-points: invalid positive value"),
        ("distill.py", ["--seeds", "-1"], "argument --seeds: must be at least 0, got -1"),
        ("distill.py", ["--task", "parts"], "argument --task: invalid choice: 'parts'"),
        ("distill.py", ["--train-lr", "-1"], "argument --train-lr: must be above 0, got -1"),
        ("distill.py", ["--validate", "1.5"], "'validate' must lie between 0 and 1, got 1.5"),
        ("compare.py", ["--methods", "DM", "X"], "argument --methods: invalid choice: 'X'"),
        (
            "compare.py",
            ["--task", "segmentation", "--methods", "random", "SADM"],
            "the row 'SADM' needs clouds with one label each, which the task 'segmentation' has",
        ),
        (
            "distill.py",
            ["--categories", "bed"],
            "--categories must go with labelled clouds and '--task segmentation', got",
        ),
        (
            "distill.py",
            ["--dataset", "modelnet10", "--task", "segmentation"],
            "'task' must be one of ('classification',) for this data set, got 'segmentation'",
        ),
        ("distill.py", ["--method", "pcc"], "argument --method: invalid choice: 'pcc'"),
        (
            "distill.py",
            ["--method", "pkr", "--num-morphs", "2", "--ungrouped"],
            "--num-morphs, --ungrouped must go with '--method ddp', got '--method pkr'",
        ),
        (
            "distill.py",
            ["--task", "segmentation", "--method", "sadm"],
            "'--method sadm' needs clouds with one label each, which the task 'segmentation' has",
        ),
        ("segment.py", ["--method", "sadm"], "argument --method: invalid choice: 'sadm'"),
        ("tune.py", ["--num-anchors", "60", "70"], "nothing in the search space fits the storage"),
        ("tune.py", ["--objectives", "bits"], "'objectives' must be 'score', alone or followed"),
        ("tune.py", ["--hold-out", "2"], "'hold-out' must lie between 0 and 1, got 2.0"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith(".py") else "",
)
def test_a_wrong_value_gives_one_line(program, args, message, tmp_path, refused):
    small = TINY[2:] if "--dataset" in args else TINY  # Only shapes have --num-per-class.
    refused(message, *small, *args, "--out", tmp_path / "out", program=program)
    assert not (tmp_path / "out" / "runs.jsonl").exists()
    assert not (tmp_path / "out" / "study.journal").exists()


# compare.py #######################################################################################


def compare(out, *args):
    small = ["--num-per-class", "6", "--num-points", "48", "--preset", "smoke", "--steps", "1"]
    return start(*small, *args, "--out", out, program="compare.py")


def lines(out):
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


def test_compare(tmp_path):
    done = compare(tmp_path, "--methods", "random", "SADM", "whole", "--seeds", "0", "1")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows) == ["random", "SADM", "whole"]
    assert all("±" in row["accuracy %"] for row in rows.values())
    assert tables(done.stdout)[2]["SADM"]["steps"] == "1"
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert tables((tmp_path / "table.md").read_text())[0] == rows
    assert [run["method"] for run in lines(tmp_path)] == ["random", "SADM", "whole"] * 2

    again = compare(tmp_path, "--methods", "random", "SADM", "whole", "--seeds", "0", "1")
    assert again.returncode == 0, again.stderr
    assert table(again.stdout) == rows
    assert len(lines(tmp_path)) == 6


def test_continual(tmp_path):
    """Two rows in three increments, which are there when the program is started again."""
    data = ["--num-per-class", "4", "--num-points", "64", "--preset", "smoke", "--steps", "1"]
    args = [*data, "--methods", "DDP", "random 32x5", "--num-increments", "3", "--seeds", "0"]
    runs = []
    for _ in range(2):
        done = start(*args, "--out", tmp_path, program="continual.py")
        assert done.returncode == 0, done.stderr
        assert list(table(done.stdout)) == ["DDP", "random 32x5"]
        runs.append((tmp_path / "runs.jsonl").read_text())
    assert runs[0] == runs[1]
    assert len(runs[0].splitlines()) == 2 * 3
    assert tables((tmp_path / "table.md").read_text())[0] == table(done.stdout)
    assert "PointNet, PPC 1, 3 increments" in done.stdout
    assert (tmp_path / "increments.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("--task must have one label for a cloud, got segmentation", ["--task", "segmentation"]),
        ("'num_increments' must be at most 10, got 11", ["--num-increments", "11"]),
        ("invalid choice: 'SADMM'", ["--methods", "SADMM"]),
    ],
)
def test_continual_refuses(refused, tmp_path, message, args):
    data = ["--num-per-class", "1", "--num-points", "32", "--out", tmp_path]
    refused(message, *data, *args, program="continual.py")


def test_cross_resolution(tmp_path):
    data = ["--num-per-class", "4", "--num-points", "64", "--preset", "smoke", "--seeds", "0"]
    args = [*data, "--methods", "random", "whole", "--train-points", "32", "64"]
    done = start(*args, "--out", tmp_path, program="cross_resolution.py")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows) == [f"{one}, {num} points" for one in ("random", "whole") for num in (32, 64)]
    assert list(rows["random, 32 points"])[2:] == ["64"]
    assert len((tmp_path / "resolutions.jsonl").read_text().splitlines()) == 4
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    assert tables((tmp_path / "matrix.md").read_text())[0] == rows


def test_sensitivity(tmp_path):
    data = ["--num-per-class", "4", "--num-points", "64", "--preset", "smoke", "--seeds", "0"]
    args = [*data, "--base", "DDP(num_morphs=2)", "--vary", "num_morphs", "1", "--out", tmp_path]
    done = start(*args, "--vary", "anchor_lr", "0.1", program="sensitivity.py")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 3
    text = (tmp_path / "sensitivity.md").read_text()
    assert [line.split("|")[2].strip() for line in text.splitlines() if "| 1 " in line] == [
        *("1", "2", "0.1", "2.5")
    ]
    assert (tmp_path / "sensitivity.png").read_bytes().startswith(b"\x89PNG")


def test_compare_learning_rates_on_a_validation_split(tmp_path):
    args = ["--methods", "random", "DM", "--lr", "0.1", "10", "--validate", "0.34", "--seeds", "0"]
    done = compare(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    assert list(table(done.stdout)) == ["random", "DM, lr 0.1", "DM, lr 10"]
    assert "held out from the training set" in done.stdout
    runs = lines(tmp_path)
    # Two of six clouds of every class are held out.
    assert runs[1]["provenance"]["num_real_clouds"] == 40
    assert [run["settings"].get("lr") for run in runs] == [None, 0.1, 10.0]
    assert compare(tmp_path, "--validate", "1.5").returncode != 0


def test_compare_segmentation(tmp_path):
    """All rows that there are for it, by one program with the same options."""
    args = ["--task", "segmentation", "--num-per-class", "3", "--width", "0.1", "--seeds", "0"]
    done = compare(tmp_path, *args, "--methods", "all")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    names = ["random", "herding", "k-center", "DM", "anchors", "DDP-initial", "DDP-static"]
    names += ["DDP-no-eta", "DDP-no-align", "DDP-noise", "DDP-averaged", "DDP", "whole"]
    assert list(rows) == names
    runs = lines(tmp_path)
    # Herding made the runs of the whole set.
    assert sorted(run["method"] for run in runs) == sorted(rows)
    for run in runs:
        assert run["task"] == run.get("provenance", {"task": "segmentation"})["task"]
        assert run["network"] == {"partial": "PointNetSegmentation", "keywords": {"width": 0.1}}
        row = rows[run["method"]]
        assert row["instance mIoU %"] == f"{100 * run['value']:.1f}"
        assert row["class mIoU %"] == f"{100 * run['class_mean']:.1f}"
        assert len(run["per_class"]) == 10
    assert "All rows: PPC 1, PointNetSegmentation, width 0.1, 1 seed." in done.stdout


# cross_architecture.py ############################################################################


def test_cross_architecture(tmp_path):
    """A matrix of two backbones, which takes over what compare.py has made."""
    # Of fewer points anchors have four, whose neighbourhoods are single points: behind BatchNorm
    # gradients grow without bound, to NaN on some machines.
    data = ["--num-per-class", "4", "--num-points", "128", "--seeds", "0"]
    data += ["--preset", "smoke", "--steps", "1"]
    first = start(*data, "--methods", "DDP", "--out", tmp_path, program="compare.py")
    assert first.returncode == 0, first.stderr
    sets = [path.name for path in (tmp_path / "sets").iterdir()]
    two = ["--backbones", "PointNet2MSG", "PointNet", "--whole-points", "16", "--whole-epochs", "3"]
    done = start(*data, *two, "--out", tmp_path, program="cross_architecture.py")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows) == ["random", "SADM", "DDP", "whole, 16 points"]
    assert [values(row)[:2] for row in rows.values()] == [
        ["-", "1"],
        ["PointNet", "1"],
        ["PointNet", "1"],
        ["-", "-"],
    ]
    assert all(0 <= float(value) <= 100 for row in rows.values() for value in values(row)[2:])
    heads = ["method", "distilled with", "PPC", "PointNet2MSG", "PointNet"]
    assert [*rows["DDP"]] == heads
    assert tables((tmp_path / "matrix.md").read_text())[0] == rows
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    runs = lines(tmp_path)
    assert len(runs) == 8
    whole = "whole set smoke, epochs 3, min_steps 0"
    title = f"preset smoke, 1 step (its figures mean nothing), {whole}"
    assert f"{title}, accuracy % of the backbone that is trained" in done.stdout
    whole = [run for run in runs if run["method"] == "whole, 16 points"]
    assert [run["epochs"] for run in whole] == [3, 3]
    ddp = [run for run in runs if run["method"] == "DDP"]
    assert [run["backbone"] for run in ddp] == ["PointNet", "PointNet2MSG"]
    assert [run["set"] for run in ddp] == [f"sets/{sets[0]}"] * 2


def test_cross_architecture_with_few_centres(tmp_path):
    args = ["--num-per-class", "2", "--num-points", "32", "--seeds", "0", "--methods", "SADM"]
    args += ["--backbones", "PointMamba", "PointNet", "--mamba-centers", "2"]
    args += ["--distill-with", "PointMamba", "--preset", "smoke", "--steps", "1"]
    done = start(*args, "--out", tmp_path, program="cross_architecture.py")
    assert done.returncode == 0, done.stderr
    (row,) = table(done.stdout).values()
    assert [*row] == ["method", "distilled with", "PPC", "PointMamba, 2 centres", "PointNet"]
    assert values(row)[:2] == ["PointMamba, 2 centres", "1"]
    runs = lines(tmp_path)
    assert [run["backbone"] for run in runs] == ["PointMamba, 2 centres", "PointNet"]


def test_cross_architecture_of_segmentation(tmp_path):
    args = ["--task", "segmentation", "--num-per-class", "2", "--num-points", "32", "--seeds", "0"]
    args += ["--width", "0.1", "--preset", "smoke", "--steps", "1", "--validate", "0.5"]
    done = start(*args, "--out", tmp_path, program="cross_architecture.py")
    assert done.returncode == 0, done.stderr
    wide = "PointNetSegmentation, width 0.1"
    rows = table(done.stdout)
    assert [*rows["DDP"]] == ["method", "distilled with", "PPC", wide, "PointNet2Segmentation"]
    assert {name: row["distilled with"] for name, row in rows.items()} == {
        "random": "-",
        "DDP": wide,
        "whole": "-",
    }
    assert "held out from the training set, instance mIoU % of the backbone" in done.stdout
    runs = lines(tmp_path)
    assert [(run["method"], run["backbone"] == wide) for run in runs] == [
        *((name, True) for name in rows),
        *((name, False) for name in rows),
    ]
    (other,) = (run for run in runs if "distilled_with" in run)
    assert (other["method"], other["distilled_with"]) == ("DDP", wide)
    assert other["distilling_network"] == {
        "partial": "PointNetSegmentation",
        "keywords": {"width": 0.1},
    }
    assert all(0 <= float(value) <= 100 for row in rows.values() for value in values(row)[2:])


@pytest.mark.parametrize(
    ("arg", "value", "message"),
    [
        ("--whole-points", "64", "--whole-points must lie in 1..32, got 64"),
        ("--mamba-centers", "0", "argument --mamba-centers: must be at least 1, got 0"),
    ],
)
def test_cross_architecture_refuses(arg, value, message, tmp_path, refused):
    args = ["--num-per-class", "2", "--num-points", "32", arg, value]
    refused(message, *args, "--out", tmp_path, program="cross_architecture.py")


# tune.py ##########################################################################################


def tune(out, *args):
    small = ["--num-per-class", "6", "--num-points", "48", "--steps", "1", "--epochs", "1"]
    small += ["--hold-out", "0.34", "--num-morphs", "0", "4", "--preset", "smoke"]
    small += ["--min-steps", "3"]
    return start(*small, *args, "--out", out, program="tune.py")


def check_search(out, done, trials):
    """What is printed, what is kept, and that the command line makes the same set again."""
    found = json.loads((out / "results.json").read_text())
    assert found["trials"] == trials
    assert found["failed"] == {}
    rows = tables(done.stdout)[-1]
    assert list(rows) == ["best found", "published"]
    letters = ("num_anchors", "anchor_points", "num_morphs")
    assert values(rows["best found"])[:3] == [str(found["best"][name]) for name in letters]
    assert found["published"]["num_anchors"] == 4
    for name, runs in found["test"].items():
        assert values(rows[name])[-1] == spread([run["value"] for run in runs])
        assert [run["seed"] for run in runs] == [0, 1]
        assert {run["protocol"]["name"] for run in runs} == {"smoke, epochs 1, min_steps 3"}
        assert lines(out)[0]["method"] == "best found"
    names = {path.name for path in out.iterdir()}
    assert names >= {"distilled.png", "history.png", "parallel.png", "runs.jsonl"}
    assert names >= {"distilled.safetensors", "results.json", "study.journal"}

    again = start(*shlex.split(found["command"])[2:], "--skip-whole")
    assert again.returncode == 0, again.stderr
    ours, theirs = (
        SyntheticPointCloudDataset(out / name / "distilled.safetensors")
        for name in (".", "distill")
    )
    assert all(np.allclose(a.pos, b.pos) for a, b in zip(ours, theirs, strict=True))
    assert [run["value"] for run in found["test"]["best found"]] == [
        run["value"] for run in read(out / "distill")["DDP"]
    ]
    return found


def test_tune(tmp_path):
    """Two processes, a front, and a command line that makes the same set again."""
    args = ["--trials", "5", "--objectives", "score,bits", "--workers", "2"]
    done = tune(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    head = ["trial", "accuracy %", "bits", "M", "N2", "L", "λ"]
    front = tables(done.stdout)[0]
    assert front
    assert all([*row] == head for row in front.values())
    found = check_search(tmp_path, done, 5)
    for runs in found["test"].values():
        for run in runs:  # All three test clouds of every class.
            assert all(3 * value == round(3 * value) for value in run["per_class"])
            assert run["value"] == pytest.approx(np.mean(run["per_class"]))
    assert (tmp_path / "importances.png").exists()
    assert (tmp_path / "pareto.png").exists()


def test_tune_packed_clouds(tmp_path):
    """Points, bits and mirroring are searched, and the command line makes the same set again."""
    small = ["--num-per-class", "6", "--num-points", "48", "--steps", "1", "--epochs", "1"]
    small += ["--preset", "smoke", "--min-steps", "3", "--seeds", "1", "--hold-out", "0.34"]
    search = ["--method", "pkr", "--ppc", "0.5", "--cloud-points", "4", "16", "--trials", "3"]
    done = start(*small, *search, "--lr", "1e-3", "1e-2", "--out", tmp_path, program="tune.py")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["failed"] == {}
    assert found["published"] == {"num_points": 16, "depth": 5, "mirror": True, "lr": 0.005}
    rows = tables(done.stdout)[-1]
    names = ("num_points", "depth", "mirror")
    assert values(rows["best found"])[:3] == [str(found["best"][name]) for name in names]
    (run,) = found["test"]["best found"]
    own = SyntheticPointCloudDataset(tmp_path / "distilled.safetensors")
    assert own.provenance["method"] == "PKR"
    assert own[0].num_nodes == found["best"]["num_points"]
    assert (
        own.storage_bits == run["bits"] <= run["budget_bits"] == 48 * 96 * len(own.class_names) / 2
    )
    again = start(*shlex.split(found["command"])[2:], "--skip-whole")
    assert again.returncode == 0, again.stderr
    (repeated,) = read(tmp_path / "distill")["PKR"]
    assert [repeated[key] for key in ("value", "bits")] == [run["value"], run["bits"]]


def test_tune_draws_many_classes_on_sheets(tmp_path):
    """More classes than one sheet holds: no file is looked for that was not drawn."""
    labels = np.arange(17).repeat(3)
    pos = np.random.default_rng(0).normal(size=(len(labels), 32, 3)).astype(np.float32)
    arrays = {f"{split}_{key}": value for split in ("train", "test") for key, value in
              {"points": pos, "labels": labels}.items()}  # fmt: skip
    np.savez(tmp_path / "many.npz", **arrays)
    words = ["--data", tmp_path / "many.npz", "--preset", "smoke", "--steps", "1", "--seeds", "1"]
    words += ["--trials", "1", "--hold-out", "0.34", "--out", tmp_path / "out"]
    done = start(*words, program="tune.py")
    assert done.returncode == 0, done.stderr
    drawn = {path.name for path in (tmp_path / "out").glob("distilled*")}
    assert drawn == {"distilled.safetensors", "distilled-1.png", "distilled-2.png"}
    assert json.loads((tmp_path / "out" / "results.json").read_text())["failed"] == {}
    assert len(list((tmp_path / "out" / "artifacts").iterdir())) == 3


def test_tune_refuses_options_of_another_method(tmp_path):
    for method, option in (("pkr", "--num-morphs"), ("ddp", "--depth")):
        args = ["--method", method, option, "2", "4", "--out", tmp_path]
        done = start(*args, program="tune.py")
        assert done.returncode == 1
        assert f"{option} is no option of --method {method}" in done.stderr


def test_tune_segmentation(tmp_path):
    args = ["--task", "segmentation", "--trials", "2", "--width", "0.1", "--rotate"]
    done = tune(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    assert "test instance mIoU %" in done.stdout
    assert "--rotate --width 0.1" in done.stdout
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["trials"] == 2
    assert list(tables(done.stdout)[-1]) == ["best found", "published"]
    runs = [run for runs in found["test"].values() for run in runs]
    assert {run["metric"] for run in runs} == {"instance mIoU"}
    assert {run["protocol"]["name"] for run in runs} == {"smoke, epochs 1, min_steps 3, augment"}


def test_tune_without_room(tmp_path):
    done = tune(tmp_path, "--num-anchors", "60", "70")
    assert done.returncode != 0
    assert "nothing in the search space fits the storage of ppc=1" in done.stderr
    assert not (tmp_path / "study.journal").exists()


# evaluate.py ######################################################################################


def test_evaluate_repeats_the_figure_of_a_file(first, out):
    file = out / "distilled.safetensors"
    data = ("--num-per-class", "8", "--num-points", "64")
    done = start(file, *data, program="evaluate.py")
    assert done.returncode == 0, done.stderr
    _, work, now, then = done.stdout.splitlines()
    assert work.startswith(
        "To do: 1 network (PointNet) to train, protocol smoke: 2 epochs of 60 clouds, 16 steps each"
    )
    value = SyntheticPointCloudDataset(file).provenance["evaluated"]["value"]
    (run,) = [run for run in read(out)["DDP"] if run["seed"] == 0]
    assert value == run["value"]
    assert now == f"accuracy: {100 * value:.1f} % now (PointNet, smoke, seeds [0])"
    assert then == f"accuracy: {100 * value:.1f} % in the file (PointNet, smoke, seeds [0])"


def test_evaluate_says_what_is_otherwise(first, out):
    file = out / "distilled.safetensors"
    data = ("--num-per-class", "8", "--num-points", "32", "--seeds", "1", "2", "--preset", "smoke")
    done = start(file, *data, "--backbone", "PointNet", program="evaluate.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[4:] == [
        f"They were made with another {what}." for what in ("test set", "choice of seeds")
    ]


def test_evaluate_refuses_a_set_that_tells_nothing(tmp_path, refused):
    ddp(num_anchors=2, num_morphs=2).distill(
        ParametricShapes(num_per_class=2, num_points=32), steps=0, progress=False
    ).save(tmp_path / "set")
    message = "tells no figure: give --backbone, --preset and --seeds"
    refused(message, tmp_path / "set", program="evaluate.py")


# train_on_synthetic.py ############################################################################


def test_train_on_synthetic(first, out):
    """An ordinary PyG program learns from the distilled set of the first example."""
    file = out / "distilled.safetensors"
    done = start(file, "--epochs", "12", program="train_on_synthetic.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Epoch  10", "Epoch  12"]
    assert 0 <= float(lines[-1].split()[-2]) <= 100


def test_train_on_synthetic_takes_classes_without_names(tmp_path):
    stored = FullResolution(torch.rand(10, 8, 3), 10)
    SyntheticPointCloudDataset(stored).save(tmp_path / "set.safetensors")
    few = ["--num-points", "8", "--epochs", "1"]
    done = start(tmp_path / "set.safetensors", *few, program="train_on_synthetic.py")
    assert done.returncode == 0, done.stderr


def test_train_on_synthetic_wants_the_same_classes(own):
    file = own[0] / "distilled.safetensors"
    done = start(file, program="train_on_synthetic.py")
    assert done.returncode == 1
    assert "Test clouds must have the classes" in done.stderr


# segment.py #######################################################################################


def segment(out, *args):
    small = ["--num-points", "32", "--width", "0.1", *SMALL]
    return start(*small, *args, "--out", out, program="segment.py")


def test_segment(tmp_path):
    done = segment(tmp_path, "--num-per-class", "4")
    assert done.returncode == 0, done.stderr
    found = check_tables(done.stdout, tmp_path, ROWS)
    runs = {name: runs[0] for name, runs in found.items()}
    assert {run["metric"] for run in runs.values()} == {"instance mIoU"}
    assert {run["class_metric"] for run in runs.values()} == {"class mIoU"}
    assert len(runs["DDP"]["class_names"]) == 10
    for name in ("distilled.png", "table.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")

    synthetic = SyntheticPointCloudDataset(tmp_path / "distilled.safetensors")
    told = synthetic.provenance.pop("evaluated")
    assert synthetic.provenance == runs["DDP"]["provenance"]
    assert (told["metric"], told["value"]) == ("instance mIoU", runs["DDP"]["value"])
    assert len(synthetic) == 60
    assert synthetic[0].y.shape == (len(synthetic[0].pos),)
    # Points and, for each of 38 parts, the length of a run: the same for all within the budget.
    budget = 10 * 96 * 32 + 32 * 38
    bits = [runs[name]["bits"] for name in ROWS]
    assert bits[0] == budget
    assert bits[1] == bits[2] <= budget
    assert bits[3] == 4 * budget


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A file of labelled clouds of two categories."""
    return parts_file(tmp_path_factory.mktemp("parts") / "parts.npz")


def test_segment_own_file_turned_at_random(parts, tmp_path):
    args = ["--data", parts, "--rotate", "--resplit", "3", "--skip-whole", "--ungrouped"]
    done = segment(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    found = check_tables(done.stdout, tmp_path, ROWS[:3])
    for run in found["DDP"]:
        assert run["class_names"] == ["ball", "cube"]
        assert run["protocol"]["augment"] == {"axis": None}
        assert run["provenance"]["method"] == "DDP"
        assert run["provenance"]["grouped"] is run["settings"]["grouped"] is False
        assert run["provenance"]["num_points"] == 32
    # Splits that are drawn anew are other data.
    again = segment(tmp_path, "--data", parts, "--rotate", "--skip-whole", "--seeds", "0")
    assert again.returncode == 0, again.stderr
    assert [len(runs) for runs in read(tmp_path).values()] == [3, 3, 3]


def test_segment_on_a_validation_split(parts, tmp_path):
    args = ["--data", parts, "--categories", "ball", "--validate", "0.34", "--skip-whole"]
    done = segment(tmp_path, *args)
    assert done.returncode == 0, done.stderr
    assert "tested on clouds held out from the training set" in done.stdout
    # Two of six clouds are held out.
    (run, _) = read(tmp_path)["DDP"]
    assert run["provenance"]["num_real_clouds"] == 4
    assert run["class_names"] == ["ball"]


# benchmarks #######################################################################################


def test_every_backbone_agrees_with_another_way_to_compute_it():
    args = ["--clouds", "2", "--points", "100", "--repeats", "1", "--train"]
    done = start(*args, program="backbone_time.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert {name: values(row)[2] for name, row in rows.items()} == {
        "PointNet": "dense",
        "PointNetBN": "dense",
        "PointNet2SSG": "PyG",
        "PointNet2MSG": "PyG",
        "DGCNN": "PyG",
        "PointConv": "dense",
        "PointTransformer": "PyG",
        "PointMamba": "dense",
    }
    # DGCNN may decide otherwise between two neighbours that are equally near.
    assert all(
        float(values(row)[-1]) < (1e-2 if name == "DGCNN" else 1e-5) for name, row in rows.items()
    )


def test_codec_time(tmp_path):
    pos = np.random.default_rng(0).normal(size=(12, 64, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", train_points=pos, train_labels=np.arange(3).repeat(4))
    args = ["--data", tmp_path / "a.npz", "--num-anchors", "2", "--num-morphs", "2"]
    args += ["--clouds", "12", "--repeats", "1"]
    done = start(*args, program="codec_time.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert values(rows["float32"])[2] == "1.000"
    assert len(rows) == 6
    assert all(float(number) > 0 for row in rows.values() for number in values(row)[:3])


def test_step_time():
    args = ["--num-anchors", "1", "--num-morphs", "2", "--clouds", "60", "--repeats", "1"]
    done = start(*args, program="step_time.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert list(rows) == ["ours", "bare network", "plain loops"]
    assert values(rows["ours"])[-1] == "1.00"


def test_steps_to_accuracy(tmp_path):
    points, labels = toy_arrays(num_classes=2, per_class=8, num_points=32)
    arrays = {"train_points": points, "train_labels": labels}
    np.savez(tmp_path / "a.npz", **arrays, test_points=points, test_labels=labels)
    args = ["--data", tmp_path / "a.npz", "--out", tmp_path, "--preset", "smoke", "--seeds", "0"]
    args += ["--recipes", "constant", "cosine", "--steps", "1", "2"]
    for _ in range(2):  # What is there is not made again.
        done = start(*args, program="steps_to_accuracy.py", folder="benchmarks")
        assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    names = ["constant", "constant, half", "constant, late", "cosine"]
    found = sorted((run["method"], run["steps"]) for run in runs)
    assert found == [(name, steps) for name in names for steps in (1, 2)]
    value = {(run["method"], run["steps"]): run["value"] for run in runs}
    # The mean of one step is that step.
    assert value["constant", 1] == value["constant, half", 1] == value["constant, late", 1]
    assert {run["num_clouds"] for run in runs} == {40}


def test_means_of_steps_take_the_place_of_the_parameters_for_a_while():
    study = runpy.run_path(str(ROOT / "benchmarks" / "steps_to_accuracy.py"))
    loop = ddp(2, 8, 2).begin(PointCloudBank.from_dataset(toy_set()))
    averages, seen = study["Averages"](loop, [2, 4]), []

    def add(loop):
        averages.add(loop)
        seen.append(loop.parameterization.anchors.detach().clone())

    loop.run(4, progress=False, callback=add)
    weights = {"last": [0, 0, 0, 1], "half": [0, 0, 1, 1], "late": [1, 4, 10, 20]}
    assert tuple(weights) == study["MEANS"]
    for kind, shares in weights.items():
        mean = sum(share * one for share, one in zip(shares, seen, strict=True)) / sum(shares)
        with averages.put(kind, 4):
            torch.testing.assert_close(loop.parameterization.anchors.detach(), mean)
        assert torch.equal(loop.parameterization.anchors, seen[3])


def test_chunks_and_ranks_give_the_same():
    args = ["--num-points", "32", "--chunks", "5", "--ranks", "1", "2"]
    done = start(*args, program="chunks.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    rows = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert [(row["chunk"], row["ranks"]) for row in rows] == [
        (chunk, ranks) for chunk in ("5", "all of a rank") for ranks in (1, 2)
    ]
    assert rows[0]["to_alone"] == rows[1]["to_alone"] == rows[2]["to_whole"] == 0
    assert all(row["to_whole"] < 0.01 for row in rows)


def test_what_a_larger_set_costs():
    done = start(program="cost.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    # Ten classes of 52 clouds a PPC and step, each there and the synthetic ones back, and lifted
    # twice from 128 to 1,024 features of 252 points.
    lifts = 2 * (320 + 200) * 252 * 2 * 128 * 1024 / 1e9
    gflop = float(re.match(r"a step of ten classes: (\d+) GFLOP", done.stdout)[1])
    assert lifts < gflop < 2 * lifts


def test_as_many_clouds_are_prepared_as_asked_for(tmp_path):
    points, labels = toy_arrays(num_classes=2, per_class=8, num_points=64)
    np.savez(tmp_path / "a.npz", train_points=points, train_labels=labels)
    args = ["--data", tmp_path / "a.npz", "--clouds", "40"]
    done = start(*args, program="preparation.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("40 clouds of 64 points")
    assert done.stdout.count(" what was kept: ") == 2


def test_bytes_of_a_file():
    path = ROOT / "torch_geometric_ddp" / "example.safetensors"
    done = start(path, program="file_size.py", folder="benchmarks")
    assert done.returncode == 0, done.stderr
    row = ast.literal_eval(done.stdout)
    assert row["declared"] == row["tensors"] == 10 * 256 * 12  # PPC 1 of 256 points.
    assert row["header"] == path.stat().st_size - row["declared"]
