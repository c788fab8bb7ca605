"""Repeats the figure of a distilled set from its file alone, on the data that it was made for.

    distill3d evaluate out/distill/distilled.safetensors
    distill3d evaluate set.safetensors --data clouds.npz --backbone DGCNN --seeds 0 1 2

The file tells the protocol, the network and the seeds of its figure; what is given here takes their
place. With the same test clouds, device, number of threads and versions the figure is the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch_geometric_ddp.programs import names
from torch_geometric_ddp.programs.option_types import natural, positive
from torch_geometric_ddp.programs.options import (
    BEGINS_ANEW,
    NETWORKS_HELP,
    add_backbone_argument,
    add_data_arguments,
    add_network_arguments,
    add_together_argument,
)

EPILOG, GO_ON = NETWORKS_HELP, BEGINS_ANEW


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("file", type=Path, help="a distilled set")
    add_data_arguments(parser)
    what = parser.add_argument_group("evaluation: what is not given is as the file says")
    add_backbone_argument(what, "the network")
    what.add_argument("--preset", choices=names.PRESETS, help="the protocol is that of this preset")
    what.add_argument("--seeds", type=natural, nargs="+", help="the seeds")
    what.add_argument(
        "--workers",
        type=positive,
        default=1,
        help="seeds trained side by side, each by a process of one thread (1)",
    )
    add_together_argument(what)
    add_network_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Trains again, and prints both figures."""
    from torch_geometric_ddp import evaluation
    from torch_geometric_ddp.comparison import PRESETS
    from torch_geometric_ddp.programs.data import load_test_set, open_set
    from torch_geometric_ddp.programs.networks import named_network
    from torch_geometric_ddp.programs.showing import announce_training
    from torch_geometric_ddp.tasks import TASKS

    synthetic = open_set(args)
    told = evaluation.told_figure(synthetic)
    if not told and not (args.backbone and args.preset and args.seeds):
        raise ValueError(f"{args.file} tells no figure: give --backbone, --preset and --seeds")
    if args.backbone is None and args.width is None and args.mamba_centers is None:
        name, network = told["backbone"], evaluation.network_of_figure(told, TASKS[args.task])
    else:
        args.backbone = args.backbone or told["backbone"].partition(",")[0]
        name, network = named_network(args)
    test_set = load_test_set(args, synthetic)
    preset = PRESETS.get(args.preset)
    protocol = preset.protocol if preset else evaluation.Protocol.from_dict(told["protocol"])
    seeds = args.seeds or told["seeds"]
    print(f"{args.file}: {synthetic}, {synthetic.storage_bits:,} bits.")
    announce_training(name, len(seeds), protocol, len(synthetic))
    again = evaluation.repeat_figure(
        synthetic,
        test_set,
        network,
        protocol,
        seeds,
        args.device,
        name=name,
        task=args.task,
        workers=args.workers,
        together=args.together,
    )
    print(again)
