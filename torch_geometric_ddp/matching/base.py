"""The base class of the matching losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn
from torch_geometric.data import Batch

from torch_geometric_ddp._identity import settings_of
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.nn import Backbone


class Matching(nn.Module, ABC):
    r"""How far a synthetic set is from a real one, as a network sees them.

    A matching knows which views of the real clouds it needs (:meth:`prepare`, called once before
    the loop), and compares a draw of them with the synthetic clouds of the same classes
    (:meth:`forward`, called in every step). Classes do not see each other, unless
    :attr:`per_class` says so, so that they may be computed in chunks or in several processes.

    A matching of one's own writes :meth:`forward`, and :meth:`prepare` if it compares more than the
    points. Its attributes are its settings: they tell its runs from those with others.
    """

    #: Whether the loss of a class depends on the clouds of that class only, so that classes may be
    #: computed in chunks. A matching that compares all at once says no.
    per_class: ClassVar[bool] = True

    #: Whether the synthetic classes that are compared at once may have different numbers of clouds.
    #: A matching that treats every class by itself sees those of one number at a time, and needs to
    #: say nothing.
    unequal: ClassVar[bool] = False

    def prepare(
        self, bank: PointCloudBank, num_points: int, progress: bool = False
    ) -> dict[str, Tensor]:
        """Computes, once for a run, what this matching compares of the real clouds.

        What takes long and depends on few settings is asked of :meth:`PointCloudBank.cached`, so
        that runs that differ in other settings share it. (default: the points)

        Args:
            bank (PointCloudBank): The real clouds, all of one size.
            num_points (int): The number of points of a synthetic cloud.
            progress (bool): Whether to show the progress. (default: :obj:`False`)

        Returns:
            Tensors with a first dimension of :obj:`n`, of which every step draws rows.

        Raises:
            ValueError: If the clouds of :obj:`bank` have different sizes.
        """
        return {"pos": bank.dense()}

    def check(self, make: Callable[[], Backbone], bank: PointCloudBank) -> None:
        """Raises an error if this cannot compare what networks see of real clouds.

        It is asked once, before a run. (default: nothing)

        Args:
            make (callable): Makes a network as those of the steps, to look at.
            bank (PointCloudBank): The real clouds.
        """

    @abstractmethod
    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`.

        Args:
            network (Backbone): The network of the step.
            real (dict): The tensors of :meth:`prepare` for the drawn clouds, :obj:`[C, B, ...]`.
            synthetic (Batch): The synthetic clouds of the same classes, class by class, as many
                of each class (unless :attr:`unequal` says otherwise), all of one size.
        """

    def config(self) -> dict[str, Any]:
        """All that this object holds, by name, as JSON: what runs must share to be the same.

        Nobody has to list the settings: they are the attributes, parameters, buffers and modules
        that the object has before the first step.
        """
        return settings_of(self)
