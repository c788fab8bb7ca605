r"""Changes one setting of a method after the other, and prints what that does.

    distill3d sensitivity                                # generated shapes: M, N2, L and lambda
    distill3d sensitivity --data clouds.npz --preset cpu --base DDP --validate 0.2 \
        --vary num_anchors 2 4 8 --vary num_morphs 0 4 16 32 --vary uniformity_lambda 0 1000

Every run is one line of `runs.jsonl` in the folder `--out`, and one that is there is not made
again. In the folder of `compare` the runs of the method itself are taken over.
"""

from __future__ import annotations

import argparse
import ast

from torch_geometric_ddp.programs.option_types import row_name, share
from torch_geometric_ddp.programs.options import (
    GOES_ON,
    ROWS_EPILOG,
    add_backbone_argument,
    add_data_arguments,
    add_memory_arguments,
    add_work_arguments,
    add_workers_argument,
)

EPILOG, GO_ON = ROWS_EPILOG, GOES_ON
VARIED = (
    ("num_anchors", "2", "4", "8"),
    ("anchor_points", "16", "32"),
    ("num_morphs", "4", "16", "32"),
    ("uniformity_lambda", "0.0", "1000.0"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add_data_arguments(parser)
    what = parser.add_argument_group("what is compared")
    what.add_argument("--base", type=row_name, default="DDP", metavar="M", help="the method (DDP)")
    usual = "; ".join(" ".join(words) for words in VARIED)
    what.add_argument(
        "--vary",
        nargs="+",
        action="append",
        metavar="WORD",
        help=f"a setting of the method and the values that it takes ({usual})",
    )
    what.add_argument(
        "--ppc", type=share, nargs="+", default=[1], help="storage in clouds per class (1)"
    )
    add_backbone_argument(what)
    add_work_arguments(parser, "out/sensitivity")
    add_workers_argument(parser)
    add_memory_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Makes the runs and shows them."""
    from torch_geometric_ddp.comparison import Distilled, Sensitivity, summarize
    from torch_geometric_ddp.programs.labs import open_lab
    from torch_geometric_ddp.programs.networks import named_network
    from torch_geometric_ddp.programs.presets import preset_and_seeds
    from torch_geometric_ddp.programs.rows import check_whole, named_row
    from torch_geometric_ddp.programs.showing import announce, heading, print_table

    varied: dict[str, list[object]] = {}
    for name, *words in args.vary or VARIED:
        varied.setdefault(name, []).extend(map(_value, words))
    empty = [name for name, values in varied.items() if not values]
    if empty:
        raise ValueError(f"--vary must have values after the name of a setting, got {empty[0]!r}")
    method = named_row(args.base)
    if not isinstance(method, Distilled):
        raise ValueError(f"--base must be one that is distilled, got {args.base!r}")
    check_whole(args, [method])
    sensitivity = Sensitivity(method, varied)
    lab = open_lab(args, dict([named_network(args)]))
    _, seeds = preset_and_seeds(args)
    cells = list(lab.cells(sensitivity.entries, args.ppc, seeds))
    announce(lab, cells)
    runs = lab.run(cells, args.workers)
    rows = summarize(runs)
    title = f"{method.name}, {heading(args, runs)}"
    stem = print_table(args, [lab], title, sensitivity.markdown(rows), runs, "sensitivity")
    sensitivity.plot(rows, args.out / f"{stem}.png", title)
    print(f"The runs, the sets, {stem}.md and {stem}.png are in {args.out}/.")


def _value(word: str) -> object:
    try:
        return ast.literal_eval(word)
    except (SyntaxError, ValueError):
        return word
