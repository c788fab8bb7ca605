"""A backbone of one's own: a small network that pools the features of single points.

python examples/extending/backbone.py
"""

from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn import MLP

from torch_geometric_ddp import SMOKE, ParametricShapes, distill, evaluate
from torch_geometric_ddp.nn import BACKBONES, Backbone


class DeepSets(Backbone):
    """A shared MLP, the largest value of every channel, and an MLP."""

    def __init__(self, num_classes: int, channels: int = 64) -> None:
        super().__init__(num_classes, point_channels=channels)
        self.points = MLP([3, channels, channels], norm=None)
        # What makes logits of the largest value of every channel.
        self.head = MLP([channels, channels, num_classes], norm=None)

    def point_features(self, data: Data) -> Tensor:
        return self.points(data.pos)  # What is matched: a row for each point.


BACKBONES["DeepSets"] = DeepSets  # From here on comparisons know it by name.


def main() -> None:
    train_set, test_set = (ParametricShapes(train, 4, num_points=64) for train in (True, False))
    synthetic = distill(train_set, ppc=1, network=DeepSets, steps=5)
    # Two epochs of training, to see that everything runs: the figure means nothing.
    print(evaluate(synthetic, test_set, DeepSets, protocol=SMOKE, seeds=1))


if __name__ == "__main__":
    main()
