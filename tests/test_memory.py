"""What the operating system says of memory."""

import torch

from torch_geometric_ddp.memory import PeakMemory


def test_peak_memory_sees_what_was_freed(device):
    with PeakMemory(device) as memory:
        big = torch.ones(30_000_000, device=device)  # 120 MB.
        del big
        torch.ones(1_000, device=device)
    if memory.bytes is not None:  # The system may not tell.
        assert 100e6 < memory.bytes < 200e6


def test_peak_memory_leaves_out_what_was_taken_before(device):
    big = torch.ones(30_000_000, device=device)
    with PeakMemory(device) as memory:
        small = torch.ones(5_000_000, device=device)  # 20 MB.
    if memory.bytes is not None:
        assert memory.bytes < 60e6
    assert float(big[0] + small[0]) == 2
