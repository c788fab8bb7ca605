"""A codec of one's own: eight bits a coordinate instead of thirty-two.

python examples/extending/codec.py
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_geometric_ddp import SMOKE, ParametricShapes, distill, evaluate
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.parameterization import Codec


@dataclass(frozen=True)
class EightBit(Codec):
    """256 steps between -reach and reach; what lies beyond is moved to the end."""

    reach: float = 1.5

    def bits(self, shape: Sequence[int]) -> int:
        return 8 * math.prod(shape)

    def encode(self, tensor: Tensor) -> dict[str, Tensor]:
        share = (tensor.float() / self.reach + 1) / 2
        return {"codes": (255 * share).round().clamp(0, 255).to(torch.uint8)}

    def decode(self, stored: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
        return self.reach * (2 * stored["codes"].float() / 255 - 1)


def main() -> None:
    train_set, test_set = (ParametricShapes(train, 4, num_points=64) for train in (True, False))
    # Four times as many anchors in the same storage. Optimisation sees the rounded points.
    method = ddp(num_anchors=16, num_morphs=0, codec=EightBit())
    synthetic = distill(train_set, ppc=1, method=method, steps=5)
    print(synthetic.parameterization.describe(), f"in {synthetic.storage_bits:,} bits")
    # Two epochs of training, to see that everything runs: the figure means nothing.
    print(evaluate(synthetic, test_set, protocol=SMOKE, seeds=1))


if __name__ == "__main__":
    main()
