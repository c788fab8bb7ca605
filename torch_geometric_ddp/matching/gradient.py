"""Gradient matching: what the clouds of a class would teach a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch_geometric.data import Batch

from torch_geometric_ddp.batching import from_dense
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching.base import Matching
from torch_geometric_ddp.nn import Backbone
from torch_geometric_ddp.nn.vmap import is_vmap_error
from torch_geometric_ddp.ops import at_least_single

# Added to the product of two norms, as in the published code.
_EPSILON = 1e-6


class GradientMatching(Matching):
    r"""Matches the gradients of the network's parameters on the clouds of every class.

    .. math::
        \mathcal{L}_c = \sum_{l} \sum_{i} \left(1 -
        \frac{\langle A_{l,i}, B_{l,i} \rangle}{\|A_{l,i}\| \, \|B_{l,i}\|}\right)

    where :math:`A_{l,i}` and :math:`B_{l,i}` are the gradients of the cross entropy, on the real
    and on the synthetic clouds of the class, with respect to the weights of the output node
    :math:`i` of layer :math:`l`; biases are left out (DC, *Dataset Condensation with Gradient
    Matching*, ICLR 2021, section 3.3, which PCC applies to point clouds). Dropout is off, and
    BatchNorm takes the statistics that it has.

    The gradients of all classes are computed at once by :obj:`torch.func.vmap`, which the
    network's operations must support: of the networks of this package only
    :class:`~torch_geometric_ddp.nn.PointNet` does. Real and synthetic clouds may differ in size.
    """

    def prepare(
        self, bank: PointCloudBank, num_points: int, progress: bool = False
    ) -> dict[str, Tensor]:
        """The real clouds as they are.

        Raises:
            ValueError: If the points of :obj:`bank` are labelled (only whole clouds are classified
                here), or its clouds have different sizes.
        """
        if bank.has_parts:
            raise ValueError("gradients are matched for classification only, not for segmentation")
        return super().prepare(bank, num_points, progress)

    def check(self, make: Callable[[], Backbone], bank: PointCloudBank) -> None:
        """Raises a :class:`TypeError` if :obj:`torch.func.vmap` does not support the network."""
        if not bank.has_parts:  # Which :meth:`prepare` refuses.
            network = make().to(bank.device, bank.pos.dtype).eval()
            self.gradients(network, bank.dense()[None, :1], bank.y[:1])

    def forward(self, network: Backbone, real: Mapping[str, Tensor], synthetic: Batch) -> Tensor:
        """The loss of every class, :obj:`[C]`."""
        pos = real["pos"]
        y = synthetic.y.view(len(pos), -1)[:, 0]
        clouds = synthetic.pos.view(len(pos), -1, synthetic.num_points, 3)
        modes = {module: module.training for module in network.modules()}
        network.eval()
        try:
            with torch.no_grad():
                theirs = self.gradients(network, pos, y)
            ours = self.gradients(network, clouds, y)
        finally:
            for module, training in modes.items():
                module.training = training
        return torch.stack([_distance(ours[key], theirs[key]) for key in ours]).sum(dim=0)

    def gradients(self, network: Backbone, pos: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The gradient of every weight (no bias) for every class.

        Args:
            network (Backbone): The network.
            pos (torch.Tensor): The clouds :obj:`[C, B, N, 3]`.
            y (torch.Tensor): The label of the clouds of every class, :obj:`[C]`.

        Returns:
            Gradients :obj:`[C, *]` of the parameters with more than one dimension, by name.

        Raises:
            TypeError: If :obj:`network` has an operation that :obj:`torch.func.vmap` does not
                support.
        """
        weights: dict[str, Tensor] = {}
        fixed: dict[str, Tensor] = dict(network.named_buffers())
        for key, value in network.named_parameters():
            (weights if value.dim() > 1 else fixed)[key] = value

        def loss(weights: dict[str, Tensor], pos: Tensor, y: Tensor) -> Tensor:
            logits = functional_call(network, {**weights, **fixed}, (from_dense(pos),))
            return torch.nn.functional.cross_entropy(logits, y.expand(len(pos)))

        try:
            return vmap(grad(loss), in_dims=(None, 0, 0))(weights, pos, y)
        except RuntimeError as error:
            if not is_vmap_error(error):
                raise
            raise TypeError(
                f"'network' must be made of operations that torch.func.vmap supports, as gradients "
                f"are matched, which {type(network).__name__} is not; of the networks of this "
                "package only PointNet is"
            ) from error


def _distance(x: Tensor, y: Tensor) -> Tensor:
    """One minus the cosine of the rows of weights :obj:`[C, out, *]`, summed, :obj:`[C]`."""
    x, y = at_least_single(x.flatten(2)), at_least_single(y.flatten(2))
    norms = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
    return (1 - (x * y).sum(dim=-1) / (norms + _EPSILON)).sum(dim=-1)
