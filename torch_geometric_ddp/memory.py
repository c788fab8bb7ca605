"""What the operating system can do for large tensors on a CPU."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


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
