"""Lets Optuna choose M, N2, L and λ for a data set under a storage budget.

    python examples/tune.py                                   # embedded data, under 3 minutes
    python examples/tune.py --data clouds.npz --trials 50 --protocol cpu --out out/mine
    python examples/tune.py --dataset modelnet10 --gpus 4 --trials 200 --seeds 3
    python examples/tune.py --objectives accuracy,bits --storage sqlite:///study.db

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
from dataclasses import replace
from functools import partial
from pathlib import Path

from common import PROTOCOLS, add_data_arguments, load, source

from torch_geometric_ddp import Evaluation, evaluate
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.nn import PointNet
from torch_geometric_ddp.tuning import SearchSpace, TuningResult, plot_tuning, tune, write_html
from torch_geometric_ddp.visualize import plot_distilled


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    what = parser.add_argument_group("search")
    what.add_argument("--ppc", type=float, default=1, help="storage in clouds per class")
    what.add_argument("--trials", type=int, help="trials of the study (shapes 6, otherwise 30)")
    what.add_argument("--steps", type=int, help="steps of a trial (shapes 10, otherwise 200)")
    what.add_argument("--seeds", type=int, default=1, help="runs of a trial, of which the mean")
    what.add_argument("--protocol", choices=PROTOCOLS, help="training (shapes quick, else cpu)")
    what.add_argument("--epochs", type=int, help="of the protocol, if not its own (shapes 60)")
    what.add_argument("--min-steps", type=int, help="the least steps of training, for small sets")
    what.add_argument(
        "--objectives",
        type=lambda text: tuple(text.split(",")),
        default=("accuracy",),
        help="accuracy, or with a second one: accuracy,bits or accuracy,seconds",
    )
    ends = {"nargs": 2, "metavar": ("LOW", "HIGH")}
    what.add_argument("--num-anchors", type=int, **ends, help="M (2 8)")
    what.add_argument("--num-morphs", type=int, **ends, help="L (shapes 0 4, otherwise 0 32)")
    what.add_argument("--anchor-share", type=float, **ends, help="N2, of the largest (0.25 1)")
    what.add_argument("--uniformity-lambda", type=float, **ends, help="λ (10 100000)")
    what.add_argument("--no-penalty", action="store_true", help="also try λ = 0")
    what.add_argument("--anchor-lr", type=float, **ends, help="search it (shapes 0.5, else 2.5)")
    what.add_argument("--weight-lr", type=float, **ends, help="search it (shapes 0.05, else 0.25)")
    looks = "when the pruner sees a trial, in shares of its steps (shapes never, otherwise 0.5)"
    what.add_argument("--looks", type=float, nargs="*", metavar="SHARE", help=looks)
    what.add_argument("--validate", type=float, default=0.2, help="share of clouds held out")
    what.add_argument("--seed", type=int, default=0, help="of the split and the sampler")
    run = parser.add_argument_group("run")
    run.add_argument("--storage", help="journal file or URL (study.journal in --out)")
    run.add_argument("--study", default="tune", help="name of the study in the storage")
    run.add_argument("--device", default=None, help="cpu, cuda, ... (default: cpu)")
    run.add_argument("--gpus", type=int, default=0, help="GPUs, each with a process of its own")
    run.add_argument("--workers", type=int, default=1, help="processes (for each GPU)")
    run.add_argument("--test-seeds", type=int, help="runs on the test set (shapes 2, otherwise 3)")
    run.add_argument("--out", type=Path, default=Path("out/tune"))
    run.add_argument("--worker", type=int, help=argparse.SUPPRESS)  # Of the processes, which.
    args = parser.parse_args()
    # The embedded data is for a first look at a CPU: few trials, steps and morphs.
    shapes = args.data is None and args.dataset == "shapes"
    if shapes and args.protocol is None and args.epochs is None:
        args.epochs = 60
    small = {"trials": 6, "steps": 10, "protocol": "quick", "test_seeds": 2}
    small |= {"num_morphs": (0, 4), "looks": ()}
    usual = {"trials": 30, "steps": 200, "protocol": "cpu", "test_seeds": 3, "looks": (0.5,)}
    for name, value in (small if shapes else usual).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.rates = {"anchor_lr": 0.5 if shapes else 2.5, "weight_lr": 0.05 if shapes else 0.25}
    args.storage = args.storage or str(args.out / "study.journal")
    args.training = PROTOCOLS[args.protocol]
    if args.epochs:
        name = f"{args.protocol}, {args.epochs} epochs"
        args.training = replace(args.training, name=name, epochs=args.epochs)
    if args.min_steps:
        name = f"{args.training.name}, at least {args.min_steps} steps"
        args.training = replace(args.training, name=name, min_steps=args.min_steps)
    if args.gpus:
        args.device = "cuda"
    return args


def space(args: argparse.Namespace) -> SearchSpace:
    names = ("num_anchors", "num_morphs", "anchor_share", "uniformity_lambda", *args.rates)
    given = {name: tuple(getattr(args, name)) for name in names if getattr(args, name)}
    return SearchSpace(**given, no_penalty=args.no_penalty)


def search(args: argparse.Namespace, train_set, progress: bool) -> TuningResult:
    return tune(
        train_set,
        args.ppc,
        space=space(args),
        n_trials=args.trials,
        storage=args.storage,
        study_name=args.study,
        objectives=args.objectives,
        steps=args.steps,
        seeds=args.seeds,
        protocol=args.training,
        looks=args.looks,
        share=args.validate,
        method=partial(ddp, **args.rates),
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


def judge(args: argparse.Namespace, name: str, settings, bank, test_set):
    """Distils the whole training set and tests on the test set; the first set comes along."""
    method, sets, results = ddp(**{**args.rates, **settings}), [], []
    for seed in range(args.test_seeds):
        loop = method.begin(bank, args.ppc, seed)
        loop.run(args.steps)
        sets.append(method.finish(loop, source=source(args), normalize=True))
        results.append(
            evaluate(sets[-1], test_set, PointNet, args.training, [seed], args.device, name=name)
        )
    return Evaluation.join(results), sets[0]


def command(args: argparse.Namespace, settings) -> str:
    """The command line that distils with these settings."""
    options = {"data": args.data} if args.data else {"dataset": args.dataset}
    if args.data is None and args.dataset != "shapes":
        options["root"] = args.root
    if args.num_points:
        options["num-points"] = args.num_points
    if args.data is None and args.dataset == "shapes":
        options["num-per-class"] = args.num_per_class
    options |= {name.replace("_", "-"): value for name, value in {**args.rates, **settings}.items()}
    options |= {"ppc": args.ppc, "steps": args.steps, "protocol": args.protocol}
    options |= {"device": args.device} if args.device else {}
    options |= {"eval-seeds": args.test_seeds, "out": args.out / "distill"}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return shlex.join(["python", "examples/distill.py", *words])


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    train_set, test_set = load(args)
    try:
        if args.worker is not None:
            search(args, train_set, progress=args.worker == 0)
            return
        if args.gpus * args.workers > 1 or args.workers > 1:
            spawn(args)
        # Finishes what the processes may have left.
        result = search(args, train_set, progress=True)
    except KeyboardInterrupt:
        print(f"\nStopped. Start it again to go on with the study in {args.storage}.")
        raise SystemExit(130) from None

    best, published = result.settings, space(args).published_settings(result.budget)
    bank = PointCloudBank.from_dataset(train_set, args.device).normalize()
    tested, synthetic = {}, None
    for name, settings in {"best found": best, "published": published}.items():
        if name == "best found" or settings != best:
            tested[name], made = judge(args, name, settings, bank, test_set)
            synthetic = synthetic or made
    synthetic.save(args.out / "distilled.safetensors")
    plot_distilled(train_set, synthetic, args.out / "distilled.png")
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
    print_table({"best found": best, "published": published}, tested)
    print("\nTo distil with the best settings:\n")
    print(f"    {command(args, best)}\n")
    summary = {
        "best": best,
        "published": published,
        "validation": dict(zip(result.objectives, result.best.values, strict=True)),
        "test": {name: evaluation.to_dict() for name, evaluation in tested.items()},
        "importances": result.importances(),
        "trials": len(result.finished),
        "failed": result.reasons,
        "seconds_per_trial": sum(spans) / len(spans),
        "idle_share": result.idle_share,
        "command": command(args, best),
    }
    (args.out / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"The set, the pictures and the figures are in {args.out}/, the study is in")
    print(f"{args.storage} (see it with optuna-dashboard).")


def print_front(result: TuningResult) -> None:
    print("\n| trial | " + " | ".join(result.objectives) + " | M | N2 | L | λ |")
    print("|" + "---|" * (len(result.objectives) + 5))
    for trial in result.front:
        accuracy, *others = trial.values
        values = " | ".join([f"{100 * accuracy:.1f} %", *(f"{value:,.6g}" for value in others)])
        print(f"| {trial.number} | {values} | {show(trial.user_attrs['settings'])} |")


def print_table(rows, tested: dict[str, Evaluation]) -> None:
    print(f"\n| {'settings':10} | {'M':>2} | {'N2':>4} | {'L':>3} | {'λ':>8} | test accuracy")
    print(f"|{'-' * 12}|{'-' * 4}|{'-' * 6}|{'-' * 5}|{'-' * 10}|{'-' * 40}")
    for name, settings in rows.items():
        print(f"| {name:10} | {show(settings)} | {tested.get(name, 'the same settings')}")


def show(settings) -> str:
    sizes = f"{settings['num_anchors']:2} | {settings['anchor_points']:4}"
    return f"{sizes} | {settings['num_morphs']:3} | {settings['uniformity_lambda']:8.4g}"


if __name__ == "__main__":
    main()
