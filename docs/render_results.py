"""Renders the tables of the documentation from the results in `docs/results/`.

    python docs/render_results.py                              # docs/_tables/NAME.rst, for all
    python docs/render_results.py markdown published --where data=ModelNet10
    python docs/render_results.py fill README.md               # the tables between its markers
    python docs/render_results.py import out/mn10/runs.jsonl modelnet10-new --title "..." \
        --data "..." --hardware "..." --command "python examples/compare.py ..."
    python docs/render_results.py again modelnet10-sixteenth --clouds FOLDER

The documentation runs the first by itself whenever it is built. `import` turns the `runs.jsonl` of
`examples/compare.py` into a results file, or adds its runs to one that was made the same way, so
that no figure is typed. It takes the increments of `examples/continual.py`, too, and the
`resolutions.jsonl` of `examples/cross_resolution.py`, of which every number of points that is
tested becomes a row. Several logs become one table; with `--splits` those of several splits,
`out/split_0` and so on, are pooled in it, which the file says. `again` runs the commands that stand
in results files, all that it can without names, and prints the figures beside those of the files.
It goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rendering import RESULTS, RUN_COLUMNS, TABLES, fill, import_runs, render_all, results
from rendering.again import made_again
from rendering.runs import read_together
from rendering.tables import add_table_arguments, chosen, pairs

from torch_geometric_ddp.programs.option_types import positive


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{results.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the files")
    commands = parser.add_subparsers(dest="action")
    commands.add_parser("rst", help="render all tables to docs/_tables (the default)")

    add_table_arguments(commands.add_parser("markdown", help="print tables in Markdown"))

    file = commands.add_parser("fill", help="render the tables between the markers of a file")
    file.add_argument("file", type=Path)

    runs = commands.add_parser("import", help="make a results file of runs, or add to it")
    runs.add_argument("runs", type=Path, nargs="+", help="the logs; with --splits that of each")
    runs.add_argument("name", help="the results file is called NAME.json")
    runs.add_argument("--where", nargs="+", default=[], metavar="KEY=VALUE", help="of the runs")
    runs.add_argument("--splits", action="store_true", help="the logs are of splits of one set")
    keys = f"of {', '.join(column['key'] for column in RUN_COLUMNS)}"
    runs.add_argument("--columns", nargs="+", default=[], metavar="KEY", help=keys)
    runs.add_argument("--command", nargs="+", default=[], dest="commands")
    runs.add_argument("--note", nargs="+", default=[], dest="notes")
    for key in ("title", "data", "hardware", "date", "commit"):
        runs.add_argument(f"--{key}")

    again = commands.add_parser("again", help="make tables again by the commands of their files")
    again.add_argument("names", nargs="*", help="results (default: all of runs)")
    again.add_argument("--clouds", type=Path, help="the folder of the files that commands name")
    again.add_argument("--out", type=Path, default=Path("out/again"), help="(out/again)")
    again.add_argument("--jobs", type=positive, default=1, help="tables side by side (1)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = _parser().parse_args(argv)
    if args.action == "markdown":
        print(chosen(args, args.results), end="")
    elif args.action == "fill":
        text = args.file.read_text(encoding="utf-8")
        args.file.write_text(fill(text, args.results), encoding="utf-8")
    elif args.action == "import":
        runs = read_together(args.runs, pairs(args.where), args.splits)
        described = ("commands", "notes", "title", "data", "hardware", "date", "commit")
        told = {key: getattr(args, key) for key in described}
        print(import_runs(runs, args.name, args.results, args.columns, **told))
    elif args.action == "again":
        tables = made_again(args.names, args.out, args.clouds, args.jobs, args.results)
        for name, text in tables:
            print(f"\n{name}\n\n{text}", flush=True)
    else:
        print(f"{len(render_all(args.results))} tables are in {TABLES.name}/.")


if __name__ == "__main__":
    main()
