"""The base class of parameterizations: how a synthetic set is stored and unfolded."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from torch_geometric_ddp._checks import check_float, check_int, check_tensor, shown
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.budget import StorageBudget, tensor_bits
from torch_geometric_ddp.parameterization.codecs import FLOAT32, Codec
from torch_geometric_ddp.parameterization.division import (
    check_counts,
    counts_of_header,
    mean_count,
)
from torch_geometric_ddp.parameterization.form import Form, taken
from torch_geometric_ddp.parameterization.kept import Kept
from torch_geometric_ddp.parameterization.part_labels import PartLabels
from torch_geometric_ddp.parameterization.reading import (
    arguments,
    check_header,
    check_no_more,
    check_sizes,
    missing,
    read_all,
)
from torch_geometric_ddp.parameterization.registry import register
from torch_geometric_ddp.parameterization.rotation import Rotation

__all__ = ["Parameterization"]


class Parameterization(nn.Module, ABC):
    r"""How a synthetic set is stored, and how it unfolds into point clouds.

    Three things are kept apart: the *parameters* that are optimised, the *storage* that is
    written to disk and that the budget counts (:meth:`storage`), and the *clouds* that are
    trained on (:meth:`unfold`, or :meth:`forward` for a PyG batch).

    The clouds are ordered class by class, each class with :obj:`ppc` groups of
    :obj:`clouds_per_group` clouds, so that labels need no storage. Where classes have different
    numbers of groups (:meth:`divide`), these :attr:`counts` are in the header of a file.

    A parameterization of one's own writes its constructor, which hands its tensors to :meth:`keep`,
    its :meth:`sizes` and :meth:`clouds`. Slices of classes, learnable turns, codecs, part labels,
    the file and the name by which it is found there are seen to here:

    .. code-block:: python

        class Doubled(Parameterization):
            clouds_per_group = 2

            def __init__(self, halves: Tensor, num_classes: int, axis: int = 0,
                         codec: Codec = FLOAT32) -> None:
                super().__init__(num_classes, len(halves) // num_classes, halves.size(1))
                self.axis = axis
                self.keep("halves", halves, lr=1.0, codec=codec)

            def sizes(self) -> dict[str, Any]:
                return {"axis": self.axis}

            def clouds(self, halves: Tensor) -> Tensor:
                flip = halves.new_ones(3)
                flip[self.axis] = -1
                return torch.stack([halves, flip * halves], dim=1).flatten(0, 1)

    The constructor has an argument :obj:`num_classes`, one for each tensor and one for each size
    that it needs, by these names, and keeps the tensors as they come.

    Args:
        num_classes (int): The number of classes :math:`C`.
        ppc (int): The number of groups per class :math:`K`; :meth:`divide` gives classes different
            numbers of them.
        num_points (int): The number of points :math:`N` of a cloud.
        labels (PartLabels, optional): The parts of the points. (default: none)
        label_rows (tuple of int): How many rows of labels a class may have. More than one only if
            clouds are stored as they are, in which case they may have a row each.
            (default: :obj:`(1,)`)

    Raises:
        TypeError, ValueError: If a number or the labels do not fit.
    """

    #: The number of clouds that one group unfolds to.
    clouds_per_group: int = 1

    #: Tensors whose stored form is another than the one that is optimised.
    forms: ClassVar[Mapping[str, Form]] = {}

    #: The letters by which :obj:`describe` calls numbers; :obj:`None` leaves one out.
    letters: ClassVar[Mapping[str, str | None]] = {"num_points": "N"}

    #: All parameterizations by name.
    registry: ClassVar[dict[str, type[Parameterization]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(Parameterization.registry, cls)

    def __init__(
        self,
        num_classes: int,
        ppc: int,
        num_points: int,
        labels: PartLabels | None = None,
        label_rows: tuple[int, ...] = (1,),
    ) -> None:
        super().__init__()
        self.num_classes = check_int("num_classes", num_classes)
        self.ppc = check_int("ppc", ppc)
        self.num_points = check_int("num_points", num_points)
        #: Learnable turns of the stored clouds, where a method has them. They cost no storage, for
        #: what is stored are the turned clouds.
        self.rotation: Rotation | None = None
        #: Whether optimisation sees what is stored. Otherwise it sees the parameters themselves,
        #: which are rounded afterwards, when they are stored (post-training quantisation).
        self.sees_stored = True
        #: The parts of the points, where they are labelled.
        self.labels: PartLabels | None = None
        self._counts: tuple[int, ...] | None = None
        self._label_rows = label_rows
        self._kept: dict[str, Kept] = {}
        self.label_with(labels)

    # What a parameterization of one's own writes #################################################

    @abstractmethod
    def clouds(self, *args: Any, **tensors: Any) -> Tensor:
        """Unfolds some groups to their clouds.

        It has an argument for each tensor, by the name that it is kept by, and is given those of
        the groups :obj:`[G, *]`, turned and rounded as they are stored.

        Returns:
            The clouds :obj:`[G * clouds_per_group, N, 3]`, group by group.
        """

    def sizes(self) -> dict[str, Any]:
        """The few numbers and flags beside the tensors, as JSON.

        There are none by default. Those that the constructor has an argument for are handed to it
        when a file is read. None may be called :obj:`codecs`, :obj:`shapes`, :obj:`parts` or
        :obj:`class_groups`.
        """
        return {}

    def keep(
        self,
        name: str,
        tensor: Tensor,
        lr: float,
        codec: Codec = FLOAT32,
        rotation_lr: float | None = None,
        learned: bool = True,
    ) -> None:
        """Makes a tensor a parameter of that name, which is optimised, stored and unfolded.

        Args:
            name (str): Its name: that of the parameter, in the file, of the argument of
                :meth:`clouds` and of that of the constructor.
            tensor (torch.Tensor): Its start :obj:`[C * K, *]`, a row for each group, which is
                copied.
            lr (float): Its default learning rate.
            codec (Codec): How it is stored. (default: :class:`Float32`)
            rotation_lr (float, optional): The default learning rate of a turn of every cloud about
                the up axis (:class:`Rotation`), where the tensor is clouds :obj:`[C * K, *, N, 3]`.
                (default: no turns)
            learned (bool): Whether it is optimised and stored. Otherwise it stays as the
                constructor makes it. (default: :obj:`True`)

        Raises:
            TypeError, ValueError: If the name is none of :meth:`clouds`, the tensor does not have
                a row for every group, a rate is no rate, or the codec loses an order that matters.
        """
        forms = self._forms()
        if name not in forms:
            raise ValueError(
                f"'name' must be that of an argument of '{type(self).__name__}.clouds', one of "
                f"{[*forms]}, got {name!r}"
            )
        groups = self.num_groups
        tensor = check_tensor(name, tensor, f"{groups} *")
        if tensor.dim() == 0 or len(tensor) != groups or not tensor.is_floating_point():
            raise ValueError(
                f"'{name}' must be floating point with a row for each of {groups} groups, got "
                f"{tensor.dtype} of shape {list(tensor.shape)}"
            )
        turns = rotation_lr is not None
        kept = Kept(name, check_float("lr", lr), learned, turns, forms[name])
        kept.store_by(codec, labelled=self.labels is not None)
        self._kept[name] = kept
        parameter = nn.Parameter(tensor.detach().clone(), requires_grad=learned)
        self.register_parameter(name, parameter)
        if rotation_lr is not None:
            if self.rotation is not None:
                raise ValueError(f"'rotation_lr' must be given for one tensor, got it for '{name}'")
            self.rotation = Rotation(parameter, rotation_lr)

    # What is seen #################################################################################

    def unfold(self, groups: slice = slice(None)) -> Tensor:
        """The clouds :obj:`[G * clouds_per_group, N, 3]` of some groups, as optimisation sees them.

        Args:
            groups (slice): Which of the :math:`C K` groups. (default: all)
        """
        return self.clouds(**{name: self._seen(name, groups) for name in self._kept})

    def forward(self, classes: slice = slice(None)) -> Batch:
        """Unfolds the clouds of some classes to a batch with :obj:`pos` and :obj:`y`.

        Labelled points have their part as :obj:`y [ΣN]`, and the clouds a :obj:`category [B]`.
        """
        start, stop = self._bounds(classes)
        clouds = self.unfold(self.groups_of(classes))
        y = torch.arange(start, stop, device=clouds.device)
        each = self.ppc * self.clouds_per_group
        if self._counts is None:  # Nothing is copied to the device.
            y = y.repeat_interleave(each)
        else:
            sizes = y.new_tensor(self._counts[start:stop]) * self.clouds_per_group
            y = y.repeat_interleave(sizes, output_size=len(clouds))
        if self.labels is None:
            return from_dense(clouds, y=y)
        return from_dense(clouds, y=self.labels(start, stop, each).flatten(), category=y)

    def is_morph(self) -> Tensor:
        """Which clouds are computed from others rather than stored, a mask :obj:`[B]`."""
        return torch.zeros(self.num_clouds, dtype=torch.bool)

    def mixing_weights(self) -> Tensor | None:
        """The weights :obj:`[C * K, L, M]` by which a group mixes its anchors, if it does.

        Where :obj:`M` anchors of a group, with points that correspond, come before :obj:`L` convex
        combinations of them; :obj:`None` where clouds are made in another way.
        """
        return None

    @property
    def num_clouds(self) -> int:
        """The number of clouds of all classes."""
        return self.num_groups * self.clouds_per_group

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The groups of parameters for an optimiser, with their default learning rates."""
        groups = [{"params": [getattr(self, k.name)], "lr": k.lr} for k in self._learned()]
        return groups + (self.rotation.parameter_groups() if self.rotation is not None else [])

    def _seen(self, name: str, groups: slice = slice(None)) -> Tensor:
        """What :meth:`clouds` is given of a tensor."""
        kept = self._kept[name]
        turned = self._turned(kept, groups)
        return kept.seen(turned) if self.sees_stored else turned

    def _turned(self, kept: Kept, groups: slice = slice(None)) -> Tensor:
        """The rows of some groups, turned if they shall be."""
        tensor: Tensor = getattr(self, kept.name)[groups]
        if self.rotation is None or not kept.turns:
            return tensor
        return self.rotation(tensor, groups)

    @torch.no_grad()
    def _packed(self, kept: Kept) -> Tensor:
        """What the codec of a tensor is given."""
        return kept.packed(self._turned(kept).detach())

    @property
    def keeps_order(self) -> bool:
        """Whether a file gives the points of all clouds back in the order that they have."""
        return all(kept.codec.keeps_order for kept in self._kept.values())

    @torch.no_grad()
    def reorder(
        self, optimizer: torch.optim.Optimizer | None = None, classes: slice = slice(None)
    ) -> None:
        """Puts points in the order in which a file gives them, where a codec doesn't keep theirs.

        Which points of several clouds correspond is then computed anew, so that what is optimised
        unfolds to the very clouds of :meth:`stored`. A distillation does it every few steps.

        Args:
            optimizer (torch.optim.Optimizer, optional): Whose state of every point goes with it.
            classes (slice): The classes whose points are put in order. (default: all)
        """
        groups = self.groups_of(classes)
        for kept in self._learned():
            order = kept.order_of_file(self._turned(kept, groups))
            if order is None:
                continue
            parameter = getattr(self, kept.name)
            states = {} if optimizer is None else optimizer.state.get(parameter, {})
            like = [v for v in states.values() if getattr(v, "shape", None) == parameter.shape]
            for tensor in (parameter, *like):
                tensor[groups] = taken(tensor[groups], order)

    # The classes of the groups ####################################################################

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of groups of every class."""
        return (self.ppc,) * self.num_classes if self._counts is None else self._counts

    @property
    def num_groups(self) -> int:
        """The number of groups of all classes."""
        return self.num_classes * self.ppc if self._counts is None else sum(self._counts)

    def groups_of(self, classes: slice) -> slice:
        """The groups of some classes, which follow each other.

        Raises:
            TypeError: If :obj:`classes` are no slice.
            ValueError: If they do not follow each other.
        """
        start, stop = self._bounds(classes)
        return slice(sum(self.counts[:start]), sum(self.counts[:stop]))

    def _bounds(self, classes: slice) -> tuple[int, int]:
        """The first class of a slice, and that after its last."""
        if not isinstance(classes, slice):
            raise TypeError(f"'classes' must be a slice, got {shown(classes)}")
        start, stop, step = classes.indices(self.num_classes)
        if step != 1:
            raise ValueError(f"'classes' must be a slice of step 1, got {classes}")
        return start, max(start, stop)

    def divide(self, counts: Sequence[int]) -> Self:
        """Divides the groups among classes, of which some may have more than others.

        The first groups are those of the first class, and so on. Where classes have different
        numbers, :attr:`ppc` is their mean, rounded up. What is stored stays the same.

        .. code-block:: python

            FullResolution(pos, num_classes=1).divide([7, 30, 64])

        Args:
            counts (sequence of int): The number of groups of every class, at least one of each.

        Returns:
            This object.

        Raises:
            TypeError: If a number is no integer.
            ValueError: If there is none, one is below one, they do not add up to all groups, or
                points are labelled with parts.
        """
        counts = check_counts(counts, self.num_groups)
        if counts == self.counts:
            return self
        if self.labels is not None:
            raise ValueError(
                f"'counts' must not be given where points are labelled with parts, got {counts}"
            )
        self.num_classes, self.ppc = len(counts), mean_count(counts)
        self._counts = None if len({*counts}) == 1 else counts
        return self

    # What is stored ###############################################################################

    def storage(self) -> dict[str, Tensor]:
        """The tensors that are written to disk, as their codecs give them, and any part labels.

        A codec that writes one tensor writes it by the name that it is kept by, one that writes
        several appends their names after a dot.
        """
        out = {} if self.labels is None else self.labels.storage()
        for kept in self._learned():
            for key, tensor in kept.codec.encode(self._packed(kept)).items():
                out[f"{kept.name}.{key}" if key else kept.name] = tensor
        return out

    def config(self) -> dict[str, Any]:
        """What :meth:`from_storage` needs beside the tensors, as JSON.

        The :meth:`sizes`, the part labels if there are any, the :attr:`counts` if they differ, and
        the codecs and shapes of what is not in single precision.

        Raises:
            TypeError, ValueError: If a size is not what JSON can hold, or called like one of these.
        """
        sizes = self.sizes()
        check_sizes(type(self), sizes)
        out = {**sizes, **({} if self.labels is None else self.labels.config())}
        if self._counts is not None:
            out["class_groups"] = list(self._counts)
        special = self._special()
        if special:
            out["codecs"] = {kept.name: kept.codec.config() for kept in special}
            out["shapes"] = {kept.name: list(self._packed(kept).shape[1:]) for kept in special}
        return out

    def storage_bits(self) -> int:
        """The bits of everything in :meth:`storage`.

        As :meth:`Codec.bits` tells them; what depends on the values is written to be counted.
        """
        bits = 0 if self.labels is None else tensor_bits(self.labels.storage())
        for kept in self._learned():
            packed = self._packed(kept)
            sure = kept.codec.bits(packed.shape)
            bits += tensor_bits(kept.codec.encode(packed)) if sure is None else sure
        return bits

    def check_budget(self, budget: StorageBudget) -> int:
        """Returns the bits of everything in :meth:`storage`.

        Raises:
            ValueError: If they exceed a budget, or it is for another number of classes.
        """
        return budget.check(self.num_classes, self.storage_bits(), self.describe())

    def stored(self) -> Self:
        """The same as a file of it would give, on the CPU.

        What is optimised may differ from that: it is rounded, or packed into fewer numbers.
        """
        storage = {key: tensor.cpu() for key, tensor in self.storage().items()}
        config = json.loads(json.dumps(self.config()))  # A tuple comes back as a list.
        return self.from_storage(storage, config, self.num_classes, self.ppc)

    def describe(self) -> str:
        """What is stored and how, in a few words for a person."""
        sizes = {"num_points": self.num_points, **self.sizes()}
        named = {self.letters.get(name, name): value for name, value in sizes.items()}
        each = self.ppc if self._counts is None else self._counts
        parts = [("C", self.num_classes), ("K", each), *named.items()]
        parts += [(kept.name, kept.codec) for kept in self._special()]
        parts += [] if self.sees_stored else [("sees_stored", False)]
        listed = ", ".join(f"{name}={value}" for name, value in parts if name is not None)
        return f"{type(self).__name__}({listed})"

    @classmethod
    def from_storage(
        cls, storage: Mapping[str, Tensor], config: Mapping[str, Any], num_classes: int, ppc: int
    ) -> Self:
        """Restores what :meth:`storage` and :meth:`config` describe.

        Args:
            storage (dict of torch.Tensor): The tensors of a file.
            config (dict): The numbers of its header.
            num_classes (int): The number of classes :math:`C`.
            ppc (int): The number of groups per class :math:`K`, as :meth:`divide` leaves it.

        Raises:
            TypeError, ValueError: If a tensor or a size is missing, or a name, shape, type or value
                does not fit.
        """
        groups = check_int("num_classes", num_classes) * check_int("ppc", ppc)
        if not isinstance(config, Mapping):
            raise TypeError(f"'config' must be a mapping of sizes, got {config!r}")
        counts = counts_of_header(config, num_classes, ppc)
        forms = cls._forms()
        found = read_all(storage, config, forms, groups if counts is None else sum(counts))
        # What is divided among classes is made as one class.
        together = num_classes if counts is None else 1
        made = cls(**arguments(cls, together, found, storage, config, forms))
        if counts is not None:
            made.divide(counts)
        labels = PartLabels.from_storage(storage, config, made.num_points)
        made.label_with(labels)
        known = [] if labels is None else ["part_counts"]
        for kept in made._learned():
            if kept.name not in found:
                raise missing(kept.name, storage)
            kept.store_by(found[kept.name].codec, labelled=labels is not None)
            known.append(kept.name)
        check_no_more(storage, known, cls)
        check_header(config, made.config())
        return made

    def label_with(self, labels: PartLabels | None) -> None:
        """Labels the points of all clouds; see :attr:`labels`.

        Args:
            labels (PartLabels, optional): Their parts, or :obj:`None` for points without.

        Raises:
            TypeError: If they are no :class:`PartLabels`.
            ValueError: If they are for other sizes, classes have different numbers of groups, or a
                codec does not keep the points in order.
        """
        if labels is not None and not isinstance(labels, PartLabels):
            raise TypeError(f"'labels' must be PartLabels, got {shown(labels)}")
        if labels is not None and self._counts is not None:
            raise ValueError(
                f"'labels' must be of classes of as many groups, got {self._counts} groups"
            )
        if labels is not None:
            labels.check_fit(self.num_classes, self.num_points, self._label_rows)
        self.labels = labels
        for kept in self._kept.values():
            kept.store_by(kept.codec, labelled=labels is not None)

    def _learned(self) -> list[Kept]:
        """All that is optimised and stored."""
        return [kept for kept in self._kept.values() if kept.learned]

    def _special(self) -> list[Kept]:
        """All that is not stored in single precision."""
        return [kept for kept in self._learned() if kept.codec != FLOAT32]

    @classmethod
    def _forms(cls) -> dict[str, Form]:
        """The forms of all tensors, which are the arguments of :meth:`clouds`."""
        names = [*inspect.signature(cls.clouds).parameters][1:]
        return {name: cls.forms.get(name, Form()) for name in names}
