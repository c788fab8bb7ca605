"""Distils a data set of 3D point clouds whose points are labelled with parts.

    python examples/segment.py                                  # embedded data, under 5 minutes
    python examples/segment.py --data parts.npz --categories recommended --rotate
    python examples/segment.py --dataset shapenetpart --root data --device cuda --protocol paper

Compares part segmentation networks trained on random clouds of the same storage, on the anchors
and morphs before any optimisation, on the distilled set and on the whole set, by the mean
intersection over union of ShapeNetPart. Writes the distilled set, the figures and a picture to the
folder `--out`; a run that was interrupted goes on when it is started again.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from common import PROTOCOLS, print_sets, write_results

from torch_geometric_ddp import ParametricShapes, StorageBudget
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.clouds.splits import hold_out
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.datasets import PartArrays, ShapeNetPart
from torch_geometric_ddp.evaluation.augment import RandomRotation
from torch_geometric_ddp.evaluation.segmentation import PartEvaluation, evaluate_parts
from torch_geometric_ddp.matching import UniformityAwareSADM
from torch_geometric_ddp.memory import keep_freed_memory
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.nn import SEGMENTERS
from torch_geometric_ddp.transforms import NormalizeSphere
from torch_geometric_ddp.visualize import plot_distilled


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, help=".npz with points, part_labels, labels, split, ...")
    data.add_argument("--dataset", choices=("shapes", "shapenetpart"), default="shapes")
    data.add_argument("--root", type=Path, default=Path("data"), help="where ShapeNetPart lies")
    data.add_argument("--categories", nargs="+", help="categories to keep, or: recommended")
    data.add_argument("--resplit", type=int, help=".npz: a seed that draws the splits anew")
    data.add_argument("--num-points", type=int, help="points of a cloud (shapes 256, else all)")
    data.add_argument("--num-per-class", type=int, default=50, help="shapes only: training clouds")
    data.add_argument(
        "--rotate", action="store_true", help="train with all clouds turned at random"
    )
    data.add_argument(
        "--validate",
        type=float,
        metavar="SHARE",
        help="test on this share of the training clouds, for the choice of settings",
    )
    method = parser.add_argument_group("distillation")
    method.add_argument("--ppc", type=int, default=1, help="storage in clouds per category")
    method.add_argument("--num-anchors", type=int, default=4, help="anchors per group, M")
    method.add_argument("--anchor-points", type=int, help="points per anchor, N2 (all that fit)")
    method.add_argument("--num-morphs", type=int, default=4, help="morphs per group, L")
    method.add_argument("--uniformity-lambda", type=float, default=1000.0, help="sharpness λ")
    method.add_argument("--ungrouped", action="store_true", help="match without regard to parts")
    method.add_argument("--steps", type=int, default=100)
    method.add_argument("--lr", type=float, default=0.5, help="of the anchors; weights a tenth")
    method.add_argument("--backbone", choices=SEGMENTERS, default="PointNetSegmentation")
    method.add_argument("--width", type=float, help="share of PointNet's channels (shapes 0.25)")
    method.add_argument("--seed", type=int, default=0)
    run = parser.add_argument_group("run")
    run.add_argument("--device", default=None, help="cpu, cuda, ... (default: cpu)")
    run.add_argument("--protocol", choices=PROTOCOLS, help="training (shapes quick, else cpu)")
    run.add_argument("--min-steps", type=int, help="the least steps of training (shapes 200, 1000)")
    run.add_argument("--train-lr", type=float, help="learning rate of training (the protocol's)")
    run.add_argument("--whole-epochs", type=int, help="epochs on the whole set (a fifth)")
    run.add_argument(
        "--eval-seeds", type=int, help="networks per set, from --seed on (shapes 2, 1)"
    )
    run.add_argument("--skip-whole", action="store_true", help="leave out the whole set")
    run.add_argument("--out", type=Path, default=Path("out/segment"))
    args = parser.parse_args()
    # The embedded data is for a first look at a CPU: small clouds, small networks, few steps.
    shapes = args.data is None and args.dataset == "shapes"
    small = {"num_points": 256, "width": 0.25, "protocol": "quick", "min_steps": 200}
    other = {"num_points": None, "width": 1.0, "protocol": "cpu", "min_steps": 1000}
    small["eval_seeds"], other["eval_seeds"] = 2, 1
    for name, value in (small if shapes else other).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def load(args: argparse.Namespace):
    """The training and the test set."""
    if args.data is not None:
        categories = "recommended" if args.categories == ["recommended"] else args.categories
        sample = {"num_points": args.num_points, "sampling": "fps"}
        sets = [
            PartArrays.from_npz(args.data, split, categories, args.resplit, **sample)
            for split in ("train", "test")
        ]
    elif args.dataset == "shapes":
        sizes = {True: args.num_per_class, False: max(1, args.num_per_class // 2)}
        sets = [
            ParametricShapes(train, sizes[train], args.num_points, segmentation=True)
            for train in (True, False)
        ]
    else:
        options = {"num_points": args.num_points or 2048, "pre_transform": NormalizeSphere()}
        sets = [
            ShapeNetPart(args.root, args.categories, split, **options)
            for split in ("trainval", "test")
        ]
    return hold_out(sets[0], args.validate) if args.validate else sets


def main() -> None:
    args = parse_args()
    keep_freed_memory()
    start = time.perf_counter()
    train_set, test_set = load(args)
    space = PartSpace.of(train_set)
    source = args.data.stem if args.data else args.dataset
    seeds = range(args.seed, args.seed + args.eval_seeds)
    network = SEGMENTERS[args.backbone]
    if args.backbone == "PointNetSegmentation":
        network = partial(network, width=args.width)
    augment = RandomRotation() if args.rotate else None
    protocol = replace(PROTOCOLS[args.protocol], augment=augment, min_steps=args.min_steps)
    if args.train_lr is not None:
        protocol = replace(protocol, name=f"{protocol.name}, lr {args.train_lr}", lr=args.train_lr)
    whole_epochs = args.whole_epochs or max(1, protocol.epochs // 5)
    whole_protocol = replace(protocol, name=f"{protocol.name}-whole", epochs=whole_epochs)

    method = ddp(
        uniformity_lambda=args.uniformity_lambda,
        lr=args.lr,
        num_anchors=args.num_anchors,
        anchor_points=args.anchor_points,
        num_morphs=args.num_morphs,
    )
    if args.ungrouped:
        matching = partial(UniformityAwareSADM, args.uniformity_lambda, grouped=False)
        method = replace(method, name="DDP, ungrouped", matching=matching)

    def run_distill(steps, **kwargs):
        return method.distill(
            train_set,
            args.ppc,
            steps=steps,
            network=network,
            task="segmentation",
            seed=args.seed,
            device=args.device,
            source=source,
            **kwargs,
        )

    initial = run_distill(0, progress=False)
    began = time.perf_counter()
    synthetic = run_distill(args.steps, checkpoint=args.out / "checkpoint.safetensors")
    distill_seconds = time.perf_counter() - began
    synthetic.save(args.out / "distilled.safetensors")
    plot_distilled(train_set, synthetic, args.out / "distilled.png")

    def run_evaluate(name, dataset, seeds=seeds, protocol=protocol):
        return evaluate_parts(dataset, test_set, network, protocol, seeds, args.device, name=name)

    # A new draw for every network: which clouds are drawn matters more than the training.
    drawn = {seed: random_coreset(train_set, args.ppc, seed, "segmentation") for seed in seeds}
    results = {
        "random clouds": PartEvaluation.join(
            [run_evaluate("Random", drawn[seed], [seed]) for seed in seeds]
        ),
        "initial set": run_evaluate("Initial", initial),
        "distilled": run_evaluate("Distilled", synthetic),
    }
    bits = {
        "random clouds": drawn[args.seed].storage_bits,
        "initial set": initial.storage_bits,
        "distilled": synthetic.storage_bits,
    }
    if not args.skip_whole:
        results["whole set"] = run_evaluate("Whole", train_set, protocol=whole_protocol)
        num_points, num_classes = train_set[0].num_nodes, space.num_categories
        cloud = StorageBudget(num_points, num_classes, 1, space.label_bits)
        bits["whole set"] = cloud.bits * len(train_set) // num_classes
    print_sets(results, bits, "mIoU")
    print_categories(results)
    write_results(
        args.out,
        results,
        bits,
        provenance=synthetic.provenance,
        resplit=args.resplit,
        distill_seconds=distill_seconds,
        seconds=time.perf_counter() - start,
    )


def print_categories(results: dict[str, PartEvaluation]) -> None:
    print(f"\n| {'category':13} | {' | '.join(f'{name:13}' for name in results)} |")
    print(f"|{'-' * 15}|{'|'.join('-' * 15 for _ in results)}|")
    columns = [100 * result.per_category.mean(dim=0) for result in results.values()]
    names = next(iter(results.values())).class_names
    for name, *values in zip(names, *columns, strict=True):
        print(f"| {name:13} | {' | '.join(f'{float(value):13.1f}' for value in values)} |")


if __name__ == "__main__":
    main()
