"""The base class of codecs: how a tensor is stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from torch_geometric_ddp._checks import shown
from torch_geometric_ddp.parameterization.registry import class_named, register

__all__ = ["Codec", "straight_through"]


@dataclass(frozen=True)
class Codec(ABC):
    r"""How a tensor is stored: what is written of it, and what optimisation sees of that.

    A codec is a small value: a frozen dataclass whose fields are numbers, texts or flags, so that
    two with the same fields are equal and a file can say how it was written. It is known by the
    name of its class from the moment that the class exists. A codec of one's own writes
    :meth:`bits`, :meth:`encode` and :meth:`decode`:

    .. code-block:: python

        @dataclass(frozen=True)
        class Bytes(Codec):
            reach: float = 1.0

            def bits(self, shape: Sequence[int]) -> int:
                return 8 * math.prod(shape)

            def encode(self, tensor: Tensor) -> dict[str, Tensor]:
                share = (tensor.float() / self.reach + 1) / 2
                return {"codes": (255 * share).round().clamp(0, 255).to(torch.uint8)}

            def decode(self, stored: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
                return self.reach * (stored["codes"].float() / 255 * 2 - 1)

    Three promises are relied upon:

    * What is decoded is encoded to the same tensors again, bit for bit, so that a set is the same
      file however often it is read and written.
    * Each entry along the first dimension, a group of the set, is rounded by itself, as the
      optimisation of some classes at a time sees some groups only.
    * The size that :meth:`bits` tells is that of the tensors that :meth:`encode` gives.
    """

    #: Whether points are decoded in the order in which they were encoded. A cloud is a set, and its
    #: order costs bits: a codec that does without gives them back in any order, in which they are
    #: then sorted by their coordinates, and must override :meth:`rounded`.
    keeps_order: ClassVar[bool] = True

    #: All codecs by name.
    registry: ClassVar[dict[str, type[Codec]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.keeps_order and cls.rounded is Codec.rounded:
            raise TypeError(
                f"the codec '{cls.__name__}' must override 'rounded' with the values in the order "
                "of its argument, as 'keeps_order' is False: 'decode' gives another order"
            )
        if not cls.__name__.startswith("_"):  # What several codecs share is none itself.
            register(Codec.registry, cls)

    @abstractmethod
    def bits(self, shape: Sequence[int]) -> int | None:
        """The bits of a tensor of a shape, all that :meth:`encode` writes of it.

        :obj:`None` where they depend on the values, as those of an entropy coder do: the size is
        then that of what was encoded.
        """

    def sure_bits(self, shape: Sequence[int]) -> int:
        """The same where they must be known before there are values.

        Raises:
            ValueError: If they depend on the values.
        """
        bits = self.bits(shape)
        if bits is None:
            raise ValueError(
                f"'codec' must write as many bits whatever the values to tell what fits, got {self}"
            )
        return bits

    @abstractmethod
    def encode(self, tensor: Tensor) -> dict[str, Tensor]:
        """What is written: one tensor or several of any type, such as codes and their scales.

        Args:
            tensor (torch.Tensor): The numbers :obj:`[G, *]`, floating point, finite.

        Returns:
            The tensors by a name each, without a dot. The name :obj:`""` is that of the tensor
            itself in the file.

        Raises:
            ValueError: If a number lies out of the range that can be stored.
        """

    @abstractmethod
    def decode(self, stored: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
        """The tensor :obj:`[G, *]` that :meth:`encode` was given, as far as was kept of it.

        Args:
            stored (dict of torch.Tensor): What :meth:`encode` gave.
            shape (sequence of int): The shape of the tensor.

        Raises:
            ValueError: If :obj:`stored` can not be what :meth:`encode` gave. Where :meth:`bits`
                says the size, names, types and shapes have been checked before.
        """

    def exact(self, dtype: torch.dtype) -> bool:
        """Whether all numbers of a type are stored to the bit.

        Optimisation then sees the parameter itself. (default: never)
        """
        return False

    def rounded(self, tensor: Tensor) -> Tensor:
        """The values that are stored, in the order of the argument and without a gradient.

        A codec that packs its codes may give them without packing, as this runs in every step.
        (default: what is decoded of what is encoded)
        """
        return self.decode(self.encode(tensor), tensor.shape)

    def seen(self, tensor: Tensor) -> Tensor:
        """What optimisation sees of a tensor: the values that are stored.

        A tensor that is stored exactly is seen itself. Any other is seen as :meth:`rounded`, in its
        own type and on its device, and has the gradient of that (a straight-through estimate, arXiv
        1308.3432).

        Args:
            tensor (torch.Tensor): The numbers :obj:`[G, *]`.

        Returns:
            The same shape and type.
        """
        if self.exact(tensor.dtype):
            return tensor
        with torch.no_grad():
            stored = self.rounded(tensor.detach()).to(tensor)
        return straight_through(tensor, stored)

    def config(self) -> dict[str, Any]:
        """The name and the fields, as JSON.

        Raises:
            TypeError: If there are settings beside the fields, which would be lost.
        """
        names = [field.name for field in fields(self)]
        beside = sorted(set(vars(self)) - set(names))
        if beside:
            raise TypeError(
                f"the codec '{type(self).__name__}' must be a frozen dataclass, so that its "
                f"settings are written with it, but {beside} are no fields of it"
            )
        return {"name": type(self).__name__, **{name: getattr(self, name) for name in names}}

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> Codec:
        """The codec that :meth:`config` describes.

        Raises:
            UnknownClassError: If there is none of that name.
            TypeError, ValueError: If it is no name, or a field does not fit.
        """
        settings = dict(config)
        name = settings.pop("name", None)
        codec: Codec = class_named(Codec.registry, "codec", name)(**settings)
        return codec

    def __str__(self) -> str:
        """The name, with the fields in parentheses if there are any."""
        settings = ", ".join(f"{k}={v!r}" for k, v in self.config().items() if k != "name")
        return f"{type(self).__name__}({settings})" if settings else type(self).__name__


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor with the gradient of another."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def straight_through(tensor: Tensor, value: Tensor) -> Tensor:
    """The values of :obj:`value`, to the bit, whose gradient goes to :obj:`tensor` as it is.

    Args:
        tensor (torch.Tensor): What is optimised, of any shape.
        value (torch.Tensor): What it is taken for, of the same shape and type.

    Raises:
        ValueError: If shapes or types differ.
    """
    if (tensor.shape, tensor.dtype) != (value.shape, value.dtype):
        raise ValueError(
            f"'value' must be {tensor.dtype} of shape {list(tensor.shape)}, got {value.dtype} of "
            f"shape {list(value.shape)}"
        )
    return _StraightThrough.apply(tensor, value)


def check_codec(name: str, value: Any) -> None:
    """Raises unless :obj:`value` is a codec, and not the class of one."""
    if not isinstance(value, Codec):
        raise TypeError(f"'{name}' must be a Codec, such as Float16(), got {shown(value)}")
