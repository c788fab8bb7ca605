"""What `tune` does: the processes of a search, and its winner on the test set."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from sqlalchemy import make_url  # Optuna's own package for databases.

from torch_geometric_ddp._files import check_folder
from torch_geometric_ddp._worker import end_after
from torch_geometric_ddp.clouds.splits import check_share
from torch_geometric_ddp.comparison import Distilled, Lab, summarize
from torch_geometric_ddp.methods import METHODS, Method
from torch_geometric_ddp.parameterization import ANCHOR_LR
from torch_geometric_ddp.programs.data import load, source
from torch_geometric_ddp.programs.labs import provenance
from torch_geometric_ddp.programs.networks import named_network
from torch_geometric_ddp.programs.options import MIRROR, is_generated
from torch_geometric_ddp.programs.presets import preset_and_seeds
from torch_geometric_ddp.programs.rows import SMALL
from torch_geometric_ddp.programs.search_report import report
from torch_geometric_ddp.programs.showing import keep_set
from torch_geometric_ddp.programs.tunables import RANGES, command
from torch_geometric_ddp.tuning import (
    PackedSpace,
    SearchSpace,
    TuningResult,
    keep_artifacts,
    plot_tuning,
    tune,
    write_html,
)
from torch_geometric_ddp.tuning.objective import check_objective
from torch_geometric_ddp.tuning.storage import OtherStudyError, check_storage

__all__ = ["run"]

# Seconds that workers have to stop by themselves.
_PATIENCE = 10.0
# What arguments of a search are as options, but for those of one name.
_OPTIONS = {
    **{
        key: f"--{key}" for key in ("ppc", "seed", "steps", "looks", "objectives", "method", "task")
    },
    **{"share": "--hold-out", "seeds": "--trial-runs", "seed_by_seed": "--pruner"},
    **{"network": "--backbone", "study_name": "--study", "storage": "--storage"},
}


def run(args: argparse.Namespace) -> None:
    """Searches, and shows what was found."""
    if args.worker is not None:
        # The first process holds the other end of this pipe, and never writes. A lock, as that of
        # sys.stdin, would still be held when this process ends.
        end_after(partial(os.read, 0, 1))
    # The search holds them to the same, but after all is read.
    check_objective(args.steps, range(args.trial_runs), args.looks, args.objectives)
    check_share("hold-out", args.hold_out)
    check_folder("out", args.out)
    check_storage(args.storage)
    _check_results(args)
    backbones = dict([named_network(args)])
    preset, seeds = preset_and_seeds(args)
    space = _space(args)
    train_set, test_set = load(args)
    if args.worker is not None:
        first = args.worker == 0
        _search(args, train_set, progress=first, announced=first)
        return
    # Before the search, so that what does not fit the test set is not noticed after it.
    name = source(args)
    rest = args.device, name, args.task, False, args.cache
    lab = Lab(train_set, test_set, args.out, preset, backbones, *rest)
    lab.told = provenance(args)
    several = max(args.gpus, 1) * args.workers > 1
    if several:
        _spawn(args)
    # Finishes what the processes may have left, of which the first has said what there is to do.
    result = _search(args, train_set, progress=True, announced=not several)

    chosen = {"best found": result.settings}
    published = space.published_settings(result.budget)
    if published != result.settings:
        chosen["published"] = published
    build, fixed = METHODS[args.method], _fixed(args)
    entries = [
        Distilled(name, {**fixed, **settings}, build=build) for name, settings in chosen.items()
    ]
    cells = list(lab.cells(entries, [args.ppc], seeds))
    rows = {row.method: row for row in summarize(lab.run(cells))}
    # The figures first, so that no picture that fails takes them along.
    line = command(args, {**fixed, **result.settings}, seeds)
    known = {**chosen, "published": published}
    report(args, lab, result, known, rows, _told_study(args), line)
    kept = keep_set(args, lab, cells[0])
    plot_tuning(result, args.out)
    if kept:
        keep_artifacts(result, kept, args.out / "artifacts")
    write_html(result, args.out)


def _told_study(args: argparse.Namespace) -> dict[str, str]:
    """What results tell of their study: a database without its password, a file from the folder."""
    if "://" in args.storage:
        storage = make_url(args.storage).render_as_string(hide_password=True)
    else:
        storage = os.path.relpath(args.storage, args.out)
    return {"study": args.study, "storage": storage}


def _check_results(args: argparse.Namespace) -> None:
    """Raises if the results of another study are in the folder, which would be lost."""
    path = args.out / "results.json"
    if not path.exists():
        return
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"'{path}' is damaged ({error}): remove it") from error
    own = _told_study(args)
    theirs = {key: found.get(key, value) for key, value in own.items()}
    if theirs != own:
        raise ValueError(
            f"--out must be a folder without results of another search, got '{args.out}', where "
            f"those of the study '{theirs['study']}' in {theirs['storage']} are"
        )


def _announce(args: argparse.Namespace) -> None:
    """Says what the search is going to do."""
    preset, seeds = preset_and_seeds(args)
    several = max(args.gpus, 1) * args.workers
    runs = f"{args.trial_runs} runs each" if args.trial_runs > 1 else "one run each"
    networks = f", {preset.num_networks} networks each" * (preset.num_networks > 1)
    prunes = len(args.objectives) == 1 and (args.looks or args.pruner == "wilcoxon")
    pruner = f"pruner {args.pruner}" if prunes else "no pruner"
    print(
        f"To do: {args.trials} trials of the study in {args.storage}, less those that are there, "
        f"by {several} process{'es' * (several > 1)}; {runs} of {args.steps} steps and a network "
        f"(protocol {preset.protocol.name}: {preset.protocol.epochs} epochs). Sampler "
        f"{args.sampler}, {pruner}.\nThen the winner and the published settings on "
        f"the test set, seeds {[*seeds]}{networks}. How long a bar has to go stands in it after "
        "its first step.",
        flush=True,
    )


def _space(args: argparse.Namespace) -> SearchSpace | PackedSpace:
    found = {name: getattr(args, name) for name in RANGES[args.method]}
    given: dict[str, Any] = {name: tuple(ends) for name, ends in found.items() if ends}
    if args.method == "ddp":
        return SearchSpace(**given, no_penalty=args.no_penalty)
    if "cloud_points" in given:
        given["num_points"] = given.pop("cloud_points")
    mirror = tuple(MIRROR.values()) if args.mirror in (None, "both") else (MIRROR[args.mirror],)
    return PackedSpace(**given, mirror=mirror)


def _fixed(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that are not searched and yet not the method's own."""
    shapes = is_generated(args)
    if args.method == "ddp":
        rate = SMALL["ddp"]["anchor_lr"] if shapes else ANCHOR_LR
        free = {"grouped": False} if args.ungrouped else {}
        return {"anchor_lr": rate, "weight_lr": rate / 10, **free}
    return SMALL[args.method] if shapes else {}


def _search(
    args: argparse.Namespace, train_set: Any, progress: bool, announced: bool
) -> TuningResult:
    _, network = named_network(args)
    preset, _ = preset_and_seeds(args)
    method: Callable[..., Method] = partial(METHODS[args.method], **_fixed(args))
    search = partial(
        tune,
        train_set,
        args.ppc,
        space=_space(args),
        n_trials=args.trials,
        storage=args.storage,
        study_name=args.study,
        objectives=args.objectives,
        steps=args.steps,
        seeds=args.trial_runs,
        protocol=preset.protocol,
        looks=args.looks,
        sampler=args.sampler,
        seed_by_seed=args.pruner == "wilcoxon",
        share=args.hold_out,
        method=method,
        network=network,
        task=args.task,
        seed=args.seed,
        device=args.device,
        progress=progress,
        begun=(lambda _: _announce(args)) if announced else None,
        cache=args.cache,
    )
    try:
        return search()
    except OtherStudyError as error:
        raise ValueError(error.told(_OPTIONS)) from error


def _spawn(args: argparse.Namespace) -> None:
    """Lets processes of their own work on the study until it is finished."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(args.gpus)]
    if args.gpus > len(gpus):
        raise ValueError(f"'--gpus' must be at most the {len(gpus)} visible ones, got {args.gpus}")
    places: list[str | None] = [*gpus[: args.gpus]] or [None]
    threads = max(1, (os.cpu_count() or 1) // (len(places) * args.workers))
    program = [sys.executable, "-m", "torch_geometric_ddp", "tune", *args.words]
    children: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for index in range(len(places) * args.workers):
            env = {"OMP_NUM_THREADS": str(threads), **os.environ}
            place = places[index % len(places)]
            if place is not None:
                env["CUDA_VISIBLE_DEVICES"] = place
            words = [*program, "--worker", str(index)]
            # By the end of this pipe it notices that of this process, however that comes.
            child = stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, env=env))
            stack.callback(child.terminate)  # Which does nothing to one that has ended.
            children.append(child)
        try:
            for index, child in enumerate(children):
                if child.wait() != 0:
                    print(f"Worker {index} ended with status {child.returncode}.", file=sys.stderr)
        except KeyboardInterrupt:  # They heard of it, too, and give their trials back.
            end = time.monotonic() + _PATIENCE
            for child in children:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.0, end - time.monotonic()))
            raise
