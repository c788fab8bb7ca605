"""Tables in Markdown and reStructuredText."""

from __future__ import annotations

import argparse
import re
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rendering.cells import lines
from rendering.results import RESULTS, Results, find, load_all

TABLES = RESULTS.parent / "_tables"

_BLOCK = re.compile(r"(<!-- results: (.+?) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)


def markdown(
    results: Results, columns: Sequence[str] = (), where: Mapping[str, Any] | None = None
) -> str:
    """The table alone, in Markdown; the arguments are those of :func:`lines`."""
    cells = lines(results, columns, where)
    text = ["| " + " | ".join(line) + " |" for line in cells]
    text.insert(1, "|" + "---|" * len(cells[0]))
    return "\n".join(text).replace("``", "`") + "\n"


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose tables and what they show."""
    parser.add_argument("names", nargs="*", help="results (default: all)")
    parser.add_argument("--columns", nargs="+", default=[], metavar="KEY")
    parser.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE")


def chosen(args: argparse.Namespace, folder: Path) -> str:
    """The tables in Markdown that such options choose."""
    every = [find(name, folder) for name in args.names] or load_all(folder)
    return "\n".join(markdown(one, args.columns, pairs(args.where)) for one in every)


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """What options of the form KEY=VALUE say."""
    return dict(text.partition("=")[::2] for text in texts)


def fill(text: str, folder: Path = RESULTS) -> str:
    """Renders the tables of a Markdown text anew.

    A table stands between `<!-- results: NAME --columns KEY ... --where KEY=VALUE -->`, in which
    both options may be left out, and `<!-- end of results -->`.
    """
    parser = argparse.ArgumentParser("results")
    add_table_arguments(parser)

    def table(match: re.Match[str]) -> str:
        args = parser.parse_args(shlex.split(match[2]))
        # A table must have an empty line above and below it.
        return f"{match[1]}\n{chosen(args, folder)}\n{match[4]}"

    return _BLOCK.sub(table, text)


def rst(results: Results) -> str:
    """The commands, the table and what it was made with, in reStructuredText."""
    text = [".. code-block:: console", ""]
    for command in results.commands:
        first, *others = _wrapped(command)
        text += [f"    $ {first}", *(f"          {line}" for line in others)]
    text += ["", f".. _table-{results.name}:", "", *list_table(lines(results), results.title), ""]
    text += [f":{head}: {said}" for head, said in _provenance(results).items() if said]
    return "\n".join(text) + "\n"


def list_table(cells: Iterable[Iterable[str]], title: str = "") -> list[str]:
    """The lines of a table whose first row is its head."""
    text = [f".. list-table:: {title}".rstrip(), "    :header-rows: 1", ""]
    for row in cells:
        # A lone dash would begin a list.
        shown = ["\\-" if cell == "-" else cell for cell in row]
        text += [f"    {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(shown)]
    return text


def _wrapped(command: str) -> list[str]:
    if command.startswith("#"):
        return [command]
    # An option stays on the line of its first value.
    glued = re.sub(r"( --[\w-]+) (?!--)", "\\1\0", command)
    parts = textwrap.wrap(glued, 96, break_long_words=False, break_on_hyphens=False)
    return " \\\n".join(parts).replace("\0", " ").split("\n")


def _provenance(results: Results) -> dict[str, str]:
    seeds = results.seeds if isinstance(results.seeds, str) else ", ".join(map(str, results.seeds))
    return {
        "Data": results.data,
        "Protocol": results.protocol,
        "Seeds": seeds,
        "Spread": results.spread,
        "Hardware": results.hardware,
        "Versions": ", ".join(f"{name} {version}" for name, version in results.versions.items()),
        "Date": results.date,
        "Commit": results.commit,
        "Notes": " ".join(results.notes or []),
    }


def render_all(folder: Path = RESULTS, out: Path = TABLES) -> list[Path]:
    """Renders all results and removes the tables of those that are gone.

    A table that stays the same is not written, so that pages that show it are not built again.
    """
    out.mkdir(parents=True, exist_ok=True)
    texts = {out / f"{results.name}.rst": rst(results) for results in load_all(folder)}
    # The leaderboard is made of several results, by another program.
    for path in set(out.glob("*.rst")) - texts.keys() - {out / "leaderboard.rst"}:
        path.unlink()
    for path, text in texts.items():
        write_changed(path, text)
    return list(texts)


def write_changed(path: Path, text: str) -> None:
    """Writes a file that is not there yet or says something else."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
