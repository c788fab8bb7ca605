"""The interface that every task shares: what a network learns from clouds, and how it is scored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.parameterization import PartLabels

__all__ = ["Scores", "Task", "json_numbers", "logits_of"]


def json_numbers(values: Tensor) -> list[Any]:
    """Figures as JSON has them, which knows no NaN: :obj:`None` stands for it."""
    if values.dim() > 1:
        return [json_numbers(row) for row in values]
    return [None if value != value else value for value in values.tolist()]


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """What a network says of clouds.

    Raises:
        FloatingPointError: If that is NaN, of which the largest would be the first class.
    """
    logits: Tensor = model(batch)
    if bool(logits.isnan().any()):
        raise FloatingPointError("what it makes of test clouds is NaN: lower 'lr'")
    return logits


@dataclass(frozen=True)
class Scores(ABC):
    """What networks reached on a test set, one network per seed.

    Args:
        class_names (list of str): The names of the classes, or of the categories of shapes.
    """

    class_names: list[str]

    @property
    @abstractmethod
    def values(self) -> Tensor:
        """The figure that networks are compared by, :obj:`[S]`, in 0..1; more is better."""

    @property
    @abstractmethod
    def per_class(self) -> Tensor:
        """The same figure of every class alone, :obj:`[S, C]`; NaN without test clouds."""

    @property
    def class_means(self) -> Tensor:
        """The mean of :attr:`per_class` over the classes that have test clouds, :obj:`[S]`."""
        return self.per_class.nanmean(dim=1)

    @classmethod
    @abstractmethod
    def join(cls, scores: Iterable[Self]) -> Self:
        """The scores of several networks as one object."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""


class Task(ABC):
    """What networks learn from clouds, such as the class of each or the part of every point.

    Everything that depends on the task is asked of this object: what a data set is read into, the
    network that sees it by default, how the points of synthetic clouds are arranged, and what a
    network is worth.
    """

    #: What the task is called.
    name: ClassVar[str]
    #: What :attr:`Scores.values` are called in tables.
    metric: ClassVar[str]
    #: What :attr:`Scores.class_means` are called in tables.
    class_metric: ClassVar[str]
    #: Whether a cloud has one label, so that a network is right or wrong about all of it.
    one_label: ClassVar[bool]
    #: What a data set is read into.
    bank_type: ClassVar[type[PointCloudBank]] = PointCloudBank
    #: The networks that the package has for the task, by name.
    backbones: ClassVar[Mapping[str, Callable[..., Backbone]]]

    def read(
        self,
        dataset: Iterable[Data],
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        progress: bool = False,
        class_names: Sequence[str] | None = None,
    ) -> PointCloudBank:
        """Reads every cloud of a data set once, with its transform, into :attr:`bank_type`.

        Args:
            dataset (Dataset): The data set.
            device (torch.device, optional): Where the clouds shall lie. (default: where they are)
            dtype (torch.dtype): The type of the points. (default: :obj:`torch.float32`)
            progress (bool): Whether to show the progress. (default: :obj:`False`)
            class_names (sequence of str, optional): The names of the classes, of a data set that
                does not name them. (default: those of the data set, else the numbers)

        Raises:
            TypeError, ValueError: If the items are not labelled as the task needs them, or
                :obj:`class_names` do not fit them.
        """
        return self.bank_type.from_dataset(dataset, device, dtype, progress, class_names)

    @property
    @abstractmethod
    def network(self) -> Callable[..., Backbone]:
        """Makes the network that is matched and trained unless another is asked for."""

    @abstractmethod
    def arrange(
        self, bank: PointCloudBank, num_points: int
    ) -> tuple[PointCloudBank, PartLabels | None]:
        """The clouds that synthetic ones of :obj:`num_points` points start from.

        Args:
            bank (PointCloudBank): The real clouds.
            num_points (int): The number of points of a synthetic cloud.

        Returns:
            The clouds, and the part labels of the synthetic ones if points are labelled.
        """

    @abstractmethod
    def stored(self, bank: PointCloudBank) -> tuple[Tensor, PartLabels | None]:
        """Real clouds as they are stored in a set.

        Args:
            bank (PointCloudBank): The clouds, all of one size.

        Returns:
            The points :obj:`[n, N, 3]`, and their part labels if points are labelled.
        """

    @abstractmethod
    def check(self, bank: PointCloudBank, labels: PartLabels | None, num_points: int) -> None:
        """Refuses synthetic clouds that are labelled otherwise than the real ones.

        Args:
            bank (PointCloudBank): The real clouds.
            labels (PartLabels, optional): The part labels of the synthetic clouds, if any.
            num_points (int): The number of points of a synthetic cloud.

        Raises:
            ValueError: If the labels are not those of the task and of the real clouds.
        """

    @abstractmethod
    def bank_of(self, batch: Batch, real: PointCloudBank) -> PointCloudBank:
        """The clouds of a batch as a bank with the classes of a real one."""

    @abstractmethod
    def network_sizes(self, train: PointCloudBank, test: PointCloudBank) -> tuple[int, ...]:
        """What a network for two sets is made from, such as the number of their classes.

        Args:
            train (PointCloudBank): What networks are trained on.
            test (PointCloudBank): What they are tested on.

        Raises:
            ValueError: If the sets do not have the same classes.
        """

    def check_logits(self, logits: Any, sizes: tuple[int, ...]) -> None:  # noqa: B027
        """Refuses what a network says of clouds where it cannot be scored; by default nothing.

        Args:
            logits (torch.Tensor): What it says, of which only the shape is looked at.
            sizes (tuple of int): What it was made from.

        Raises:
            ValueError: If it has another shape than the task needs.
        """

    @abstractmethod
    def score(self, model: nn.Module, train: PointCloudBank, test: PointCloudBank) -> Scores:
        """The scores :obj:`[1]` of a trained network in evaluation mode, without gradients."""
