"""What the shared options mean: the data, the networks, the harness, and how results are shown."""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch_geometric_ddp._files import replacing
from torch_geometric_ddp.clouds import hold_out
from torch_geometric_ddp.clouds.splits import check_share
from torch_geometric_ddp.comparison import (
    CONTROLS,
    ENTRIES,
    PRESETS,
    Cell,
    ClassIncremental,
    CrossResolution,
    Entry,
    Lab,
    Preset,
    pool_splits,
)
from torch_geometric_ddp.comparison.cells import Figures
from torch_geometric_ddp.comparison.wholes import told_whole
from torch_geometric_ddp.coreset import difficulty_quotas
from torch_geometric_ddp.datasets import READERS, read_file
from torch_geometric_ddp.datasets.parametric_shapes import CLASSES
from torch_geometric_ddp.evaluation import Protocol, RandomRotation
from torch_geometric_ddp.nn import PointMamba, PointNetSegmentation
from torch_geometric_ddp.programs.options import (
    METHOD_OPTIONS,
    MIRROR,
    dest_of,
    is_generated,
    row_and_settings,
)
from torch_geometric_ddp.quotas import Quotas
from torch_geometric_ddp.synthetic import SyntheticPointCloudDataset
from torch_geometric_ddp.tasks import TASKS, find_task
from torch_geometric_ddp.visualize import plot_sheets

__all__ = [
    "ROWS",
    "SMALL",
    "announce",
    "announce_training",
    "at_quotas",
    "changed",
    "check_data",
    "check_sizes",
    "check_whole",
    "has_data",
    "heading",
    "keep_set",
    "load",
    "load_test_set",
    "method_settings",
    "network",
    "networks",
    "open_lab",
    "open_labs",
    "open_set",
    "preset_and_seeds",
    "print_table",
    "provenance",
    "row",
    "rows",
    "run_splits",
    "source",
    "splits",
]

#: Every row of a comparison by name.
ROWS: dict[str, Entry] = {**ENTRIES, **CONTROLS}
#: What methods take for the generated shapes, for a first look at a CPU.
SMALL: dict[str, dict[str, Any]] = {
    "ddp": {"num_morphs": 4, "anchor_lr": 0.5},
    "pkr": {"visits": 20, "ages": (0, 20, 40), "num_trained": 2, "real_per_class": 30},
}
# The options of single networks.
_SIZES = {"--width": "PointNetSegmentation", "--mamba-centers": "PointMamba"}


def load(args: argparse.Namespace) -> Sequence[Any]:
    """The training and the test set.

    Raises:
        ValueError: If an option is not for these data, or the data do not fit the options.
    """
    if len({*(args.resplit or ())}) > 1:
        given = " ".join(map(str, args.resplit))
        raise ValueError(f"--resplit must be one number, but for compare and cross, got {given}")
    check_data(args)
    if args.validate is not None:
        check_share("validate", args.validate)
    kept = "recommended" if args.categories == ["recommended"] else args.categories
    options = {"categories": kept, "resplit": args.resplit and args.resplit[0]}
    if args.data is not None:
        sets = read_file(args.data, args.task, args.num_points, **options)
    else:
        few = 50 if args.task == "segmentation" else 100
        options["num_per_class"] = (args.num_per_class or few) if is_generated(args) else None
        root = Path("data") if args.root is None else args.root
        reader = READERS[args.dataset or "shapes"]
        sets = reader.load(root, args.num_points, args.task, **options)
    return sets if args.validate is None else hold_out(sets[0], args.validate)


def splits(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The options of every split, with a folder for each where ``--resplit`` names several."""
    seeds = dict.fromkeys(args.resplit or ())
    if len(seeds) < 2:
        return [args]
    return [_of_split(args, seed) for seed in seeds]


def _of_split(args: argparse.Namespace, seed: int) -> argparse.Namespace:
    out = args.out / f"split_{seed}"
    own: dict[str, Any] = {"resplit": [seed], "out": out}
    if "command" in args:
        # Of an option that comes twice the last one counts: this makes the split alone.
        more = shlex.join(["--resplit", str(seed), "--out", str(out)])
        own["command"] = f"{args.command} {more}"
    return argparse.Namespace(**{**vars(args), **own})


def check_data(args: argparse.Namespace) -> None:
    """Raises if an option is not for the data that the others name."""
    if args.data is None:
        got = "the generated shapes" if is_generated(args) else f"'--dataset {args.dataset}'"
    else:
        got = f"'--data {args.data}'"
    own = args.data is not None
    labelled = own and args.task == "segmentation"
    for option, fits, what in (
        ("--dataset", not own, "no '--data'"),
        ("--root", not own and not is_generated(args), "the '--dataset' of files that lie there"),
        ("--num-per-class", is_generated(args), "the generated shapes"),
        ("--resplit", labelled, "labelled clouds of '--data' and '--task segmentation'"),
        (
            "--categories",
            labelled or args.categories is None or "categories" in _options(args),
            "labelled clouds and '--task segmentation'",
        ),
    ):
        if getattr(args, dest_of(option)) is not None and not fits:
            raise ValueError(f"{option} must go with {what}, got {got}")


def _options(args: argparse.Namespace) -> tuple[str, ...]:
    """What the data set that is named takes beside what all take."""
    return READERS[args.dataset or "shapes"].options if args.data is None else ()


def open_set(args: argparse.Namespace) -> SyntheticPointCloudDataset:
    """The distilled set of a file, which also says what its labels are for."""
    synthetic = SyntheticPointCloudDataset(args.file)
    args.task = find_task(synthetic.provenance.get("task", args.task)).name
    return synthetic


def has_data(args: argparse.Namespace, synthetic: SyntheticPointCloudDataset) -> bool:
    """Whether the options name data, or the set is of the classes of the generated shapes."""
    return bool(args.data or args.dataset) or synthetic.class_names == list(CLASSES)


def load_test_set(args: argparse.Namespace, synthetic: SyntheticPointCloudDataset) -> Any:
    """The test set for what a distilled set trains.

    Raises:
        ValueError: If no option names one and the set is not of the generated shapes, or as
            :func:`load` does.
    """
    if not has_data(args, synthetic):
        raise ValueError(
            f"--data or --dataset must name the test clouds of {args.file}, whose classes are not "
            "those of the generated shapes, got none"
        )
    return load(args)[1]


def source(args: argparse.Namespace) -> str:
    """What the data are called."""
    return str(args.data.stem if args.data else args.dataset or "shapes")


def preset_and_seeds(args: argparse.Namespace) -> tuple[Preset, Sequence[int]]:
    """How much work to take, and for which seeds."""
    preset = PRESETS[args.preset or "quick"]
    if args.steps is not None:
        preset = replace(preset, steps=args.steps)
    if args.num_networks is not None:
        preset = replace(preset, num_networks=args.num_networks)
    # Epochs of the whole set that are asked for are not prolonged.
    least = None if args.whole_epochs is None else 0
    whole = changed(args, preset.whole, args.whole_epochs, least)
    protocol = changed(args, preset.protocol, args.epochs, args.min_steps)
    preset = replace(preset, protocol=protocol, whole=whole)
    return preset, range(preset.num_seeds) if args.seeds is None else args.seeds


def changed(
    args: argparse.Namespace, protocol: Protocol, epochs: int | None, min_steps: int | None
) -> Protocol:
    """A protocol with what the options change of it, which its name says."""
    changes = {
        "epochs": epochs,
        "min_steps": min_steps,
        "lr": args.train_lr,
        "augment": RandomRotation() if args.rotate else None,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    words = [key if key == "augment" else f"{key} {value}" for key, value in changes.items()]
    return replace(protocol, name=", ".join([protocol.name, *words]), **changes)


def networks(args: argparse.Namespace, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The backbones of these names, all or the usual one of the task, by what tables call them.

    Raises:
        ValueError: If the task has no backbone of such a name.
    """
    task = TASKS[args.task]
    if names and "all" in names:
        names = list(task.backbones)
    unknown = [name for name in names or () if name not in task.backbones]
    if unknown:
        known = ", ".join(task.backbones)
        raise ValueError(f"a backbone for {task.name} must be one of {known}, got {unknown[0]!r}")
    width = args.width if args.width is not None else 0.25 if is_generated(args) else 1.0
    special: dict[str, tuple[str, Any]] = {}
    if width != 1:
        make = partial(PointNetSegmentation, width=width)
        special["PointNetSegmentation"] = (f"PointNetSegmentation, width {width:g}", make)
    if args.mamba_centers is not None:
        mamba = partial(PointMamba, num_centers=args.mamba_centers)
        special["PointMamba"] = (f"PointMamba, {args.mamba_centers} centres", mamba)
    names = names or [task.network.__name__]
    return dict(special.get(name, (name, task.backbones[name])) for name in names)


def network(args: argparse.Namespace) -> tuple[str, Any]:
    """The one network that the options name, or the usual one, and what tables call it.

    Raises:
        ValueError: If the task has no backbone of such a name, or a size is that of another one.
    """
    ((name, make),) = networks(args, None if args.backbone is None else [args.backbone]).items()
    check_sizes(args, [name])
    return name, make


def check_sizes(args: argparse.Namespace, backbones: Iterable[str]) -> None:
    """Raises if a size is asked for that none of the networks has.

    Args:
        args (Namespace): The options.
        backbones (iterable of str): The networks, as tables call them.
    """
    known = [name.partition(",")[0] for name in backbones]
    for option, name in _SIZES.items():
        if getattr(args, dest_of(option)) is not None and name not in known:
            raise ValueError(f"{option} must go with the network {name}, got {', '.join(known)}")


def rows(args: argparse.Namespace, usual: Sequence[str]) -> list[Entry]:
    """The rows that the options name, each once, or of the usual ones those of the task.

    The word :obj:`all` stands for all methods of the task.

    Raises:
        ValueError: As :func:`check_whole` does.
    """
    task = TASKS[args.task]

    def served(names: Iterable[str]) -> list[Entry]:
        return [ROWS[name] for name in names if ROWS[name].serves(task)]

    found: list[Entry] = [] if args.methods else served(usual)
    for text in args.methods or ():
        found += served(ENTRIES) if text == "all" else [row(text)]
    found = list({entry.name: entry for entry in found}.values())
    check_whole(args, found)
    return found


def check_whole(args: argparse.Namespace, entries: Iterable[Entry]) -> None:
    """Raises if epochs on the whole set are asked for, and no network of the rows is trained on it.

    It is for its own row, those that choose by what its network learned, and quotas of that kind.
    """
    entries = list(entries)
    trained = any(not entry.has_budget or entry.observes for entry in entries)
    if args.whole_epochs is None or trained or "difficulty" in getattr(args, "quotas", ()):
        return
    listed = ", ".join(entry.name for entry in entries)
    raise ValueError(
        "--whole-epochs must go with a row on the whole set, or one that is chosen by its network, "
        f"got {listed}"
    )


def row(text: str) -> Entry:
    """The row of a name, with the settings that stand after it."""
    name, settings = row_and_settings(text)
    return ROWS[name].changed(settings) if settings else ROWS[name]


def at_quotas(
    entries: Iterable[Entry], quotas: Iterable[str], lab: Lab, seed: int, workers: int = 1
) -> list[Entry]:
    """Rows with the storage divided in every one of these ways, each once.

    Where a way gives every class as much, as by the sizes of classes of one size, the row is that
    of uniform quotas.

    Args:
        entries (iterable of Entry): The rows.
        quotas (iterable of str): Names of quotas, or :obj:`difficulty`, for which the first
            backbone is trained on the whole set (:func:`difficulty_quotas`).
        lab (Lab): The harness.
        seed (int): That of the training.
        workers (int): Those of the comparison, so that this training is as all of them. (default:
            :obj:`1`)

    Raises:
        ValueError: If difficulty is asked for where clouds have several labels.
    """
    weights: dict[str, Quotas] = {name: name for name in quotas}
    if "difficulty" in weights:
        backbone = next(iter(lab.backbones))
        if not lab.task.one_label:
            raise ValueError(f"--quotas difficulty must go with one label, got {lab.task.name}")
        whole = list(lab.cells([ENTRIES["whole"]], [1], [seed], [backbone]))
        announce(lab, whole)
        lab.run(whole, workers)
        weights["difficulty"] = difficulty_quotas(lab.observation(backbone, seed))
    found = []
    for entry in entries:
        for name, one in weights.items():
            rows = entry.at_quotas([one if lab.bank.budget(1, one).weights else "uniform"])
            called = f"{entry.name}, quotas {name}"
            found += [replace(row, name=called) if row.quotas != "uniform" else row for row in rows]
    return list({entry.name: entry for entry in found}.values())


def open_lab(args: argparse.Namespace, backbones: dict[str, Any]) -> Lab:
    """The harness for the data and the work that the options name.

    Raises:
        ValueError: If an option is not for these data or none of these networks.
    """
    check_sizes(args, backbones)
    preset, _ = preset_and_seeds(args)
    train_set, test_set = load(args)
    device, name = args.device, source(args)
    rest = device, name, args.task, args.stream, args.cache
    lab = Lab(train_set, test_set, args.out, preset, backbones, *rest)
    lab.told = provenance(args)
    return lab


def open_labs(args: argparse.Namespace, backbones: dict[str, Any]) -> list[Lab]:
    """The harness of every split (:func:`splits`), all of them before the first run."""
    return [open_lab(one, backbones) for one in splits(args)]


def run_splits(labs: Sequence[Lab], cells: Iterable[Sequence[Cell]], workers: int) -> list[Figures]:
    """Announces and makes the runs of every split, and gives those of all for one table.

    Args:
        labs (sequence of Lab): The harness of every split.
        cells (iterable of sequence of Cell): The runs of every split.
        workers (int): How many seeds are run side by side.
    """
    runs: list[Figures] = []
    for number, (lab, mine) in enumerate(zip(labs, cells, strict=True), start=1):
        if len(labs) > 1:
            print(f"{lab.out}, {number} of {len(labs)} splits:")
        announce(lab, mine)
        runs += lab.run(mine, workers)
    return pool_splits(runs) if len(labs) > 1 else runs


def provenance(args: argparse.Namespace) -> dict[str, Any]:
    """What the file of a set tells of the program that made it, if a command line started it."""
    command = getattr(args, "command", None)
    return {} if command is None else {"command": command}


def method_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the method that the options name; the generated shapes have smaller ones.

    Raises:
        ValueError: If they are of another method.
    """
    own = METHOD_OPTIONS.get(args.method, {})
    every = dict.fromkeys(o for options in METHOD_OPTIONS.values() for o in options.values())
    given = [option for option in every if getattr(args, dest_of(option)) is not None]
    wrong = [option for option in given if option not in own.values()]
    if wrong:
        having = [name for name, known in METHOD_OPTIONS.items() if wrong[0] in known.values()]
        alike = [o for o in wrong if o in METHOD_OPTIONS[having[0]].values()]
        methods = " or ".join(f"'--method {name}'" for name in having)
        raise ValueError(f"{', '.join(alike)} must go with {methods}, got '--method {args.method}'")
    settings = {name: getattr(args, dest_of(option)) for name, option in own.items()}
    settings = {name: value for name, value in settings.items() if value is not None}
    if "mirror" in settings:
        settings["mirror"] = MIRROR[settings["mirror"]]
    usual = {"num_anchors": 4, "uniformity_lambda": 1e3} if args.method == "ddp" else {}
    return usual | (SMALL.get(args.method, {}) if is_generated(args) else {}) | settings


def heading(args: argparse.Namespace, runs: Iterable[Figures]) -> str:
    """What stands above a table of runs and its picture: the data, and how it was worked on."""
    runs, (preset, seeds) = list(runs), preset_and_seeds(args)
    words = [source(args)]
    if args.num_points is not None:
        words.append(_number(args.num_points, "point"))
    if args.num_per_class is not None:
        words.append(f"{_number(args.num_per_class, 'cloud')} per class")
    words.append(f"preset {preset.name}")
    if args.steps is not None and any(run["steps"] for run in runs):
        words.append(_number(args.steps, "step"))
    if preset.num_networks > 1:
        words.append(_number(preset.num_networks, "network"))
    if preset.name == "smoke":
        words[-1] += " (its figures mean nothing)"
    if preset.protocol.name != preset.name:
        words.append(f"protocol {preset.protocol.name}")
    if preset.whole.name != preset.name and any(map(told_whole, runs)):
        words.append(f"whole set {preset.whole.name}")
    if (several := len(splits(args))) > 1:
        words.append(f"{several} splits, {_number(len({*seeds}), 'seed')} each")
    if args.validate:
        words.append("tested on clouds held out from the training set")
    return ", ".join(words)


def announce(lab: Lab | ClassIncremental | CrossResolution, cells: Sequence[Cell]) -> None:
    """Says how many runs there are to make, and of what, with the runs that they need."""
    to_do = lab.to_do(cells)
    if not to_do.num_runs:
        print(f"{_number(len(cells), 'run')}, all of which are there.")
        return
    made = len(cells) - to_do.num_runs
    there = f", of which {made} are there" if made else ""
    print(f"{_number(len(cells), 'run')}{there}. To do:")
    for count, group in itertools.groupby(sorted(to_do.steps)):
        print(f"- {_number(len(list(group)), 'set')} to distil, {_number(count, 'step')} each")
    for trained, what, protocol in to_do.networks:
        if trained:
            least = f", at least {_number(protocol.min_steps, 'step')}" * (protocol.min_steps > 0)
            print(
                f"- {_number(trained, 'network')} to train on {what}: protocol {protocol.name}, "
                f"{_number(protocol.epochs, 'epoch')}{least}"
            )
    print("How long a bar has to go stands in it after its first step.", flush=True)


def announce_training(name: str, count: int, protocol: Protocol, num_clouds: int) -> None:
    """Says how networks are going to be trained on a set of so many clouds."""
    epochs, steps = protocol.epochs_for(num_clouds), protocol.steps_per_epoch(num_clouds)
    print(
        f"To do: {_number(count, 'network')} ({name}) to train, protocol {protocol.name}: "
        f"{_number(epochs, 'epoch')} of {_number(num_clouds, 'cloud')}, {epochs * steps:,} steps "
        "each. How long that takes stands in the bar after the first epoch.",
        flush=True,
    )


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def print_table(
    args: argparse.Namespace,
    labs: Sequence[Lab | ClassIncremental],
    title: str,
    table: str,
    runs: Sequence[Figures],
    stem: str,
) -> str:
    """Prints a table and what failed, and writes the table to a file of the folder.

    Args:
        args (Namespace): The options.
        labs (sequence of Lab): The harness, or that of every split.
        title (str): What stands above the table.
        table (str): The table.
        runs (sequence of dict): The lines of its runs.
        stem (str): What its file is called, without a number.

    Returns:
        The stem of its file: one with a number where a table of other or more runs lies already.

    Raises:
        ValueError: If all runs failed.
    """
    identities = sorted(run["id"] for run in runs)
    args.out.mkdir(parents=True, exist_ok=True)
    stem = _free_stem(args.out, stem, identities)
    failed = []
    for lab in labs:
        split = f"{lab.out.name}, " if len(labs) > 1 else ""
        failed += [f"Failed: {split}{run}: {reason}\n" for run, reason in lab.failures.items()]
    table += "".join(["\n", *failed]) if failed else ""
    text = f"{title}\n\n{table}\n<!-- runs: {' '.join(identities)} -->\n"
    with replacing(args.out / f"{stem}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"\n{title}\n\n{table}")
    if not runs:
        raise ValueError("no run was made: the reasons stand above")
    return stem


def _free_stem(folder: Path, stem: str, identities: Iterable[str]) -> str:
    """The first name under which there is no table, or one of no other runs than these."""

    def is_free(name: str) -> bool:
        path = folder / f"{name}.md"
        if not path.exists():
            return True
        found = re.search(r"<!-- runs: (.*) -->", path.read_text(encoding="utf-8"))
        return found is not None and set(found[1].split()) <= set(identities)

    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    return next(filter(is_free, names))


def keep_set(args: argparse.Namespace, lab: Lab, cell: Cell) -> list[Path]:
    """Copies the set of a run to the top of the folder and draws it; no file if the run failed.

    Pictures of a set that was there are removed.
    """
    if str(cell) in lab.failures:
        return []
    synthetic, kept = lab.synthetic(cell), args.out / "distilled.safetensors"
    with replacing(kept) as temporary:
        shutil.copyfile(lab.set_path(cell), temporary)
    pictures = plot_sheets(lab.train_set, synthetic, args.out / "distilled.png", 16)
    for path in {args.out / "distilled.png", *args.out.glob("distilled-[0-9]*.png")} - {*pictures}:
        path.unlink(missing_ok=True)  # Of an earlier set.
    return [kept, *pictures]
