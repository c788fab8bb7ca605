"""Memory: fewer fresh pages for large tensors on a CPU, what is free, and the peak of a step."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # PyG depends on it.
import torch
from torch import Tensor

__all__ = ["PeakMemory", "free_bytes", "keep_freed_memory", "memory_errors", "saved_bytes"]

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# Files of a control group: its limit, what is taken, and what of that "memory.stat" says Linux can
# do without, as it lies in files. By the name of the controller, which version 2 has not.
_GROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def keep_freed_memory() -> bool:
    """Lets the process keep the memory of freed tensors for the next ones, on Linux with glibc.

    By default every tensor above 32 MiB is given back when it is freed, and the next one is paid
    for page by page, which shows in every distillation step on a CPU. Call it once, at the start of
    a program; the process then stays as large as it ever was.

    Returns:
        Whether it had an effect, which it has on Linux with glibc only.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # Another C library.
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raises a :class:`MemoryError` where a CPU lacks memory, for which PyTorch has no type."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("[enforce fail at alloc_cpu"):
            raise
        raise MemoryError(str(error)) from error


def free_bytes(device: torch.device | str) -> int:
    """How many bytes are free for tensors of this process on a GPU, or else in main memory.

    On Linux that is no more than its control groups, such as those of a container, leave it.
    """
    device = torch.device(device)
    if device.type == "cuda":
        # PyTorch gives what it holds and does not use to the next tensors.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    _give_back()
    return min([psutil.virtual_memory().available, *_left_in_groups(Path("/"))])


def _left_in_groups(root: Path) -> Iterator[int]:
    """What the limits of the control groups of this process leave it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # Another system.
        return
    for _, kind, group in (line.split(":", 2) for line in lines):
        if kind not in _GROUP_FILES:
            continue
        limit, used, cache = _GROUP_FILES[kind]
        top = root / "sys/fs/cgroup" / kind
        folder = top / group.lstrip("/")
        # Those above limit it, too; in a container its own may stand in the place of the top.
        for place in (folder, *folder.parents):
            with suppress(OSError, ValueError):  # Without a limit, which is written "max".
                most = int((place / limit).read_text())
                words = (place / "memory.stat").read_text().split()
                spare = int(words[words.index(cache) + 1])
                yield max(0, most - int((place / used).read_text()) + spare)
            if place == top:
                break


def saved_bytes(function: Callable[[], object], shared: Iterable[Tensor] = ()) -> int:
    """How many bytes a function keeps for the gradient of what it returns.

    Args:
        function (callable): The function, called once.
        shared (iterable of torch.Tensor): Tensors that do not count, such as parameters.
    """
    # Not by where they lie, which is nowhere on the device "meta".
    known = {tensor.untyped_storage()._cdata for tensor in shared}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = function()
    del kept  # Held until here, so that no two tensors lie at the same place.
    return sum(saved.values())


class PeakMemory:
    """Measures the memory that a block of code takes at most, beyond what was taken before.

    .. code-block:: python

        with PeakMemory(device) as memory:
            loop.run(100)
        print(memory.bytes)

    On a GPU these are the bytes of tensors, on Linux CPUs those of the whole process; elsewhere
    :attr:`bytes` stays :obj:`None`.

    Args:
        device (torch.device or str): Where the code computes.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        #: What the block took at most, in bytes, after its end.
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before: int | None = torch.cuda.memory_allocated(self.device)
        else:
            self._before = _restart_peak()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        else:
            self.bytes = max(0, _status_bytes("VmHWM") - self._before)


def _give_back() -> None:
    """Gives freed memory, as far as glibc keeps it, back to the system."""
    with suppress(AttributeError, OSError, TypeError):  # Another C library.
        ctypes.CDLL(None).malloc_trim(0)


def _restart_peak() -> int | None:
    """Gives freed memory back and lets Linux forget its peak; what is taken now, in bytes."""
    try:
        _give_back()
        Path("/proc/self/clear_refs").write_text("5")
        return _status_bytes("VmRSS")
    except OSError:
        return None


def _status_bytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))
