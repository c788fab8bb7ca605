"""Real clouds that are prepared once and stay where they lie."""

import os
import stat
import threading

import pytest
import torch
from helpers import TinyNet, TinySegmenter, toy_parts, toy_set

from torch_geometric_ddp import distill, ops
from torch_geometric_ddp.clouds import view_cache
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.views import subsets_of, uniformity_of
from torch_geometric_ddp.comparison import ENTRIES, Distilled, Lab, Preset
from torch_geometric_ddp.evaluation import SMOKE
from torch_geometric_ddp.methods import ddp, pkr, streaming

SMALL = ddp(num_anchors=2, num_morphs=3, batch_size=2)


def run(task="classification", **kwargs):
    data, network = toy_set(), TinyNet
    if task == "segmentation":
        data, network = toy_parts(), TinySegmenter
    made = distill(
        data, method=SMALL, network=network, task=task, steps=3, progress=False, **kwargs
    )
    return [p.detach() for p in made.parameterization.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def untouchable(*_):
    raise AssertionError("it was prepared before")


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_what_was_prepared_is_found_by_its_content(task, tmp_path, monkeypatch):
    expected = run(task)
    folder = tmp_path / "cache"
    assert same(run(task, cache=folder, stream=True), expected)
    files = sorted(folder.iterdir())
    assert len(files) == 3  # Subsets, and the uniformity of clouds and subsets.
    times = [file.stat().st_mtime_ns for file in files]
    monkeypatch.setattr(ops, "uniformity_score", untouchable)
    if task == "classification":  # What anchors with part labels start from is made every time.
        monkeypatch.setattr(ops, "farthest_point_partition", untouchable)
    assert same(run(task, cache=folder, classes_per_chunk=3), expected)
    assert [file.stat().st_mtime_ns for file in sorted(folder.iterdir())] == times


def test_other_clouds_and_other_arguments_are_other_files(tmp_path):
    banks = [PointCloudBank.from_dataset(toy_set(seed=seed)) for seed in (0, 1)]
    for bank in banks:
        bank.keep_in(tmp_path)
        for args in ((2, 8), (2, 9)):
            found = bank.cached(subsets_of, *args)
            assert torch.equal(found, subsets_of(bank, *args))
        assert bank.cached(lambda bank: len(bank)) == 18  # What is no tensor stays here.
    assert len([*tmp_path.iterdir()]) == 4


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"none of ours"])
def test_a_file_that_is_damaged_is_made_again(damage, tmp_path):
    expected = run(cache=tmp_path)
    for file in tmp_path.iterdir():
        file.write_bytes(damage)
    assert same(run(cache=tmp_path), expected)
    assert all(file.stat().st_size > 100 for file in tmp_path.iterdir())


def test_what_is_kept_is_mapped_and_not_written_to(tmp_path):
    for _ in range(2):
        bank = PointCloudBank.from_dataset(toy_set())
        bank.keep_in(tmp_path)
        found = bank.cached(uniformity_of, 4)
        assert torch.equal(found, uniformity_of(bank, 4))
        found.fill_(7)  # What nothing does, and what no other process would see.


def test_a_code_that_changes_is_another_file(tmp_path, monkeypatch):
    bank = PointCloudBank.from_dataset(toy_set())
    bank.keep_in(tmp_path)
    bank.cached(uniformity_of, 4)
    monkeypatch.setattr(view_cache, "versions", lambda: {"torch": "another"})
    again = PointCloudBank.from_dataset(toy_set())
    again.keep_in(tmp_path)
    again.cached(uniformity_of, 4)
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("changed", ["return 3 * bank.pos.mean(0)", "return 2 * bank.pos.sum(0)"])
def test_a_function_that_changes_is_another_file(changed, tmp_path):
    found = []
    for line in ("return 2 * bank.pos.mean(0)", changed):
        made = {"__name__": "mine"}
        exec(f"def scaled(bank):\n    {line}", made)
        bank = PointCloudBank.from_dataset(toy_set())
        bank.keep_in(tmp_path)
        found.append(bank.cached(made["scaled"]))
        assert torch.equal(found[-1], made["scaled"](bank))
    assert len([*tmp_path.iterdir()]) == 2


def test_a_function_that_captures_something_else_is_another_file(tmp_path):
    def times(factor):
        return lambda bank: bank.pos * factor

    for factor in (2, 3):
        bank = PointCloudBank.from_dataset(toy_set())
        bank.keep_in(tmp_path)
        assert torch.equal(bank.cached(times(factor)), bank.pos * factor)


def test_what_cannot_be_kept_is_not_lost(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(view_cache.np, "save", full)
    bank = PointCloudBank.from_dataset(toy_set())
    bank.keep_in(tmp_path)
    with pytest.warns(UserWarning, match=r"uniformity_of .*could not be kept in .*No space left"):
        found = bank.cached(uniformity_of, 4)
    assert torch.equal(found, uniformity_of(bank, 4))
    assert [*tmp_path.iterdir()] == []


def test_what_numpy_has_no_type_for_is_computed_again(tmp_path):
    bank = PointCloudBank.from_dataset(toy_set())
    bank = PointCloudBank(bank.pos.bfloat16(), bank.sizes, bank.y, bank.class_names)
    bank.keep_in(tmp_path)
    assert torch.equal(bank.cached(uniformity_of, 4), uniformity_of(bank, 4))
    assert [*tmp_path.iterdir()] == []


def test_what_is_kept_can_be_read_by_others(tmp_path):
    bank = PointCloudBank.from_dataset(toy_set())
    bank.keep_in(tmp_path)
    before = os.umask(0o027)
    try:
        bank.cached(uniformity_of, 4)
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_the_next_part_is_fetched_meanwhile():
    views, rows = {"pos": torch.arange(12.0).view(6, 2)}, streaming.rows_of
    parts = [torch.tensor(part) for part in ([0, 1], [2], [5, 3], [4])]
    threads = []

    def recorded(*args):
        threads.append(threading.current_thread() is threading.main_thread())
        return rows(*args)

    device = torch.device("cpu")
    for ahead in (False, True):
        threads.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streaming, "rows_of", recorded)
            taken = []
            for found in streaming.streamed(views, parts, device, ahead):
                taken.append(found["pos"])
                assert len(threads) <= len(taken) + 1  # At most two parts are there.
        assert threads == [not ahead] * 4
        assert all(torch.equal(a, views["pos"][i]) for a, i in zip(taken, parts, strict=True))


def test_what_a_thread_fails_at_is_raised():
    views = {"pos": torch.zeros(2, 3)}
    parts = [torch.tensor([0]), torch.tensor([9])]
    with pytest.raises(IndexError):
        list(streaming.streamed(views, parts, torch.device("cpu"), True))


def test_networks_that_need_all_clouds_are_refused():
    bank = PointCloudBank.from_dataset(toy_set())
    with pytest.raises(ValueError, match="'stream' must be False for PKR, whose networks are"):
        pkr(8).begin(bank, device="meta")


def test_that_is_seen_before_the_set_is_read(monkeypatch):
    class Unread(list):
        def __iter__(self):
            raise AssertionError("a cloud was read before the arguments were checked")

    monkeypatch.setattr("torch_geometric_ddp.methods.method.check_device", lambda *_: None)
    for device in ("meta", torch.device("meta")):
        with pytest.raises(ValueError, match="'stream' must be False for PKR, whose networks are"):
            pkr().distill(Unread(toy_set()), 1, device=device, stream=True, progress=False)
    settings = {"visits": 0, "ages": (0,), "num_trained": 1, "real_per_class": 2}
    rest = {"network": TinyNet, "steps": 1, "progress": False}
    pkr(8, **settings).distill(toy_set(), 1, device="cpu", stream=True, **rest)


def lab_of(out, **kwargs):
    preset = Preset("tiny", SMOKE, SMOKE, 1, 1)
    return Lab(toy_set(), toy_set(seed=1), out, preset, {"Tiny": TinyNet}, **kwargs)


def test_runs_of_a_comparison_find_what_was_prepared(tmp_path, monkeypatch):
    small = Distilled("small", {"num_anchors": 2, "num_morphs": 3})
    sets = []
    for number, where in enumerate(({}, {"cache": tmp_path / "kept", "stream": True})):
        lab = lab_of(tmp_path / str(number), **where)
        (cell,) = lab.cells([small], [1], [0])
        (figures,) = lab.run([cell])
        sets.append((figures["id"], figures["loss"], figures["value"]))
    assert sets[0] == sets[1]
    assert len([*(tmp_path / "kept").iterdir()]) == 3
    monkeypatch.setattr(ops, "uniformity_score", untouchable)
    monkeypatch.setattr(PointCloudBank, "partition", untouchable)
    again = lab_of(tmp_path / "again", cache=tmp_path / "kept")
    (figures,) = again.run(again.cells([small], [1], [0]))
    assert figures["loss"] == sets[0][1]


def test_rows_that_cannot_be_streamed_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("torch_geometric_ddp.comparison.lab.check_device", lambda *_: None)
    lab = lab_of(tmp_path, device="meta", stream=True)
    assert lab.bank.device.type == "cpu"
    rows = [ENTRIES[name] for name in ("random", "DM", "PCC", "DDP", "whole")]
    assert len([*lab.cells(rows, [1], [0])]) == 5
    with pytest.raises(ValueError, match="'stream' must be False for the row 'PKR', whose networ"):
        [*lab.cells([ENTRIES["PKR"]], [1], [0])]
    assert len([*lab_of(tmp_path, stream=True).cells([ENTRIES["PKR"]], [1], [0])]) == 1
