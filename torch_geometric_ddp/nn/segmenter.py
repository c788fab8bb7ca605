"""The interface that every part segmentation network shares."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_ddp._checks import check_int
from torch_geometric_ddp.batching import Layout
from torch_geometric_ddp.nn.backbone import Backbone


class Segmenter(Backbone):
    r"""A network that tells the part of every point, of a shape whose category it is given.

    It reads :obj:`pos [ΣN, 3]` and the numbers :obj:`category [B]` of a PyG batch. The features
    that can be matched, :obj:`point_features` and what follows from them, are those of its
    encoder and know no category. The logits move with the points when these change their order.

    Args:
        num_parts (int): The number of parts :math:`P` of all categories, the channels of the
            logits (:obj:`num_classes` of a backbone).
        num_categories (int): The number of categories :math:`C`.
        point_channels (int): The width of the feature that can be matched.
    """

    def __init__(self, num_parts: int, num_categories: int, point_channels: int) -> None:
        super().__init__(check_int("num_parts", num_parts), point_channels)
        self.num_categories = check_int("num_categories", num_categories)

    @property
    def num_parts(self) -> int:
        """The number of parts of all categories."""
        return self.num_classes

    def categories(self, data: Data, layout: Layout) -> Tensor:
        """The category of every cloud, :obj:`[B]` (:obj:`int64`).

        Raises:
            TypeError: If :obj:`data.category` is no tensor of integers.
            ValueError: If it is missing or of another size or, on a CPU, out of range.
        """
        category = data.get("category")
        if category is None:
            raise ValueError(f"'data.category' must hold {layout.num_clouds} categories, got None")
        if not isinstance(category, Tensor) or category.is_floating_point():
            what = category.dtype if isinstance(category, Tensor) else type(category).__name__
            raise TypeError(f"'data.category' must be a tensor of integers, got {what}")
        if category.numel() != layout.num_clouds:
            raise ValueError(
                f"'data.category' must hold {layout.num_clouds} categories, got "
                f"{list(category.shape)}"
            )
        if category.device.type == "cpu":  # A look at another device waits for it.
            low, high = category.aminmax()
            if int(low) < 0 or int(high) >= self.num_categories:
                raise ValueError(
                    f"'data.category' must lie in 0..{self.num_categories - 1}, got "
                    f"{int(low)}..{int(high)}"
                )
        return category.flatten().long()

    @abstractmethod
    def forward(self, data: Data) -> Tensor:
        """The logits :obj:`[ΣN, num_parts]`, in the order of the points."""
