"""Gradients for what needs them, also where a caller turned them off."""

from __future__ import annotations

import torch

__all__ = ["with_gradients"]

#: A decorator of what optimises: whoever calls it may be under :obj:`torch.no_grad`. To leave the
#: inference mode turns gradients on, too.
with_gradients = torch.inference_mode(False)
