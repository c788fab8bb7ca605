"""Trains a network on a distilled set, tests it on real clouds, and keeps it.

    distill3d train out/distill/distilled.safetensors
    distill3d train set.safetensors --data clouds.npz --backbone DGCNN --preset cpu

The figures of all classes are printed, and the weights are written to the folder `--out`: any
program reads them by `safetensors.torch.load_model`.
"""

from __future__ import annotations

import argparse
import json
from functools import wraps
from pathlib import Path
from typing import Any

from torch_geometric_ddp.programs.option_types import natural
from torch_geometric_ddp.programs.options import (
    BEGINS_ANEW,
    NETWORKS_HELP,
    add_backbone_argument,
    add_data_arguments,
    add_network_arguments,
    add_training_arguments,
)

EPILOG, GO_ON = NETWORKS_HELP, BEGINS_ANEW


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("file", type=Path, help="a distilled set")
    add_data_arguments(parser)
    add_training_arguments(parser)
    add_network_arguments(parser)
    add_backbone_argument(parser)
    parser.add_argument("--seed", type=natural, default=0, help="of the network (0)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/train"), help="folder of results (out/train)"
    )


def run(args: argparse.Namespace) -> None:
    """Trains, tests, and writes the network."""
    from safetensors.torch import save_model

    from torch_geometric_ddp._files import check_folder, check_place, replacing
    from torch_geometric_ddp._identity import describe
    from torch_geometric_ddp.comparison import PRESETS
    from torch_geometric_ddp.comparison.report import aligned, formatted
    from torch_geometric_ddp.evaluation import evaluate, fit
    from torch_geometric_ddp.programs.data import load_test_set, open_set
    from torch_geometric_ddp.programs.networks import named_network
    from torch_geometric_ddp.programs.presets import changed
    from torch_geometric_ddp.programs.showing import announce_training

    path = check_place("out", check_folder("out", args.out) / "network.safetensors")
    synthetic = open_set(args)
    name, network = named_network(args)
    test_set = load_test_set(args, synthetic)
    usual = PRESETS[args.preset or "quick"].protocol
    protocol = changed(args, usual, args.epochs, args.min_steps)
    announce_training(name, 1, protocol, len(synthetic))
    trained = []

    @wraps(fit)
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
    with replacing(path) as temporary:
        save_model(trained[0].cpu(), str(temporary), metadata={"made": json.dumps(made)})
    values = [formatted(value, "{:.1f}", 100) for value in result.scores.per_class[0].tolist()]
    print(f"\n{name}, protocol {protocol.name}, seed {args.seed}\n")
    print(aligned({"class": result.scores.class_names, f"{result.metric} %": values}))
    print(f"{result.metric}: {100 * result.mean:.1f} %. The network is in {path}.")
