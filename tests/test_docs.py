"""The results behind the documentation, and the script that renders them."""

import importlib
import json
import pydoc
import re
import shlex
import sys
import zlib
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from helpers import TinyNet, toy_set

from torch_geometric_ddp import SMOKE
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    ClassIncremental,
    CrossResolution,
    Distilled,
    Lab,
    Preset,
    markdown,
    paired_markdown,
    resolution_markdown,
    resolution_matrix,
    summarize,
)
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.programs.rows import ROWS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
program = importlib.import_module("render_results")
render = importlib.import_module("rendering")
leaderboard = importlib.import_module("leaderboard")
inventories = importlib.import_module("inventories")

NAMES = sorted(path.stem for path in render.RESULTS.glob("*.json"))
MEAN = r"\d+\.\d+ ± \d+\.\d+"

# What stood on the page when its tables were typed: the columns whose figures are now computed.
PRINTED = {
    "modelnet10-sets": ("accuracy", ["12.5 ± 6.6", "71.8 ± 3.7", "82.1 ± 1.3"]),
    "modelnet10-methods": (
        "accuracy above_random below_whole",
        [
            *("41.0 ± 7.9 +0.0 46.9", "19.8 ± 3.2 -21.3 68.1", "55.2 ± 2.5 +14.2 32.7"),
            *("55.2 ± 2.5 +14.2 32.7", "48.1 ± 7.6 +7.0 39.8", "34.0 ± 10.9 -7.0 53.9"),
            *("59.5 ± 5.0 +18.5 28.4", "53.8 ± 11.7 +12.8 34.1", "63.3 ± 1.3 +22.3 24.6"),
            *("71.5 ± 4.6 +30.5 16.4", "73.3 ± 2.0 +32.3 14.5", "82.9 ± 0.7 +41.9 5.0"),
            *("82.6 ± 0.4 +41.6 5.3", "87.9 ± 1.3 - 0.0"),
        ],
    ),
    "modelnet10-methods-ppc3": (
        "accuracy above_random below_whole",
        [
            "58.5 ± 6.7 +0.0 29.4",
            "65.3 ± 4.5 +6.9 22.5",
            "87.4 ± 1.4 +28.9 0.5",
            "87.9 ± 1.3 - 0.0",
        ],
    ),
    "modelnet10-learning-rates": (
        "below_whole",
        ["34.0", "31.2", "37.1", "45.2", "44.1", "30.8", "38.8", "34.2", "44.6", "0.0"],
    ),
    "relics-methods": (
        "above_random below_whole",
        ["+0.0 29.7", "+0.0 29.7", "+25.1 4.6", "- 0.0"],
    ),
    "princeton-parts": ("miou", ["38.2 ± 1.3", "46.6 ± 2.0", "51.5 ± 0.4", "51.5 ± 2.2"]),
    "princeton-parts-ppc3": ("miou", ["48.9 ± 2.4", "51.5 ± 2.1", "52.9 ± 1.0"]),
    "tuning": ("accuracy", ["68.6 ± 2.1", "67.8 ± 4.5"]),
}


def result(**changes):
    """A small results file as JSON."""
    values = {
        "title": "A title",
        "data": "toy",
        "commands": ["python program.py"],
        "hardware": "a machine",
        "versions": {"torch": "1"},
        "seeds": [0, 1],
        "protocol": "smoke",
        "columns": [
            {"key": "method", "head": "method"},
            {"key": "accuracy", "head": "accuracy %", "as": "mean"},
            {"key": "every", "head": "every seed", "as": "each"},
            {"key": "lead", "head": "lead", "as": "above", "row": {"method": "random"}},
        ],
        "rows": [
            {"method": "random", "accuracy": [10.0, 12.0]},
            {"method": "DDP", "accuracy": [30.0, 31.0]},
            {"method": "old", "accuracy": {"mean": 20.0, "std": 1.0, "count": 2}, "lead": 9.1},
            {"method": "never", "accuracy": None},
        ],
    }
    return {**values, **changes}


def write(folder, name="toy", **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result(**changes)))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_results_file_says_how_it_was_made(name, tmp_path):
    results = render.find(name)
    assert any(not command.startswith("#") for command in results.commands)
    assert results.hardware
    assert results.seeds
    if any("±" in cell for line in render.lines(results) for cell in line):
        assert results.spread
    # As the script writes it, so that a change of one figure is a change of one line.
    assert results.save(tmp_path).read_text() == (render.RESULTS / f"{name}.json").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_figures_that_are_taken_come_with_the_commands_that_made_them(name):
    results = render.find(name)
    for row in results.rows:
        for value in row.values():
            if isinstance(value, dict) and "from" in value:
                every = render.find(value["from"]).commands
                made = [
                    line for line in every if value["where"]["method"] in shlex.split(line, True)
                ]
                assert made
                assert set(made) <= set(results.commands)


@pytest.mark.parametrize("name", NAMES)
def test_a_results_file_renders(name):
    results = render.find(name)
    lines = render.lines(results)
    assert len({len(line) for line in lines}) == 1
    assert all(cell for line in lines for cell in line)
    assert render.rst(results).count("\n    * - ") == len(lines)
    assert render.markdown(results).count("\n") == len(lines) + 1


@pytest.mark.parametrize("name", PRINTED)
def test_computed_figures_are_those_that_were_printed(name):
    columns, printed = PRINTED[name]
    lines = render.lines(render.find(name), columns.split())[1:]
    assert [" ".join(line) for line in lines] == printed


@pytest.mark.parametrize("name", NAMES)
def test_figures_that_are_stated_are_the_computed_ones_but_for_rounding(name):
    results = render.find(name)
    for row in results.rows:
        for value in row.values():
            if isinstance(value, dict) and "each" in value:
                assert value["mean"] == pytest.approx(render.mean(value["each"]), abs=0.1001)
                assert value["std"] == pytest.approx(render.std(value["each"]), abs=0.1001)
        for column in results.shown():
            if column.kind in render.COMPUTED and row.get(column.key) is not None:
                computed = render.compute(results, column, row)
                assert row[column.key] == pytest.approx(computed, abs=0.1001)


def test_the_pages_show_every_table_once():
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.rst"))
    shown = re.findall(r"^\.\. include:: _tables/(.+)\.rst$", pages, re.MULTILINE)
    assert sorted(shown) == sorted([*NAMES, "leaderboard"])


PAGES = [
    *("README.md", "CHANGELOG.md"),
    *sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.rst")),
]
# Figures that have no table, beside the commands that made them.
ALONE = {"docs/training.rst": {"65.1 ± 1.8", "64.4 ± 2.9"}}


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/_")])
def test_every_figure_with_a_spread_is_a_result(page):
    known = {
        figure
        for results in render.load_all()
        for line in render.lines(results)
        for cell in line
        for figure in re.findall(MEAN, cell)
    }
    found = set(re.findall(MEAN, (ROOT / page).read_text(encoding="utf-8")))
    assert found - known == ALONE.get(page, set())
    if page in ("README.md", "docs/benchmarks.rst", "docs/bits.rst"):
        assert found


def test_the_tables_of_the_readme_are_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert render.fill(text) == text
    known = {
        cell for results in render.load_all() for line in render.lines(results) for cell in line
    }
    known |= {figure for cell in known for figure in cell.split(", ")}
    known |= {cell.partition(" (")[0] for cell in known}  # Without how many seeds there were.
    # A table with a spread is one of results; others hold options.
    tables = [table for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE) if "±" in table]
    assert tables
    for figure in re.findall(rf"{MEAN}|\d+\.\d+", "".join(tables)):
        assert figure in known


def test_rendering_leaves_what_is_unchanged_and_removes_what_is_gone(tmp_path):
    folder, out = write(tmp_path / "results"), tmp_path / "tables"
    write(folder, "gone")
    assert len(render.render_all(folder, out)) == 2
    (folder / "gone.json").unlink()
    before = (out / "toy.rst").stat().st_mtime_ns
    assert render.render_all(folder, out) == [out / "toy.rst"]
    assert [path.name for path in out.iterdir()] == ["toy.rst"]
    (out / "leaderboard.rst").write_text("of several results")
    render.render_all(folder, out)
    assert (out / "leaderboard.rst").exists()
    assert (out / "toy.rst").stat().st_mtime_ns == before


def test_cells(tmp_path):
    results = render.find("toy", write(tmp_path))
    assert render.lines(results) == [
        ["method", "accuracy %", "every seed", "lead"],
        ["random", "11.0 ± 1.4", "10.0, 12.0", "+0.0"],
        ["DDP", "30.5 ± 0.7", "30.0, 31.0", "+19.5"],
        ["old", "20.0 ± 1.0", "-", "+9.1"],
        ["never", "-", "-", "-"],
    ]
    # The row that another one is compared with need not be shown.
    assert render.lines(results, ["lead"], {"method": "DDP"})[1:] == [["+19.5"]]
    assert "* - never\n      - \\-\n" in render.rst(results)


def test_values_of_another_file(tmp_path):
    write(tmp_path)
    there = {"from": "toy", "where": {"method": "DDP"}, "key": "accuracy"}
    columns = result()["columns"][:2]
    write(tmp_path, "view", columns=columns, rows=[{"method": "ours", "accuracy": there}])
    assert render.lines(render.find("view", tmp_path))[1] == ["ours", "30.5 ± 0.7"]
    there["where"] = {"method": "nobody"}
    write(tmp_path, "view", columns=columns, rows=[{"method": "ours", "accuracy": there}])
    with pytest.raises(ValueError, match="expected one"):
        render.lines(render.find("view", tmp_path))


def test_a_column_spread_across_a_key(tmp_path):
    columns = [
        {"key": "method", "head": "set"},
        {"key": "wide", "head": "", "as": "mean", "of": "accuracy", "across": "backbone"},
    ]
    rows = [
        {"method": "random", "backbone": "A", "accuracy": [1.0, 2.0, 3.0]},
        {"method": "random", "backbone": "B", "accuracy": [1.0, 2.0]},
        {"method": "DDP", "backbone": "B", "accuracy": 5.0},
    ]
    write(tmp_path, columns=columns, rows=rows)
    assert render.lines(render.find("toy", tmp_path)) == [
        ["set", "A", "B"],
        ["random", "2.0 ± 1.0", "1.5 ± 0.7 (2)"],
        ["DDP", "-", "5.0"],
    ]


def test_two_rows_in_one_cell_are_refused(tmp_path):
    columns = [
        {"key": "method", "head": "set"},
        {"key": "steps", "head": "steps"},
        {"key": "wide", "head": "", "as": "mean", "of": "accuracy", "across": "backbone"},
    ]
    rows = [
        {"method": "DDP", "steps": steps, "backbone": backbone, "accuracy": [value]}
        for steps, backbone, value in ((100, "A", 1.0), (200, "A", 2.0), (200, "B", 3.0))
    ]
    results = render.find("toy", write(tmp_path, columns=columns, rows=rows))
    assert render.lines(results)[1:] == [["DDP", "100", "1.0", "-"], ["DDP", "200", "2.0", "3.0"]]
    with pytest.raises(ValueError, match=r"2 rows of toy have backbone A and are alike in \['meth"):
        render.lines(results, ["method", "wide"])
    some = render.lines(results, ["method", "wide"], {"steps": 200})
    assert some == [["set", "A", "B"], ["DDP", "2.0", "3.0"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hardware": ""}, "missing or empty .*hardware"),
        ({"sedes": [0]}, "unknown .*sedes"),
        ({"columns": [{"key": "acc", "head": "accuracy"}]}, "no row has a value 'acc'"),
        ({"columns": [{"key": "accuracy", "head": "a", "as": "median "}]}, "shown as one of"),
        ({"columns": [{"key": "accuracy", "head": "a", "digit": 2}]}, "digit"),
        ({"columns": [{"key": "lead", "head": "lead", "as": "above"}]}, "must name the row"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        render.find("toy", write(tmp_path, **changes))


def test_columns_and_rows_that_are_not_there(tmp_path):
    results = render.find("toy", write(tmp_path))
    with pytest.raises(ValueError, match="no columns"):
        render.lines(results, ["speed"])
    with pytest.raises(ValueError, match="no row"):
        render.lines(results, where={"method": "nobody"})


def test_a_long_command_is_wrapped_between_options(tmp_path):
    command = f"python program.py {'--number 1 ' * 12}--names a b"
    text = render.rst(render.find("toy", write(tmp_path, commands=[command])))
    block = text.split(".. _table-toy:")[0].split("$ ")[1]
    assert " ".join(block.replace("\\\n", " ").split()) == command
    assert "--number \\" not in block
    assert max(map(len, block.splitlines())) <= 108


def test_filling_the_tables_of_a_readme(tmp_path, capsys):
    folder, readme = write(tmp_path / "results"), tmp_path / "README.md"
    options = "toy --columns method accuracy --where method=DDP"
    text = f"Above\n\n<!-- results: {options} -->\n{{}}<!-- end of results -->\n\nBelow\n"
    readme.write_text(text.format("Stale\n"))
    program.main(["--results", str(folder), "fill", str(readme)])
    program.main(["--results", str(folder), "markdown", *options.split()])
    table = capsys.readouterr().out
    assert table == "| method | accuracy % |\n|---|---|\n| DDP | 30.5 ± 0.7 |\n"
    assert readme.read_text() == text.format(f"\n{table}\n")
    assert render.fill(readme.read_text(), folder) == readme.read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Genuine runs of a comparison, and the file that they lie in."""
    out = tmp_path_factory.mktemp("runs")
    preset = Preset("tiny", SMOKE, SMOKE, 2, 2)
    lab = Lab(toy_set(), toy_set(seed=1), out, preset, {"Tiny": TinyNet}, source="toy")
    small = Distilled("DDP", {"num_anchors": 2, "num_morphs": 3}, build=ddp)
    entries = [ENTRIES["random"], small, ENTRIES["whole"]]
    return lab.run(lab.cells(entries, (1, 3), (0, 1))), out / "runs.jsonl"


DESCRIBED = {
    "title": "A title",
    "data": "toy clouds",
    "hardware": "a machine",
    "commands": ["python examples/compare.py"],
}


def test_runs_become_a_results_file(runs, tmp_path):
    lines, path = runs
    described = [f"--{key}={value}" for key, value in DESCRIBED.items() if key != "commands"]
    columns = [column["key"] for column in render.RUN_COLUMNS]
    start = ["--results", str(tmp_path), "import", str(path), "toy", *described]
    program.main([*start, "--command", *DESCRIBED["commands"], "--columns", *columns])
    results = render.find("toy", tmp_path)
    assert results.seeds == [0, 1]
    small, whole = results.protocol.split("; ")
    assert small.startswith("smoke (")
    assert "epochs 2, " in small
    assert whole == f"whole set: {small}"
    assert results.versions == lines[0]["versions"]
    rows = summarize(lines)
    assert len(results.rows) == len(rows) == 5
    shown = render.lines(results, ["method", "ppc", "accuracy", "num_seeds", "bits"])[1:]
    assert shown == [
        [row.method, str(row.ppc or "-"), str(row), "2", f"{row.runs[0]['bits']:,}"] for row in rows
    ]
    keys = ["of_whole", "below_whole", "above_random", "score"]
    # The same as the program prints.
    printed = [line.strip("| ").split("|") for line in markdown(rows).splitlines()]
    printed = [[cell.strip() for cell in line] for line in printed if len(line) > 1]
    places = [printed[0].index(head) for head in ("of whole", "HLR", "IOR", "score")]
    ours = render.lines(results, keys)[1:]
    assert ours == [[line[i].removesuffix(" %") for i in places] for line in printed[2:]]
    for row in results.rows:
        assert len(row["accuracy"]) == len(row["mean_class_accuracy"]) == 2
        assert (row["step_seconds"] is not None) == (row["method"] == "DDP")
        assert row["distilled_with"] == ("Tiny" if row["method"] == "DDP" else None)


def test_paired_columns_are_what_the_program_prints(runs, tmp_path):
    lines = [line for line in runs[0] if line["ppc"] is None or line["ppc"] == 1]
    place = {
        (line["method"], line["seed"]): value
        for line, value in zip(lines, (0.2, 0.35, 0.5, 0.9, 0.7, 0.8), strict=False)
    }
    lines = [{**line, "value": place[line["method"], line["seed"]]} for line in lines]
    made = render.import_runs(lines, "toy", tmp_path, ["method", "accuracy"], **DESCRIBED)
    results = json.loads(made.read_text())
    column = {"key": "paired", "head": "paired", "as": "paired", "row": {"method": "random"}}
    results["columns"].append({**column, "same": ["ppc", "backbone"]})
    made.write_text(json.dumps(results))
    results = render.find("toy", tmp_path)
    shown = {line[0]: line[2] for line in render.lines(results)[1:]}
    (head, _, *body) = paired_markdown(summarize(lines)).splitlines()
    cells = [cell.strip() for cell in body[0].strip("|").split("|")]
    names = [cell.strip() for cell in head.strip("|").split("|")]
    printed = dict(zip(names, cells, strict=True))
    assert len(body) == 1
    assert printed["strongest not distilled"] == "random"
    assert shown == {"random": "-", "DDP": printed["above it"], "whole": "-"}
    # What only one row has is left out, and said.
    (row,) = (row for row in results.rows if row["method"] == "random")
    row["seeds"] = [row["seeds"][0], 7]
    one = {line[0]: line[2] for line in render.lines(results)[1:]}["DDP"]
    assert one.endswith(" (1)")
    row["seeds"] = [8, 7]
    assert {line[0]: line[2] for line in render.lines(results)[1:]}["DDP"] == "-"


def test_rows_are_compared_with_random_clouds_of_their_quotas(runs, tmp_path):
    """As in the table of the program, wherever they stand."""
    undivided = [line for line in runs[0] if line["ppc"] == 1 or line["method"] == "whole"]

    def divided(method, quotas, name, value):
        return [
            {**line, "method": f"{method}, quotas {name}", "value": value}
            | {"id": f"{line['id']} {name}", "quotas": quotas}
            for line in undivided
            if line["method"] == method
        ]

    lines = [*divided("random", "size", "size", 0.11), *undivided]
    lines += divided("random", [1.0, 2.5, 1.0], "1 2.5 1", 0.13)
    for quotas, name in (("size", "size"), ([1.0, 2.5, 1.0], "1 2.5 1"), ("sqrt-size",) * 2):
        lines += divided("DDP", quotas, name, 0.61)
    keys = ("below_whole", "above_random", "score")
    render.import_runs(lines, "toy", tmp_path, ["method", *keys], **DESCRIBED)
    ours = render.lines(render.find("toy", tmp_path))[1:]
    printed = [line.strip("| ").split("|") for line in markdown(summarize(lines)).splitlines()]
    printed = [[cell.strip() for cell in line] for line in printed if len(line) > 1]
    places = [printed[0].index(head) for head in ("method", "HLR", "IOR", "score")]
    assert ours == [[line[i] for i in places] for line in printed[2:]]
    above = {line[0]: line[2] for line in ours}
    assert (above["DDP, quotas size"], above["DDP, quotas 1 2.5 1"]) == ("+50.0", "+48.0")
    # Without random clouds of its own the first ones.
    assert above["DDP, quotas sqrt-size"] == "+50.0"


def test_quotas_of_a_row_stay_when_it_grows(runs, tmp_path):
    (one, two) = (line for line in runs[0] if line["method"] == "DDP" and line["ppc"] == 1)
    for quotas, words in (("size", "size"), ([1.0, 2.5, 1.0], "1 2.5 1")):
        told = {"quotas": quotas, "method": f"DDP, quotas {words}"}
        render.import_runs([{**one, **told}], words, tmp_path, **DESCRIBED)
        render.import_runs([{**two, **told}], words, tmp_path)
        (row,) = render.find(words, tmp_path).rows
        assert (row["quotas"], row["seeds"]) == (words, [0, 1])
    # Older files tell them by the name of a row only.
    results = render.find("size", tmp_path)
    del results.rows[0]["quotas"]
    results.save(tmp_path)
    told = {"seed": 7, "quotas": "size", "method": "DDP, quotas size"}
    render.import_runs([{**one, **told}], "size", tmp_path)
    assert render.find("size", tmp_path).rows[0]["quotas"] == "size"
    with pytest.raises(ValueError, match="DDP, quotas size has other quotas: 'size', got 'sqrt-s"):
        render.import_runs([{**one, **told, "seed": 8, "quotas": "sqrt-size"}], "size", tmp_path)


@pytest.mark.parametrize(
    ("method", "told", "uses"),
    [
        ("PKR 32-chosen", {}, True),
        ("PKR 32-chosen, quotas size", {}, True),
        ("PKR 32-chosen(num_trained=2), quotas 1 2", {}, True),
        ("DDP, lr 0.5", {"steps": 7}, True),
        ("DDP(adaptive=False), lr 0.5, quotas size", {"steps": 7}, True),
        ("herding 32x5", {"whole": {"name": "smoke"}}, True),
        ("anchors", {}, False),
        ("mirrored 32x5, quotas sqrt-size", {}, False),
        ("mine", {}, False),
        ("mine", {"steps": 7}, True),
        ("mine", {"whole": {"name": "smoke"}}, True),
        ("whole, 64 points", {"whole": {"name": "smoke"}, "budget_bits": None}, False),
    ],
)
def test_a_set_that_networks_chose_is_made_with_one(method, told, uses):
    run = {"method": method, "backbone": "Tiny", "ppc": 1, "budget_bits": 8, "bits": 8}
    run |= {"steps": 0, "whole": None, "seed": 0, "num_clouds": 3, "value": 0.5, **told}
    (row,) = render.rows_of_runs([run])
    assert row["distilled_with"] == ("Tiny" if uses else None)


@pytest.mark.parametrize("name", NAMES)
def test_sets_of_results_are_made_with_a_backbone_if_their_rows_use_one(name):
    for row in render.find(name).rows:
        if row.get("method") in ROWS and "distilled_with" in row:
            assert (row["distilled_with"] is not None) == ROWS[row["method"]].uses_network


def test_increments_are_one_run_a_seed(tmp_path, monkeypatch):
    sets = (toy_set(num_classes=4, seed=seed) for seed in (0, 1))
    preset = Preset("tiny", SMOKE, replace(SMOKE, name="longer", epochs=3), 2, 2)
    lab = ClassIncremental(*sets, tmp_path, 2, preset, TinyNet, source="toy")
    rows = [ENTRIES["random"], CONTROLS["random 32x6"], ENTRIES["whole"]]
    made = lab.run(lab.cells(rows, 1, (0, 1)))
    columns = ["method", "accuracy", "average", "forgetting", "num_seeds"]
    described = [word for key in DESCRIBED for word in (f"--{key}".removesuffix("s"), "text")]
    start = ["--results", str(tmp_path), "import", str(tmp_path / "runs.jsonl"), "toy"]
    program.main([*start, "--columns", *columns, *described])
    results = render.find("toy", tmp_path)
    assert [row["method"] for row in results.rows] == ["random", "random 32x6", "whole"]
    assert "; whole set: longer" in results.protocol
    for row in results.rows:
        assert row["seeds"] == [0, 1]
        assert row["points"] == 32 * row["clouds"]
        assert len(row["evaluate_seconds"]) == 2
        for seed in (0, 1):
            first, last = (
                run for run in made if (run["method"], run["seed"]) == (row["method"], seed)
            )
            mean = 50 * (first["value"] + last["value"])
            lost = first["increment_accuracies"][0] - last["increment_accuracies"][0]
            assert row["average"][seed] == pytest.approx(mean)
            assert row["accuracy"][seed] == pytest.approx(100 * last["value"])
            assert row["forgetting"][seed] == pytest.approx(100 * lost)
            after = [row[f"after_{num}"][seed] for num in last["classes_seen"]]
            assert after == pytest.approx([100 * one["value"] for one in (first, last)])
    monkeypatch.setattr(gallery, "find", lambda name: render.find(name, tmp_path))
    told, expected = (
        {(run["method"], run["seed"], *run["classes_seen"]): run["value"] for run in runs}
        for runs in (gallery.increments_of("toy"), made)
    )
    assert told == pytest.approx(expected)
    head = "method | accuracy % | average % | forgetting | seeds"
    assert " | ".join(render.lines(results)[0]) == head


def test_resolutions_are_a_row_for_the_points_of_both_sides(tmp_path):
    sets = (toy_set(num_points=64, seed=seed) for seed in (0, 1))
    preset = Preset("tiny", SMOKE, replace(SMOKE, name="longer", epochs=3), 2, 2)
    lab = Lab(*sets, tmp_path, preset, {"Tiny": TinyNet}, source="toy")
    cells = list(lab.cells([ENTRIES["random"], ENTRIES["whole"]], (1,), (0, 1)))
    made = CrossResolution(lab, (16, 64), (8, 64)).run(cells)
    described = [word for key in DESCRIBED for word in (f"--{key}".removesuffix("s"), "text")]
    start = ["--results", str(tmp_path), "import", str(tmp_path / "resolutions.jsonl")]
    program.main([*start, "toy", *described])
    results = render.find("toy", tmp_path)
    assert "; whole set: longer" in results.protocol
    assert len(results.rows) == 2 * 2 * 2
    for row in results.rows:
        at = [8, 64].index(row["test_points"])
        lines = [
            run
            for run in made
            if (run["method"], run["train_points"]) == (row["method"], row["train_points"])
        ]
        assert row["accuracy"] == pytest.approx([100 * run["at_points"][at] for run in lines])
        means = [100 * run["class_means_at_points"][at] for run in lines]
        assert row["mean_class_accuracy"] == pytest.approx(means)
        assert (row["seeds"], row["bits"]) == ([0, 1], lines[0]["bits"])
        assert len(row["evaluate_seconds"]) == 2
    # The same matrix as the program prints.
    head, *body = render.lines(results)
    told = ["method", "distilled with", "PPC", "backbone", "steps", "trained on points"]
    assert head[:8] == [*told, "8", "64"]
    printed = resolution_markdown(resolution_matrix(made)).splitlines()[2:]
    printed = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed]
    ours = [[f"{line[0]}, {line[5]} points", line[2], *line[6:8]] for line in body]
    assert ours == [line for line in printed if len(line) > 1]
    # Rows are compared with those of the same points on both sides.
    program.main([*start, "share", *described, "--columns", "train_points", "of_whole"])
    shares = [row[1] for row in render.lines(render.find("share", tmp_path))[1:]]
    assert shares[4:] == ["100"] * 4
    means = [sum(row["accuracy"]) / 2 for row in results.rows]
    assert shares[:4] == [f"{100 * means[i] / means[i + 4]:.0f}" for i in range(4)]
    program.main([*start, "one", *described, "--where", "test_points=64", "protocol=smoke"])
    found = [(row["method"], row["test_points"]) for row in render.find("one", tmp_path).rows]
    assert found == [("random", 64)] * 2 + [("whole", 64)] * 2


def test_a_matrix_tells_all_of_its_rows_apart(runs, tmp_path):
    """Also sets of other networks and of other steps."""
    made = next(line for line in runs[0] if line["method"] == "DDP")
    lines = [
        {**made, "distilled_with": maker, "steps": steps, "train_points": 32, "test_points": points}
        for maker in ("A", "B")
        for steps in (1, 2)
        for points in (8, 32)
    ]
    render.import_runs(lines, "toy", tmp_path, **DESCRIBED)
    head, *body = render.lines(render.find("toy", tmp_path))
    assert [head[i] for i in (1, 4)] == ["distilled with", "steps"]
    assert [[line[i] for i in (1, 4)] for line in body] == [[m, s] for m in "AB" for s in "12"]


def test_a_run_that_went_on_is_added_without_the_times_that_it_does_not_know(runs, tmp_path):
    one, two = (run for run in runs[0] if run["method"] == "DDP" and run["ppc"] == 1)
    two = {**two, "distill_seconds": None, "step_seconds": None, "step_bytes": None}
    render.import_runs([one], "toy", tmp_path, **DESCRIBED)
    render.import_runs([two], "toy", tmp_path)
    (row,) = render.find("toy", tmp_path).rows
    assert row["seeds"] == [0, 1]
    assert row["accuracy"] == [round(100 * run["value"], 6) for run in (one, two)]
    assert row["distill_seconds"] == [round(one["distill_seconds"], 6)]
    # What a run always knows is there for every seed.
    third = {**two, "seed": 2, "id": "3", "evaluate_seconds": None}
    with pytest.raises(ValueError, match="has another evaluate_seconds"):
        render.import_runs([third], "toy", tmp_path)


def test_later_runs_are_added(runs, tmp_path):
    lines, path = runs
    first = [line for line in lines if line["ppc"] == 1 and line["seed"] == 0]
    first = [line for line in first if line["method"] != "whole"]
    render.import_runs(first, "toy", tmp_path, **DESCRIBED)
    assert render.find("toy", tmp_path).seeds == [0]
    # The whole set takes part in every PPC.
    start = ["--results", str(tmp_path), "import", str(path), "toy"]
    program.main([*start, "--where", "ppc=3", "--command", "python again.py"])
    results = render.find("toy", tmp_path)
    assert results.title == "A title"
    assert results.commands == ["python examples/compare.py", "python again.py"]
    assert results.seeds == [0, 1]
    assert "; whole set: " in results.protocol
    found = {(row["method"], row["ppc"]): row["seeds"] for row in results.rows}
    assert list(found)[:2] == [("random", 1), ("DDP", 1)]
    both = [0, 1]
    assert found == {
        **{("random", 1): [0], ("DDP", 1): [0], ("whole", None): both},
        **{("random", 3): both, ("DDP", 3): both},
    }
    program.main(start)
    results = render.find("toy", tmp_path)
    assert [row["seeds"] for row in results.rows] == [both] * 5
    assert results.fingerprint == lines[0]["data"]
    before = results.rows
    render.import_runs(first, "toy", tmp_path)  # Of one seed: the other stays.
    assert render.find("toy", tmp_path).rows == before
    render.import_runs([line for line in lines if line["seed"] == 1], "late", tmp_path, **DESCRIBED)
    render.import_runs([line for line in lines if line["seed"] == 0], "late", tmp_path)
    assert render.find("late", tmp_path).rows == before
    with pytest.raises(ValueError, match="has another bits"):
        render.import_runs([{**line, "bits": 1} for line in first], "late", tmp_path)
    dropped = [{k: v for k, v in line.items() if k != "class_mean"} for line in first]
    with pytest.raises(ValueError, match="has another mean_class_accuracy"):
        render.import_runs(dropped, "late", tmp_path)


def test_logs_of_several_splits_are_pooled_if_it_is_asked_for(runs, tmp_path):
    lines, _ = runs
    small = [line for line in lines if line["ppc"] == 1 and line["method"] != "whole"]
    logs = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for log, split in zip(logs, "ab", strict=True):
        # Another split is another run with another figure.
        other = [{**line, "data": {"train": split}, "id": split + line["id"]} for line in small]
        other = [{**line, "value": line["value"] / (1 + (split == "b"))} for line in other]
        log.write_text("".join(json.dumps(line) + "\n" for line in other))
    described = [word for key in DESCRIBED for word in (f"--{key}".removesuffix("s"), "text")]
    start = ["--results", str(tmp_path), "import", *map(str, logs), "toy"]
    columns = ["--columns", "method", "accuracy", "num_seeds"]
    # A log of a validation split would be a split of the other one, too.
    with pytest.raises(ValueError, match=r"differ in their data: .* several splits by --splits"):
        program.main([*start, *described])
    program.main([*start, *described, *columns, "--where", "seed=1", "--splits"])
    program.main([*start, "--splits"])
    results = render.find("toy", tmp_path)
    assert results.fingerprint == [{"train": "a"}, {"train": "b"}]
    assert results.seeds == "0, 1 of each of 2 splits"
    assert results.spread == "sample standard deviation over the splits and seeds"
    assert render.lines(results)[0] == ["method", "accuracy %", "runs"]
    for row in results.rows:
        assert (row["splits"], row["seeds"]) == ([0, 0, 1, 1], [0, 1, 0, 1])
        values = [100 * line["value"] for line in small if line["method"] == row["method"]]
        assert row["accuracy"] == pytest.approx([*values, *(value / 2 for value in values)])
    with pytest.raises(ValueError, match="toy has other fingerprint"):
        program.main([*start[:3], str(logs[0]), "toy"])
    # Several logs of one split are as one log.
    for seed, log in enumerate(logs):
        some = [line for line in small if line["seed"] == seed]
        log.write_text("".join(json.dumps(line) + "\n" for line in some))
    program.main([*start[:-1], "one", *described])
    one = render.find("one", tmp_path)
    assert (one.fingerprint, one.seeds) == (lines[0]["data"], [0, 1])


def test_runs_that_do_not_go_together_are_refused(runs, tmp_path):
    lines, _ = runs
    with pytest.raises(ValueError, match="no runs"):
        render.import_runs([], "toy", tmp_path, **DESCRIBED)
    with pytest.raises(ValueError, match="needs hardware"):
        render.import_runs(lines, "toy", tmp_path, **{**DESCRIBED, "hardware": ""})
    with pytest.raises(ValueError, match="no columns"):
        render.import_runs(lines, "toy", tmp_path, ["speed"], **DESCRIBED)
    small = next(line for line in lines if line["method"] == "DDP")
    for key, value in (("protocol", {"name": "other"}), ("data", {"train": "other"})):
        with pytest.raises(ValueError, match=f"differ in their {key}"):
            render.import_runs([small, {**small, key: value}], "toy", tmp_path, **DESCRIBED)
    with pytest.raises(ValueError, match="different settings"):
        render.rows_of_runs([small, {**small, "settings": {}}])
    with pytest.raises(ValueError, match="different network"):
        render.rows_of_runs([small, {**small, "network": "other"}])
    stored = [("num_clouds", 7), ("num_points", 8), ("bits", 9)]
    for key, value in (("num_networks", 3), ("quotas", "size"), *stored):
        with pytest.raises(ValueError, match=f"different {key}: import them apart"):
            render.rows_of_runs([small, {**small, "seed": 9, key: value}])
    with pytest.raises(ValueError, match="several runs of DDP have the same seed"):
        render.rows_of_runs([small, {**small, "id": "another"}])
    (row,) = render.rows_of_runs([small, {**small, "seed": 9, "threads": 999}])
    assert (row["threads"], row["device"]) == (None, small["device"])
    render.import_runs(lines, "toy", tmp_path, **DESCRIBED)
    with pytest.raises(ValueError, match="other hardware"):
        render.import_runs(lines, "toy", tmp_path, hardware="another")
    for more in ([{**small, "seed": 9, "num_networks": 3}], [{**small, "num_networks": 3}]):
        with pytest.raises(ValueError, match="another number of networks: 1, got 3"):
            render.import_runs(more, "toy", tmp_path)
    render.import_runs([{**small, "num_networks": 3}], "three", tmp_path, **DESCRIBED)
    assert render.find("three", tmp_path).rows[0]["num_networks"] == 3
    with pytest.raises(ValueError, match="another number of networks: 3, got 1"):
        render.import_runs([{**small, "seed": 9}], "three", tmp_path)
    other = [{**line, "whole": {"name": "other"}} for line in lines if line["method"] == "whole"]
    with pytest.raises(ValueError, match="another protocol"):
        render.import_runs(other, "toy", tmp_path)
    moved = [{**line, "data": {"train": "other"}} for line in lines]
    with pytest.raises(ValueError, match="other fingerprint"):
        render.import_runs(moved, "toy", tmp_path)
    newer = [{**line, "versions": {"torch": "9"}} for line in lines]
    with pytest.raises(ValueError, match="other versions"):
        render.import_runs(newer, "toy", tmp_path)


# What the documentation shows beside the tables ##################################################


def test_leaderboard():
    def count(place):
        return render.count(place.accuracy)

    every = leaderboard.places()
    rates = [place.rate for place in every]
    assert rates == sorted(rates, reverse=True)
    front = [place for place in every if leaderboard.is_front(place, every)]
    # The more bits, the more a set of the front reaches.
    front.sort(key=lambda place: place.bits)
    means = [place.mean for place in front]
    assert means == sorted(means)
    assert max(place.mean for place in every) == means[-1]
    # All others lie behind one of the front, and none of these behind another place.
    for place in every:
        before = [
            other
            for other in (every if place in front else front)
            if (other.bits < place.bits and other.mean >= place.mean)
            or (other.bits == place.bits and other.mean > place.mean)
        ]
        assert bool(before) == (place not in front), place
    names = [(place.method, place.file) for place in every]
    assert len({*names}) == len(names)
    lines = {(line[0], line[-1]): line for line in leaderboard.cells()}
    own = lines["PKR 32", "modelnet10-sixteenth"]
    assert own[1:4] == ["6,143", "86.8 ± 1.8", "5"]
    # Of a set in several files that of most seeds, at a sixteenth, a quarter and one cloud.
    found = [(place.file, count(place)) for place in every if place.method == "random 64x6"]
    files = ("modelnet10-sixteenth", "modelnet10-quarter", "modelnet10-one")
    assert found == [*zip(files, (5, 5, 3), strict=True)]
    for place in every:
        assert count(place) == max(
            render.count(results.value(row, "accuracy"))
            for results in map(render.find, leaderboard.FILES)
            for row in results.rows
            if (row["method"], results.value(row, "bits")) == (place.method, place.bits)
            and results.protocol.split(";")[0] == render.find(place.file).protocol.split(";")[0]
        )
    # Every row leads to its table.
    pages = ("bits.rst", "bits_evidence.rst", "benchmarks.rst")
    text = "".join((DOCS / page).read_text("utf-8") for page in pages)
    assert all(f"_tables/{name}.rst" in text for name in leaderboard.FILES)


@pytest.mark.parametrize("order", ["few many other", "many few other"])
def test_of_a_set_in_several_files_that_of_most_seeds_counts(order, tmp_path, monkeypatch):
    """Whichever comes first, of one training only."""
    monkeypatch.setattr(leaderboard, "FILES", tuple(order.split()))
    for name, values in (("few", [80.0, 90.0]), ("many", [50.0, 60.0, 70.0]), ("other", [10.0])):
        rows = [{"method": "random", "accuracy": values, "bits": 1000}]
        protocol = {"few": "smoke; whole set: a", "many": "smoke; whole set: b", "other": "cpu"}
        write(tmp_path, name, columns=result()["columns"][:2], rows=rows, protocol=protocol[name])
    found = [(place.file, place.mean) for place in leaderboard.places(tmp_path)]
    assert found == [("many", 60.0), ("other", 10.0)]


gallery = importlib.import_module("make_gallery")


@pytest.fixture
def gallery_of(tmp_path, monkeypatch):
    """What writes a file of rows, which are those of the pictures then."""
    monkeypatch.setattr(gallery, "find", lambda name: render.find(name, tmp_path))

    def begun(name, *rows, more=()):
        keys = ("method", "distilled_with", "backbone", "ppc", "steps", "accuracy", *more)
        rows = [dict(zip(keys, row, strict=True)) for row in rows]
        write(tmp_path, name, columns=result()["columns"][:2], rows=rows)

    return begun


def test_rows_of_the_gallery_are_those_of_results(gallery_of):
    whole = ("whole", None, "PointNet", None, None, {"mean": 80.0, "std": 3.0, "count": 4})
    ddp = [("DDP", "PointNet", "PointNet", 1, 100, [40.0, 50.0])]
    ddp += [("DDP", "PointNet", "PointNet", 3, 100, [60.0])]
    ddp += [("DDP", "PointNet", "PointNet", 1, 200, [70.0]), ("DDP", "A", "PointNet", 1, 100, 5.0)]
    never = ("DM", "PointNet", "PointNet", 1, 100, None)
    gallery_of("one", *ddp, never, whole)
    gallery_of("two", whole, ("DDP", "PointNet", "DGCNN", 1, 100, 6.0))
    rows = gallery.rows_of("one", "two")  # The whole set, which both have, once.
    told = [(row.method, row.backbone, row.ppc) for row in rows]
    assert told == [
        *[("DDP", "PointNet", ppc) for ppc in (1, 3, 1, 1)],
        *[("whole", "PointNet", None), ("DDP", "DGCNN", 1)],
    ]
    assert [100 * row.mean for row in rows] == pytest.approx([45, 60, 70, 5, 80, 6])
    assert 100 * rows[4].std == pytest.approx(3)
    assert len(rows[4].values) == 4
    assert rows[1].bits_per_class == 3 * 98304
    (alone,) = gallery.rows_of("one", methods=["whole"])
    assert alone.mean == rows[4].mean
    gallery_of("two", (*ddp[0][:-1], [41.0, 50.0]))
    with pytest.raises(
        ValueError, match=r"two has a second row of DDP: \('PointNet', 1, 100, 'Poi"
    ):
        gallery.rows_of("one", "two")


def test_matrix_of_the_gallery_tells_sets_apart(gallery_of):
    rows = [
        ("DDP", maker, backbone, 1, steps, float(i))
        for i, (maker, steps, backbone) in enumerate(product("AB", (100, 200), "AB"))
    ]
    gallery_of("one", *rows)
    lines = gallery.matrix_of("one")
    assert [line.distilled_with for line in lines] == [*"AABB"]
    values = [{name: 100 * cell.mean for name, cell in line.cells.items()} for line in lines]
    assert values == [pytest.approx({"A": i, "B": i + 1}) for i in (0, 2, 4, 6)]
    gallery_of("one", *rows, rows[3])
    with pytest.raises(ValueError, match="one has a second row of DDP from A, PPC 1, B"):
        gallery.matrix_of("one")
    crossed = [("DDP", "A", "A", 1, 100, float(i), *divmod(i, 2)) for i in range(4)]
    gallery_of("two", *crossed, more=("train_points", "test_points"))
    lines = gallery.matrix_of("two")
    assert [str(line) for line in lines] == ["DDP, 0 points, PPC 1", "DDP, 1 points, PPC 1"]
    values = [{name: 100 * cell.mean for name, cell in line.cells.items()} for line in lines]
    assert values == [pytest.approx({"0": 0, "1": 1}), pytest.approx({"0": 2, "1": 3})]
    # A set that two networks are trained on.
    crossed = [("DDP", "A", name, 1, 100, float(i), 8, 8) for i, name in enumerate("AB")]
    gallery_of("two", *crossed, more=("train_points", "test_points"))
    assert [str(line) for line in gallery.matrix_of("two")] == [
        "DDP, A, 8 points, PPC 1",
        "DDP from A, B, 8 points, PPC 1",
    ]


def test_curve_of_the_gallery(gallery_of, monkeypatch):
    """PKR of as many points as it takes by itself, and of real clouds those that reach most."""
    monkeypatch.setattr(gallery, "BUDGETS", ["one", "two"])
    names = [("PKR 32", 1 / 16, 70.0), ("PKR 64", 1 / 16, 99.0), ("PKR 32", 1 / 4, 99.0)]
    names += [("PKR 64", 1 / 4, 80.0), ("PKR 128", 1, 90.0), ("PKR 128-chosen", 1, 99.0)]
    names += [("mirrored 32x5", 1 / 4, 60.0), ("mirrored 64x6", 1 / 4, 61.0)]
    names += [("mirrored 128x6", 1 / 4, 59.0), ("mirrored 64x6", 1, 50.0), ("DM", 1, 99.0)]
    names += [("random", 1, 10.0), ("whole, 256 points", None, 91.0), ("random 64x6", 1, 99.0)]
    gallery_of("one", *((name, None, "PointNet", ppc, None, value) for name, ppc, value in names))
    # What no line shows may differ between tables.
    gallery_of("two", ("random 64x6", None, "PointNet", 1, None, 98.0))
    real = "real clouds, 5 or 6 bits, mirrored"
    points = [(row.method, row.ppc, round(100 * row.mean)) for row in gallery.curve()]
    assert points == [
        *[("PKR", 1 / 16, 70), ("PKR", 1 / 4, 80), ("PKR", 1, 90)],
        *[(real, 1 / 4, 61), (real, 1, 50)],
        ("real clouds of 1,024 points, single precision", 1, 10),
        ("whole set, 256 points", None, 91),
    ]


def test_the_page_of_compare_names_all_that_all_takes():
    page = (DOCS / "programs" / "compare.rst").read_text(encoding="utf-8")
    (listed,) = re.findall(r"They are\n(.*)\nFurther rows", page, re.DOTALL)
    assert set(re.findall(r"``([\w-]+)``", listed)) == set(ENTRIES)


def formulas(text):
    """The formulas of a page or a docstring, in a line and by themselves."""
    yield from (re.sub(r"\s+", " ", found) for found in re.findall(r":math:`([^`]+)`", text))
    for _, block in re.findall(r"^( *)\.\. math::\n((?:\1 +.*\n|\n)+)", text, re.MULTILINE):
        yield "\n".join(line.strip() for line in block.strip().splitlines())


SOURCES = sorted([*DOCS.rglob("*.rst"), *(ROOT / "torch_geometric_ddp").rglob("*.py")])


def test_formulas_need_no_script():
    """All of them are MathML, which is drawn without a network."""
    found = pytest.importorskip("latex2mathml.converter", reason="of the extra docs")
    num = 0
    for path in SOURCES:
        for formula in formulas(path.read_text(encoding="utf-8")):
            drawn = found.convert(formula)
            assert drawn.startswith("<math"), (path, formula)
            assert "\\" not in drawn, (path, formula)  # A command that it does not know.
            num += 1
    assert num > 300


def test_inventories_need_no_network(tmp_path, monkeypatch):
    monkeypatch.delenv("DOCS_ONLINE", raising=False)
    found = inventories.mapping(tmp_path / "new")
    for name, (base, path) in found.items():
        lines = Path(path).read_bytes().split(b"\n", 4)
        assert lines[0] == b"# Sphinx inventory version 2"
        entries = zlib.decompress(lines[4]).decode().splitlines()
        assert len(entries) == len({entry.split()[0] for entry in entries})
        for entry in entries:
            target, role, priority, page, shown = entry.split()
            assert role.startswith("py:")
            assert (priority, shown) == ("1", "-")
            assert base.startswith("https://")
            own = inventories.ALIASES.get(target, target)
            assert page.endswith(f".html#{own}")
            assert own in ("None", "True", "False") or pydoc.locate(own) is not None, own
            if target != own and "." in target:
                owner, _, short = target.rpartition(".")
                assert getattr(sys.modules[owner], short) is pydoc.locate(own)
        assert entries, name
    monkeypatch.setenv("DOCS_ONLINE", "1")
    assert {path for _, path in inventories.mapping(tmp_path).values()} == {None}


# Made again ######################################################################################

again = importlib.import_module("rendering.again")


def test_a_table_is_made_again(tmp_path, capsys):
    words = "--preset smoke --num-per-class 2 --num-points 64 --seeds 0 1 --methods random"
    commands = ["export OMP_NUM_THREADS=1", f"python examples/compare.py {words}"]
    folder = write(tmp_path / "results", commands=commands)
    start = ["--results", str(folder), "again", "toy", "--out", str(tmp_path / "again")]
    program.main(start)
    first = capsys.readouterr().out
    (made,) = render.load_all(tmp_path / "again" / "results")
    (row,) = made.rows
    assert (row["method"], row["seeds"], row["threads"]) == ("random", [0, 1], 1)
    assert (made.name, made.title, made.commands) == ("toy", "A title", commands)
    # Once more nothing is made, and with the row of that run its figures stand side by side.
    made.save(folder)
    program.main(start)
    log = (tmp_path / "again" / "toy" / "log.txt").read_text()
    assert "2 runs, all of which are there." in log
    shown = render.lines(made, ["accuracy"])[1][0]
    assert f"| {shown.ljust(22)} | {shown} |" in capsys.readouterr().out
    assert "4 rows have no run of today's programs." in first


def test_what_fails_leaves_the_other_tables_alone(tmp_path):
    words = "--preset smoke --num-per-class 2 --num-points 64 --seeds 0"
    write(tmp_path, "bad", commands=[f"python examples/compare.py {words} --methods no"])
    several = [f"python examples/compare.py {words} --methods random"]
    several.append(several[0] + " --epochs 1 --out out/other")
    write(tmp_path, "several", commands=several)
    tables = dict(again.made_again([], tmp_path / "again", jobs=2, folder=tmp_path))
    assert tables["bad"] == f"Stopped (exit status 2), see {tmp_path}/again/bad/log.txt.\n"
    assert "are no table of one protocol" in tables["several"]


def test_only_tables_of_runs_are_made_again(tmp_path):
    write(tmp_path, "timed", commands=["python benchmarks/step_time.py"])
    taken = [{"method": "DDP", "accuracy": {"from": "toy", "where": {}, "key": "accuracy"}}]
    write(tmp_path, "taken", commands=["python examples/compare.py"], rows=taken)
    write(tmp_path)
    for name in ("timed", "taken", "toy"):
        with pytest.raises(ValueError, match=f"not made by programs that log runs: {name}"):
            next(again.made_again([name], tmp_path / "again", folder=tmp_path))
    assert list(again.made_again([], tmp_path / "again", folder=tmp_path)) == []
    with pytest.raises(OSError, match=r"no\.json"):
        next(again.made_again(["no"], tmp_path / "again", folder=tmp_path))
    assert not (tmp_path / "again").exists()
    named = {one.name for one in render.load_all() if again.can_be_made(one)}
    assert {"modelnet10-methods", "modelnet10-sixteenth", "shapes-parts"} <= named
    assert not {"published", "modelnet10-bits", "step-time", "tuning"} & named
    assert not {"princeton-parts", "princeton-parts-codecs"} & named
