"""Bits a cloud, and the time to write and to read one, for every codec and number of points.

    python benchmarks/codec_size.py --data modelnet10_1024.npz

The clouds are real ones, each reduced by farthest point sampling. Beside our codecs stands Draco,
a coder of point clouds and meshes, if DracoPy is installed: with the same bits a coordinate in the
cube, and its largest effort. The error is the largest distance of a point of a decoded cloud from
the point that it was.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torch_geometric_ddp import ParametricShapes, PointCloudArrays
from torch_geometric_ddp.budget import tensor_bits
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.parameterization import FLOAT32, Codec, Float16, PointSet, Uniform
from torch_geometric_ddp.programs.option_types import positive

try:
    import DracoPy
except ImportError:
    DracoPy = None


def measured(codec: Codec, pos: Tensor) -> tuple[float, float, float, float]:
    """Bits, seconds to write and to read, and the largest error."""
    codec.encode(pos[:1])  # Tables that are made once.
    began = time.perf_counter()
    stored = codec.encode(pos)
    written = time.perf_counter()
    codec.decode(stored, pos.shape)
    read = time.perf_counter()
    error = farthest(codec.rounded(pos), pos)
    return tensor_bits(stored), written - began, read - written, error


def measured_draco(depth: int, pos: Tensor) -> tuple[float, float, float, float]:
    """The same of Draco, which gives points back in an order of its own."""
    clouds = [cloud.numpy() for cloud in pos]
    box = {"quantization_bits": depth, "quantization_range": 2.0, "quantization_origin": [-1.0] * 3}
    began = time.perf_counter()
    stored = [DracoPy.encode(cloud, compression_level=10, **box) for cloud in clouds]
    written = time.perf_counter()
    decoded = [DracoPy.decode(one).points for one in stored]
    read = time.perf_counter()
    error = max(
        farthest(torch.from_numpy(np.asarray(points, "f4"))[None], cloud[None])
        for points, cloud in zip(decoded, pos, strict=True)
    )
    return 8 * sum(map(len, stored)), written - began, read - written, error


def farthest(decoded: Tensor, pos: Tensor) -> float:
    """The largest distance of a point to the nearest that is decoded, as Draco keeps no order."""
    return float(torch.cdist(decoded, pos).amin(dim=1).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=".npz as for examples/distill.py")
    parser.add_argument("--points", type=positive, nargs="+", default=[64, 128, 256])
    parser.add_argument("--depths", type=positive, nargs="+", default=[8, 6, 5, 4])
    parser.add_argument("--clouds", type=positive, default=100, help="how many are written")
    args = parser.parse_args()
    data = PointCloudArrays.from_npz(args.data) if args.data else ParametricShapes(num_points=1024)
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: args.clouds]
    bank = PointCloudBank.from_dataset(data[chosen]).normalize()
    codecs: dict[str, Codec] = {"float32": FLOAT32, "float16": Float16()}
    for depth in args.depths:
        codecs[f"{depth} bits, in order"] = Uniform(depth)
        codecs[f"{depth} bits, range per axis"] = Uniform(depth, "axis")
        codecs[f"{depth} bits, sets"] = PointSet(depth)

    print(
        "| points | codec                  | bits a cloud | a point | write ms | read ms | error |"
    )
    print(
        "|--------|------------------------|--------------|---------|----------|---------|-------|"
    )
    for num in args.points:
        pos = bank.farthest_points(num).dense().contiguous()
        rows = {name: measured(codec, pos) for name, codec in codecs.items()}
        if DracoPy is not None:
            rows |= {f"{d} bits, Draco": measured_draco(d, pos) for d in args.depths}
        for name, (bits, write, read, error) in rows.items():
            each = bits / len(pos), bits / len(pos) / num
            times = 1e3 * write / len(pos), 1e3 * read / len(pos)
            line = "| {:6} | {:22} | {:12.0f} | {:7.2f} | {:8.2f} | {:7.2f} | {:5.3f} |"
            print(line.format(num, name, *each, *times, error))


if __name__ == "__main__":
    main()
