"""Quotas by difficulty: more of a storage for the classes that a network forgets most often."""

from __future__ import annotations

import torch

from torch_geometric_ddp._checks import shown
from torch_geometric_ddp.coreset.observation import Observation

__all__ = ["difficulty_quotas"]


def difficulty_quotas(observation: Observation) -> tuple[float, ...]:
    r"""The number of every class to which its quota is proportional, by how difficult it is.

    .. math::
        w_c = 1 + \frac{1}{n_c} \sum_{i : y_i = c} f_i

    of the :math:`n_c` clouds of a class, of which a network forgot cloud :math:`i` for
    :math:`f_i` times while it was trained (:class:`ForgettingEvents`; one that was never learned
    counts with the epochs). A class of which nothing is forgotten has 1, as does one without
    clouds.

    .. code-block:: python

        quotas = difficulty_quotas(observe(real_dataset))
        synthetic = distill(real_dataset, ppc=3, quotas=quotas)

    Args:
        observation (Observation): The training on the real set.

    Raises:
        TypeError: If it is no :class:`Observation`.
        ValueError: If the observation has no counts, as of part segmentation.
    """
    if not isinstance(observation, Observation):
        raise TypeError(f"'observation' must be an Observation, got {shown(observation)}")
    if observation.forgetting is None:
        raise ValueError("'observation' must have the counts of what was forgotten, got none")
    least = observation.config.get("num_classes", 0)  # Those of before do not tell it.
    counts = observation.y.bincount(minlength=least)
    forgotten = observation.y.bincount(observation.forgetting.double(), minlength=least)
    return tuple((1 + forgotten / counts.clamp_min(1).to(torch.double)).tolist())
