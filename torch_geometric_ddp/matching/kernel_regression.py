"""Kernel ridge regression from the synthetic clouds to the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Batch

from torch_geometric_ddp._checks import check_flag, check_float
from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching.base import Matching
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.quotas import Quotas, check_quotas, weights_of
from torch_geometric_ddp.transforms import NormalizeSphere

__all__ = ["JointFeatures", "KernelRegression", "class_weights", "regression_loss"]


class KernelRegression(Matching):
    r"""How badly the labels of real clouds are predicted from the synthetic ones.

    With the features :math:`\phi` of a network that is kept as it is, the synthetic set
    :math:`(S, Y_S)` predicts the labels of the real clouds :math:`X` by kernel ridge regression,

    .. math::
        \hat Y = \phi(X) \phi(S)^\top
        \left(\phi(S) \phi(S)^\top + \rho \, \bar k \, I\right)^{-1} Y_S ,
        \qquad \mathcal{L}_c = w_c \operatorname{mean}_{x \in c}
        \left\| \hat y(x) - y(x) \right\|^2 ,

    with one-hot labels less :math:`1/C`, the mean :math:`\bar k` of the diagonal of the kernel and
    weights :math:`w_c` that add up to one: :math:`1/C`, or the shares of the classes in the real
    set, so that every real cloud counts alike, as in training on all of them.
    *Dataset Meta-Learning from Kernel Ridge-Regression* (KIP, arXiv 2011.00050) and *Dataset
    Distillation using Neural Feature Regression* (FRePo, arXiv 2206.00719) do so for images. The
    features are what the network knows of a cloud from its global pool on
    (:meth:`~torch_geometric_ddp.nn.Backbone.cloud_layers`), every layer less its mean over the real
    clouds and scaled so that all have the same mean squared length, together one.

    It learns most from networks that were trained on the real clouds
    (:class:`~torch_geometric_ddp.methods.TrainedNetworks`). All classes are compared at once, as
    every synthetic cloud speaks about every class. Real and synthetic clouds may differ in size.

    Args:
        ridge (float): The share :math:`\rho` of the mean of the diagonal that is added to it.
            (default: :obj:`0.01`)
        normalize (bool): Whether synthetic clouds are centred and scaled to the unit ball before
            they are seen, as in evaluation. (default: :obj:`True`)
        weigh (str or sequence of float): What the weights :math:`w_c` are proportional to, one of
            :obj:`~torch_geometric_ddp.quotas.QUOTAS` or a number for every class.
            (default: :obj:`"uniform"`)

    Raises:
        TypeError: If :obj:`ridge` is no number, or :obj:`weigh` neither a name nor numbers.
        ValueError: If :obj:`ridge` is not above zero, or :obj:`weigh` are no known name or hold a
            number that is not above 0; before a run, if they are not one for every class, or the
            real clouds are in half precision.
    """

    per_class, unequal = False, True

    def __init__(
        self, ridge: float = 0.01, normalize: bool = True, weigh: Quotas = "uniform"
    ) -> None:
        super().__init__()
        self.ridge = check_float("ridge", ridge, exclusive=True)
        self.normalize = check_flag("normalize", normalize)
        self.weigh = check_quotas(weigh, name="weigh")

    def check(self, make: Callable[[], Backbone], bank: PointCloudBank) -> None:
        """Raises unless there is a weight for every class, and digits enough for an inverse."""
        check_quotas(self.weigh, bank.num_classes, "weigh")
        if torch.finfo(bank.pos.dtype).bits < torch.finfo(torch.float32).bits:
            raise ValueError(
                "'dataset' must be in single or double precision where labels are regressed, got "
                f"{bank.pos.dtype}"
            )

    def prepare(
        self, bank: PointCloudBank, num_points: int, progress: bool = False
    ) -> dict[str, Tensor]:
        """The points, and the :obj:`weight` of the class of every real cloud."""
        views = super().prepare(bank, num_points, progress)
        return views | {"weight": class_weights(bank, self.weigh)[bank.y]}

    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`.

        Args:
            network (Backbone): The network of the step.
            real (dict): The real clouds :obj:`pos [C, B, N, 3]`, or what the network knows of them,
                :obj:`features [C, B, F]` with the :obj:`mean` and :obj:`scale` that made them
                (``JointFeatures``, the same for every class), if that was computed before; and
                the :obj:`weight [C, B]` of their classes, without which all weigh the same.
            synthetic (Batch): The synthetic clouds of all classes.
        """
        if "features" in real:
            x, joint = real["features"], JointFeatures(real["mean"][0], real["scale"][0])
        else:
            pos = real["pos"]
            with torch.no_grad():
                layers = network.cloud_layers(from_dense(pos.flatten(0, 1)))
            joint = JointFeatures.of(layers)
            x = joint(layers).view(*pos.shape[:2], -1)
        num_classes, num_real = x.shape[:2]
        if self.normalize:
            sizes = synthetic.ptr.diff()
            synthetic = synthetic.clone()
            synthetic.pos = NormalizeSphere.apply(synthetic.pos, sizes, ordinary=True)
        y = synthetic.category if "category" in synthetic else synthetic.y
        s = joint(network.cloud_layers(synthetic))
        labels = torch.arange(num_classes, device=y.device).repeat_interleave(num_real)
        loss = regression_loss(x.flatten(0, 1), labels, s, y.flatten(), num_classes, self.ridge)
        means = loss.view(num_classes, num_real).mean(dim=1)
        return means * real["weight"][:, 0] if "weight" in real else means / num_classes


def class_weights(bank: PointCloudBank, weigh: Quotas) -> Tensor:
    """How much every class weighs in a regression, :obj:`[C]`, together one.

    Args:
        bank (PointCloudBank): The real clouds.
        weigh (str or sequence of float): What the weights are proportional to, checked.
    """
    numbers = weights_of(weigh, bank.class_index.counts.tolist()) or (1.0,) * bank.num_classes
    weights = bank.pos.new_tensor(numbers)
    return weights / weights.sum()


@dataclass(frozen=True, eq=False)
class JointFeatures:
    """Makes one feature of the layers of a network, centred and scaled by the real clouds.

    Args:
        mean (torch.Tensor): What is subtracted from the layers, side by side, :obj:`[F]`.
        scale (torch.Tensor): What they are multiplied by, :obj:`[F]`.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, layers: Sequence[Tensor]) -> JointFeatures:
        """That of the layers of the real clouds, each :obj:`[n, F]`.

        A layer in which they do not differ tells nothing, and its scale is 0.
        """
        means, scales = [], []
        for x in layers:
            mean = x.mean(dim=0)
            length = (x - mean).square().sum(dim=1).mean()
            rounding = (8 * torch.finfo(x.dtype).eps) ** 2 * x.square().sum(dim=1).mean()
            scale = torch.where(length > rounding, (length * len(layers)).rsqrt(), 0.0)
            means.append(mean)
            scales.append(scale.expand_as(mean))
        return cls(torch.cat(means), torch.cat(scales))

    def __call__(self, layers: Sequence[Tensor]) -> Tensor:
        """The features :obj:`[n, F]` of clouds, from their layers."""
        return (torch.cat([*layers], dim=1) - self.mean) * self.scale


def regression_loss(
    x: Tensor, labels: Tensor, s: Tensor, y: Tensor, num_classes: int, ridge: float
) -> Tensor:
    """The squared error of the predicted labels of every real cloud.

    Args:
        x (torch.Tensor): The features of the real clouds, :obj:`[*, n, F]`.
        labels (torch.Tensor): Their classes, :obj:`[n]`.
        s (torch.Tensor): The features of the synthetic clouds, :obj:`[*, m, F]`.
        y (torch.Tensor): Their classes, :obj:`[m]`.
        num_classes (int): The number of classes :math:`C`.
        ridge (float): The share of the mean of the diagonal that is added to it.

    Returns:
        The errors :obj:`[*, n]`, NaN where rounding leaves the kernel without an inverse.
    """
    kernel = s @ s.mT
    diagonal = kernel.diagonal(dim1=-2, dim2=-1)
    added = ridge * diagonal.mean(dim=-1, keepdim=True).expand_as(diagonal)
    known, wanted = (
        F.one_hot(values, num_classes).to(kernel) - 1 / num_classes for values in (y, labels)
    )
    # Not by torch.linalg.solve: of several matrices at once it hangs in torch's CPU wheels where
    # there are two threads or more.
    factor, failed = torch.linalg.cholesky_ex(kernel + torch.diag_embed(added))
    factor = factor.masked_fill(failed[..., None, None] > 0, torch.nan)
    weights = torch.cholesky_solve(known.expand(*kernel.shape[:-1], num_classes), factor)
    return (x @ (s.mT @ weights) - wanted).square().sum(dim=-1)
