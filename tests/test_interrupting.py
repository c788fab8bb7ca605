"""Ctrl-C and SIGTERM while a set is distilled."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from helpers import TinyNet, toy_set

from torch_geometric_ddp import distill
from torch_geometric_ddp._files import replacing
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.methods import ddp

PROGRAM = """
import os, signal
from helpers import TinyNet, toy_set
from torch_geometric_ddp import distill
from torch_geometric_ddp.clouds import PointCloudBank
from torch_geometric_ddp.methods import ddp

def stop(loop):
    if loop.num_steps == 2:
        os.kill(os.getpid(), signal.SIGTERM)

print("begun")
distill(toy_set(), 1, ddp(num_anchors=2, num_morphs=1), steps=9, network=TinyNet, progress=False,
        checkpoint="run.safetensors", callback=stop)
"""


@pytest.fixture(autouse=True)
def heard():
    """What a shell starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(callback=None, **kwargs):
    method = ddp(num_anchors=2, num_morphs=1)
    options = {"steps": 5, "network": TinyNet, "progress": False, "callback": callback}
    return distill(toy_set(), 1, method, **options, **kwargs)


def at(step, action):
    return lambda loop: action() if loop.num_steps == step else None


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupted_run_goes_on_to_the_bit(tmp_path, capsys):
    path, seen = tmp_path / "run.safetensors", []
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        run(at(2, interrupt), checkpoint=path)
    assert f"Stopped: the state after step 2 of 5 is in '{path}'" in capsys.readouterr().err
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before
    resumed = run(lambda loop: seen.append(loop.num_steps), checkpoint=path)
    assert seen == [3, 4, 5]
    for a, b in zip(resumed, run(), strict=True):
        assert torch.equal(a.pos, b.pos)


def test_in_the_middle_of_a_step_the_step_is_finished(tmp_path, monkeypatch):
    path, calls = tmp_path / "run.safetensors", []
    forward = TinyNet.point_features

    def interrupted(self, data):
        calls.append(data)
        if len(calls) == 3:
            interrupt()
        return forward(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(TinyNet, "point_features", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(checkpoint=path)
    for a, b in zip(run(checkpoint=path), run(), strict=True):
        assert torch.equal(a.pos, b.pos)


def test_a_second_one_is_obeyed_at_once(tmp_path):
    def twice():
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        run(at(2, twice), checkpoint=tmp_path / "run.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_just_written_stays(tmp_path, monkeypatch):
    """An interrupt that comes when it has taken its place is no missing file."""
    replace = os.replace

    def interrupted(*args):
        replace(*args)
        interrupt()

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "file") as file:
        file.write_text("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def loop_of():
    bank = PointCloudBank.from_dataset(toy_set()).normalize()
    return ddp(num_anchors=2, num_morphs=2).begin(bank, network=TinyNet)


def test_an_error_does_not_swallow_a_signal(tmp_path):
    def callback(loop):
        signal.raise_signal(signal.SIGINT)
        raise FloatingPointError("a run that others would go on after")

    with pytest.raises(KeyboardInterrupt):
        loop_of().run(3, False, tmp_path / "run", callback=callback)


def test_a_forked_process_obeys_at_once(tmp_path):
    codes = []

    def callback(loop):
        child = os.fork()
        if child == 0:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    loop_of().run(1, False, tmp_path / "run", callback=callback)
    assert codes == [7]


def test_without_a_checkpoint_nothing_waits():
    with pytest.raises(KeyboardInterrupt):
        run(at(2, interrupt))


def test_a_thread_leaves_signals_alone(tmp_path):
    found = []
    work = threading.Thread(
        target=lambda: found.append(run(checkpoint=tmp_path / "run.safetensors"))
    )
    work.start()
    work.join()
    assert len(found[0]) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM to send")
def test_a_terminated_program_leaves_its_state(tmp_path, monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'tests'}")
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "begun\n"
    assert "Stopped: the state after step 2 of 9 is in 'run.safetensors'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]
