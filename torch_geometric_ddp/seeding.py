"""Seeds for what only reads the global generators, such as the initialisation of a layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's global generators inside, and leaves them as they were outside."""
    if device.type == "cuda":
        with torch.random.fork_rng([device]):
            torch.manual_seed(seed)
            yield
        return
    # Not torch.manual_seed, which also seeds the generators of every GPU there is.
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
