"""Fixtures of the whole suite, and where real data and reference values are looked for."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

settings.register_profile("suite", deadline=None, max_examples=20)
settings.load_profile("suite")


@pytest.fixture(params=DEVICES, scope="session")
def device(request):
    return torch.device(request.param)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"], scope="session")
def dtype(request):
    return request.param


@pytest.fixture(scope="session")
def reference():
    """The values of the published implementation, as tensors."""
    path = Path(os.environ.get("TGDDP_REFERENCE", SHARED / "reference" / "reference.npz"))
    if not path.is_file():
        pytest.skip("no reference.npz: set TGDDP_REFERENCE to the file")
    with np.load(path) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture(scope="session")
def data_dir():
    """The folder of the real data sets."""
    path = Path(os.environ.get("TGDDP_DATA", SHARED / "data"))
    if not path.is_dir():
        pytest.skip("no real data: set TGDDP_DATA to its folder")
    return path


@pytest.fixture
def one_thread():
    """On which a figure does not depend on the processors of the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
