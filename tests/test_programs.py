"""The command, its options, and what programs say before, after and instead of their work."""

import argparse
import ast
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import (
    NormNet,
    TinyNet,
    environment,
    lab_of,
    parts_file,
    toy_arrays,
    toy_set,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model

import torch_geometric_ddp
from torch_geometric_ddp import StorageBudget, SyntheticPointCloudDataset, evaluate
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    PRESETS,
    ClassIncremental,
    CrossResolution,
    Lab,
    Preset,
    Sensitivity,
    summarize,
)
from torch_geometric_ddp.coreset import Observation, difficulty_quotas
from torch_geometric_ddp.evaluation import SMOKE, Protocol
from torch_geometric_ddp.methods import METHODS, sadm
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.parameterization import ShapeMorphing
from torch_geometric_ddp.programs import (
    command,
    data,
    labs,
    names,
    rows,
    searching,
    sensitivity,
    showing,
    train,
    tunables,
    tune,
)
from torch_geometric_ddp.programs.option_types import (
    above_zero,
    finite,
    natural,
    network_name,
    network_or_all,
    positive,
    row_name,
    row_or_all,
    share,
)
from torch_geometric_ddp.programs.options import (
    METHOD_OPTIONS,
    dest_of,
)
from torch_geometric_ddp.tasks import TASKS

TINY = ["--num-per-class", "2", "--num-points", "32"]
WORK = [*TINY, "--preset", "smoke", "--steps", "1", "--seeds", "0"]


@pytest.fixture(autouse=True)
def usual_memory(monkeypatch):
    monkeypatch.setattr("torch_geometric_ddp.memory.keep_freed_memory", lambda: None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where programs are started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def python(*words):
    command = [sys.executable, *words]
    return subprocess.run(
        command, env=environment(), capture_output=True, encoding="utf-8", timeout=400
    )


def parsed(program, *words):
    return command.parser_of(program).parse_args([*map(str, words)])


# The command #####################################################################################

HELP = """
import sys
before = set(sys.modules)
from torch_geometric_ddp.programs.command import main
try:
    main({words})
except SystemExit as end:
    assert end.code == {code}
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
assert loaded <= sys.stdlib_module_names | {{"torch_geometric_ddp"}}, loaded
"""


@pytest.mark.parametrize("program", [None, *command.PROGRAMS])
def test_help_loads_no_library(program):
    words = ["--help"] if program is None else [program, "--help"]
    done = python("-c", HELP.format(words=words, code=0))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {' '.join(['distill3d', program or ''])}".rstrip())


@pytest.mark.parametrize(
    ("words", "code", "printed", "refused"),
    [
        (["--version"], 0, torch_geometric_ddp.__version__, ""),
        (["compare", "--methods", "X"], 2, "", "--methods: invalid choice: 'X'"),
        (["distil"], 2, "", "invalid choice: 'distil'"),
    ],
)
def test_what_needs_no_work_loads_no_library(words, code, printed, refused):
    done = python("-c", HELP.format(words=words, code=code))
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout
    assert bool(done.stdout) == bool(printed)
    assert refused in done.stderr
    assert bool(done.stderr) == bool(refused)


@pytest.mark.skipif(sys.platform == "win32", reason="does not count what children take")
def test_help_takes_no_longer_than_a_few_starts_of_python():
    """Of a processor, so that what runs beside it does not count."""
    import resource

    def taken(*words):
        def spent():
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            return usage.ru_utime + usage.ru_stime

        before = spent()
        assert python(*words).returncode == 0
        return spent() - before

    bare = min(taken("-c", "import argparse, json") for _ in range(3))
    least = min(taken("-m", "torch_geometric_ddp", "compare", "--help") for _ in range(3))
    assert least < 10 * bare


def test_what_children_print_depends_on_no_terminal_and_no_locale(monkeypatch):
    for name, value in (("FORCE_COLOR", "1"), ("LC_ALL", "C"), ("PYTHONUTF8", "0")):
        monkeypatch.setenv(name, value)
    code = "import os; print('ä', os.environ['NO_COLOR'], 'FORCE_COLOR' in os.environ)"
    assert python("-c", code).stdout == "ä 1 False\n"


def test_kept_names_are_those_of_the_registries():
    """If not: python -m torch_geometric_ddp.programs.names."""
    kept = Path(names.__file__).with_name("names.json").read_text(encoding="utf-8")
    assert json.loads(kept) == names.collect()
    assert json.dumps(names.collect(), indent=1) + "\n" == kept


def test_every_row_by_name():
    assert list(rows.ROWS) == names.ROWS


@pytest.mark.parametrize("program", command.PROGRAMS)
def test_every_option_has_help(program):
    parser = command.parser_of(program)
    shown = [action for action in parser._actions if action.dest != "worker"]
    assert len(shown) > 3
    assert [a.dest for a in shown if not a.help or a.help == argparse.SUPPRESS] == []


def test_an_option_means_one_thing_in_all_programs():
    """Of one option, the number of values, and where it is a number also its type, are the same."""
    kinds = {}
    for program in command.PROGRAMS:
        for action in command.parser_of(program)._actions:
            # What is a setting elsewhere has a range in a search, and several rows several values.
            if action.metavar == ("LOW", "HIGH") or action.dest in ("ppc", "mirror"):
                continue
            for option in action.option_strings:
                kind = (action.nargs, getattr(action.type, "__name__", None))
                kinds.setdefault(option, {}).setdefault(kind, []).append(program)
    several = {option: kind for option, kind in kinds.items() if len(kind) > 1}
    assert set(several) == {"--lr"}  # Which is also the older word for the --lrs of compare.


def test_the_package_gives_its_names_when_they_are_used():
    code = "import torch_geometric_ddp as p, sys; assert 'torch' not in sys.modules; "
    code += "assert set(p.__all__) <= set(dir(p)); p.methods.ddp; p.distill; p.StorageBudget; "
    code += "from torch_geometric_ddp import *; assert distill is p.methods.distill; p.nothing"
    done = python("-c", code)
    assert done.returncode == 1
    error = "AttributeError: module 'torch_geometric_ddp' has no attribute 'nothing'"
    assert done.stderr.splitlines()[-1].startswith(error)
    for name in torch_geometric_ddp.__all__:
        assert getattr(torch_geometric_ddp, name) is not None


# What goes wrong #################################################################################


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the runs of `distill` on generated shapes, and what it printed."""
    out = tmp_path_factory.mktemp("made") / "out"
    done = python("-m", "torch_geometric_ddp", "distill", *WORK, "--skip-whole", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out, done


def refuse(message):
    raise ValueError(message)


def test_a_full_disk_gives_one_line(made, folder, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_model", full)
    monkeypatch.setattr("torch_geometric_ddp._files.save_file", full)
    words = ["train", made[0] / "distilled.safetensors", *TINY, "--preset", "smoke"]
    message = "network.safetensors' could not be written: I/O error: No space left on device"
    assert message in refused(*words)
    message = ".safetensors' could not be written: I/O error: No space left on device"
    assert message in refused("compare", *WORK, "--methods", "random")
    assert not [*folder.rglob("*.part")]


def late(*args, **kwargs):
    pytest.fail("a network is trained")


def refused(*words):
    with pytest.raises(SystemExit) as caught:
        command.main([*map(str, words)])
    assert isinstance(caught.value.code, str)
    assert "\n" not in caught.value.code
    return caught.value.code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["distill", *WORK, "--method", "pkr", "--depth", "99"], "'depth' must be from 1 to 10"),
        (["distill", *WORK, "--lr", "1"], "--lr must go with '--method sadm' or '--method dm' or"),
        (["distill", *WORK, "--device", "nonsense"], "'device' must be a device that can be used"),
        (["distill", *WORK[2:], "--data", "text.npz"], "'text.npz' is no usable .npz file"),
        *(
            (["distill", *WORK, *more], message)
            for more, message in (
                (["--num-anchors", "100"], "'num_anchors'=100 and 'num_morphs'=4 do not fit"),
                (["--anchor-points", "31"], "'anchor_points'=31 does not fit the storage of ppc=1"),
                (["--method", "pkr", "--ppc", "0.02"], "'num_points'=32 does not fit the storage"),
            )
        ),
        (["distill", *WORK, "--out", "text.npz"], "'out' must be a folder that can be written to"),
        *(
            ([program, *words, "--out", "text.npz"], "'out' must be a folder that can be written")
            for program, *words in (["compare", *WORK], ["tune", *WORK], ["continual", *WORK])
        ),
        (["compare", *WORK, "--methods", "DDP", "--ppc", "1e-6"], "no run was made: the reasons"),
        (["evaluate", "nowhere"], "nowhere"),
        (["evaluate", "text.npz"], "text.npz"),
        (["train", "nowhere"], "nowhere"),
        (["show", "nowhere"], "nowhere"),
        (["show", "."], "'.' must be a folder with runs.jsonl"),
        (["tune", *WORK, "--objectives", "speed"], "'objectives' must be 'score', alone or"),
        pytest.param(
            ["tune", *WORK, "--trials", "1", "--gpus", "3"],
            "'device' must be a device that can",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="it would find its GPUs"),
        ),
        (["tune", *WORK, "--storage", "grpc://localhost:1"], "'storage' must be a gRPC proxy that"),
        *(
            (
                ["tune", *WORK, "--hold-out", "0.5", "--storage", url],
                f"'storage' must be the URL of a database that can be opened, got {kind}://: ",
            )
            for kind, url in (("sqlite", "sqlite:///nowhere/x.db"), ("foo", "foo://user:secret@x"))
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value[0]} {value[-1]}",
)
def test_a_mistake_gives_one_line(words, message, folder, monkeypatch):
    Path("text.npz").write_text("no archive")
    monkeypatch.setattr("torch_geometric_ddp.tuning.storage._PATIENCE", 0.1)
    # Of what is distilled, before a network is trained.
    monkeypatch.setattr("torch_geometric_ddp.comparison.lab.evaluate", late)
    assert message in refused(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        *(
            ([program, "--methods", "DDP(nope=1)"], "settings of 'DDP' must be among")
            for program in ("compare", "cross", "resolution", "continual")
        ),
        (["sensitivity", "--base", "DDP(nope=1)"], "settings of 'DDP' must be among"),
        (["tune", "--objectives", "speed"], "'objectives' must be 'score'"),
        (["tune", "--hold-out", "1.5"], "'hold-out' must lie between 0 and 1, got 1.5"),
        (["tune", "--looks", "2"], "'looks' must lie between 0 and 1, got 2"),
        (["tune", "--num-morphs", "4", "2"], "'num_morphs' must not end below its start"),
        (["tune", "--storage", "grpc://nowhere"], "'storage' must name a host and a port"),
        (["tune", "--storage", "foo://user@x"], "'storage' must be the URL of a database"),
        (["tune", "--storage", "sqlite:///nowhere/x.db"], "'storage' must be the URL of a"),
        (["distill", "--validate", "1.5"], "'validate' must lie between 0 and 1, got 1.5"),
        (
            ["distill", "--method", "pkr", "--classes-per-chunk", "2"],
            "'classes_per_chunk' must not be given, as KernelRegression compares all classes at",
        ),
        # What the other options leave no use for.
        *(
            (
                [*words, "--data", "c.npz", *more],
                f"{more[0]} must go with {what}, got '--data c.npz'",
            )
            for words in (["distill"], ["continual"], ["tune"])
            for more, what in (
                (["--num-per-class", "3"], "the generated shapes"),
                (["--dataset", "modelnet10"], "no '--data'"),
                (["--dataset", "shapes"], "no '--data'"),
                (["--root", "r"], "the '--dataset' of files that lie there"),
            )
        ),
        (
            ["compare", "--dataset", "modelnet10", "--num-per-class", "3"],
            "--num-per-class must go with the generated shapes, got '--dataset modelnet10'",
        ),
        *(
            (
                [*words, "--resplit", "0", "1"],
                f"labelled clouds of '--data' and '--task segmentation', got {got}",
            )
            for words, got in (
                (["compare"], "the generated shapes"),
                (["cross", "--task", "segmentation"], "the generated shapes"),
                (["compare", "--data", "c.npz"], "'--data c.npz'"),
            )
        ),
        *(
            (
                ["distill", *words, "--categories", "cup"],
                f"--categories must go with labelled clouds and '--task segmentation', got {got}",
            )
            for words, got in (
                (["--dataset", "shapes"], "the generated shapes"),
                (["--data", "c.npz"], "'--data c.npz'"),
            )
        ),
        (["compare", "--root", "r"], "--root must go with the '--dataset' of files that lie there"),
        *(
            (
                [program, "--width", "0.5"],
                "--width must go with the network PointNetSegmentation, got",
            )
            for program in ("distill", "compare", "cross", "continual", "resolution", "tune")
        ),
        *(
            (words, "--mamba-centers must go with the network PointMamba, got")
            for words in (
                ["distill", "--backbone", "DGCNN", "--mamba-centers", "8"],
                ["cross", "--backbones", "DGCNN", "PointNet", "--mamba-centers", "8"],
            )
        ),
        (["compare", "--methods", "random", "--lrs", "1"], "--lrs must go with a row that is"),
        (["compare", "--methods", "anchors", "--lrs", "1"], "that is distilled, got anchors"),
        (["compare", "--methods", "DDP-initial(adaptive=3)"], "'adaptive' must be True or False"),
        (
            ["cross", "--methods", "random", "--distill-with", "DGCNN"],
            "--distill-with must go with",
        ),
        (
            ["resolution", "--methods", "random", "--distill-with", "DGCNN"],
            "--distill-with must go with",
        ),
        (
            ["cross", "--methods", "DDP", "--whole-points", "8"],
            "--whole-points must go with the row",
        ),
        *(
            ([*words, "--whole-epochs", "3"], "--whole-epochs must go with a row on the whole set")
            for words in (
                ["tune"],
                ["sensitivity"],
                *(
                    [program, "--methods", "random", "DDP"]
                    for program in ("compare", "cross", "resolution", "continual")
                ),
            )
        ),
        *(
            ([program, "--resplit", "2", "0"], "--resplit must be one number, but for compare and")
            for program in ("distill", "resolution", "sensitivity", "continual", "tune")
        ),
        (
            ["tune", "--objectives", "score,bits", "--looks", "0.5"],
            "--looks must go with '--pruner",
        ),
        (
            ["tune", "--objectives", "score,bits", "--pruner", "wilcoxon", "--trial-runs", "5"],
            "--pruner wilcoxon must go with one objective, got '--objectives score,bits'",
        ),
        (["tune", "--gpus", "1", "--device", "cpu"], "--gpus must go with '--device cuda' or none"),
        (
            ["show", ".", "--html", "x", "--up", "y"],
            "--html, --up must go with a distilled set, got",
        ),
    ],
)
def test_what_needs_no_data_is_refused_before_they_are_read(words, message, folder, monkeypatch):
    late = {"load": lambda *args: pytest.fail("data are read"), "options": ()}
    monkeypatch.setattr(data, "READERS", {"shapes": argparse.Namespace(**late)})
    assert message in refused(*words)


def test_what_show_cannot_draw_is_refused_before_a_word(folder, capsys):
    SyntheticPointCloudDataset.example().save("set.safetensors")
    for words, message in (
        (["--picture", "x.xyz"], "'picture' must end in one of "),
        (["--classes", "nosuch"], "'classes' must be of ['airplane'"),
    ):
        assert message in refused("show", "set.safetensors", *words)
        assert capsys.readouterr().out == ""


def test_show_draws_no_stored_cloud_where_none_is_asked_for(folder, capsys):
    SyntheticPointCloudDataset.example().save("set.safetensors")
    words = ["show", "set.safetensors", "--drawn", "0", "0", "1", "--picture", "x.png"]
    assert command.main(words) == 0
    assert Path("x.png").exists()


def test_damaged_results_of_a_search_name_their_file(folder):
    Path("out").mkdir()
    Path("out", "results.json").write_text("{bad")
    message = "results.json' is damaged (Expecting property name enclosed in double quotes"
    assert message in refused("tune", *WORK, "--trials", "1", "--out", "out")


def test_a_method_that_no_ranks_share_is_refused_before_data_are_read(folder, monkeypatch):
    monkeypatch.setattr("torch_geometric_ddp.methods.ranks.Ranks.here", lambda: Ranks(1, 2))
    monkeypatch.setattr(labs, "open_lab", lambda *args: pytest.fail("data are read"))
    assert "which 2 ranks cannot share: start one process" in refused("distill", "--method", "pkr")


def test_a_setting_that_is_varied_twice_takes_the_values_of_both(folder, monkeypatch):
    made = []
    monkeypatch.setattr(
        "torch_geometric_ddp.comparison.Lab.run",
        lambda self, cells, workers: made.extend(cells) or [],
    )
    words = [
        "--vary",
        "num_anchors",
        "2",
        "--vary",
        "num_morphs",
        "1",
        "--vary",
        "num_anchors",
        "8",
    ]
    assert "no run was made" in refused("sensitivity", *WORK, *words)
    names = [cell.entry.name for cell in made]
    assert names == [
        "DDP",
        *(f"DDP({word})" for word in ("num_anchors=2", "num_anchors=8", "num_morphs=1")),
    ]


def test_the_usual_points_of_test_clouds_are_those_that_they_have(folder, monkeypatch):
    points, labels = toy_arrays(num_points=128)
    sets = {"train_points": points, "test_points": points[:, :100]}
    np.savez("mine.npz", **sets, train_labels=labels, test_labels=labels)
    seen = []
    monkeypatch.setattr(
        "torch_geometric_ddp.comparison.CrossResolution",
        lambda lab, *points, own_points: seen.append((*points, own_points)) or lab,
    )
    monkeypatch.setattr("torch_geometric_ddp.comparison.Lab.run", lambda self, cells, workers: [])
    assert "no run was made" in refused("resolution", "--data", "mine.npz", "--out", "out")
    assert seen == [([64, 128], [64], True)]
    refused("resolution", "--data", "mine.npz", "--out", "out", "--train-points", "32")
    assert seen[1:] == [([32], [64], False)]


def test_quotas_by_difficulty_are_what_a_network_forgot(folder, capsys):
    words = ["compare", "--num-per-class", "3", "--num-points", "64", "--preset", "smoke"]
    words += ["--seeds", "1", "2", "--ppc", "2", "--methods", "random", "whole", "--out", "out"]
    words += ["--quotas", "uniform", "difficulty"]
    assert command.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| random")]
    assert rows[:2] == ["random", "random, quotas difficulty"]
    runs = [json.loads(line) for line in (folder / "out/runs.jsonl").read_text().splitlines()]
    quotas = [run.get("quotas") for run in runs if run["method"].endswith("difficulty")]
    (path,) = [
        path
        for path in (folder / "out/observations").iterdir()
        if Observation.load(path).config["seed"] == 1
    ]
    assert quotas == [[*difficulty_quotas(Observation.load(path))]] * 2
    # The network of the first seed is a run of its own, which the row of the whole set takes over.
    assert [run["seed"] for run in runs if run["method"] == "whole"] == [1, 2]


def test_quotas_by_difficulty_are_refused_before_a_network_is_trained(folder):
    words = ["compare", "--preset", "smoke", "--quotas", "difficulty", "--seeds", "0"]
    with pytest.raises(SystemExit, match="--quotas difficulty must go with one label"):
        command.main([*words, "--task", "segmentation", "--out", "a"])
    with pytest.raises(SystemExit, match="ppc"):
        command.main([*words, "--ppc", "1000", "--out", "b"])
    assert not [*folder.glob("*/runs.jsonl")]


def test_quotas_that_give_every_class_as_much_are_one_row(folder, capsys):
    words = ["--preset", "smoke", "--num-per-class", "2", "--num-points", "64", "--seeds", "0"]
    words += ["--ppc", "2", "--quotas", "size", "uniform", "sqrt-size", "--steps", "1"]
    assert command.main(["compare", *words, "--methods", "random"]) == 0
    assert command.main(["distill", *words, "--skip-whole"]) == 0
    for program, methods in (("compare", ["random"]), ("distill", ["random", "initial", "DDP"])):
        lines = (folder / "out" / program / "runs.jsonl").read_text().splitlines()
        assert [json.loads(line)["method"] for line in lines] == methods


def test_small_random_clouds_stand_for_whole_ones_in_less_than_their_room(folder, capsys):
    words = ["distill", "--num-per-class", "2", "--num-points", "64", "--preset", "smoke"]
    words += ["--ppc", "0.5", "--steps", "1", "--seeds", "0", "--skip-whole", "--out", "out"]
    assert command.main(words) == 0
    text = capsys.readouterr().out
    lines = (folder / "out/runs.jsonl").read_text().splitlines()
    methods = [json.loads(line)["method"] for line in lines]
    assert methods == ["mirrored 32x5", "initial", "DDP"]
    assert "IOR and score at PPC 0.5: over `mirrored 32x5`." in text
    assert not (folder / "out/failures.json").exists()


def test_sets_are_trained_on_at_their_own_points_too(folder, capsys):
    data = ["--num-per-class", "2", "--num-points", "80", "--preset", "smoke", "--seeds", "0"]
    words = ["resolution", *data, "--methods", "random", "random 32x6", "--out", "out"]
    assert command.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 runs. To do:"
    assert lines[2].startswith("- 4 networks to train on small sets at the points of a row, if ")
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| random")]
    assert rows == ["random, 64 points", "random, 80 points", "random 32x6, 32 points"]
    assert command.main(["show", "out"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("shapes, classification, protocol smoke\n")
    matrix = table_of("\n".join(lines))
    assert table_of(shown)[: len(matrix)] == matrix  # Then come the runs by which sets are made.
    assert command.main(words) == 0
    assert capsys.readouterr().out.startswith("2 runs, all of which are there.\n")


def test_what_is_varied_without_options_fits_the_generated_shapes():
    varied = {name: [*map(sensitivity._value, words)] for name, *words in sensitivity.VARIED}
    assert list(varied) == ["num_anchors", "anchor_points", "num_morphs", "uniformity_lambda"]
    for row in Sensitivity(ENTRIES["DDP"], varied).entries:
        numbers = [row.all_settings()[name] for name in varied]
        most = ShapeMorphing.largest_anchor_points(StorageBudget(256, 10), numbers[0], numbers[2])
        assert (numbers[1] or 1) <= most


# What no option of a kind may be, by the function that reads it; other options take any text.
WRONG = {
    positive: ["x", "0", "-1", "1.5", "nan"],
    natural: ["x", "-1", "1.5", "nan"],
    finite: ["x", "nan", "-inf"],
    above_zero: ["x", "nan", "inf", "0", "-1"],
    network_name: ["nothing", "", "all"],
    network_or_all: ["nothing", ""],
    share: ["x", "0", "-1", "nan", "inf", "1/0", "1/-4", "1e999", "0/3"],
    row_name: ["nothing", "", "DDP(", "DDP(4)", "DDP(nothing=4)", "all", "random"],
    row_or_all: ["nothing", "", "DDP(", "DDP(nothing=4)", "random(num_points=4)", "all(lr=1)"],
}
WRONG_TEXTS = {
    "file": ["nowhere", "text.npz"],
    "--data": ["nowhere.npz", "text.npz"],
    "--out": ["/dev/null/out", "text.npz"],
    "--device": ["nothing", "cuda:99", ""],
    "--categories": ["nothing"],
    "--storage": ["/dev/null/study", "foo://user@x"],
    "--objectives": ["speed", "bits", ""],
    "--classes": ["nothing"],
    "--vary": ["num_morphs"],
    "--tensorboard": ["/dev/null/board", "text.npz"],
    "--cache": ["/dev/null/cache", "text.npz"],
    "--html": ["/dev/null/page.html", "."],
}
# A folder, a name of a study and a picture's place may be any; what stands in them shows later.
FREE = {"--root", "--study", "--picture", "--up"}


def test_storage_is_a_number_or_a_part():
    texts = {"1/16": 1 / 16, "0.25": 0.25, "3": 3, "6/2": 3, "1e-1": 0.1}
    assert {text: share(text) for text in texts} == texts
    assert isinstance(share("2.0"), int)


SCRIPTS = [
    path
    for folder in ("benchmarks", "examples", "torch_geometric_ddp/programs")
    for path in sorted((Path(__file__).resolve().parent.parent / folder).rglob("*.py"))
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_option_takes_any_number_there_is(path):
    """A count below zero, or nan, is refused by the parser: no option is a plain number."""
    calls = [
        node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
    ]
    types = [word.value for call in calls for word in call.keywords if word.arg == "type"]
    assert not {ast.unparse(kind) for kind in types} & {"int", "float", "complex"}


def walk():
    for program in command.PROGRAMS:
        for action in command.parser_of(program)._actions:
            option = action.option_strings[0] if action.option_strings else action.dest
            if action.nargs == 0 or option in FREE or action.help == argparse.SUPPRESS:
                continue
            wrong = ["nothing"] if action.choices else WRONG.get(action.type)
            wrong = WRONG_TEXTS[option] if wrong is None else wrong
            for value in wrong:
                yield pytest.param(program, action, option, value, id=f"{program} {option} {value}")


@pytest.mark.parametrize(("program", "action", "option", "value"), [*walk()])
def test_a_wrong_value_of_any_option_is_refused_before_any_work(
    program, action, option, value, made, folder, monkeypatch, capsys
):
    def late(*args, **kwargs):
        pytest.fail("it began to work")

    monkeypatch.setattr("torch_geometric_ddp.methods.Distillation.step", late)
    monkeypatch.setattr("torch_geometric_ddp.evaluation.learning.Learning.learn", late)
    Path("text.npz").write_text("no archive")
    parser = command.parser_of(program)
    known = {a.option_strings[0] for a in parser._actions if a.option_strings}
    words = [program]
    if any(a.dest == "file" for a in parser._actions) and option != "file":
        words.append(str(made[0] / "distilled.safetensors"))
    for usual in (TINY[:2], TINY[2:], WORK[4:6], WORK[6:8], WORK[8:]):
        words += usual if usual[0] in known - {option} else []
    methods = [name for name, own in METHOD_OPTIONS.items() if option in own.values()]
    if methods and "--method" in known:
        words += ["--method", methods[0] if program != "tune" or methods[0] == "ddp" else "pkr"]
    if action.nargs == 2:
        words += [option, value, value]
    else:
        words.append(value if option == "file" else f"{option}={value}")
    with pytest.raises(SystemExit) as caught:
        command.main(words)
    line = caught.value.code
    if line == 2:
        *_, line = capsys.readouterr().err.splitlines()
    assert isinstance(line, str)
    assert "\n" not in line


@pytest.mark.parametrize("program", ["distill", "segment", "compare", "cross", "sensitivity"])
def test_where_clouds_are_reaches_the_harness(program, folder):
    words = [*TINY, "--task", "classification"] if program == "segment" else TINY
    args = parsed(program, *words, "--cache", "kept")
    assert not args.stream
    lab = labs.open_lab(args, {})
    assert lab.bank.kept_in == Path("kept")
    assert labs.open_lab(parsed(program, *words), {}).bank.kept_in is None


def test_where_clouds_are_reaches_a_search(folder, monkeypatch):
    """Its trials, and the runs of its winner."""
    seen, make = [], searching.Lab
    monkeypatch.setattr(searching, "Lab", lambda *args: seen.append(make(*args)) or seen[0])
    monkeypatch.setattr(searching, "tune", lambda *args, cache, **_: refuse(f"trials in {cache}"))
    assert "trials in kept" in refused("tune", *WORK, "--cache", "kept")
    assert seen[0].bank.kept_in == Path("kept")


def test_sets_of_other_classes_give_one_line(made, folder):
    points, labels = toy_arrays()
    sets = {f"{split}_points": points for split in ("train", "test")}
    sets |= {f"{split}_labels": labels for split in ("train", "test")}
    np.savez("mine.npz", **sets, class_names=np.array(["a", "b", "c"]))
    file = made[0] / "distilled.safetensors"
    for program in ("evaluate", "train", "show"):
        assert "class" in refused(program, file, "--data", "mine.npz")


def test_a_traceback_is_shown_when_it_is_asked_for(folder):
    with pytest.raises(FileNotFoundError):
        command.main(["show", "nowhere", "--traceback"])


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    def run(args):
        raise KeyError("a fault")

    monkeypatch.setattr("torch_geometric_ddp.programs.show.run", run)
    with pytest.raises(KeyError):
        command.main(["show", "nowhere"])


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (
            ["distill", "--out", "here"],
            "The same command goes on from there: what is finished is in here/.",
        ),
        (
            ["segment", "--out", "here"],
            "The same command goes on from there: what is finished is in here/.",
        ),
        (["compare"], "The same command goes on from there: what is finished is in out/compare/."),
        (["cross"], "The same command goes on from there: what is finished is in out/cross/."),
        (["tune", "--storage", "x.db"], "The same command goes on with the study in x.db."),
        (["train", "set"], "Nothing is kept: the same command begins anew."),
        (["evaluate", "set"], "Nothing is kept: the same command begins anew."),
        (["show", "set"], "Nothing is kept: the same command begins anew."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_ctrl_c_says_how_to_go_on(words, how, monkeypatch, capsys):
    def run(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"torch_geometric_ddp.programs.{words[0]}.run", run)
    assert command.main(words) == 130
    assert capsys.readouterr().err == f"\nStopped. {how}\n"


# What programs say ###############################################################################


def test_what_is_going_to_be_done_is_said_at_the_start(made):
    lines = made[1].stdout.splitlines()
    assert lines[:4] == [
        "3 runs. To do:",
        "- 1 set to distil, 1 step each",
        "- 3 networks to train on a small set each: protocol smoke, 2 epochs",
        "How long a bar has to go stands in it after its first step.",
    ]
    # As it does.
    assert re.search(r"1/2 \[\d\d:\d\d<\d\d:\d\d", made[1].stderr)


def test_what_is_there_is_not_said_to_be_done(made, capsys):
    assert command.main(["distill", *WORK, "--out", str(made[0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "4 runs, of which 3 are there. To do:",
        "- 1 network to train on the whole set: protocol smoke, 2 epochs",
    ]
    assert "(its figures mean nothing)" in "".join(lines)
    assert command.main(["distill", *WORK, "--out", str(made[0])]) == 0
    assert capsys.readouterr().out.startswith("4 runs, all of which are there.\n")


def test_a_cloud_that_is_left_over_is_no_step_of_its_own(capsys):
    showing.announce_training("PointNet", 1, Protocol("short", epochs=4), 9)
    assert "4 epochs of 9 clouds, 4 steps each." in capsys.readouterr().out


def test_what_runs_need_is_said_with_them(tmp_path, capsys):
    """Sets of other backbones, and the networks on the whole set that herding and PCC observe."""
    nets = {"A": TinyNet, "B": NormNet}
    preset = Preset("tiny", SMOKE, replace(SMOKE, name="whole"), 2, 1)
    lab = Lab(toy_set(), toy_set(seed=1), tmp_path, preset, nets)

    def said(*names, seeds=(0,), distill_with=("A",)):
        entries = [ENTRIES[name] for name in names]
        cells = list(lab.cells(entries, [1], seeds, ["B"], distill_with))
        showing.announce(lab, cells)
        lines = capsys.readouterr().out.splitlines()[:-1]
        return cells, [line.split(": protocol")[0].removeprefix("- ") for line in lines]

    cells, first = said("DM", "herding", "random")
    assert first == [
        "3 runs. To do:",
        "1 set to distil, 2 steps each",
        "5 networks to train on a small set each",
        "1 network to train on the whole set",
    ]
    made = []
    original = lab._runs.append
    lab._runs.append = lambda line: made.append(line["method"]) or original(line)
    lab.run(cells)
    assert sorted(made) == ["DM", "DM", "herding", "herding", "random", "whole"]
    # What they share with these is there, and what another row of the same call makes comes once.
    assert said("PCC", distill_with=("A",))[1][1:] == [
        "1 set to distil, 2 steps each",
        "2 networks to train on a small set each",
    ]
    assert said("herding", "PCC", "whole", seeds=(1,), distill_with=("B",))[1][1:] == [
        "1 set to distil, 2 steps each",
        "2 networks to train on a small set each",
        "1 network to train on the whole set",
    ]


def said_of(lab, cells, capsys):
    """What is announced of runs, without the protocols and what stands at the end."""
    showing.announce(lab, cells)
    lines = capsys.readouterr().out.splitlines()
    return [line.split(", 2 epochs")[0].removeprefix("- ") for line in lines if "bar" not in line]


def test_what_increments_need_is_said(tmp_path, capsys):
    sets = (toy_set(num_classes=4, seed=seed) for seed in (0, 1))
    preset = Preset("tiny", SMOKE, replace(SMOKE, name="whole"), 2, 1)
    lab = ClassIncremental(*sets, tmp_path, 2, preset, TinyNet)
    entries = [ENTRIES[name] for name in ("DM", "herding", "whole")]
    cells = list(lab.cells(entries, 1, (0,)))
    assert said_of(lab, cells, capsys) == [
        "3 runs. To do:",
        "2 sets to distil, 2 steps each",
        "4 networks to train on the exemplars of all classes seen: protocol smoke",
        "2 networks to train on all clouds of all classes seen: protocol whole",
        "2 networks to train on all clouds of an increment: protocol whole",
    ]
    assert len(lab.run(cells)) == 3 * 2
    assert said_of(lab, cells, capsys) == ["3 runs, all of which are there."]
    # Lines that are lost need networks and no sets, and what another row observes is there.
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    kept = [one for one in lines if one["method"] == "DM" or len(one["classes_seen"]) == 1]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept))
    more = list(lab.cells([*entries, replace(ENTRIES["herding"], name="again")], 1, (0,)))
    assert said_of(lab, more, capsys) == [
        "4 runs, of which 1 are there. To do:",
        "3 networks to train on the exemplars of all classes seen: protocol smoke",
        "1 network to train on all clouds of all classes seen: protocol whole",
    ]


def test_what_resolutions_need_is_said(tmp_path, capsys):
    preset = Preset("tiny", SMOKE, replace(SMOKE, name="whole"), 2, 1)
    lab = lab_of(tmp_path, preset, 64)
    matrix = CrossResolution(lab, (16, 64), (8,))
    entries = [ENTRIES["DM"], ENTRIES["herding"], CONTROLS["random 32x6"]]
    entries += [ENTRIES["whole"], ENTRIES["whole"].at(16)]
    cells = list(lab.cells(entries, (1,), (0,)))
    assert said_of(matrix, cells, capsys) == [
        "5 runs. To do:",
        "1 set to distil, 2 steps each",
        "3 networks to train on a small set each: protocol smoke",
        "1 network to train on the whole set: protocol whole",
        "6 networks to train on small sets at the points of a row, if they have so many: "
        "protocol smoke",
        "3 networks to train on the whole set at the points of a row: protocol whole",
    ]
    assert len(matrix.run(cells)) == 5 + 3
    assert said_of(matrix, cells, capsys) == ["5 runs, all of which are there."]
    assert said_of(CrossResolution(lab, (16, 32), (8,)), cells, capsys) == [
        "5 runs, of which 1 are there. To do:",
        "3 networks to train on small sets at the points of a row: protocol smoke",
        "1 network to train on the whole set at the points of a row: protocol whole",
    ]


def test_a_seed_that_is_given_twice_is_one(tmp_path, capsys):
    words = ["compare", *WORK, "--methods", "random", "--seeds", "0", "0", "--out", str(tmp_path)]
    assert command.main(words) == 0
    assert capsys.readouterr().out.startswith("1 run. To do:\n")


def run_ids(path):
    return set(re.search("<!-- runs: (.*) -->", path.read_text())[1].split())


def test_a_table_of_more_runs_is_never_replaced_by_one_of_fewer(tmp_path, capsys):
    def compare(*methods):
        words = ["compare", *WORK, "--methods", *methods, "--out", str(tmp_path)]
        assert command.main(words) == 0
        return capsys.readouterr().out.splitlines()[-1], sorted(
            p.name for p in tmp_path.glob("*.md")
        )

    compare("random")
    first = run_ids(tmp_path / "table.md")
    _, tables = compare("random", "anchors")  # It grows.
    assert tables == ["table.md"]
    assert first < run_ids(tmp_path / "table.md")
    before = {name: (tmp_path / name).read_bytes() for name in ("table.md", "table.png")}
    for _ in range(2):
        said, tables = compare("anchors")
        assert tables == ["table-2.md", "table.md"]
        assert "table-2.md" in said
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert (tmp_path / "table-2.png").exists()
    assert len(run_ids(tmp_path / "table-2.md")) == 1
    # A table of an earlier version does not say of which runs it is.
    (tmp_path / "table.md").write_text("| method |\n")
    assert compare("random", "anchors")[1] == ["table-2.md", "table.md"]
    assert (tmp_path / "table.md").read_text() == "| method |\n"
    assert len(run_ids(tmp_path / "table-2.md")) == 2


def write_table(folder, made):
    lab = SimpleNamespace(failures={}, preset=PRESETS["smoke"])
    showing.print_table(argparse.Namespace(out=folder), [lab], "", "", [{"id": "1"}], "table")


def write_set(folder, made):
    path = made / "distilled.safetensors"
    lab = SimpleNamespace(failures={}, synthetic=lambda _: None, set_path=lambda _: path)
    showing.keep_set(argparse.Namespace(out=folder), lab, "run")


def write_network(folder, made):
    words = [made / "distilled.safetensors", *TINY, "--preset", "smoke", "--out", folder]
    train.run(parsed("train", *words))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_table, "table.md"),
        (write_set, "distilled.safetensors"),
        (write_network, "network.safetensors"),
    ],
)
def test_a_file_stays_as_it_was_where_the_disk_is_full(write, name, made, folder, monkeypatch):
    def full(*_):
        raise OSError("the disk is full")

    (folder / name).write_text("<!-- runs: 1 -->")
    monkeypatch.setattr("torch_geometric_ddp._files.os.fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        write(folder, made[0])
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [
        (name, "<!-- runs: 1 -->")
    ]


# Several splits ##################################################################################


def table_of(text):
    """The lines of all tables."""
    return [line for line in text.splitlines() if line.startswith("|")]


@pytest.fixture
def splitting(folder):
    """The words that compare on two splits of labelled clouds."""
    data = ["--task", "segmentation", "--data", str(parts_file(folder / "parts.npz"))]
    methods = ["--width", "0.1", "--methods", "random", "whole", "--out", "out"]
    return ["compare", *data, *WORK[4:8], "--seeds", "0", "1", *methods, "--resplit", "3", "0"]


def values_of(folder):
    """The figures of every method in a folder of runs."""
    runs = map(json.loads, (folder / "runs.jsonl").read_text().splitlines())
    found = {}
    for run in runs:
        found.setdefault(run["method"], []).append(run["value"])
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_several_splits_are_one_table(workers, splitting, folder, capsys):
    assert command.main([*splitting, "--workers", str(workers)]) == 0
    printed = capsys.readouterr().out
    folders = [Path("out/split_3"), Path("out/split_0")]
    said = [line for line in printed.splitlines() if "splits:" in line]
    assert said == [f"{folders[0]}, 1 of 2 splits:", f"{folders[1]}, 2 of 2 splits:"]
    assert printed.count("4 runs. To do:") == 2
    assert "preset smoke (its figures mean nothing), 2 splits, 2 seeds each\n" in printed
    assert "0.1, 2 splits, 2 seeds each.\n" in printed
    pooled = [values_of(path) for path in folders]
    for method in ("random", "whole"):
        values = [value for values in pooled for value in values[method]]
        assert len(values) == 4
        mean, std = 100 * np.mean(values), 100 * np.std(values, ddof=1)
        assert re.search(rf"\| {method} +\| {mean:.1f} ± {std:.1f} +\|", printed)
    assert sorted(path.name for path in Path("out").iterdir()) == [
        *("split_0", "split_3", "table.md", "table.png"),
    ]
    if workers == 2:
        assert all((path / "workers" / "seed-1.txt").exists() for path in folders)
        return
    # Both go on from where they are, and either can be made alone in its folder.
    assert command.main(splitting) == 0
    again = capsys.readouterr().out
    assert again.count("4 runs, all of which are there.") == 2
    assert again[again.index("parts, ") :] == printed[printed.index("parts, ") :]
    assert command.main(["show", "out"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("parts, segmentation, protocol smoke\n")
    assert table_of(shown) == table_of(printed)
    assert "0.1, 2 splits, 2 seeds each.\n" in shown
    (told,) = {
        SyntheticPointCloudDataset(file).provenance["command"]
        for file in (folders[0] / "sets").iterdir()
    }
    assert told.endswith(f"--resplit 3 --out {folders[0]}")
    assert command.main(shlex.split(told)[1:]) == 0
    alone = capsys.readouterr().out
    assert alone.startswith("4 runs, all of which are there.\n")
    assert "splits" not in alone


def test_several_splits_are_one_matrix(splitting, folder, capsys):
    words = ["--backbones", "PointNetSegmentation", "--whole-points", "16"]
    assert command.main(["cross", *splitting[1:], *words]) == 0
    printed = capsys.readouterr().out
    assert ", 2 splits, 2 seeds each, instance mIoU % of the backbone" in printed
    pooled = [values_of(Path(f"out/split_{split}")) for split in (3, 0)]
    values = [value for values in pooled for value in values["random"]]
    mean, std = 100 * np.mean(values), 100 * np.std(values, ddof=1)
    assert re.search(rf"\| random +\| - +\| 1 +\| {mean:.1f} ± {std:.1f} +\|", printed)


def test_splits_of_other_data_are_tables_of_their_own(splitting, folder, capsys):
    words = [*splitting, "--seeds", "0"]
    assert command.main(words) == 0
    assert command.main([*words, "--num-points", "16"]) == 0
    capsys.readouterr()
    assert command.main(["show", "out"]) == 0
    shown = capsys.readouterr().out
    # Two splits at two numbers of points, and nothing tells which two go together.
    assert shown.count("parts, segmentation, protocol smoke\n") == 4
    assert "splits" not in shown


def test_a_split_that_comes_twice_is_the_one_that_it_is_alone(splitting, folder, capsys):
    assert command.main([*splitting[:-1], "3", "--seeds", "0"]) == 0
    assert "splits" not in capsys.readouterr().out
    assert len(values_of(Path("out"))["random"]) == 1


def test_what_failed_stands_with_its_split(splitting, folder, capsys):
    methods = ["--methods", "random", "DDP(num_anchors=100)", "--seeds", "0"]
    assert command.main([*splitting, *methods]) == 0
    failed = re.findall("^Failed: (.*?), PPC 1", capsys.readouterr().out, re.MULTILINE)
    assert failed == [f"split_{split}, DDP(num_anchors=100)" for split in (3, 0)]


def test_what_is_wrong_with_a_later_split_is_noticed_before_the_first_run(splitting, folder):
    later = Path("out/split_0/runs.jsonl")
    later.parent.mkdir(parents=True)
    later.write_text('{"id": 1}\n')
    assert f"line 1 of '{later}' is no run of a comparison" in refused(*splitting)
    assert not Path("out/split_3/runs.jsonl").exists()


@pytest.mark.parametrize("program", ["evaluate", "train", "show"])
def test_a_set_is_of_one_split(program, made, folder):
    words = [program, made[0] / "distilled.safetensors", *TINY, "--resplit", "0", "1"]
    assert "--resplit must be one number, but for compare and cross, got 0 1" in refused(*words)


def test_a_heading_says_what_was_made_otherwise_than_the_preset_says():
    small = {"steps": 3, "budget_bits": 8, "whole": None}
    whole = {"steps": 0, "budget_bits": None, "whole": {"name": "any"}, "protocol": None}

    def heading(*words, runs=(small, whole)):
        return showing.heading(parsed("compare", *words), runs)

    assert heading() == "shapes, preset quick, whole set quick-whole"
    assert heading("--preset", "paper", "--num-networks", 1) == "shapes, preset paper"
    words = ["--steps", 3, "--epochs", 7, "--whole-epochs", 5, "--num-networks", 2]
    words += ["--num-points", 64, "--num-per-class", 1, "--rotate"]
    data, work_of = "shapes, 64 points, 1 cloud per class, preset quick", "2 networks"
    trained = "protocol quick, epochs 7, augment"
    on_whole = "whole set quick-whole, epochs 5, min_steps 0, augment"
    assert heading(*words) == f"{data}, 3 steps, {work_of}, {trained}, {on_whole}"
    choice = ["--categories", "chair", "table", "--resplit", 4]
    assert heading(*choice, "--validate", 0.2) == (
        "shapes, categories chair table, preset quick, whole set quick-whole, split 4, "
        "tested on clouds held out from the training set"
    )
    # Two seeds that draw one split, and no run that says so.
    pooled = [{**run, "split": 0} for run in (small, whole)]
    several = heading("--resplit", 4, 5, runs=pooled)
    assert several == "shapes, preset quick, whole set quick-whole, 1 split, 2 seeds each"
    assert heading("--resplit", 4, 5, runs=[]) == "shapes, preset quick, 2 splits, 2 seeds each"
    # What no row has had is not told.
    untouched = {**small, "steps": 0}
    assert heading(*words, runs=[untouched]) == f"{data}, {work_of}, {trained}"
    assert heading(*words, runs=[small]) == f"{data}, 3 steps, {work_of}, {trained}"


@pytest.mark.parametrize(
    ("program", "words"),
    [
        *(
            ("compare", words)
            for words in ([], ["--methods", "herding"], ["--quotas", "difficulty"])
        ),
        ("compare", ["--methods", "random", "--quotas", "difficulty"]),
        ("sensitivity", ["--base", "PCC", "--vary", "lr", "1"]),
    ],
)
def test_epochs_on_the_whole_set_go_with_what_is_trained_on_it(program, words, folder, monkeypatch):
    reached = {"load": lambda *args, **kwargs: refuse("data are read")}
    monkeypatch.setattr(data, "READERS", {"shapes": argparse.Namespace(**reached)})
    assert refused(program, *words, "--whole-epochs", "3") == "data are read"


def test_all_methods_beside_other_rows():
    wanted = [entry.name for entry in rows.named_rows(parsed("compare", "--methods", "all"), ())]
    assert "DDP" in wanted
    words = ["--methods", "mirrored 32x5", "DDP(num_morphs=2)", "all", "DDP"]
    args = parsed("compare", *words)
    found = [entry.name for entry in rows.named_rows(args, ())]
    assert found == ["mirrored 32x5", "DDP(num_morphs=2)", *wanted]


def test_runs_that_were_not_made_alike_are_rows_of_their_own():
    def run(seed, **changes):
        made = {"method": "DDP", "backbone": "PointNet", "ppc": 1, "budget_bits": 8, "steps": 2}
        made |= {"settings": {"num_morphs": 4}, "protocol": {"name": "cpu", "min_steps": 1000}}
        return {**made, "seed": seed, "value": 0.1 * seed, "metric": "accuracy", **changes}

    runs = [run(0), run(1), run(2, protocol={"name": "cpu", "min_steps": 9}), run(3)]
    runs += [run(4, steps=3), run(5, settings={"num_morphs": 5}), run(6, num_networks=2)]
    rows = summarize(runs)
    assert [[made["seed"] for made in row.runs] for row in rows] == [[0, 1, 3], [2], [4], [5], [6]]
    assert {row.method for row in rows} == {"DDP"}


# distill, and what tune says of it ###############################################################


WORDS = {
    **{"--num-anchors": (3, 3), "--anchor-points": (5, 5), "--num-morphs": (0, 0)},
    **{"--uniformity-lambda": (2, 2.0), "--anchor-lr": (0.5, 0.5), "--weight-lr": (0.25, 0.25)},
    **{"--lr": (0.125, 0.125), "--cloud-points": (8, 8), "--depth": (5, 5)},
    **{"--mirror": ("never", False), "--ridge": (0.5, 0.5)},
}


def test_parts_are_distilled_by_methods_that_serve_them():
    assert names.PART_METHODS == ["ddp", "dm"]
    (action,) = (a for a in command.parser_of("segment")._actions if a.dest == "method")
    assert action.choices == names.PART_METHODS
    for name in names.PART_METHODS:
        words = ["segment", "--method", name, *TINY, "--steps", "1", "--skip-whole", "--out", "out"]
        assert command.parser_of("segment").parse_args([*map(str, words[1:])]).method == name


def test_every_method_says_its_options():
    """Without an entry, if only an empty one, no program could be asked for it."""
    assert list(METHOD_OPTIONS) == names.METHODS


@pytest.mark.parametrize("method", METHOD_OPTIONS)
def test_every_method_takes_its_options_and_no_others(method):
    own = {option: setting for setting, option in METHOD_OPTIONS[method].items()}
    for option in {*WORDS, "--ungrouped"}:
        word, value = WORDS.get(option, (None, False))
        given = [option] if word is None else [option, word]
        args = parsed("distill", "--method", method, "--data", "mine.npz", *given)
        if option in own:
            assert rows.method_settings(args)[own[option]] == value
        else:
            with pytest.raises(ValueError, match=f"{option} must go with '--method "):
                rows.method_settings(args)


def test_a_method_without_options_or_a_row_is_known_to_programs(monkeypatch, folder):
    monkeypatch.setitem(METHODS, "new", partial(replace, sadm(), name="New"))
    monkeypatch.setattr(names, "METHODS", [*names.METHODS, "new"])
    assert command.main(["distill", *WORK, "--method", "new", "--skip-whole"]) == 0
    lines = (folder / "out/distill/runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["method"] for line in lines] == ["random", "initial", "New"]
    assert "--num-anchors must go with" in refused(
        "distill", *WORK, "--method", "new", "--num-anchors", "2"
    )


@pytest.mark.parametrize("words", [["tune", "--trials", "2"], ["compare", "--methods", "DDP"]])
def test_networks_of_centres_are_refused_before_any_work_and_taken_ungrouped(words, folder):
    network = ["--backbone" if words[0] == "tune" else "--backbones", "PointNet2Segmentation"]
    words = [*words, *WORK, "--num-per-class", "5", "--task", "segmentation", *network]
    assert "PointNet2Segmentation gives those of centres" in refused(*words)
    assert not [*folder.glob("out/*/runs.jsonl")]
    if words[0] == "tune":
        args = parsed(*words, "--ungrouped")
        settings = searching._fixed(args)
        assert settings["grouped"] is False
        line = tunables.command(args, settings, [0])
        assert (
            rows.method_settings(command.whole_parser().parse_args(line.split()[1:]))["grouped"]
            is False
        )


def test_the_command_of_tune_has_every_option_that_distill_shares():
    words = ["--data", "mine.npz", "--root", "r", "--num-points", 9, "--num-per-class", 8]
    words += ["--task", "segmentation", "--categories", "a", "b", "--resplit", 7, "--validate", 0.2]
    words += ["--ppc", 0.5, "--preset", "cpu", "--steps", 6, "--num-networks", 5, "--epochs", 4]
    words += ["--min-steps", 3, "--train-lr", 0.5, "--rotate", "--width", 0.3]
    words += ["--mamba-centers", 2, "--device", "cpu", "--backbone", "DGCNN", "--whole-epochs", 3]
    words += ["--workers", 2, "--cache", "kept"]
    args = parsed("tune", *words, "--dataset", "modelnet10", "--out", "o", "--method", "pkr")
    tune.complete(args)
    settings = {"num_points": 16, "depth": 5, "mirror": False, "lr": 0.01}
    line = tunables.command(args, settings, [2, 3])
    assert line.startswith("distill3d distill ")
    back = vars(command.whole_parser().parse_args(line.split()[1:]))
    expected = {name: value for name, value in vars(args).items() if name in back}
    expected |= {"cloud_points": 16, "depth": 5, "mirror": "never", "lr": 0.01, "ridge": None}
    expected |= {"seeds": [2, 3], "out": Path("o/distill")}
    expected["workers"] = 1  # Those of a search share trials.
    assert {name: back[name] for name in expected} == expected
    ours = {action.dest for action in command.parser_of("tune")._actions}
    theirs = {action.dest for action in command.parser_of("distill")._actions}
    of_methods = {dest_of(o) for options in METHOD_OPTIONS.values() for o in options.values()}
    shared = (ours & theirs) - of_methods - {"help", "traceback"}
    # All of them were given above, so that none was left out of the line unnoticed.
    usual = vars(parsed("tune"))
    assert {name for name in shared if getattr(args, name) == usual[name]} == {"seeds"}


def test_classes_are_computed_as_many_at_a_time_as_asked_for(folder):
    """The set says so, and its run is another one than without."""
    words = ["distill", *WORK, "--method", "dm", "--skip-whole", "--out", "."]
    for more in ([], ["--classes-per-chunk", "3"]):
        assert command.main([*words, *more]) == 0
    runs = map(json.loads, Path("runs.jsonl").read_text().splitlines())
    usual, chunked = (run for run in runs if run["method"] == "DM")
    assert usual["id"] != chunked["id"]
    assert "classes_per_chunk" not in usual["settings"] | usual["provenance"]
    assert chunked["provenance"]["classes_per_chunk"] == 3
    assert SyntheticPointCloudDataset("distilled.safetensors").provenance["classes_per_chunk"] == 3


# evaluate, train and show ########################################################################


def test_the_file_of_a_set_tells_the_command_that_made_it(made, folder):
    """Which is no part of a run: other words for it find it, and leave its set as it is."""
    words = ["distill3d", "distill", *WORK, "--skip-whole", "--out"]
    files = [made[0] / "distilled.safetensors", *(made[0] / "sets").iterdir()]
    assert len(files) == 4
    for file in files:
        told = SyntheticPointCloudDataset(file).provenance["command"]
        assert told.split() == [*words, str(made[0])]
    Path("runs").symlink_to(made[0])
    before = {path: path.read_bytes() for path in [made[0] / "runs.jsonl", *files]}
    assert command.main([*words[1:], "runs"]) == 0
    assert {path: path.read_bytes() for path in before} == before


def test_other_programs_tell_their_command_in_sets(folder):
    few = ["--num-increments", "2", "--methods", "random"]
    for words in (["compare", "--methods", "random 32x5 in order"], ["continual", *few]):
        assert command.main([*words, *WORK, "--out", words[0]]) == 0
        for file in (folder / words[0] / "sets").iterdir():
            told = SyntheticPointCloudDataset(file).provenance["command"]
            assert shlex.split(told) == ["distill3d", *words, *WORK, "--out", words[0]]


def test_evaluate_takes_the_network_of_the_file(folder, capsys):
    """Also where it has other sizes than the usual ones, which are part of its name."""
    words = ["--width", "0.1", "--skip-whole", "--num-morphs", "0", "--out", "."]
    assert command.main(["segment", *WORK, *words]) == 0
    capsys.readouterr()
    assert command.main(["evaluate", "distilled.safetensors", *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    now, then = (re.search(r"[\d.]+ %", line)[0] for line in lines[2:4])
    assert now == then
    assert len(lines) == 4  # Nothing is otherwise.


@pytest.mark.parametrize("program", ["evaluate", "train"])
def test_sizes_of_other_networks_than_that_of_a_set_are_refused(program, made, folder, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *args: pytest.fail("data are read"))
    file = made[0] / "distilled.safetensors"
    assert "--width must go with the network PointNetS" in refused(program, file, "--width", "0.5")


@pytest.mark.parametrize("task", TASKS)
def test_a_size_goes_with_any_network_of_a_matrix(task, folder, monkeypatch):
    """Also with one that only distils, or is the usual one."""
    words = ["--backbones", "PointNet", "--distill-with", "PointMamba", "--mamba-centers", "8"]
    if task == "segmentation":
        words = ["--backbones", "PointNet2Segmentation", "--width", "0.5"]
    monkeypatch.setattr(labs, "load", lambda *args: refuse("they are read"))
    assert refused("cross", "--task", task, *words) == "they are read"


def test_evaluate_refuses_a_figure_that_says_too_little(made, folder):
    synthetic = SyntheticPointCloudDataset(made[0] / "distilled.safetensors")
    del synthetic.provenance["evaluated"]["seeds"]
    synthetic.save("set.safetensors")
    assert "the figure that a set tells must have" in refused("evaluate", "set.safetensors")


def test_train_keeps_a_network_that_reaches_its_figure(made, folder, capsys):
    words = [*TINY, "--preset", "smoke", "--epochs", "3", "--seed", "5"]
    assert command.main(["train", str(made[0] / "distilled.safetensors"), *words]) == 0
    printed = capsys.readouterr().out
    path = "out/train/network.safetensors"
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["made"])
    assert told["network"] == "PointNet"
    assert Protocol.from_dict(told["protocol"]).epochs == 3
    assert f"accuracy: {100 * told['value']:.1f} %. The network is in {path}." in printed
    rows = re.findall(r"^\| (\w+) +\| (\d+\.\d) +\|$", printed, re.MULTILINE)
    assert [name for name, _ in rows] == told["class_names"]
    model = PointNet(len(told["class_names"]))
    load_model(model, path)
    _, test_set = data.load(parsed("train", "set", *TINY))
    bank = TASKS["classification"].read(test_set).normalize()
    model.eval()
    with torch.no_grad():
        scores = TASKS["classification"].score(model, bank, bank)
    assert float(scores.values.mean()) == told["value"]
    again = evaluate(
        SyntheticPointCloudDataset(made[0] / "distilled.safetensors"),
        test_set,
        protocol=Protocol.from_dict(told["protocol"]),
        seeds=[5],
        progress=False,
    )
    assert again.mean == told["value"]


def test_show_says_what_a_set_is(made, folder, capsys):
    file = made[0] / "distilled.safetensors"
    words = ["--picture", "set.png", "--classes", "bed", "--up", "y", "--drawn", "1", "2", "2"]
    assert command.main(["show", str(file), *TINY, *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    synthetic = SyntheticPointCloudDataset(file)
    assert f"bits: {synthetic.storage_bits:,}" in lines
    assert "method: DDP" in lines
    assert f"command: {synthetic.provenance['command']}" in lines
    assert "classes: airplane, bed," in "\n".join(lines)
    told = synthetic.provenance["evaluated"]
    expected = f"accuracy: {100 * told['value']:.1f} % (PointNet, protocol smoke, seeds [0])"
    assert expected in lines
    assert Path("set.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def foreign(made, folder):
    """A set of classes that are not those of the generated shapes, from data of their name."""
    synthetic = SyntheticPointCloudDataset(made[0] / "distilled.safetensors")
    synthetic.class_names = [str(i) for i in range(10)]
    assert synthetic.provenance["source"] == "shapes"
    synthetic.save("set.safetensors")


@pytest.mark.parametrize("program", ["train", "evaluate"])
def test_a_set_of_other_data_is_not_tested_on_the_generated_shapes(program, foreign):
    message = "--data or --dataset must name the test clouds of set.safetensors"
    assert message in refused(program, "set.safetensors")
    assert "None.npz" in refused(program, "set.safetensors", "--data", "None.npz")


def test_show_draws_a_set_of_other_data_alone(foreign, capsys):
    assert command.main(["show", "set.safetensors"]) == 0
    assert "set-shown.png: --data or --dataset adds real clouds." in capsys.readouterr().out
    assert Path("set-shown.png").read_bytes().startswith(b"\x89PNG")


def test_show_leaves_the_picture_of_distill_as_it_is(made, folder):
    Path("distilled.safetensors").write_bytes((made[0] / "distilled.safetensors").read_bytes())
    Path("distilled.png").write_text("before")
    assert command.main(["show", "distilled.safetensors", *TINY, "--drawn", "1", "1", "1"]) == 0
    assert Path("distilled.png").read_text() == "before"
    assert Path("distilled-shown.png").exists()


def test_show_draws_classes_without_names_beside_those_of_the_data(foreign):
    """As evaluate and train take them."""
    few = ["--dataset", "shapes", *TINY, "--drawn", "1", "1", "1", "--classes", "0"]
    assert command.main(["show", "set.safetensors", *few]) == 0
    assert Path("set-shown.png").exists()


def test_show_gives_the_tables_of_a_folder(tmp_path, capsys):
    words = ["--methods", "random", "whole", "--out", str(tmp_path)]
    assert command.main(["compare", *WORK, *words]) == 0
    expected = capsys.readouterr().out
    assert command.main(["compare", *WORK, "--epochs", "1", *words]) == 0
    capsys.readouterr()
    assert command.main(["show", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    titles = [line for line in shown.splitlines() if line.startswith("shapes, ")]
    assert titles == [
        f"shapes, classification, protocol smoke{more}" for more in ("", ", epochs 1")
    ]
    table = [line for line in expected.splitlines() if line.startswith("| ")]
    assert [line for line in shown.splitlines() if line.startswith("| ")][: len(table)] == table


def tables_of(text):
    """Of every table that is shown, its title and the first column with the one of that head."""
    tables, head = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("shapes, "):
            tables.append((line.rpartition(", ")[2], {}))
        elif cells[0] == "method":
            head = cells
        elif line.startswith("| ") and "of whole" in head:
            tables[-1][1][cells[0]] = cells[head.index("of whole")]
        elif line.startswith("| ") and "average %" in head:
            tables[-1][1][cells[0]] = cells[head.index("seeds")]
    return tables


def test_show_compares_with_the_whole_set_of_the_preset(tmp_path, capsys):
    made = {"source": "shapes", "task": "classification", "data": {}, "backbone": "PointNet"}
    made |= {"network": "PointNet", "metric": "accuracy", "class_metric": "class accuracy"}
    made |= {"class_mean": 0.5, "class_names": ["a"], "per_class": [0.5], "ppc": 1, "seed": 0}
    made |= {"bits": 8, "num_clouds": 1, "steps": 0, "settings": {}}
    lines = []
    for name, value in (("quick", 0.4), ("paper", 0.8)):
        preset = PRESETS[name]
        protocols = {"protocol": preset.protocol.to_dict(), "whole": None, "budget_bits": 8}
        lines.append({**made, "method": "random", "value": value / 2, **protocols})
        protocols = {"protocol": None, "whole": preset.whole.to_dict(), "budget_bits": None}
        lines.append({**made, "method": "whole", "value": value, **protocols})
    # Of no preset and beside neither: it has a table of its own.
    lines.append({**lines[-1], "whole": {"name": "mine"}, "data": {"train": "others"}})
    texts = [json.dumps({"id": str(i), **line}) for i, line in enumerate(lines)]
    (tmp_path / "runs.jsonl").write_text("\n".join(texts) + "\n")
    assert command.main(["show", str(tmp_path)]) == 0
    assert tables_of(capsys.readouterr().out) == [
        *(
            (f"protocol {name}", {"random": "50 %", "whole": "100 %"})
            for name in ("quick", "paper")
        ),
        ("protocol mine", {"whole": "100 %"}),
    ]


def test_show_gives_every_number_of_increments_and_the_whole_set_with_them(tmp_path, capsys):
    """Also where small sets and the whole one are trained by different protocols."""
    made = {"source": "shapes", "task": "classification", "data": {}, "backbone": "PointNet"}
    made |= {
        "network": "PointNet",
        "metric": "accuracy",
        "class_names": [*"abc"],
        "num_networks": 1,
    }
    made |= {"ppc": 1, "seed": 0, "bits": 8, "num_clouds": 1, "steps": 0, "settings": {}}
    made |= {"value": 0.5, "whole": None}
    quick, lines = PRESETS["quick"], []
    for seen in ([1], [1, 3], [1, 2], [1, 2, 3]):
        line = {**made, "classes_seen": seen, "increment_accuracies": [0.5] * len(seen)}
        small = {"method": "random", "protocol": quick.protocol.to_dict(), "budget_bits": 8}
        whole = {"method": "whole", "protocol": quick.whole.to_dict(), "budget_bits": None}
        lines += [{**line, **small}, {**line, **whole}]
    texts = [json.dumps({"id": str(i), **line}) for i, line in enumerate(lines)]
    (tmp_path / "runs.jsonl").write_text("\n".join(texts) + "\n")
    assert command.main(["show", str(tmp_path)]) == 0
    rows = [f"{name}, {num} increments" for num in (2, 3) for name in ("random", "whole")]
    assert tables_of(capsys.readouterr().out) == [("protocol quick", dict.fromkeys(rows, "1"))]


def test_show_gives_the_table_of_class_incremental_learning(tmp_path, capsys):
    words = ["--methods", "random", "whole", "--num-increments", "2", "--out", str(tmp_path)]
    assert command.main(["continual", *TINY, "--preset", "smoke", "--seeds", "0", "1", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 runs. To do:"
    made = [line for line in lines if line.startswith("| ")]
    assert command.main(["show", str(tmp_path)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")] == made


def test_the_first_set_that_was_distilled_is_kept(tmp_path, monkeypatch):
    """Whichever seeds failed before it."""
    words = ["distill", "--num-per-class", "2", "--num-points", "32", "--preset", "smoke"]
    words += ["--method", "sadm", "--skip-whole", "--seeds", "3", "0", "--out", str(tmp_path)]
    tried, original = [], showing.keep_set
    failing = {3, 0}

    def keep_set(args, lab, cell):
        tried.append(cell.seed)
        return [] if cell.seed in failing else original(args, lab, cell)

    monkeypatch.setattr(showing, "keep_set", keep_set)
    with pytest.raises(SystemExit, match="no set was distilled: the reasons stand above"):
        command.main(words)
    failing.remove(0)
    assert command.main(words) == 0
    assert tried == [3, 0, 3, 0]
    assert SyntheticPointCloudDataset(tmp_path / "distilled.safetensors").provenance["seed"] == 0
