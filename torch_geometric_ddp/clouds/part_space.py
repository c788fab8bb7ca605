"""The parts that the categories of a segmentation data set have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.datasets import ShapeNet

from torch_geometric_ddp._checks import check_int

__all__ = ["PartSpace", "numbered_parts"]


def numbered_parts(category_parts: Mapping[str, Sequence[int]]) -> list[str]:
    """Names of parts that have none, *e.g.*, :obj:`"Chair/2"`, in the order of their numbers."""
    return [f"{name}/{i + 1}" for name, parts in category_parts.items() for i in range(len(parts))]


@dataclass(frozen=True)
class PartSpace:
    r"""Which parts there are, and which of them a shape of each category can have.

    Parts have global numbers :math:`0, \ldots, P - 1`, as in ShapeNetPart and
    :class:`torch_geometric.datasets.ShapeNet`. No two categories share a part; parts of no
    category are those of categories that were left out.

    Args:
        part_names (tuple of str): The names of the :math:`P` parts.
        category_parts (tuple of tuple of int): The parts of each of the :math:`C` categories, in
            the order of the numbers of the categories.

    Raises:
        TypeError: If :obj:`category_parts` holds anything but integers.
        ValueError: If :obj:`category_parts` has no category, or a category without parts, or a part
            that is not below the number of :obj:`part_names` or comes twice.

    .. code-block:: python

        space = PartSpace.of(ShapeNetPart(root))
        space.mask()[category]  # [B, 50], the parts that each shape can have
    """

    part_names: tuple[str, ...]
    category_parts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        # A frozen dataclass whose fields may come as lists, as from JSON.
        object.__setattr__(self, "part_names", tuple(map(str, self.part_names)))
        rows = [
            tuple(check_int("category_parts", part, minimum=0) for part in row)
            for row in self.category_parts
        ]
        object.__setattr__(self, "category_parts", tuple(rows))
        if not rows:
            raise ValueError("'category_parts' must have at least one category, got none")
        owner: dict[int, int] = {}
        for category, parts in enumerate(rows):
            if not parts:
                raise ValueError(f"'category_parts' must not be empty, category {category} is")
            for part in parts:
                if part >= self.num_parts:
                    raise ValueError(
                        f"'category_parts' must lie below the {self.num_parts} parts, got {part} "
                        f"in category {category}"
                    )
                if part in owner:
                    raise ValueError(
                        f"'category_parts' must be disjoint, got part {part} "
                        f"({self.part_names[part]!r}) in category {owner[part]} and in {category}"
                    )
                owner[part] = category

    @classmethod
    def of(cls, dataset: Any) -> PartSpace:
        """The parts of a data set.

        Args:
            dataset (Dataset): It has :obj:`part_names`, :obj:`class_names` (the categories) and
                :obj:`category_parts` (their parts by name), as
                :class:`~torch_geometric_ddp.datasets.ShapeNetPart` has them; or it is a
                :class:`torch_geometric.datasets.ShapeNet`; or a
                :class:`torch.utils.data.Subset` of such a set.

        Raises:
            TypeError: If a part in :obj:`category_parts` is no integer.
            ValueError: If :obj:`dataset` lacks one of them, or :obj:`category_parts` names other
                categories than :obj:`class_names` or does not fit a :class:`PartSpace`.
        """
        return cls.named(dataset)[1]

    @classmethod
    def named(cls, dataset: Any) -> tuple[list[str], PartSpace]:
        """The names of the categories of a data set, and its parts, as :meth:`of` reads them."""
        parts_of = getattr(dataset, "datasets", None)
        if parts_of and not hasattr(dataset, "part_names"):  # A ConcatDataset.
            first, *others = map(cls.named, parts_of)
            if any(other != first for other in others):
                raise ValueError(
                    "'class_names' and 'part_names' must be the same in all parts of the data set"
                )
            return first
        if not hasattr(dataset, "part_names") and hasattr(dataset, "dataset"):  # A Subset.
            return cls.named(dataset.dataset)
        named = dataset
        if isinstance(named, ShapeNet):
            rows = (named.seg_classes[name] for name in named.categories)
            space = cls(tuple(numbered_parts(named.seg_classes)), tuple(map(tuple, rows)))
            return list(named.categories), space
        needed = ("part_names", "category_parts", "class_names")
        missing = [name for name in needed if getattr(named, name, None) is None]
        if missing:
            raise ValueError(
                f"'dataset' must have 'part_names', 'category_parts' and 'class_names', got "
                f"{type(named).__name__} without {missing}"
            )
        parts: Mapping[str, Any] = named.category_parts
        if list(parts) != list(named.class_names):
            raise ValueError(
                f"'category_parts' must name the categories {list(named.class_names)} in this "
                f"order, got {list(parts)}"
            )
        space = cls(tuple(named.part_names), tuple(tuple(row) for row in parts.values()))
        return list(named.class_names), space

    @property
    def num_parts(self) -> int:
        """The number of parts :math:`P`, of all categories."""
        return len(self.part_names)

    @property
    def num_categories(self) -> int:
        """The number of categories :math:`C`."""
        return len(self.category_parts)

    @property
    def label_bits(self) -> int:
        """What the part labels of one shape of every category take as lengths of runs.

        The points of a shape are stored part by part, so that a 32-bit integer for every part of
        its category says all.
        """
        return 32 * sum(len(parts) for parts in self.category_parts)

    def mask(self, device: torch.device | str | None = None) -> Tensor:
        """Which parts each category has, :obj:`[C, P]` (:obj:`bool`)."""
        mask = torch.zeros(self.num_categories, self.num_parts, dtype=torch.bool)
        for row, parts in zip(mask, self.category_parts, strict=True):
            row[list(parts)] = True
        return mask.to(device)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold, such as the header of a file."""
        return {
            "part_names": list(self.part_names),
            "category_parts": [list(parts) for parts in self.category_parts],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PartSpace:
        """The parts that :meth:`to_dict` gave.

        Raises:
            ValueError: If an entry is missing or does not fit.
        """
        try:
            names, rows = values["part_names"], values["category_parts"]
            return cls(tuple(names), tuple(tuple(row) for row in rows))
        except (KeyError, TypeError) as error:
            raise ValueError(
                "'values' must hold lists 'part_names' and 'category_parts', got "
                f"{values!r:.200} ({type(error).__name__}: {error})"
            ) from error
