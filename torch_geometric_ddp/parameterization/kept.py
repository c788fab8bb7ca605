"""Kept tensors: how what a parameterization optimises is turned, rounded and stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_ddp.parameterization.codecs import FLOAT32, Codec
from torch_geometric_ddp.parameterization.form import Form, order_of_file, seen

if TYPE_CHECKING:
    from torch_geometric_ddp.parameterization.base import Parameterization

__all__ = ["Kept"]


@dataclass
class Kept:
    """A tensor of a parameterization, of which it says how it is optimised and stored.

    The tensor itself is the parameter of that name, which a move to another device or type may
    replace: it is asked of its owner whenever it is needed.

    Args:
        name (str): Its name.
        lr (float): Its default learning rate.
        learned (bool): Whether it is optimised and stored.
        turns (bool): Whether its clouds are turned by :attr:`Parameterization.rotation`.
        codec (Codec): How it is stored. (default: :class:`Float32`)
    """

    name: str
    lr: float
    learned: bool
    turns: bool
    codec: Codec = FLOAT32

    def form(self, owner: Parameterization) -> Form:
        """How its stored form differs from the one that is optimised."""
        return owner.forms.get(self.name, Form())

    def turned(self, owner: Parameterization, groups: slice) -> Tensor:
        """The rows of some groups, turned if they shall be."""
        tensor: Tensor = getattr(owner, self.name)[groups]
        if owner.rotation is None or not self.turns:
            return tensor
        return owner.rotation(tensor, groups)

    def seen(self, owner: Parameterization, groups: slice) -> Tensor:
        """The rows of some groups as optimisation sees them."""
        tensor = self.turned(owner, groups)
        if not (self.learned and owner.sees_stored):
            return tensor
        return seen(tensor, self.codec, self.form(owner))

    @torch.no_grad()
    def packed(self, owner: Parameterization, groups: slice = slice(None)) -> Tensor:
        """What the codec is given of some groups."""
        return self.form(owner).pack(self.turned(owner, groups).detach())

    def order_of_file(self, owner: Parameterization, groups: slice) -> Tensor | None:
        """The order in which a file gives the points, :obj:`None` if the codec keeps theirs."""
        in_order = self.form(owner).in_order
        if self.codec.keeps_order or in_order is None:
            return None
        rounded = self.codec.rounded(self.packed(owner, groups))
        rounded = rounded.to(getattr(owner, self.name).device)
        if not bool(torch.isfinite(rounded).all()):
            return None  # The next loss says so.
        return order_of_file(rounded, in_order)

    def store_by(self, owner: Parameterization, codec: Codec) -> None:
        """Sets the codec.

        Raises:
            ValueError: If it loses the order of the points where that matters.
        """
        labelled = owner.labels is not None
        if not codec.keeps_order and (labelled or self.form(owner).in_order is None):
            why = "points have part labels" if labelled else "clouds are made point by point"
            raise ValueError(
                f"the codec of '{self.name}' must keep the order of what it stores, as {why}, got "
                f"{codec}"
            )
        codec.config()  # Raises if it could not be written; not after hours of optimisation.
        self.codec = codec
