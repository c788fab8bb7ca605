"""Any PyG model as a backbone."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_ddp._checks import shown
from torch_geometric_ddp.nn.backbone import Backbone, check_features


class HookedBackbone(Backbone):
    r"""Makes any PyG model of point clouds a backbone by naming the layer that is matched.

    .. code-block:: python

        def network(num_classes):
            return HookedBackbone(
                MyPointNet(num_classes), layer='conv2', num_classes=num_classes, point_channels=64
            )

        synthetic = distill(dataset, network=network)

    The model takes attributes of a PyG batch by their names, say :obj:`forward(x, pos, batch)`
    (with no :obj:`x` where clouds have none, and within :func:`~torch_geometric_ddp.distill` and
    :func:`~torch_geometric_ddp.evaluate` they have none, as only points and labels are read), or,
    where it has a single parameter, the batch itself, :obj:`forward(data)`, as PyG's examples do.
    What the named layer gives out the last time that it is called is the feature: a tensor with one
    row per point (or per centre, as many for all clouds of one size), cloud by cloud, or a tuple
    that starts with it. A layer after the pool has one row per cloud, as if that were a single
    centre: it can be matched, and says less of where points have to go. The feature of a cloud,
    which coresets and some methods compare, is the largest over these rows, whatever the model's
    own pool is.

    Args:
        model (torch.nn.Module): The model, which gives logits or log-probabilities
            :obj:`[B, num_classes]`.
        layer (str): The name of the layer, as in :obj:`torch.nn.Module.named_modules`.
        num_classes (int): The number of classes.
        point_channels (int): The channels of the layer's output.

    Raises:
        TypeError: If :obj:`model` is no module.
        ValueError: If there is no such layer, or it does not give such a feature.
    """

    def __init__(
        self, model: nn.Module, layer: str, *, num_classes: int, point_channels: int
    ) -> None:
        super().__init__(num_classes, point_channels)
        if not isinstance(model, nn.Module):
            raise TypeError(f"'model' must be a torch.nn.Module, got {shown(model)}")
        modules = dict(model.named_modules())
        modules.pop("")
        if layer not in modules:
            names = ", ".join(modules)
            raise ValueError(f"'layer' must be one of the model's layers {names}, got {layer!r}")
        self.model, self.layer = model, layer

    def forward(self, data: Data) -> Tensor:
        """The logits :obj:`[B, num_classes]`."""
        known = {"x": None, "batch": None, **data.to_dict()}
        named = _named_parameters(self.model)
        single = not named or (len(named) == 1 and named[0].name != "pos")
        if not single and {p.name for p in named if p.default is p.empty} <= known.keys():
            return self.model(**{p.name: known[p.name] for p in named if p.name in known})
        return self.model(data)

    def point_features(self, data: Data) -> Tensor:
        """What the named layer gives out, :obj:`[rows, point_channels]`."""
        outputs: list[Any] = []

        def keep(module: nn.Module, args: Any, out: Any) -> None:
            out = out[0] if isinstance(out, tuple) else out
            # A copy, as the next layer may work in place.
            outputs[:] = [out.clone() if isinstance(out, Tensor) else out]

        handle = self.model.get_submodule(self.layer).register_forward_hook(keep)
        try:
            self(data)
        finally:
            handle.remove()
        if not outputs:
            raise ValueError(f"the layer '{self.layer}' is not called by the model")
        return check_features(outputs[0], self.point_channels, f"the layer '{self.layer}'")


def _named_parameters(model: nn.Module) -> list[inspect.Parameter]:
    """What a model takes by name, or what the model takes that is compiled or spread in it."""
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    inner = getattr(model, "_orig_mod", getattr(model, "module", None))
    return _named_parameters(inner) if not named and isinstance(inner, nn.Module) else named
