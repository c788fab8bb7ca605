"""Lets Optuna choose the settings of DDP or PKR for a data set under a storage budget.

    python examples/tune.py                                   # generated shapes, some minutes
    python examples/tune.py --data clouds.npz --trials 50 --preset cpu --out out/mine
    python examples/tune.py --dataset modelnet10 --gpus 4 --trials 200 --trial-seeds 3
    python examples/tune.py --objectives score,bits --storage sqlite:///study.db
    python examples/tune.py --task segmentation
    python examples/tune.py --method pkr --ppc 0.25

Every trial distils a part of the training set and is judged on the other part. The test set is
seen once, at the end: by the winner and by the published settings. A search that was interrupted
goes on when it is started again; more processes, also on other machines, join it by being started
with the same options and the same `--storage`.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from functools import partial

from common import (
    NETWORKS,
    SMALL,
    add_data_arguments,
    add_work_arguments,
    generated,
    heading,
    keep_set,
    load,
    networks,
    one_line,
    positive,
    preset_and_seeds,
    share,
    source,
)

from torch_geometric_ddp.comparison import Distilled, Lab, Row, summarize
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import METHODS
from torch_geometric_ddp.tuning import (
    LETTERS,
    PackedSpace,
    SearchSpace,
    TuningResult,
    plot_tuning,
    tune,
    write_html,
)

# What can be tuned, and the options that are ranges of its settings.
DDP_RANGES = ("num_anchors", "num_morphs", "anchor_share", "uniformity_lambda")
DDP_RATES = ("anchor_lr", "weight_lr")
PKR_RANGES = ("cloud_points", "depth", "lr", "ridge")
MIRROR = {"both": (True, False), "always": (True,), "never": (False,)}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=NETWORKS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    what = parser.add_argument_group("search")
    what.add_argument("--ppc", type=share, default=1, help="storage in clouds per class (1)")
    what.add_argument("--trials", type=positive, help="trials of the study (30, shapes 6)")
    what.add_argument("--trial-seeds", type=positive, default=1, help="runs of a trial (1)")
    what.add_argument(
        "--objectives",
        type=lambda text: tuple(text.split(",")),
        default=("score",),
        help="score, or with a second one: score,bits or score,seconds (score)",
    )
    what.add_argument("--method", choices=("ddp", "pkr"), default="ddp", help="what is tuned (ddp)")
    ends = {"nargs": 2, "metavar": ("LOW", "HIGH")}
    what.add_argument("--num-anchors", type=int, **ends, help="ddp: M (2 8)")
    what.add_argument("--num-morphs", type=int, **ends, help="ddp: L (0 32, shapes 0 4)")
    what.add_argument("--anchor-share", type=float, **ends, help="ddp: N2, of the largest (0.25 1)")
    what.add_argument("--uniformity-lambda", type=float, **ends, help="ddp: λ (10 100000)")
    what.add_argument("--no-penalty", action="store_true", help="ddp: also try λ = 0")
    what.add_argument("--anchor-lr", type=float, **ends, help="ddp: search it (2.5, shapes 0.5)")
    what.add_argument("--weight-lr", type=float, **ends, help="ddp: search it (0.25, shapes 0.05)")
    what.add_argument("--cloud-points", type=int, **ends, help="pkr: points of a cloud (16 256)")
    what.add_argument("--depth", type=int, **ends, help="pkr: bits of a coordinate (4 8)")
    what.add_argument("--mirror", choices=MIRROR, help="pkr: whether halves are stored (both)")
    what.add_argument("--lr", type=float, **ends, help="pkr: search it (0.005)")
    what.add_argument("--ridge", type=float, **ends, help="pkr: search it (0.01)")
    looks = "when the pruner sees a trial, in shares of its steps (0.5, shapes never)"
    what.add_argument("--looks", type=float, nargs="*", metavar="SHARE", help=looks)
    held = "share of the training clouds that trials are judged on (0.2)"
    what.add_argument("--hold-out", type=float, default=0.2, metavar="SHARE", help=held)
    what.add_argument("--seed", type=int, default=0, help="of that split and the sampler (0)")
    run = parser.add_argument_group("run")
    run.add_argument("--storage", help="journal file or URL (study.journal in --out)")
    run.add_argument("--study", default="tune", help="name of the study in the storage (tune)")
    run.add_argument("--gpus", type=int, default=0, help="GPUs, each with its own process (0)")
    run.add_argument("--workers", type=positive, default=1, help="processes, for each GPU (1)")
    run.add_argument("--backbone", metavar="B", help="the network (PointNet's)")
    run.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # Of the processes, which.
    add_work_arguments(parser, "out/tune", preset="cpu", steps="200, shapes 10")
    args = parser.parse_args()
    of_ddp, of_pkr = (*DDP_RANGES, *DDP_RATES, "no_penalty"), (*PKR_RANGES, "mirror")
    for name in of_pkr if args.method == "ddp" else of_ddp:
        if getattr(args, name):
            parser.error(f"--{name.replace('_', '-')} is no option of --method {args.method}")
    # The generated shapes are for a first look at a CPU: few trials, steps and morphs.
    small = {"trials": 6, "steps": 10, "num_morphs": (0, 4), "looks": ()}
    if args.method == "pkr":
        del small["num_morphs"]
    usual = {"trials": 30, "steps": 200, "looks": (0.5,)}
    for name, value in (small if generated(args) else usual).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    shapes = generated(args)
    rates = {"anchor_lr": 0.5 if shapes else 2.5, "weight_lr": 0.05 if shapes else 0.25}
    args.fixed = rates if args.method == "ddp" else SMALL["pkr"] if shapes else {}
    args.storage = args.storage or str(args.out / "study.journal")
    args.device = "cuda" if args.gpus else args.device
    return args


def space(args: argparse.Namespace) -> SearchSpace | PackedSpace:
    names = (*DDP_RANGES, *DDP_RATES) if args.method == "ddp" else PKR_RANGES
    given = {name: tuple(getattr(args, name)) for name in names if getattr(args, name)}
    if args.method == "ddp":
        return SearchSpace(**given, no_penalty=args.no_penalty)
    if "cloud_points" in given:
        given["num_points"] = given.pop("cloud_points")
    return PackedSpace(**given, mirror=MIRROR[args.mirror or "both"])


def method(args: argparse.Namespace):
    return partial(METHODS[args.method], **args.fixed)


def search(args: argparse.Namespace, train_set, progress: bool) -> TuningResult:
    (network,) = networks(args, args.backbone and [args.backbone]).values()
    preset, _ = preset_and_seeds(args)
    return tune(
        train_set,
        args.ppc,
        space=space(args),
        n_trials=args.trials,
        storage=args.storage,
        study_name=args.study,
        objectives=args.objectives,
        steps=args.steps,
        seeds=args.trial_seeds,
        protocol=preset.protocol,
        looks=args.looks,
        share=args.hold_out,
        method=method(args),
        network=network,
        task=args.task,
        seed=args.seed,
        device=args.device,
        progress=progress,
    )


def spawn(args: argparse.Namespace) -> None:
    """Lets processes of their own work on the study until it is finished."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i in range(args.gpus)]
    if args.gpus > len(gpus):
        raise ValueError(f"'--gpus' must be at most the {len(gpus)} visible ones, got {args.gpus}")
    places = gpus[: args.gpus] or [None]
    threads = max(1, (os.cpu_count() or 1) // (len(places) * args.workers))
    children = []
    try:
        for index in range(len(places) * args.workers):
            env = {"OMP_NUM_THREADS": str(threads), **os.environ}
            if args.gpus:
                env["CUDA_VISIBLE_DEVICES"] = places[index % len(places)]
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", str(index)]
            children.append(subprocess.Popen(command, env=env))
        for index, child in enumerate(children):
            if child.wait() != 0:
                print(f"Worker {index} ended with status {child.returncode}.", file=sys.stderr)
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
                child.wait()


def command(args: argparse.Namespace, settings, seeds) -> str:
    """What distils with these settings: a command line, or a line of Python."""
    if args.method == "pkr":
        given = ", ".join(f"{k}={v!r}" for k, v in {**args.fixed, **settings}.items())
        preset, _ = preset_and_seeds(args)
        steps = "" if preset.steps is None else f", steps={preset.steps}"
        return f"distill(dataset, {args.ppc}, pkr({given}){steps}, seed={seeds[0]})"
    names = ["data"] if args.data else ["dataset"] if generated(args) else ["dataset", "root"]
    names += ["num_points", "num_per_class", "task", "categories", "resplit", "validate", "ppc"]
    names += ["preset", "steps", "epochs", "min_steps", "train_lr", "rotate", "width", "device"]
    options = {name: getattr(args, name) for name in (*names, "backbone")}
    options |= {**args.fixed, **settings, "seeds": list(seeds), "out": args.out / "distill"}
    # The preset that this program takes is not that of the other.
    options["preset"] = args.preset or ("quick" if generated(args) else args.usual_preset)
    words = ["python", "examples/distill.py"]
    for name, value in options.items():
        if value is not None and value is not False:
            values = [] if value is True else value if isinstance(value, list) else [value]
            words += ["--" + name.replace("_", "-"), *map(str, values)]
    return shlex.join(words)


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    backbones = networks(args, args.backbone and [args.backbone])
    with one_line():
        preset, seeds = preset_and_seeds(args)
        train_set, test_set = load(args)
        space(args)
    try:
        with one_line():
            if args.worker is not None:
                search(args, train_set, progress=args.worker == 0)
                return
            # Before the search, so that what does not fit the test set is not noticed after it.
            sets, name = (train_set, test_set), source(args)
            lab = Lab(*sets, args.out, preset, backbones, args.device, name, args.task)
            if max(args.gpus, 1) * args.workers > 1:
                spawn(args)
            # Finishes what the processes may have left.
            result = search(args, train_set, progress=True)
            best = result.settings
    except KeyboardInterrupt:
        print(f"\nStopped. Start it again to go on with the study in {args.storage}.")
        raise SystemExit(130) from None

    chosen = {"best found": best}
    published = space(args).published_settings(result.budget)
    if published != best:
        chosen["published"] = published
    build = METHODS[args.method]
    entries = [
        Distilled(name, {**args.fixed, **settings}, build=build)
        for name, settings in chosen.items()
    ]
    cells = list(lab.cells(entries, [args.ppc], seeds))
    runs = lab.run(cells)
    keep_set(args, lab, cells[0])
    plot_tuning(result, args.out)
    write_html(result, args.out)

    spans = [trial.duration.total_seconds() for trial in result.completed]
    print(f"\n{len(result.finished)} trials: {len(result.completed)} completed, ", end="")
    print(f"{len(result.reasons)} failed, {sum(spans) / len(spans):.1f} s per completed trial,")
    print(f"{100 * result.idle_share:.1f} % of it neither distilling nor training networks.")
    for number, reason in result.reasons.items():
        print(f"Trial {number} failed: {reason}")
    if len(result.objectives) > 1:
        print_front(result)
    print(f"\n{heading(args, lab)}: {preset.protocol.name} protocol, seeds {list(seeds)}")
    rows = {row.method: row for row in summarize(runs)}
    print_table({"best found": best, "published": published}, rows, result.metric)
    for run, reason in lab.failures.items():
        print(f"Failed: {run}: {reason}")
    print(f"\nTo distil with the best settings:\n\n    {command(args, best, seeds)}\n")
    summary = {
        "best": best,
        "published": published,
        "validation": dict(zip(result.objectives, result.best.values, strict=True)),
        "test": {name: row.runs for name, row in rows.items()},
        "importances": result.importances(),
        "trials": len(result.finished),
        "failed": result.reasons,
        "seconds_per_trial": sum(spans) / len(spans),
        "idle_share": result.idle_share,
        "command": command(args, best, seeds),
    }
    (args.out / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"The set, the pictures and the figures are in {args.out}/, the study is in")
    print(f"{args.storage} (see it with optuna-dashboard).")


def print_front(result: TuningResult) -> None:
    names = [f"{result.metric} %", *result.objectives[1:]]
    head = ["trial", *names, *(LETTERS.get(name, name) for name in result.settings)]
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for trial in result.front:
        score, *others = trial.values
        values = " | ".join([f"{100 * score:.1f}", *(f"{value:,.6g}" for value in others)])
        print(f"| {trial.number} | {values} | {show(trial.user_attrs['settings'])} |")


def print_table(chosen, rows: dict[str, Row], metric: str) -> None:
    names = list(chosen["best found"])
    head = ["settings", *(LETTERS.get(name, name) for name in names), f"test {metric} %"]
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, settings in chosen.items():
        same = settings == chosen["best found"] and name != "best found"
        value = "the same settings" if same else rows.get(name, "failed")
        print(f"| {name} | {show(settings)} | {value} |")


def show(settings) -> str:
    values = settings.values()
    return " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)


if __name__ == "__main__":
    main()
