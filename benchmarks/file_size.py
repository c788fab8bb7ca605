r"""Bytes of the files of distilled sets against their declared bits, and the time to read them.

    python examples/compare.py --preset smoke --steps 0 --seeds 0 --num-per-class 20 \
        --num-points 1024 --ppc 0.0625 0.25 1 --out out/files \
        --methods DDP DDP-8bit DDP-6bit 'DDP 64x6' 'random 64x6' 'mirrored 32x5'
    python benchmarks/file_size.py out/files/sets/*.safetensors

What is declared are the tensors, which the budget counts. The rest is the header: shapes and
codecs, class names, and how the set was made and what it reached, in JSON. Reading checks every
byte, and unfolding gives all clouds. Times are the best of three.
"""

import argparse
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import save

from torch_geometric_ddp import SyntheticPointCloudDataset


def best(run: Callable[[], object]) -> float:
    """The shortest of three times, in milliseconds."""
    return 1e3 * min(timeit.repeat(run, number=1, repeat=3))


def row(path: Path) -> dict[str, Any]:
    """What a file takes."""
    made = SyntheticPointCloudDataset(path)
    stored, declared = made.parameterization, -(-made.storage_bits // 8)
    with torch.no_grad():
        return {
            "stored": stored.describe(),
            "ppc": made.provenance["ppc"],
            "declared": declared,
            "tensors": sum(tensor.nbytes for tensor in stored.storage().values()),
            "header": path.stat().st_size - declared,
            "read": round(best(lambda: SyntheticPointCloudDataset(path)), 2),
            "unfold": round(best(stored.unfold), 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true", help="write the results file")
    args = parser.parse_args()
    rows = sorted(map(row, args.files), key=lambda one: (one["ppc"], one["stored"]))
    for one in rows:
        print(one)
    if args.write:
        write(rows)


def write(rows: list[dict[str, Any]]) -> None:
    """The results file of the documentation."""
    heads = {"declared": "declared, bytes", "tensors": "tensors", "header": "rest of the file"}
    times = {"read": "read ms", "unfold": "unfold ms"}
    decimal = {"as": "decimal", "digits": 1}
    save(
        "file-size",
        title="Bytes of the files of sets that store their starts",
        data="generated shapes, 20 a class, 1,024 points",
        commands=[
            "python examples/compare.py --preset smoke --steps 0 --seeds 0 --num-per-class 20 "
            "--num-points 1024 --ppc 0.0625 0.25 1 --out out/files --methods DDP DDP-8bit "
            "DDP-6bit 'DDP 64x6' 'random 64x6' 'mirrored 32x5'",
            "python benchmarks/file_size.py out/files/sets/*.safetensors --write",
        ],
        hardware="one core of an AMD EPYC, on which other programs ran",
        versions={"torch": torch.__version__},
        seeds="0; times are the best of three",
        protocol="no step; the sizes do not depend on the values",
        columns=[
            {"key": "ppc", "head": "PPC"},
            {"key": "stored", "head": "what is stored"},
            *({"key": key, "head": head, "as": "integer"} for key, head in heads.items()),
            *({"key": key, "head": head, **decimal} for key, head in times.items()),
        ],
        rows=rows,
    )


if __name__ == "__main__":
    main()
