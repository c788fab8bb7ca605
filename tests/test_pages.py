"""The README and the pages of the documentation: their commands, snippets, links and lists."""

import ast
import importlib
import inspect
import json
import re
import shlex
import sys
from argparse import ArgumentError
from pathlib import Path
from pydoc import locate

import pytest

from torch_geometric_ddp.programs import command, data, networks

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
programs = importlib.import_module("programs")
NOTEBOOK = DOCS / "ten_minutes.ipynb"

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.rst")), *sorted(DOCS.glob("programs/*.rst"))]
PROGRAMS = sorted(
    [
        *ROOT.glob("examples/*.py"),
        *ROOT.glob("examples/extending/*.py"),
        *(ROOT / "torch_geometric_ddp" / "programs" / f"{name}.py" for name in command.PROGRAMS),
    ]
)
COMMAND = re.compile(
    r"(?:python ((?:examples|benchmarks|docs)/[\w/]+\.py)"
    rf"|(distill3d) (?=(?:{'|'.join(command.PROGRAMS)})\b))([^`\n#&]*)"
)
PACKAGES = (
    "torch_geometric_ddp",
    *(
        f"torch_geometric_ddp.{name}"
        for name in (
            *("batching", "budget", "clouds", "comparison", "coreset", "datasets", "edges"),
            *("evaluation", "matching", "memory", "methods", "methods.starts", "nn", "ops"),
            *("parameterization", "tasks", "tracking", "transforms", "tuning", "viewer"),
            *("visualize",),
        )
    ),
)


def commands(text):
    """The commands of a text that start a program of ours, as the program and its words."""
    text = re.sub(r"^    :prog: .*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)
    for file, name, rest in COMMAND.findall(text):
        path = file or name
        if "..." not in rest:
            # What stands in quotes within another command ends with the quote.
            yield path, shlex.split(rest if rest.count('"') % 2 == 0 else rest.rpartition('"')[0])


def snippets(path):
    """The Python snippets of a page."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    return [inspect.cleandoc(block) for block in found]


@pytest.fixture(scope="module")
def parser():
    """Gives the parser of a program, once for all tests."""
    known = {}

    def find(path):
        if path not in known:
            whole = path == "distill3d"
            known[path] = command.whole_parser() if whole else programs.parser_of(path)
            known[path].exit_on_error = False
        return known[path]

    return find


def program_docs():
    return [
        (path, ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "") for path in PROGRAMS
    ]


def all_texts():
    return [(path, path.read_text(encoding="utf-8")) for path in PAGES] + program_docs()


#: Programs that take no options.
NO_OPTIONS = ("docs/make_picture.py", "docs/make_gallery.py", "docs/run_notebook.py")
COMMANDS = sorted(
    {
        (path, shlex.join(words))
        for _, text in all_texts()
        for path, words in commands(text)
        if not path.startswith("examples/extending/") and path not in NO_OPTIONS
    }
)


def check_applying(path, args):
    """Raises if one of the options that hang on others does not apply."""
    if hasattr(args, "task"):
        data.check_data(args)
    if hasattr(args, "width"):
        chosen = [getattr(args, name, None) for name in ("backbone", "backbones", "distill_with")]
        names = [name for one in chosen if one for name in ([one] if isinstance(one, str) else one)]
        networks.check_sizes(args, networks.named_networks(args, names))


@pytest.mark.parametrize(("path", "words"), COMMANDS)
def test_commands_are_understood(path, words, parser, capsys):
    try:
        args = parser(path).parse_args(shlex.split(words))
        check_applying(path, args)
    except (SystemExit, ArgumentError) as error:
        pytest.fail(f"{path} {words}: {error} {capsys.readouterr().err}")


def test_commands_are_found():
    found = {words.split()[0] for path, words in COMMANDS if path == "distill3d"}
    assert found == {*command.PROGRAMS}
    others = {"index", "train_on_synthetic"}
    assert {page.stem for page in DOCS.glob("programs/*.rst")} - others == found
    started = {Path(path).stem for path, _ in COMMANDS if path.startswith("examples/")}
    assert started == {path.stem for path in ROOT.glob("examples/*.py")}
    assert ("examples/distill.py", "") in COMMANDS
    assert any(words.startswith("markdown ") for _, words in COMMANDS)


def test_programs_without_options_exist():
    for _, text in all_texts():
        for path, _ in commands(text):
            assert path == "distill3d" or (ROOT / path).is_file()


#: Options that the commands of older results have, which the page of the benchmarks explains.
RENAMED = {"--protocol", "--seed", "--eval-seeds"}


@pytest.mark.parametrize("path", sorted(DOCS.glob("results/*.json")), ids=lambda path: path.stem)
def test_commands_of_results_are_understood_or_explained(path, parser, capsys):
    page = (DOCS / "benchmarks.rst").read_text(encoding="utf-8")
    for line in json.loads(path.read_text(encoding="utf-8"))["commands"]:
        for program, words in commands(line):
            if not (ROOT / program).exists():
                assert f"``{Path(program).name}``" in page
                continue
            known = set(parser(program)._option_string_actions)
            unknown = {word for word in words if word.startswith("--")} - known
            assert unknown <= RENAMED
            assert all(f"``{option}" in page for option in unknown)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_snippets_compile_and_call_what_there_is(path):
    names = {}
    for snippet in snippets(path):
        tree = ast.parse(snippet)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                exec(compile(ast.Module([node], []), str(path), "exec"), names)
        # What a snippet makes itself is not what it imports.
        made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and _stores(n)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                _check_call(node, {key: names[key] for key in names.keys() - made})


def _stores(node):
    return isinstance(node.ctx, ast.Store)


def _check_call(node, names):
    """Holds the arguments of a call against the signature of what is imported by that name."""
    words = ast.unparse(node.func).split(".")
    if not all(map(str.isidentifier, words)) or words[0] not in names:
        return
    function = names[words[0]]
    for word in words[1:]:
        function = getattr(function, word)
    module = getattr(function, "__module__", None) or ""
    keywords = [keyword.arg for keyword in node.keywords]
    if not module.startswith("torch_geometric_ddp") or None in keywords:
        return
    inspect.signature(function).bind(*node.args, **dict.fromkeys(keywords))


def test_snippets_are_found():
    assert len(snippets(ROOT / "README.md")) == 3
    assert sum(len(snippets(path)) for path in PAGES) > 10


def test_the_readme_is_short_and_has_its_two_commands():
    assert len(README.encode()) <= 8192
    lines = README.splitlines()
    assert "    pip install -c constraints.txt -e . && python examples/distill.py" in lines
    assert '    pip install -c constraints.txt -e ".[test]" && pytest' in lines


def test_links_and_the_picture_of_the_readme_are_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 5
    for link in links:
        assert (ROOT / link).exists(), link
    assert (DOCS / "images" / "distilled.png").stat().st_size < 150_000


def api_names():
    """The full names on the API page, by its three groups."""
    groups, module, group = {}, "", ""
    lines = (DOCS / "api.rst").read_text(encoding="utf-8").splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and set(below) == {"-"}:
            group = groups.setdefault(line, [])
        if found := re.match(r"\.\. (?:current)?module:: (\S+)", line):
            module = found[1]
        elif found := re.match(r"    (\w+)$|\.\. data:: (\w+)$", line):
            group.append(f"{module}.{found[1] or found[2]}")
    return groups


def test_the_api_page_lists_every_public_object_once():
    groups = api_names()
    assert list(groups) == ["Use", "Extend", "Internals"]
    names = [name for group in groups.values() for name in group]
    objects = {name: locate(name) for name in names}
    assert [name for name, found in objects.items() if found is None] == []
    assert sorted({name for name in names if names.count(name) > 1}) == []
    listed = {id(found) for found in objects.values()}
    assert len(listed) == len(names)
    missing = [
        f"{package}.{name}"
        for package in PACKAGES
        for name in getattr(importlib.import_module(package), "__all__", [])
        if name != "__version__" and id(locate(f"{package}.{name}")) not in listed
    ]
    assert missing == []


def test_the_notebook_runs_and_shows_what_it_gave():
    pytest.importorskip("nbclient", reason="of the extra test")
    run_notebook = importlib.import_module("run_notebook")
    shown = run_notebook.nbformat.read(NOTEBOOK, as_version=4)
    again = run_notebook.run(NOTEBOOK)
    assert len(shown.cells) == len(again.cells) > 10
    for kept, new in zip(shown.cells, again.cells, strict=True):
        assert kept.source == new.source
        if kept.cell_type == "code":
            assert kept.execution_count == new.execution_count
            kinds = [[output.output_type for output in cell.outputs] for cell in (kept, new)]
            assert kinds[0] == kinds[1]
    assert NOTEBOOK.stat().st_size < 400_000
    assert str(ROOT) not in NOTEBOOK.read_text(encoding="utf-8")


def test_pictures_are_there_and_are_small():
    for path in PAGES[1:]:
        text = path.read_text(encoding="utf-8")
        for picture in re.findall(r"^\.\. (?:figure|image):: (\S+)", text, re.MULTILINE):
            assert (path.parent / picture).exists(), (path, picture)
            assert (path.parent / picture).stat().st_size < 1_500_000


def test_every_page_is_reached():
    text = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("index.rst"))
    for path in [*PAGES[1:], NOTEBOOK]:
        name = path.relative_to(DOCS).with_suffix("").as_posix()
        assert path.stem == "index" or re.search(
            rf"^    (?:{name}|{path.stem})$", text, re.MULTILINE
        )
