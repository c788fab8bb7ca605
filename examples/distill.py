"""Distils a data set of 3D point clouds and shows what the result is worth.

    python examples/distill.py                                  # embedded data, under 5 minutes
    python examples/distill.py --data clouds.npz --out out/mine
    python examples/distill.py --dataset modelnet10 --root data --device cuda --protocol paper

Compares networks trained on random clouds of the same storage, on the anchors and morphs before
any optimisation, on the distilled set and on the whole set. Writes the distilled set, the figures
and a picture to the folder `--out`; a run that was interrupted goes on when it is started again.
"""

import argparse
import time
from pathlib import Path

from common import PROTOCOLS, add_data_arguments, load, print_sets, source, write_results

from torch_geometric_ddp import Evaluation, StorageBudget, distill, evaluate
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.nn import BACKBONES
from torch_geometric_ddp.visualize import plot_distilled


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    method = parser.add_argument_group("distillation")
    method.add_argument("--ppc", type=int, default=1, help="storage in clouds per class")
    method.add_argument("--num-anchors", type=int, default=4, help="anchors per group, M")
    method.add_argument("--anchor-points", type=int, help="points per anchor, N2 (all that fit)")
    method.add_argument("--num-morphs", type=int, help="morphs per group, L (shapes 4, else 16)")
    method.add_argument("--uniformity-lambda", type=float, default=1000.0, help="sharpness λ")
    method.add_argument("--steps", type=int, help="steps (shapes 150, otherwise 2000)")
    method.add_argument("--anchor-lr", type=float, help="learning rate (shapes 0.5, otherwise 2.5)")
    method.add_argument("--weight-lr", type=float, help="likewise (shapes 0.05, otherwise 0.25)")
    method.add_argument("--backbone", choices=BACKBONES, default="PointNet", help="the network")
    method.add_argument("--seed", type=int, default=0)
    run = parser.add_argument_group("run")
    run.add_argument("--device", default=None, help="cpu, cuda, ... (default: cpu)")
    run.add_argument("--protocol", choices=PROTOCOLS, help="training (shapes quick, else paper)")
    run.add_argument("--eval-seeds", type=int, help="networks per set, from --seed on (2, else 3)")
    run.add_argument("--skip-whole", action="store_true", help="leave out the whole set")
    run.add_argument("--out", type=Path, default=Path("out/distill"))
    args = parser.parse_args()
    # The embedded data is for a first look at a CPU: small clouds, few steps. The learning rates
    # were chosen on validation splits of the training sets.
    shapes = args.data is None and args.dataset == "shapes"
    small = {"num_morphs": 4, "steps": 150, "anchor_lr": 0.5, "weight_lr": 0.05}
    paper = {"num_morphs": 16, "steps": 2000, "anchor_lr": 2.5, "weight_lr": 0.25}
    small |= {"protocol": "quick", "eval_seeds": 2}
    paper |= {"protocol": "paper", "eval_seeds": 3}
    for name, value in (small if shapes else paper).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    protocol = PROTOCOLS[args.protocol]
    seeds = range(args.seed, args.seed + args.eval_seeds)
    start = time.perf_counter()
    train_set, test_set = load(args)

    def run_distill(steps, **kwargs):
        return distill(
            train_set,
            ppc=args.ppc,
            num_anchors=args.num_anchors,
            anchor_points=args.anchor_points,
            num_morphs=args.num_morphs,
            uniformity_lambda=args.uniformity_lambda,
            anchor_lr=args.anchor_lr,
            weight_lr=args.weight_lr,
            steps=steps,
            network=BACKBONES[args.backbone],
            seed=args.seed,
            device=args.device,
            source=source(args),
            **kwargs,
        )

    initial = run_distill(0, progress=False)
    began = time.perf_counter()
    synthetic = run_distill(args.steps, checkpoint=args.out / "checkpoint.safetensors")
    distill_seconds = time.perf_counter() - began
    synthetic.save(args.out / "distilled.safetensors")
    plot_distilled(train_set, synthetic, args.out / "distilled.png")

    def run_evaluate(name, dataset, seeds=seeds, protocol=protocol):
        network = BACKBONES[args.backbone]
        return evaluate(dataset, test_set, network, protocol, seeds, args.device, name=name)

    # A new draw for every network: which clouds are drawn matters more than the training.
    drawn = {seed: random_coreset(train_set, args.ppc, seed) for seed in seeds}
    results = {
        "random clouds": Evaluation.join(
            [run_evaluate("Random", drawn[seed], [seed]) for seed in seeds]
        ),
        "initial set": run_evaluate("Initial", initial),
        "distilled": run_evaluate("Distilled", synthetic),
    }
    budget = StorageBudget(train_set[0].num_nodes, train_set.num_classes, args.ppc)
    bits = {
        "random clouds": drawn[args.seed].storage_bits,
        "initial set": initial.storage_bits,
        "distilled": synthetic.storage_bits,
    }
    if not args.skip_whole:
        # Many times as many clouds see each as often in as many fewer epochs.
        results["whole set"] = run_evaluate("Whole", train_set, protocol=protocol.for_large_sets())
        whole = StorageBudget(budget.num_points, 1, len(train_set))
        bits["whole set"] = whole.bits
    print_sets(results, bits, "accuracy")
    write_results(
        args.out,
        results,
        bits,
        provenance=synthetic.provenance,
        distill_seconds=distill_seconds,
        seconds=time.perf_counter() - start,
    )


if __name__ == "__main__":
    main()
