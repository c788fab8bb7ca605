"""What the operating system says of memory."""

import torch

from torch_geometric_ddp.memory import PeakMemory, saved_bytes


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


def test_saved_bytes_are_those_of_the_tensors_that_the_gradient_needs(device):
    weight = torch.ones(4, 4, device=device, requires_grad=True)
    x = torch.ones(10, 4, device=device, requires_grad=True)

    def function():
        hidden = x @ weight  # Keeps x and the weight.
        return hidden.exp().exp()  # Keeps both results, and not what was not needed.

    floats = 10 * 4 + 2 * 10 * 4
    assert saved_bytes(function, [weight]) == 4 * floats
    assert saved_bytes(function) == 4 * (floats + 4 * 4)
    with torch.no_grad():
        assert saved_bytes(function) == 0


def test_saved_bytes_count_a_storage_once(device):
    x = torch.ones(10, 4, device=device, requires_grad=True)
    assert saved_bytes(lambda: x * x[:, :1] * x[:5, :1].sum()) == 4 * (10 * 4 + 10 * 4 + 1)
