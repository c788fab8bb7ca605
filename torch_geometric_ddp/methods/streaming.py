"""What a step compares of the real clouds, brought to where it is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

__all__ = ["rows_of", "streamed"]


def rows_of(views: Mapping[str, Tensor], index: Tensor, device: torch.device) -> dict[str, Tensor]:
    """The rows :obj:`index [...]` of every view, each :obj:`[..., *]`, on a device.

    Args:
        views (dict): The views, wherever they lie: also in the memory of the host, or in a file.
        index (torch.Tensor): The rows.
        device (torch.device): Where they are computed with.
    """
    return {key: _moved(view[index.to(view.device)], device) for key, view in views.items()}


def _moved(rows: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and rows.device.type == "cpu":
        # From pinned memory the copy waits for nothing.
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


def streamed(
    views: Mapping[str, Tensor], parts: Sequence[Tensor], device: torch.device, ahead: bool
) -> Iterator[dict[str, Tensor]]:
    """The rows of one part after the other.

    Args:
        views (dict): The views.
        parts (sequence of torch.Tensor): The rows of every part.
        device (torch.device): Where they are computed with.
        ahead (bool): Whether a thread fetches the rows of the next part meanwhile, so that at most
            two are there. Otherwise they are taken when they are needed.
    """
    if not ahead or len(parts) < 2:
        yield from (rows_of(views, part, device) for part in parts)
        return
    with ThreadPoolExecutor(1, "next clouds") as pool:
        coming = pool.submit(rows_of, views, parts[0], device)
        for part in parts[1:]:
            ready, coming = coming.result(), pool.submit(rows_of, views, part, device)
            yield ready
        yield coming.result()
