"""What the operating system says of memory."""

import psutil
import pytest
import torch

from torch_geometric_ddp.memory import PeakMemory, _left_in_groups, free_bytes, saved_bytes


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


def test_free_bytes_are_some_of_all(device):
    cuda = device.type == "cuda"
    most = torch.cuda.mem_get_info(device)[1] if cuda else psutil.virtual_memory().total
    assert 0 < free_bytes(device) <= most


# The files of a control group that may take 1,000 bytes and takes 700, of which 200 are files.
SECOND = {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 1\ninactive_file 200"}
FIRST = {
    "memory.limit_in_bytes": "1000",
    "memory.usage_in_bytes": "700",
    "memory.stat": "cache 1\ntotal_inactive_file 200",
}


@pytest.mark.parametrize(
    ("line", "folders", "left"),
    [
        ("0::/job", {"job": SECOND}, [500]),
        ("0::/job/step", {"job": SECOND, "job/step": {**SECOND, "memory.max": "600"}}, [100, 500]),
        ("0::/job", {"job": {**SECOND, "memory.max": "max"}}, []),
        ("0::/job", {"job": {**SECOND, "memory.max": "100"}}, [0]),
        ("4:memory:/job", {"memory/job": FIRST, "memory": FIRST}, [500, 500]),
        ("4:memory:/only/the/host/sees/it", {"memory": FIRST}, [500]),
        ("4:pids:/job", {"pids/job": FIRST}, []),
        ("0::/", {"": {}}, []),
        (None, {}, []),
    ],
)
def test_control_groups_leave_what_their_limits_say(line, folders, left, tmp_path):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    if line is not None:
        (tmp_path / "proc" / "self" / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    for name, files in folders.items():
        folder = tmp_path / "sys" / "fs" / "cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(content + "\n")
    assert [*_left_in_groups(tmp_path)] == left


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


def test_a_device_may_be_its_name():
    assert free_bytes("cpu") > 0
    with PeakMemory("cpu") as memory:
        pass
    assert memory.device == torch.device("cpu")
