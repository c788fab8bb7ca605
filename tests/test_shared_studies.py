"""A study that several processes share in a real PostgreSQL, and through Optuna's gRPC proxy."""

import contextlib
import getpass
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from helpers import environment
from optuna.trial import TrialState
from test_tuning import search, two_workers

from torch_geometric_ddp.tuning.storage import find_storage
from torch_geometric_ddp.tuning.workers import counted

ROOT = Path(__file__).resolve().parent.parent
TRIALS = 6
NUMBERS = itertools.count()


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(port, process, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, "the server ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on port {port}")


@contextlib.contextmanager
def serving(words, port, **kwargs):
    """A process that listens on a port until the end of the block."""
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kwargs
    )
    try:
        wait_for(port, process)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def programs_of_postgres():
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, folders)])
    found = [shutil.which(name, path=path) for name in ("initdb", "postgres")]
    return found if all(found) else None


@pytest.fixture(scope="module")
def postgres():
    """The URL of a database of its own."""
    programs = programs_of_postgres()
    if programs is None:
        pytest.skip("there is no PostgreSQL: initdb and postgres are not found")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("there is no psycopg, by which SQLAlchemy speaks with PostgreSQL")
    # It does not run as root.
    user = {}
    if os.geteuid() == 0:
        known = {entry.pw_name for entry in pwd.getpwall()}
        name = next((one for one in ("postgres", "nobody") if one in known), None)
        if name is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user")
        user = {"user": name}
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        if user:
            shutil.chown(folder, user["user"])
        initdb, server = programs
        made = subprocess.run(
            [initdb, "-D", folder / "data", "-A", "trust", "-U", "tester", "--no-sync"],
            capture_output=True,
            text=True,
            cwd=folder,
            **user,
        )
        assert made.returncode == 0, made.stderr
        port = free_port()
        words = [server, "-D", folder / "data", "-p", str(port), "-h", "127.0.0.1"]
        words += ["-k", folder, "-c", "fsync=off"]
        with serving(words, port, cwd=folder, **user):
            import psycopg

            url = f"//tester@127.0.0.1:{port}/postgres"
            end = time.monotonic() + 300
            while True:  # It listens before it is ready.
                try:
                    psycopg.connect(f"postgresql:{url}").close()
                    break
                except psycopg.OperationalError:
                    assert time.monotonic() < end
                    time.sleep(0.2)
            yield f"postgresql+psycopg:{url}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# A busy disk may let a write wait for longer than the five seconds of SQLite.
PROXY = """
import sys, optuna
waits = {"connect_args": {"timeout": 60}}
storage = optuna.storages.RDBStorage(sys.argv[1], engine_kwargs=waits)
optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=int(sys.argv[2]))
"""


@pytest.fixture
def proxy(tmp_path):
    """The address of a proxy before a database."""
    if importlib.util.find_spec("grpc") is None:
        pytest.skip("there is no grpcio, by which the proxy is spoken with")
    port = free_port()
    words = [sys.executable, "-c", PROXY, f"sqlite:///{tmp_path / 'study.db'}", str(port)]
    with serving(words, port):
        yield f"grpc://127.0.0.1:{port}"


@pytest.fixture
def database(postgres):
    """The URL of a database without a study."""
    import psycopg

    name = f"study{next(NUMBERS)}"
    with psycopg.connect(postgres.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.replace("/postgres", f"/{name}")


@pytest.fixture(params=["database", "proxy"])
def url(request):
    return request.getfixturevalue(request.param)


def test_users_of_a_machine_have_locks_of_their_own(monkeypatch):
    """One that another user made could not be written to."""
    _, mine = find_storage("sqlite:///study.db")
    _, same = find_storage("sqlite:///study.db")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    _, theirs = find_storage("sqlite:///study.db")
    assert mine == same != theirs
    assert theirs.parent == mine.parent


def finished(url, n_trials, **kwargs):
    """The trials of a study after this process has done what was left."""
    open_storage, _ = find_storage(url)
    storage = open_storage()
    try:
        return search(storage, n_trials, **kwargs).study.trials
    finally:
        if url.startswith("grpc"):
            storage.close()
        else:
            storage.engine.dispose()


def test_two_workers_of_which_one_is_killed_lose_and_double_no_trial(url):
    two_workers(url, timeout=600)
    trials = finished(url, TRIALS)
    (lost,) = (trial for trial in trials if trial.state == TrialState.FAIL)
    rest = counted(trials)
    assert [trial.state for trial in rest] == [TrialState.COMPLETE] * TRIALS
    assert len({str(trial.params) for trial in rest}) == TRIALS
    (again,) = (trial for trial in rest if "repeats" in trial.user_attrs)
    assert again.user_attrs["repeats"] == lost.number
    assert again.params == lost.params
    assert sum("published" in trial.user_attrs for trial in rest) == 1
    assert len(trials) == TRIALS + 1


# The first two machines wait in their second trial until the third has its own, in which it dies.
# It says so itself, as two machines may both do the first trial, which one of them signed last. How
# long that takes is the load's; a wait that never ends says where it stands.
RACE = """
import faulthandler, os, signal, socket, sys, time, warnings
warnings.simplefilter("ignore")
faulthandler.dump_traceback_later(500, exit=True)
url, name = sys.argv[1:]
socket.gethostname = lambda: name
import test_tuning as t
from torch_geometric_ddp.tuning import Objective
original, done = Objective.__call__, []
def call(self, trial, settings):
    if name == "third" and done:
        trial.study.set_user_attr("third", trial.number)
        os.kill(os.getpid(), signal.SIGKILL)
    while done and "third" not in trial.study.user_attrs:
        time.sleep(0.25)
    done.append(trial.number)
    return original(self, trial, settings)
Objective.__call__ = call
print("ready", flush=True)
sys.stdin.readline()
t.search(url, 12)
"""


def test_machines_that_share_no_lock_lose_and_double_no_trial(url, tmp_path):
    machines = []
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        # The lock of a machine lies in its temporary folder.
        env = {**environment(ROOT / "tests"), "TMPDIR": str(tmp_path / name)}
        words = [sys.executable, "-c", RACE, url, name]
        pipe = subprocess.PIPE
        machines.append(subprocess.Popen(words, env=env, stdin=pipe, stdout=pipe, stderr=pipe))
    try:
        assert [one.stdout.readline() for one in machines] == [b"ready\n"] * 3
        for one in machines:
            one.stdin.write(b"\n")
            one.stdin.flush()
        # The others wait for the third, so that what ended it otherwise is told first.
        for one, ends in zip(reversed(machines), (-signal.SIGKILL, 0, 0), strict=True):
            errors = one.communicate(timeout=600)[1].decode()
            assert one.returncode == ends, errors
    finally:
        for one in machines:
            one.kill()
            one.communicate()
    # Nobody saw that the third died, and its trial is not lost.
    trials = finished(url, 12, lost_after=0.0)
    rest = counted(trials)
    assert [trial.state for trial in rest] == [TrialState.COMPLETE] * 12
    assert len({str(trial.params) for trial in rest}) == 12
    assert sum("published" in trial.user_attrs for trial in rest) == 1
    (again,) = (trial for trial in rest if "repeats" in trial.user_attrs)
    lost = trials[again.user_attrs["repeats"]]
    assert (lost.user_attrs["worker"]["host"], lost.params) == ("third", again.params)
    others = {trial.number for trial in trials} - {trial.number for trial in rest} - {lost.number}
    assert all("given_back" in trials[number].user_attrs for number in others)


def test_the_user_of_the_server_is_not_told_by_an_error(postgres):
    url = postgres.replace("tester@", f"{getpass.getuser()}:secret@").replace("/postgres", "/none")
    with pytest.raises(ValueError, match=r"'storage' must be the URL of a database") as caught:
        search(url, 1)
    assert "secret" not in str(caught.value)
