"""Several processes that distil one set together, on the CPU by gloo."""

import datetime
import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers import Diverging, NormNet, TinyNet, TinySegmenter, toy_parts, toy_set

from torch_geometric_ddp import Distillation, distill
from torch_geometric_ddp._checks import check_finite
from torch_geometric_ddp._files import read_tensors
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.matching import DistributionMatching
from torch_geometric_ddp.methods import AveragedSGD, Method, dc, ddp, dm, packed, pkr, sadm
from torch_geometric_ddp.methods.ranks import Ranks
from torch_geometric_ddp.parameterization import FullResolution, PointSet
from torch_geometric_ddp.programs.command import main
from torch_geometric_ddp.tracking import Tracker
from torch_geometric_ddp.visualize import Film

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="torch lacks gloo")

CLASSES = 5  # Which neither two nor three ranks share evenly.
LIMIT = datetime.timedelta(seconds=300)  # On a busy machine, too.

# Only one process imports what all others need.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch_geometric_ddp.comparison"])


def _process(rank, size, folder, function, args):
    """Joins the group, calls a function and leaves what it gives, or how it failed, in a file."""
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", f"file://{folder}/store", LIMIT, size, rank)
        found = function(*args)
    except Exception as error:
        found = error, traceback.format_exc()
    torch.save(found, folder / f"rank{rank}", pickle_protocol=4)  # Others rename errors.
    os._exit(0)


def in_ranks(folder, size, function, *args):
    """What a function gives on each of so many ranks; :obj:`None` for one that died.

    Each computes on one thread, as the last bits of a sum differ with the number of threads.
    """
    folder.mkdir()
    make = functools.partial(CONTEXT.Process, target=_process)
    processes = [make(args=(rank, size, folder, function, args)) for rank in range(size)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(LIMIT.total_seconds())
            assert process.exitcode is not None, "a process hangs"
    finally:
        for process in processes:
            process.kill()
    files = [folder / f"rank{rank}" for rank in range(size)]
    return [torch.load(f, weights_only=False) if f.exists() else None for f in files]


def checked(found):
    """What no rank failed to give."""
    for one in found:
        if isinstance(one, tuple) and isinstance(one[0], Exception):
            raise AssertionError(one[1])
    return found


SMALL = {"num_anchors": 2, "num_morphs": 3, "batch_size": 2}
SETS = Method(
    "sets", packed(8, PointSet(5), 0.01), DistributionMatching, 4, optimizer=torch.optim.Adam
)


class Once(Diverging):
    """In the third step of the first class, which one rank has."""

    wrong = (3,)


class Blown(Once):
    """The same where an operation refuses what is not finite, before there is a loss."""

    def forward(self, network, real, synthetic):
        loss = super().forward(network, real, synthetic)
        check_finite("pos", loss)
        return loss


METHODS = {
    "blown": (replace(SETS, matching=Blown), {"ppc": 0.5, "retries": 1}),
    "diverging": (replace(SETS, matching=Once), {"ppc": 0.5, "retries": 1}),
    "ddp": (ddp(**SMALL), {}),
    "averaged": (ddp(**SMALL, optimizer=AveragedSGD), {}),
    "norms": (ddp(**SMALL), {"network": NormNet}),
    "sadm": (sadm(), {"ppc": 2}),
    "quotas": (dm(), {"ppc": 2, "quotas": [3, 1, 1, 2, 2]}),
    "trained": (dc(), {"ppc": 10}),  # Its networks are trained on the synthetic set.
    "sets": (SETS, {"ppc": 0.5}),
    "parts": (ddp(**SMALL), {"task": "segmentation", "network": TinySegmenter}),
}


def run(name, chunk, steps=4, checkpoint=None, callback=None, dtype=None):
    """The parameters and losses of a run."""
    method, options = METHODS[name]
    data = toy_parts() if name == "parts" else toy_set(CLASSES, 12)
    losses = []

    def keep(loop):
        losses[:] = loop.losses
        if callback is not None:
            callback(loop)

    options = {"network": TinyNet, "progress": False, "steps": steps, **options}
    made = distill(
        data,
        method=method,
        classes_per_chunk=chunk,
        checkpoint=checkpoint,
        callback=keep,
        **options,
    )
    found = {k: v.detach() for k, v in made.parameterization.named_parameters()}
    return {**found, "losses": torch.tensor(losses, dtype=torch.float64)}, made.provenance


@pytest.mark.parametrize("name", METHODS)
def test_any_number_of_ranks_gives_the_same_set(name, tmp_path):
    """To the bit where chunks are the same, on every rank."""
    sizes = (1, 3) if name == "parts" else (1, 2, 3)
    runs = [checked(in_ranks(tmp_path / str(n), n, run, name, 1)) for n in sizes]
    ((alone, provenance),) = runs[0]
    assert "ranks" not in provenance
    for size, several in zip(sizes[1:], runs[1:], strict=True):
        for found, told in several:
            assert told == {**provenance, "ranks": size}
            for key in alone.keys() - {"losses"}:
                assert torch.equal(found[key], alone[key]), key
            assert torch.equal(several[0][0]["losses"], found["losses"])
    start, _ = run(name, 1, steps=0)
    assert any(bool((alone[key] != start[key]).any()) for key in start.keys() - {"losses"})


@pytest.mark.parametrize("name", ["ddp", "sadm"])
def test_ranks_differ_from_one_by_rounding_where_chunks_do(name, tmp_path):
    """As several classes are computed at once, and their number changes the last bits."""
    runs = [checked(in_ranks(tmp_path / str(n), n, run, name, None)) for n in (1, 2, 3)]
    ((alone, _),) = runs[0]
    for found, _ in (*runs[1], *runs[2]):
        for key in alone.keys() - {"losses"}:
            torch.testing.assert_close(found[key], alone[key], rtol=0, atol=1e-4)


def until(num):
    """A callback that stops in a step, as if its rank were killed."""

    def callback(loop):
        if loop.num_steps == num and loop.ranks.rank == 1:
            os._exit(9)

    return callback


def die(checkpoint):
    return run("ddp", 1, 200, checkpoint, until(55))


def test_a_rank_that_dies_stops_the_others_and_any_number_goes_on(tmp_path):
    path = tmp_path / "run.safetensors"
    first, second, third = in_ranks(tmp_path / "died", 3, die, path)
    assert second is None
    for error, _ in (first, third):
        assert isinstance(error, ConnectionError)
        assert "stops, as another has stopped or cannot be reached" in str(error)
    finished = [
        checked(in_ranks(tmp_path / "two", 2, run, "ddp", 1, 60, path))[1][0],
        checked(in_ranks(tmp_path / "one", 1, run, "ddp", 1, 60))[0][0],
    ]
    for key in finished[0].keys() - {"losses"}:
        assert torch.equal(finished[0][key], finished[1][key])


def stop(checkpoint):
    """One rank is told to stop, between two exchanges."""

    def callback(loop):
        if loop.num_steps == 13 and loop.ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    run("ddp", 1, 40, checkpoint, callback)


def test_a_signal_to_one_rank_stops_all_after_the_same_step(tmp_path):
    path = tmp_path / "run.safetensors"
    assert in_ranks(tmp_path / "ranks", 2, stop, path) == [None, None]
    tensors, _ = read_tensors(path, "distillation checkpoint", 2)
    assert len(tensors["losses"]) == 20
    ((found, _),) = checked(in_ranks(tmp_path / "one", 1, run, "ddp", 1, 20))
    assert torch.equal(tensors["parameter.anchors"], found["anchors"])


def watched():
    rows, film = [], Film(every=12)
    tracker = Tracker(lambda told, step: rows.append((step, *told.values())))
    run("ddp", 1, 25, None, lambda loop: (tracker(loop), film(loop)))
    return rows, film.steps, torch.stack(film.frames)


def test_callbacks_see_what_they_see_of_one_process(tmp_path):
    """The first rank tells every loss at its own step; films show what all ranks have."""
    (alone,) = checked(in_ranks(tmp_path / "one", 1, watched))
    first, second = checked(in_ranks(tmp_path / "two", 2, watched))
    assert [step for step, *_ in first[0]] == [*range(1, 26)]
    assert first[0] == alone[0]
    assert second[0] == []
    for _, steps, frames in (first, second):
        assert steps == alone[1] == [1, 12, 24]
        assert torch.equal(frames, alone[2])


REFUSED = {
    "KernelRegression compares all classes at once, which 2 ranks cannot": (pkr(8), 3, 0, {}),
    "each of 2 ranks must have classes of its own, got 1: start fewer": (dm(), 1, 0, {}),
    "must have classes of its own, got 4 in chunks of 4": (dm(), 4, 0, {"classes_per_chunk": 4}),
    "what is distilled must be the same on all 2 ranks": (dm(), 3, 1, {}),
}


def refused(message):
    method, classes, seed, options = REFUSED[message]
    seed = seed if Ranks.here().first else 0
    options = {"network": TinyNet, "steps": 1, "progress": False, **options}
    distill(toy_set(classes, 4), method=method, seed=seed, **options)


@pytest.mark.parametrize("message", REFUSED)
def test_what_ranks_cannot_share_is_refused(message, tmp_path):
    for error, _ in in_ranks(tmp_path / "ranks", 2, refused, message):
        assert isinstance(error, ValueError)
        assert message in str(error)


class Shared(FullResolution):
    """With a parameter that all classes use."""

    def __init__(self, pos, num_classes):
        super().__init__(pos, num_classes)
        self.scale = torch.nn.Parameter(torch.ones(1))


class Factored(torch.optim.SGD):
    """Keeps what belongs to no class."""

    def step(self):
        super().step()
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["column"] = torch.zeros(7)


def couple(shape, optimizer):
    bank = PointCloudBank.from_dataset(toy_set(3, 4))
    loop = Distillation(
        bank, shape(bank.dense()[::4], 3), DistributionMatching(), TinyNet, 2, optimizer
    )
    loop.run(1, progress=False)


@pytest.mark.parametrize(
    ("shape", "optimizer", "message"),
    [
        (Shared, torch.optim.SGD, "the parameter 'scale' must have a row for each of 3 groups"),
        (FullResolution, Factored, "'optimizer' must keep a row for each group"),
    ],
)
def test_what_couples_classes_is_refused(shape, optimizer, message, tmp_path):
    couple(shape, optimizer)
    for error, _ in in_ranks(tmp_path / "ranks", 2, couple, shape, optimizer):
        assert isinstance(error, ValueError)
        assert message in str(error)


def views():
    bank = PointCloudBank.from_dataset(toy_set(CLASSES, 4))
    loop = ddp(**SMALL).begin(bank, network=TinyNet)
    loop.prepare()
    own = loop.shares[loop.ranks.rank]
    index = bank.draw(2)[own]
    rows = loop.take(index)["subset_pos"]
    whole = loop.matching.prepare(bank, loop.parameterization.num_points)["subset_pos"][index]
    return len(loop.views["subset_pos"]), own, torch.equal(rows, whole)


def test_a_rank_has_the_views_of_its_classes_only(tmp_path):
    found = checked(in_ranks(tmp_path / "ranks", 2, views))
    assert found == [(8, slice(0, 2), True), (12, slice(2, 5), True)]


def test_shares_are_whole_chunks_as_even_as_may_be():
    assert Ranks().split(7) == [slice(0, 7)]
    assert [s.stop - s.start for s in Ranks(0, 3).split(7)] == [2, 2, 3]
    assert Ranks(0, 2).split(7, 3) == [slice(0, 3), slice(3, 7)]
    assert Ranks(0, 3).split(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]


# The programs #####################################################################################


def test_torchrun_makes_one_table(tmp_path):
    """With a set that two ranks distilled, of which one trained and wrote."""
    script = Path(__file__).parents[1] / "examples" / "distill.py"
    words = "--preset smoke --method dm --num-per-class 2 --num-points 32 --seeds 0 --skip-whole"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, script, *words.split(), "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=LIMIT.total_seconds(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| DM ") == 4  # Once in each table.
    lines = (tmp_path / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["method"] for line in lines] == ["random", "initial", "DM"]
    assert json.loads(lines[-1])["provenance"]["ranks"] == 2


def test_programs_that_share_nothing_are_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="'compare' makes runs that need no other process"):
        main(["compare"])
