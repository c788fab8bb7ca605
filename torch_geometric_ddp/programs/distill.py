"""Distils a data set of 3D point clouds and shows what the result is worth.

    distill3d distill                                  # generated shapes, 5 minutes
    distill3d distill --data clouds.npz --out out/mine
    distill3d distill --dataset modelnet10 --root data --device cuda --preset paper
    distill3d distill --method pkr

Compares networks trained on random clouds of the same storage, on what the method starts from (for
DDP anchors and morphs), on the distilled set and on the whole set; every seed is a draw, a
distillation and a network of its own. In less than the room of a whole cloud the random clouds are
small ones. Writes the table, the distilled sets and pictures to the folder `--out`. A run that is
there is not made again: started with the same options, an interrupted program goes on.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch_geometric_ddp.programs.options import (
    GOES_ON,
    NETWORKS_HELP,
    add_backbone_argument,
    add_data_arguments,
    add_memory_arguments,
    add_method_arguments,
    add_quotas_argument,
    add_work_arguments,
    add_workers_argument,
)

if TYPE_CHECKING:
    from torch_geometric_ddp.comparison import Cell, Distilled, Initial, Lab
    from torch_geometric_ddp.methods.ranks import Ranks
    from torch_geometric_ddp.tracking import TensorBoardLogger

EPILOG, GO_ON = NETWORKS_HELP, GOES_ON
#: Several processes, as torchrun starts them, distil together.
RANKS = True


def add_arguments(
    parser: argparse.ArgumentParser, task: str = "classification", out: str = "out/distill"
) -> None:
    """The options."""
    add_data_arguments(parser, task)
    add_method_arguments(parser, task)
    add_quotas_argument(parser)
    add_work_arguments(parser, out)
    add_workers_argument(parser)
    add_memory_arguments(parser)
    add_backbone_argument(parser)
    parser.add_argument("--skip-whole", action="store_true", help="leave out the whole set")
    parser.add_argument(
        "--tensorboard",
        type=Path,
        metavar="FOLDER",
        help="write loss, learning rates and clouds there as it goes, for TensorBoard",
    )


def rows_of(args: argparse.Namespace) -> tuple[Initial, Distilled]:
    """What the method starts from, and what it distils."""
    from torch_geometric_ddp.comparison import ENTRIES, Distilled, Initial
    from torch_geometric_ddp.methods import METHODS
    from torch_geometric_ddp.programs.rows import method_settings
    from torch_geometric_ddp.tasks import TASKS

    settings, build = method_settings(args), METHODS[args.method]
    name = build(**settings).name
    one_label = name in ENTRIES and ENTRIES[name].one_label
    chunk = args.classes_per_chunk
    distilled = Distilled(name, settings, one_label, build, classes_per_chunk=chunk)
    if not distilled.serves(TASKS[args.task]):
        raise ValueError(
            f"'--method {args.method}' needs clouds with one label each, which the task "
            f"'{args.task}' has not"
        )
    return Initial("initial", settings, one_label, build), distilled


def _check_board(args: argparse.Namespace, ranks: Ranks) -> None:
    """Raises unless TensorBoard can be told of runs."""
    from torch_geometric_ddp._files import check_folder
    from torch_geometric_ddp.tracking import TensorBoardLogger

    if not ranks.alone:
        raise ValueError(f"--tensorboard must be for one process, got it for {ranks.size} ranks")
    if args.workers > 1:
        raise ValueError(f"--tensorboard must go with '--workers 1', got {args.workers}")
    check_folder("tensorboard", args.tensorboard)
    TensorBoardLogger.check_installed()


def _board(args: argparse.Namespace, distilled: Distilled, lab: Lab) -> Distilled:
    """The same row, whose runs TensorBoard is told of: each has a folder."""
    from torch_geometric_ddp.tracking import Clouds, TensorBoardLogger

    def track(cell: Cell) -> AbstractContextManager[TensorBoardLogger]:
        # Two runs of other settings would be one line that jumps; the set is called as the run is.
        run = lab.set_path(cell).stem
        folder = args.tensorboard / f"{args.method}-ppc{cell.ppc:g}-seed{cell.seed}-{run}"
        return TensorBoardLogger(folder, Clouds(max(1, cell.steps // 10)))

    return replace(distilled, track=track)


def run(args: argparse.Namespace) -> None:
    """Makes the runs and shows them."""
    from torch_geometric_ddp.comparison import (
        ENTRIES,
        Entry,
        class_markdown,
        plot_comparison,
        strongest_control,
        summarize,
    )
    from torch_geometric_ddp.comparison.assisting import assist
    from torch_geometric_ddp.methods.ranks import Ranks
    from torch_geometric_ddp.methods.sharing import check_chunk, shares_of
    from torch_geometric_ddp.programs.labs import open_lab
    from torch_geometric_ddp.programs.networks import named_network
    from torch_geometric_ddp.programs.presets import preset_and_seeds
    from torch_geometric_ddp.programs.rows import at_quotas
    from torch_geometric_ddp.programs.showing import (
        announce,
        heading,
        keep_set,
        print_table,
        tables_of,
    )

    if args.skip_whole and args.whole_epochs is not None:
        raise ValueError("--whole-epochs must go with a row on the whole set, got --skip-whole")
    initial, distilled = rows_of(args)
    ranks = Ranks.here()
    matching = distilled.usual().matching()
    check_chunk(args.classes_per_chunk, matching)
    # Raises if the method needs one process, however many classes there are.
    shares_of(ranks, matching, ranks.size, None)
    if args.workers > 1 and not ranks.alone:
        raise ValueError(f"--workers must be 1 for {ranks.size} ranks, got {args.workers}")
    if args.tensorboard is not None:
        _check_board(args, ranks)
    lab = open_lab(args, dict([named_network(args)]))
    distilled = distilled if args.tensorboard is None else _board(args, distilled, lab)
    _, seeds = preset_and_seeds(args)
    mine = at_quotas([distilled], args.quotas, lab, seeds[0])
    (network,) = lab.backbones.values()
    # What does not fit is refused before any network is trained.
    distilled.usual().begin(
        lab.bank,
        args.ppc,
        seeds[0],
        network,
        lab.task,
        classes_per_chunk=distilled.classes_per_chunk,
        device=lab.device,
        quotas=mine[0].quotas,
        chooses=False,
    )
    if not ranks.first:
        return assist(lab)
    # A whole cloud has no room in less than one.
    real = ENTRIES["random"] if args.ppc >= 1 else strongest_control(lab.task)
    starts = at_quotas([real, initial], args.quotas, lab, seeds[0])
    entries: list[Entry] = [*starts, *mine]
    if not args.skip_whole:
        entries.append(ENTRIES["whole"])
    cells = list(lab.cells(entries, [args.ppc], seeds))
    announce(lab, cells)
    if args.tensorboard is not None and not lab.to_do(cells).steps:
        print(f"Nothing is distilled, so that nothing is written to {args.tensorboard}.")
    runs = lab.run(cells, args.workers)
    rows, title = summarize(runs), heading(args, runs)
    text = f"{tables_of(rows)}\n{class_markdown(rows)}"
    stem = print_table(args, [lab], title, text, runs, "table")
    plot_comparison(rows, args.out / f"{stem}.png", title)
    made = (cell for cell in cells if cell.entry in mine)
    if not any(keep_set(args, lab, cell) for cell in made):  # The first that did not fail.
        raise ValueError("no set was distilled: the reasons stand above")
    files = f"its picture, {stem}.md, {stem}.png"
    print(f"The first distilled set, {files} and all runs are in {args.out}/.")
