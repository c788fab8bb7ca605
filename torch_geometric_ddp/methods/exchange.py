"""Kernel ridge regression from a set of clouds of which one at a time is exchanged."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_geometric_ddp.memory import free_bytes

__all__ = ["Exchange"]


class Exchange:
    r"""What the loss of a regression becomes if one cloud of the set is exchanged.

    For every network the set has a kernel :math:`A = S S^\top + r I`, its inverse :math:`P`,
    the kernels :math:`R` of the real clouds to the set, and the errors
    :math:`E = R P Y_S - Y`. Another cloud at place :math:`j` changes row and column :math:`j` of
    :math:`A` by :math:`d` and column :math:`j` of :math:`R` by :math:`\delta`. With
    :math:`U = [e_j, d]` (Woodbury)

    .. math::
        P' = P - P U G U^\top P , \qquad
        G = \left(\begin{bmatrix} 0 & 1 \\ 1 & d_j \end{bmatrix} + U^\top P U\right)^{-1} ,
        \qquad
        E' = E - R P U G U^\top P Y_S + \delta \, (P' Y_S)_j ,

    three products of a column and a row, whose squares need no matrix of errors. So many candidates
    are tried for the price of a few products. Kernels are kept in double precision, in which
    thousands of exchanges do not add up to an error. What this takes grows with the square of the
    set, and with all clouds times the real ones that are known (:meth:`check_memory`).

    Args:
        features (torch.Tensor): Those of all clouds in every network, :obj:`[T, n, F]`.
        crosses (torch.Tensor): Their kernels to the real clouds, :obj:`[T, n, m]`.
        y (torch.Tensor): Their classes, :obj:`[n]`.
        labels (torch.Tensor): The classes of the real clouds, :obj:`[m]`.
        num_classes (int): The number of classes.
        ridge (float): The share of the mean of the diagonal of the first kernel that is added.
        index (torch.Tensor): The first set, :obj:`[K]` of the clouds.
        shares (torch.Tensor, optional): How much the errors of the real clouds count,
            :obj:`[m]`. (default: one)

    Raises:
        FloatingPointError: If a kernel has no inverse, since features are not finite or
            :obj:`ridge` is too small for them.
    """

    def __init__(
        self,
        features: Tensor,
        crosses: Tensor,
        y: Tensor,
        labels: Tensor,
        num_classes: int,
        ridge: float,
        index: Tensor,
        shares: Tensor | None = None,
    ) -> None:
        self.features, self.crosses, self.index = features, crosses, index.clone()
        shares = torch.ones_like(labels) if shares is None else shares
        #: By these all that belongs to a real cloud is multiplied, so that squares count so much.
        self.roots = shares.double().sqrt()
        #: The features of the set, [T, K, F].
        self.chosen = features[:, index]
        added = ridge * self.chosen.double().square().sum(dim=2).mean(dim=1)
        #: The inverse of the kernel, [T, K, K].
        self.inverse = torch.stack([_inverse(*one) for one in zip(self.chosen, added, strict=True)])
        known, wanted = (F.one_hot(c, num_classes).double() - 1 / num_classes for c in (y, labels))
        self.weights = self.inverse @ known[index]
        wanted *= self.roots[:, None]
        cross = crosses[:, index].mT.double() * self.roots[:, None]
        #: The product R P, [T, m, K].
        self.spread = cross @ self.inverse
        self.errors = cross @ self.weights - wanted
        #: The mean of the weighed squared errors over all networks and real clouds.
        self.loss = float(self.errors.square().sum(dim=2).mean())

    @staticmethod
    def check_memory(
        num_networks: int,
        num_clouds: int,
        num_features: int,
        num_real: int,
        num_known: int,
        device: torch.device,
    ) -> None:
        """Raises if features and kernels in so many networks take more than is free.

        Args:
            num_networks (int): The number of networks :math:`T`.
            num_clouds (int): The clouds of the set :math:`K`.
            num_features (int): Their features in a network :math:`F`.
            num_real (int): All real clouds :math:`n`.
            num_known (int): Those whose labels are predicted :math:`m`.
            device (torch.device): Where they are.

        Raises:
            MemoryError: If they do.
        """
        # Features of all clouds and of the set, and crosses, in single precision.
        singles = (num_real + num_clouds) * num_features + num_real * num_known
        # The inverse, the spread, and in a visit what is taken from both, in double precision.
        doubles = 2 * num_clouds**2 + 2 * num_known * num_clouds
        needed, free = num_networks * (4 * singles + 8 * doubles), free_bytes(device)
        if needed > free:
            raise MemoryError(
                f"to choose {num_clouds:,} clouds by {num_networks} networks takes {needed:,} "
                f"bytes, and {free:,} are free: store fewer clouds, by a smaller 'ppc' or more "
                "points a cloud ('num_points'), take fewer networks ('num_trained', 'ages'), or "
                "choose none by 'visits'=0"
            )

    def visit(self, place: int, candidates: Tensor) -> bool:
        """Puts the best of the candidates at a place of the set, unless that has a better one.

        Args:
            place (int): The place :math:`j`.
            candidates (torch.Tensor): Clouds of the class of that place, :obj:`[k]`; those that are
                in the set already are left out.

        Returns:
            Whether there was a better one.
        """
        j = place
        clouds = candidates[~torch.isin(candidates, self.index)]
        if len(clouds) == 0:
            return False
        theirs, ours = self.features[:, clouds], self.chosen[:, j, None]
        d = (self.chosen @ (theirs - ours).mT).double()
        d[:, j] = theirs.double().square().sum(dim=2) - ours.double().square().sum(dim=2)
        cross = self.crosses[:, clouds].double() - self.crosses[:, self.index[j], None].double()
        moved = (cross * self.roots).mT
        inverse_d, spread_d = self.inverse @ d, self.spread @ d
        # U^T P U and the rest of what G is the inverse of, [T, k].
        a, b = self.inverse[:, j, j, None], 1 + inverse_d[:, j]
        c = d[:, j] + (d * inverse_d).sum(dim=1)
        det = a * c - b.square()
        first, second = self.weights[:, None, j], d.mT @ self.weights
        rows = (
            -(c[..., None] * first - b[..., None] * second) / det[..., None],
            -(a[..., None] * second - b[..., None] * first) / det[..., None],
        )
        change = first + a[..., None] * rows[0] + inverse_d[:, j, :, None] * rows[1]
        terms = [
            (self.spread[:, :, j, None].expand_as(moved), rows[0]),
            (spread_d, rows[1]),
            (moved, change),
        ]
        squares = self.errors.square().sum(dim=(1, 2))[:, None].expand_as(det).clone()
        for column, row in terms:
            squares += 2 * ((column.mT @ self.errors) * row).sum(dim=2)
        for (p, u), (q, v) in itertools.combinations_with_replacement(terms, 2):
            squares += (1 + (p is not q)) * (p * q).sum(dim=1) * (u * v).sum(dim=2)
        losses = (squares.mean(dim=0) / self.errors.size(1)).nan_to_num(nan=torch.inf)
        best = int(losses.argmin())
        if not float(losses[best]) < self.loss:
            return False
        self.loss = float(losses[best])
        for column, row in terms:
            self.errors += column[:, :, best, None] * row[:, best, None]
        u = torch.stack([self.inverse[:, :, j], inverse_d[:, :, best]], dim=2)
        r = torch.stack([self.spread[:, :, j], spread_d[:, :, best]], dim=2)
        g = torch.stack([c, -b, -b, a.expand_as(c)], dim=1)[..., best] / det[:, None, best]
        ug = u @ g.view(-1, 2, 2)
        self.weights += u @ torch.stack([row[:, best] for row in rows], dim=1)
        self.inverse -= ug @ u.mT
        self.spread -= r @ ug.mT
        self.spread += moved[:, :, best, None] * self.inverse[:, None, j]
        self.chosen[:, j] = theirs[:, best]
        self.index[j] = clouds[best]
        return True


def _inverse(chosen: Tensor, added: Tensor) -> Tensor:
    """The inverse of the kernel of features :obj:`[K, F]`."""
    kernel = (chosen @ chosen.mT).double()
    kernel.diagonal().add_(added)
    # Not by an LU decomposition, which of several matrices at once hangs in torch's CPU wheels
    # where there are two threads or more; nor all networks at once, for the sake of memory.
    factor, failed = torch.linalg.cholesky_ex(kernel)
    if failed or not bool(torch.isfinite(factor).all()):
        raise FloatingPointError(
            "the kernel of a network has no inverse: its features are not finite, or 'ridge' is "
            "too small"
        )
    return torch.cholesky_inverse(factor)
