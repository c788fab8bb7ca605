"""Shows a distilled set, as words and as a picture, or the table of a folder of runs.

    distill3d show out/distill/distilled.safetensors
    distill3d show set.safetensors --data clouds.npz --classes chair table --up y
    distill3d show set.safetensors --html set.html
    distill3d show out/compare

Real clouds stand beside those of the set where `--data` or `--dataset` says where they are. The
table of a folder has all runs of its `runs.jsonl`, those that were made alike in one row; so have
those of several splits (`split_S/runs.jsonl`) and the matrix of resolutions (`resolutions.jsonl`).
A split that was run on several choices of the data has tables of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from torch_geometric_ddp.programs.option_types import natural
from torch_geometric_ddp.programs.options import (
    BEGINS_ANEW,
    add_data_arguments,
)

EPILOG, GO_ON = "", BEGINS_ANEW


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("file", type=Path, help="a distilled set, or a folder of runs")
    add_data_arguments(parser)
    picture = parser.add_argument_group("picture")
    picture.add_argument("--picture", type=Path, help="its file (NAME-shown.png beside the set)")
    picture.add_argument(
        "--html", type=Path, metavar="FILE", help="also a page to turn the clouds in (needs plotly)"
    )
    picture.add_argument(
        "--drawn",
        type=natural,
        nargs=3,
        metavar=("REAL", "ANCHORS", "MORPHS"),
        default=[3, 4, 4],
        help="how many clouds of a class (3 4 4)",
    )
    picture.add_argument("--classes", nargs="+", metavar="C", help="the classes to draw (all)")
    picture.add_argument("--up", choices=("x", "y", "z"), default="z", help="what points up (z)")


def run(args: argparse.Namespace) -> None:
    """Prints, and draws."""
    if args.file.is_dir():
        parser = argparse.ArgumentParser(add_help=False)
        add_arguments(parser)
        given = [
            action.option_strings[0]
            for action in parser._actions
            if action.option_strings and getattr(args, action.dest) != action.default
        ]
        if given:
            raise ValueError(
                f"{', '.join(given)} must go with a distilled set, got the folder '{args.file}'"
            )
        _show_runs(args.file)
    else:
        _show_set(args)


def _show_set(args: argparse.Namespace) -> None:
    from torch_geometric_ddp._checks import check_classes
    from torch_geometric_ddp._files import check_place
    from torch_geometric_ddp.evaluation import told_figure
    from torch_geometric_ddp.programs.data import has_data, load, open_set
    from torch_geometric_ddp.viewer import write_viewer
    from torch_geometric_ddp.visualize import check_picture, plot_distilled

    # Not over the picture that was drawn when the set was made.
    path = args.picture or args.file.with_name(f"{args.file.stem}-shown.png")
    check_picture(path, name="picture")
    if args.html is not None:
        check_place("html", args.html)
    synthetic = open_set(args)
    check_classes(synthetic.class_names, args.classes)
    made = synthetic.provenance
    print(f"{args.file}: {synthetic}")
    print(f"classes: {', '.join(synthetic.class_names)}")
    print(f"bits: {synthetic.storage_bits:,}")
    for key in ("method", "source", "task", "ppc", "steps", "seed", "command"):
        if key in made:
            print(f"{key}: {made[key]}")
    told = told_figure(synthetic)
    if told:
        print(f"{told['metric']}: {100 * told['value']:.1f} % ", end="")
        print(f"({told['backbone']}, protocol {told['protocol']['name']}, seeds {told['seeds']})")
    unknown = not has_data(args, synthetic)
    real = [] if unknown else load(args)[0]
    num_real, num_anchors, num_morphs = args.drawn
    plot_distilled(real, synthetic, path, num_real, num_anchors, num_morphs, args.classes, args.up)
    print(f"The picture is {path}", end="")
    print(": --data or --dataset adds real clouds." if unknown else ".")
    if args.html is not None:
        shown = None if unknown else real
        write_viewer(synthetic, args.html, shown, num_real, args.classes, args.up)
        print(f"The page is {args.html}: open it in a browser.")


def _show_runs(folder: Path) -> None:
    from torch_geometric_ddp.comparison import (
        incremental_markdown,
        resolution_markdown,
        resolution_matrix,
        summarize,
    )
    from torch_geometric_ddp.comparison.wholes import told_whole, wholes_of
    from torch_geometric_ddp.programs.showing import tables_of

    runs = _runs_of(folder)
    wholes = [run for run in runs if run["budget_bits"] is None]
    tables: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if run["budget_bits"] is not None:
            tables.setdefault(_table(run, run.get("protocol")), []).append(run)
    placed: list[str] = []
    for rows in tables.values():  # The whole set stands in every table that it goes with.
        of_data = [run for run in wholes if _data(run) == _data(rows[0])]
        # What goes with a run hangs on what it tells of the whole set, beside what a table shares.
        kinds = {json.dumps(told_whole(run), sort_keys=True): run for run in rows}
        mine = [one["id"] for run in kinds.values() for one in wholes_of(run, of_data, rows)]
        rows += [run for run in of_data if run["id"] in mine]
        placed += mine
    for run in wholes:
        if run["id"] not in placed:
            tables.setdefault(_table(run, told_whole(run)), []).append(run)
    for rows in tables.values():
        first = rows[0]
        protocol = first.get("protocol") or first.get("whole") or {}
        name = protocol["name"] if isinstance(protocol, dict) and "name" in protocol else "?"
        print(f"{first.get('source')}, {first.get('task')}, protocol {name}\n")
        increments = [run for run in rows if "classes_seen" in run]
        if increments:
            print(incremental_markdown(increments))
        resolutions = [run for run in rows if "at_points" in run]
        if resolutions:
            print(resolution_markdown(resolution_matrix(resolutions)))
        others = (run for run in rows if "classes_seen" not in run and "at_points" not in run)
        if found := summarize(others):
            print(tables_of(found))


def _runs_of(folder: Path) -> list[dict[str, Any]]:
    """All runs of a folder, those of several splits as those of one table.

    Raises:
        ValueError: If there are none.
    """
    from torch_geometric_ddp.comparison.runs import RunLog
    from torch_geometric_ddp.comparison.wholes import as_compared

    def read(path: Path) -> list[dict[str, Any]]:
        return list(RunLog(path).read().values())

    runs = read(folder / "runs.jsonl")
    runs += _pooled([read(path) for path in sorted(folder.glob("split_*/runs.jsonl"))])
    runs += map(as_compared, read(folder / "resolutions.jsonl"))
    if not runs:
        raise ValueError(
            f"'{folder}' must be a folder with runs.jsonl, resolutions.jsonl or "
            "split_*/runs.jsonl, and has none"
        )
    return runs


def _pooled(splits: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The runs of all splits as those of one table, if each was run on data of one choice.

    Nothing tells which of several data of a split go with which of another.
    """
    from torch_geometric_ddp.comparison import pool_splits

    kinds: dict[str, list[dict[str, Any]]] = {}
    several: set[str] = set()
    for runs in splits:
        seen: dict[str, Any] = {}
        for run in runs:
            kind = json.dumps([run.get(key) for key in ("source", "task", "class_names")])
            kinds.setdefault(kind, []).append(run)
            if seen.setdefault(kind, run.get("data")) != run.get("data"):
                several.add(kind)
    found: list[dict[str, Any]] = []
    for kind, mine in kinds.items():
        found += mine if kind in several else pool_splits(mine)
    return found


def _data(run: dict[str, Any]) -> list[object]:
    return [run.get(key) for key in ("source", "task", "data")]


def _table(run: dict[str, Any], protocol: object) -> str:
    """What runs share that stand in one table."""
    return json.dumps([_data(run), protocol], sort_keys=True)
