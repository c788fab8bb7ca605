"""Repeats the figure of a distilled set from its file alone, on the data that it was made for.

    python examples/evaluate.py out/distill/distilled.safetensors
    python examples/evaluate.py set.safetensors --data clouds.npz --backbone DGCNN --seeds 0 1 2

The file tells the protocol, the network and the seeds of its figure; what is given here takes their
place. With the same test clouds, device and number of threads the figure is the same.
"""

import argparse
from pathlib import Path

from common import NETWORKS, add_data_arguments, load, natural, networks, one_line

from torch_geometric_ddp import Protocol, SyntheticPointCloudDataset, evaluate
from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.comparison import PRESETS
from torch_geometric_ddp.evaluation import percent
from torch_geometric_ddp.tasks import find_task


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=NETWORKS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a distilled set")
    add_data_arguments(parser)
    what = parser.add_argument_group("evaluation")
    what.add_argument("--backbone", metavar="B", help="the network (as the file says)")
    what.add_argument("--width", type=float, help="share of its channels (as the file says)")
    what.add_argument("--mamba-centers", type=natural, metavar="N", help="of PointMamba (likewise)")
    what.add_argument("--preset", choices=PRESETS, help="the protocol (as the file says)")
    what.add_argument("--seeds", type=natural, nargs="+", help="the seeds (as the file says)")
    what.add_argument("--device", help="cpu, cuda, ... (cpu)")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with one_line():
        synthetic = SyntheticPointCloudDataset(args.file)
        told = synthetic.provenance.get("evaluated", {})
        args.task = synthetic.provenance.get("task", args.task)
        _, test_set = load(args)
        if not told and not (args.backbone and args.preset and args.seeds):
            raise ValueError(f"{args.file} tells no figure: give --backbone, --preset and --seeds")
        name = args.backbone or told["backbone"].split(",")[0]
        ((_, network),) = networks(args, [name]).items()
        preset = PRESETS.get(args.preset)
        protocol = preset.protocol if preset else Protocol.from_dict(told["protocol"])
        seeds = args.seeds or told["seeds"]
    print(f"{args.file}: {synthetic}, {synthetic.storage_bits:,} bits.")
    result = evaluate(
        synthetic, test_set, network, protocol, seeds, args.device, name=name, task=args.task
    )
    print(f"{result.metric}: {percent(result.values)} now ({name}, {protocol.name}, seeds {seeds})")
    if told:
        print(f"{told['metric']}: {100 * told['value']:.1f} % in the file", end="")
        print(f" ({told['backbone']}, {told['protocol']['name']}, seeds {told['seeds']})")
        for reason in differences(told, args, network, protocol, seeds, test_set):
            print(f"They were made with another {reason}.")


def differences(told, args, network, protocol, seeds, test_set) -> list[str]:
    """What the figure of the file was made with otherwise."""
    now = {
        "test set": (told["test_sha256"], find_task(args.task).read(test_set).sha256()),
        "network": (told["network"], describe(network)),
        "protocol": (told["protocol"], protocol.to_dict()),
        "choice of seeds": (told["seeds"], list(seeds)),
    }
    return [what for what, (then, this) in now.items() if then != this]


if __name__ == "__main__":
    main()
