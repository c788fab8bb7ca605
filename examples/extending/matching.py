"""A matching of one's own: the mean and the variance of the pooled features of every class.

python examples/extending/matching.py
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import Batch

from torch_geometric_ddp import SMOKE, Method, ParametricShapes, distill, evaluate
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.matching import Matching
from torch_geometric_ddp.methods import METHODS, morphing
from torch_geometric_ddp.nn import Backbone


class MomentMatching(Matching):
    """Compares the mean and the variance over the clouds of a class, channel by channel."""

    def __init__(self, variance_weight: float = 1.0) -> None:
        super().__init__()
        self.variance_weight = variance_weight  # Attributes are settings; checkpoints know them.

    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        pos = real["pos"]  # What prepare() gave, of the clouds that were drawn: [C, B, N1, 3].
        with torch.no_grad():
            x = network.global_features(from_dense(pos.flatten(0, 1)))
        y = network.global_features(synthetic)
        # A row for each cloud, class by class: [C, B, F] and [C, S, F].
        x, y = (rows.unflatten(0, (len(pos), -1)) for rows in (x, y))
        means = (x.mean(dim=1) - y.mean(dim=1)).square().sum(dim=-1)
        variances = (x.var(dim=1, correction=0) - y.var(dim=1, correction=0)).square().sum(dim=-1)
        return means + self.variance_weight * variances


def moments() -> Method:
    """Moment matching on anchors and morphs."""
    return Method("moments", morphing(num_morphs=4, anchor_lr=0.1), MomentMatching, steps=500)


METHODS["moments"] = moments  # From here on `distill` knows it by name.


def main() -> None:
    train_set, test_set = (ParametricShapes(train, 4, num_points=64) for train in (True, False))
    synthetic = distill(train_set, ppc=1, method="moments", steps=5)
    # Two epochs of training, to see that everything runs: the figure means nothing.
    print(evaluate(synthetic, test_set, protocol=SMOKE, seeds=1))


if __name__ == "__main__":
    main()
