"""Kept tensors: how one tensor of a parameterization is optimised, rounded and stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_geometric_ddp.parameterization.codecs import FLOAT32, Codec
from torch_geometric_ddp.parameterization.codecs.base import check_codec
from torch_geometric_ddp.parameterization.form import Form, order_of_file, seen

__all__ = ["Kept"]


@dataclass
class Kept:
    """A tensor of a parameterization, of which it says how it is optimised and stored.

    The tensor itself is the parameter of that name, which a move to another device or type may
    replace: methods are given its rows, turned if they shall be.

    Args:
        name (str): Its name.
        lr (float): Its default learning rate.
        learned (bool): Whether it is optimised and stored.
        turns (bool): Whether its clouds are turned by :attr:`Parameterization.rotation`.
        form (Form): How its stored form differs from the one that is optimised.
        codec (Codec): How it is stored. (default: :class:`Float32`)
    """

    name: str
    lr: float
    learned: bool
    turns: bool
    form: Form
    codec: Codec = FLOAT32

    def seen(self, tensor: Tensor) -> Tensor:
        """What is stored of some rows, as optimisation sees it."""
        return seen(tensor, self.codec, self.form) if self.learned else tensor

    def packed(self, tensor: Tensor) -> Tensor:
        """What the codec is given of some rows."""
        return self.form.pack(tensor)

    def order_of_file(self, tensor: Tensor) -> Tensor | None:
        """The order in which a file gives the points, :obj:`None` if the codec keeps theirs."""
        if self.codec.keeps_order or self.form.in_order is None:
            return None
        rounded = self.codec.rounded(self.packed(tensor)).to(tensor.device)
        if not bool(torch.isfinite(rounded).all()):
            return None  # The next loss says so.
        return order_of_file(rounded, self.form.in_order)

    def store_by(self, codec: Codec, labelled: bool) -> None:
        """Sets the codec.

        Args:
            codec (Codec): The codec.
            labelled (bool): Whether points have part labels.

        Raises:
            TypeError: If it is none.
            ValueError: If it loses the order of the points where that matters.
        """
        check_codec("codec", codec)
        if not codec.keeps_order and (labelled or self.form.in_order is None):
            why = "points have part labels" if labelled else "clouds are made point by point"
            raise ValueError(
                f"the codec of '{self.name}' must keep the order of what it stores, as {why}, got "
                f"{codec}"
            )
        codec.config()  # Raises if it could not be written; not after hours of optimisation.
        self.codec = codec
