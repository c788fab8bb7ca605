"""Repeats the figure of a distilled set from its file alone, on the data that it was made for.

    distill3d evaluate out/distill/distilled.safetensors
    distill3d evaluate set.safetensors --data clouds.npz --backbone DGCNN --seeds 0 1 2

The file tells the protocol, the network and the seeds of its figure; what is given here takes their
place. With the same test clouds, device and number of threads the figure is the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_geometric_ddp.programs import names
from torch_geometric_ddp.programs.options import (
    BEGINS_ANEW,
    NETWORKS_HELP,
    add_backbone_argument,
    add_data_arguments,
    add_network_arguments,
    add_together_argument,
    natural,
    positive,
)

if TYPE_CHECKING:
    from torch_geometric_ddp.evaluation import Protocol

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
    from torch_geometric_ddp.programs import work

    synthetic = work.open_set(args)
    told = work.figure_of(synthetic)
    _complete(args, told)
    name = args.backbone = args.backbone or told["backbone"].split(",")[0]
    _, network = work.network(args)
    _, test_set = work.load(args)
    preset = PRESETS.get(args.preset)
    protocol = preset.protocol if preset else evaluation.Protocol.from_dict(told["protocol"])
    seeds = args.seeds or told["seeds"]
    print(f"{args.file}: {synthetic}, {synthetic.storage_bits:,} bits.")
    work.announce_training(name, len(seeds), protocol, len(synthetic))
    result = evaluation.evaluate(
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
    figure = evaluation.percent(result.values)
    print(f"{result.metric}: {figure} now ({name}, {protocol.name}, seeds {seeds})")
    if told:
        print(f"{told['metric']}: {100 * told['value']:.1f} % in the file", end="")
        print(f" ({told['backbone']}, {told['protocol']['name']}, seeds {told['seeds']})")
        for reason in _differences(told, args, network, protocol, seeds, test_set):
            print(f"They were made with another {reason}.")


def _complete(args: argparse.Namespace, told: Mapping[str, Any]) -> None:
    """Takes the sizes of the network of the file where no other network is asked for."""
    if not told and not (args.backbone and args.preset and args.seeds):
        raise ValueError(f"{args.file} tells no figure: give --backbone, --preset and --seeds")
    if told and args.backbone is None:
        network = told["network"]
        sizes = network.get("keywords", {}) if isinstance(network, dict) else {}
        if args.width is None and told["backbone"].startswith("PointNetSegmentation"):
            args.width = sizes.get("width", 1.0)
        if args.mamba_centers is None:
            args.mamba_centers = sizes.get("num_centers")


def _differences(
    told: Mapping[str, Any],
    args: argparse.Namespace,
    network: Callable[..., Any],
    protocol: Protocol,
    seeds: Sequence[int],
    test_set: Iterable[Any],
) -> list[str]:
    """What the figure of the file was made with otherwise."""
    from torch_geometric_ddp._identity import describe
    from torch_geometric_ddp.tasks import find_task

    now = {
        "test set": (told["test_sha256"], find_task(args.task).read(test_set).sha256()),
        "network": (told["network"], describe(network)),
        "protocol": (told["protocol"], protocol.to_dict()),
        "choice of seeds": (told["seeds"], list(seeds)),
    }
    return [what for what, (then, this) in now.items() if then != this]
