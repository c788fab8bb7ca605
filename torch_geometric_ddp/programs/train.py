"""Trains a network on a distilled set, tests it on real clouds, and keeps it.

    distill3d train out/distill/distilled.safetensors
    distill3d train set.safetensors --data clouds.npz --backbone DGCNN --preset cpu

The figures of all classes are printed, and the weights are written to the folder `--out`: any
program reads them by `safetensors.torch.load_model`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from torch_geometric_ddp.programs.options import (
    NETWORKS_HELP,
    add_data_arguments,
    add_network_arguments,
    add_training_arguments,
    natural,
    network_name,
)

EPILOG = NETWORKS_HELP
GO_ON = "Nothing is kept: the same command begins anew."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("file", type=Path, help="a distilled set")
    add_data_arguments(parser)
    add_training_arguments(parser)
    add_network_arguments(parser)
    parser.add_argument(
        "--backbone", type=network_name, metavar="B", help="the network (PointNet's)"
    )
    parser.add_argument("--seed", type=natural, default=0, help="of the network (0)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/train"), help="folder of results (out/train)"
    )


def run(args: argparse.Namespace) -> None:
    """Trains, tests, and writes the network."""
    from safetensors.torch import save_model

    from torch_geometric_ddp._files import check_place
    from torch_geometric_ddp._identity import describe
    from torch_geometric_ddp.comparison import PRESETS
    from torch_geometric_ddp.evaluation import evaluate, fit
    from torch_geometric_ddp.programs import work

    path = args.out / "network.safetensors"
    check_place("out", path)
    synthetic = work.open_set(args)
    _, test_set = work.load(args)
    ((name, network),) = work.networks(args, args.backbone and [args.backbone]).items()
    usual = PRESETS[args.preset or "quick"].protocol
    protocol = work.changed(args, usual, args.epochs, args.min_steps)
    work.announce_training(name, 1, protocol, len(synthetic))
    trained = []

    def trainer(model: Any, *rest: Any) -> None:
        fit(model, *rest)
        trained.append(model)

    result = evaluate(
        synthetic,
        test_set,
        network,
        protocol,
        [args.seed],
        args.device,
        name=name,
        trainer=trainer,
        task=args.task,
    )
    made = {
        "network": describe(network),
        "class_names": result.scores.class_names,
        "protocol": protocol.to_dict(),
        "seed": args.seed,
        "metric": result.metric,
        "value": result.mean,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    save_model(trained[0].cpu(), str(path), metadata={"made": json.dumps(made)})
    print(f"\n{name}, protocol {protocol.name}, seed {args.seed}\n\n| class | {result.metric} % |")
    print("|---|---|")
    scores = result.scores
    for class_name, value in zip(scores.class_names, scores.per_class[0], strict=True):
        print(f"| {class_name} | {'-' if value.isnan() else f'{100 * float(value):.1f}'} |")
    print(f"\n{result.metric}: {100 * result.mean:.1f} %. The network is in {path}.")
