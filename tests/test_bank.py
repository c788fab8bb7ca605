"""The clouds of a data set, checked once and drawn class by class."""

import hashlib
import pickle
import shutil

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from helpers import toy_set
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data, InMemoryDataset
from torch_geometric.datasets import ModelNet

from torch_geometric_ddp import PointCloudArrays
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.clouds.splits import hold_out
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.transforms import FarthestPointSample
from torch_geometric_ddp.visualize import plot_distilled


def bank_of(counts, sizes=None):
    """A bank with counts[c] clouds of class c, mixed; cloud i has all its coordinates i."""
    y = torch.cat([torch.full((count,), c) for c, count in enumerate(counts)])
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    sizes = torch.full_like(y, 2) if sizes is None else sizes
    pos = torch.arange(len(y)).repeat_interleave(sizes)[:, None].expand(-1, 3).float()
    return PointCloudBank(pos, sizes, y, [str(c) for c in range(len(counts))])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


COUNTS = st.lists(st.integers(1, 7), min_size=1, max_size=4)


# Drawing ##########################################################################################


@given(counts=COUNTS, num=st.integers(1, 16), seed=st.integers(0, 2**16))
def test_drawn_clouds_are_of_their_class(counts, num, seed):
    bank = bank_of(counts)
    index = bank.draw(num, generator(seed))
    assert index.shape == (len(counts), num)
    assert bank.y[index].tolist() == [[c] * num for c in range(len(counts))]


@given(counts=COUNTS, num=st.integers(1, 16), seed=st.integers(0, 2**16))
def test_no_cloud_comes_twice_before_all_came(counts, num, seed):
    index = bank_of(counts).draw(num, generator(seed))
    for row, count in zip(index.tolist(), counts, strict=True):
        first = row[:count]
        assert len(set(first)) == len(first)
        assert row == [first[i % count] for i in range(num)]


def test_a_draw_of_all_clouds_holds_each_once():
    index = bank_of([4, 4, 4]).draw(4, generator())
    assert index.flatten().sort().values.tolist() == list(range(12))


def test_same_seed_draws_the_same():
    bank = bank_of([9, 7, 8])
    first, same, other = (bank.draw(5, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_draws_of_one_generator_differ():
    bank, source = bank_of([20, 20]), generator()
    assert not torch.equal(bank.draw(8, source), bank.draw(8, source))


def test_draw_from_the_global_generator():
    bank = bank_of([20, 20])
    with torch.random.fork_rng():
        torch.manual_seed(5)
        index = bank.draw(8)
    assert torch.equal(index, bank.draw(8, generator(5)))


def test_draw_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    bank_of([3, 4]).draw(2, generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_all_clouds_are_drawn_alike():
    bank, source = bank_of([5, 8, 2]), generator()
    rounds = 4000
    drawn = torch.stack([bank.draw(2, source) for _ in range(rounds)])
    count = torch.bincount(drawn.flatten(), minlength=15)
    share = 2 * rounds / torch.tensor([5, 8, 2])[bank.y]
    # Five standard deviations of a binomial count; a cloud of the last class always comes once.
    p = 2 / torch.tensor([5, 8, 2])[bank.y]
    slack = 5 * (rounds * p * (1 - p)).sqrt()
    assert bool(((count - share).abs() <= slack).all())


def test_draw_means_the_same_on_every_device(device):
    bank = bank_of([9, 7])
    other = PointCloudBank(
        bank.pos.to(device), bank.sizes.to(device), bank.y.to(device), bank.class_names
    )
    index = other.draw(5, generator())
    assert index.device.type == device.type
    assert torch.equal(index.cpu(), bank.draw(5, generator()))


@pytest.mark.parametrize(("num", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError)])
def test_bad_number(num, error):
    with pytest.raises(error, match="'num' must be"):
        bank_of([2, 2]).draw(num)


def test_class_without_clouds_cannot_be_drawn():
    bank = bank_of([2, 0, 2, 0])
    with pytest.raises(ValueError, match=r"got none of class 1 \(1\), 3 \(3\)"):
        bank.draw(1)
    with pytest.raises(ValueError, match="every class must have a cloud"):
        bank.check_every_class()


@given(counts=COUNTS, num=st.integers(1, 16), seed=st.integers(0, 2**16))
def test_smallest_is_a_stable_sort_of_every_class(counts, num, seed):
    bank = bank_of(counts)
    keys = torch.randint(4, (len(bank),), generator=generator(seed)).float()
    keys[keys == 3] = float("inf")
    index = bank.smallest(keys, num)
    for c, row in enumerate(index.tolist()):
        members = sorted((bank.y == c).nonzero().flatten().tolist(), key=lambda i: keys[i])
        assert row == [members[k % len(members)] for k in range(num)]


def test_cycle_starts_again():
    index = torch.tensor([[4, 2, 9], [7, 0, 0]])  # Of three and of one cloud.
    found = bank_of([3, 1]).cycle(index, 5)
    assert found.tolist() == [[4, 2, 9, 4, 2], [7] * 5]


def test_smallest_of_a_class_without_clouds():
    with pytest.raises(ValueError, match="every class must have a cloud"):
        bank_of([2, 0, 2]).smallest(torch.zeros(4), 1)


# Taking ###########################################################################################


def test_subset_keeps_the_classes_of_its_data_set():
    dataset = PointCloudArrays(torch.rand(6, 4, 3), torch.arange(6) % 3, ["a", "b", "c"])
    bank = PointCloudBank.from_dataset(torch.utils.data.Subset(dataset, [0, 3]))
    assert bank.class_names == ["a", "b", "c"]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=6),
    picks=st.lists(st.integers(0, 1), min_size=1, max_size=5),
)
def test_batch_is_that_of_pyg(sizes, picks):
    bank = bank_of([len(sizes) - 1, 1], torch.tensor(sizes))
    index = torch.tensor([pick * (len(sizes) - 1) for pick in picks])
    parts = bank.pos.split(sizes)
    expected = Batch.from_data_list([Data(pos=parts[i], y=bank.y[i : i + 1]) for i in index])
    batch = bank.batch(index)
    for key in ("pos", "y", "batch", "ptr"):
        assert torch.equal(batch[key], expected[key])
        assert batch[key].dtype == expected[key].dtype
    assert batch.num_graphs == len(picks)


def test_batch_of_one_size_knows_it():
    assert bank_of([2, 2]).batch(torch.tensor([1, 0])).num_points == 2
    assert "num_points" not in bank_of([1, 1], torch.tensor([2, 3])).batch(torch.tensor([0]))


@pytest.mark.parametrize(("max_points", "sizes"), [(1, [1] * 4), (11, [2, 2]), (99, [4])])
def test_batches_hold_all_clouds_in_order(max_points, sizes):
    bank = bank_of([3, 1], torch.tensor([2, 5, 3, 4]))
    batches = list(bank.batches(max_points))
    assert [batch.num_graphs for batch in batches] == sizes
    assert torch.equal(torch.cat([batch.pos for batch in batches]), bank.pos)
    assert torch.equal(torch.cat([batch.y for batch in batches]), bank.y)


def counted(bank, factor, progress=False):
    bank.calls.append((factor, progress))
    return factor * len(bank)


def other(bank, factor):
    return -factor


def test_cached_is_computed_once_for_every_function_and_argument():
    bank = PointCloudBank.from_dataset(toy_set())
    bank.calls = []
    for factor in (2, 3, 2, 3):
        assert bank.cached(counted, factor) == 18 * factor
        assert bank.cached(other, factor) == -factor
    assert bank.cached(counted, 2, progress=True) == 36  # It changes no result.
    assert bank.calls == [(2, False), (3, False)]


def kind_of(bank, value, progress=False):
    return type(value).__name__


def test_cached_tells_equal_arguments_of_different_types_apart():
    bank = PointCloudBank.from_dataset(toy_set())
    for _ in range(2):
        assert [bank.cached(kind_of, value) for value in (1, True, 1.0)] == ["int", "bool", "float"]


def test_cached_keeps_what_was_asked_for_last():
    bank = PointCloudBank.from_dataset(toy_set())
    bank.calls = []
    for factor in (0, 1, 2, 3, 0, 4):  # The fifth lets the 1 go, not the 0.
        bank.cached(counted, factor)
        bank.cached(other, factor)
    assert len(bank.calls) == 5
    bank.cached(counted, 0)
    assert len(bank.calls) == 5
    bank.cached(counted, 1)
    assert len(bank.calls) == 6


@pytest.mark.parametrize(("asked", "kept"), [(6, 6), (1, 4)])
def test_more_results_are_kept_where_they_come_in_turn(asked, kept):
    bank = PointCloudBank.from_dataset(toy_set())
    bank.calls = []
    bank.keep_at_least(asked)
    for factor in [*range(kept)] * 3:
        bank.cached(counted, factor)
    assert len(bank.calls) == kept


def test_a_number_of_results_that_is_none():
    for wrong, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match="'num' must be"):
            PointCloudBank.from_dataset(toy_set()).keep_at_least(wrong)


def test_what_was_cached_is_not_sent_to_another_process(tmp_path):
    bank = PointCloudBank.from_dataset(toy_set())
    bank.keep_in(tmp_path)
    bank.calls = []
    bank.cached(counted, 2)
    sent = pickle.loads(pickle.dumps(bank))
    assert torch.equal(sent.pos, bank.pos)
    assert sent.kept_in == tmp_path
    assert sent.cached(counted, 2) == bank.cached(counted, 2)
    assert (len(sent.calls), len(bank.calls)) == (2, 1)


def test_cached_needs_arguments_that_hash():
    with pytest.raises(TypeError, match="unhashable"):
        PointCloudBank.from_dataset(toy_set()).cached(other, [1])


def test_farthest_points():
    """Every cloud as the transform reduces it."""
    bank = PointCloudBank.from_dataset(toy_set()).farthest_points(5)
    want = PointCloudBank.from_dataset(toy_set(pre_transform=FarthestPointSample(5)))
    assert torch.equal(bank.dense(), want.dense())
    assert torch.equal(bank.y, want.y)
    assert (bank.num_points, bank.class_names) == (5, want.class_names)


def test_dense():
    pos = bank_of([2, 1]).dense()
    assert pos.shape == (3, 2, 3)
    assert pos[:, 0, 0].tolist() == [0, 1, 2]


def test_dense_needs_one_size():
    bank = bank_of([1, 2], torch.tensor([2, 5, 3]))
    with pytest.raises(ValueError, match="the same number of points, got 2 to 5"):
        bank.dense()


def test_normalize():
    dataset = [Data(pos=5 + torch.randn(n, 3), y=0) for n in (3, 8)]
    bank = PointCloudBank.from_dataset(dataset).normalize()
    for cloud in bank.pos.split([3, 8]):
        torch.testing.assert_close(cloud.mean(dim=0), torch.zeros(3), rtol=0, atol=1e-6)
        assert cloud.norm(dim=1).max().item() == pytest.approx(1, rel=1e-6)


# Reading ##########################################################################################


def test_from_dataset():
    dataset = toy_set()
    bank = PointCloudBank.from_dataset(dataset)
    assert len(bank) == len(dataset) == 18
    assert bank.class_names == ["class0", "class1", "class2"]
    assert bank.num_classes == 3
    for i in (0, 7, 17):
        assert torch.equal(bank.dense()[i], dataset[i].pos)
        assert bank.y[i] == dataset[i].y


def test_from_dataset_applies_the_transform():
    bank = PointCloudBank.from_dataset(toy_set(transform=FarthestPointSample(8)))
    assert bank.num_points == 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_from_dataset_of_any_precision(dtype):
    dataset = [Data(pos=torch.rand(4, 3).to(dtype), y=0)]
    assert PointCloudBank.from_dataset(dataset).pos.dtype == torch.float32
    assert PointCloudBank.from_dataset(dataset, dtype=torch.float64).pos.dtype == torch.float64


def test_from_dataset_to_a_device(device):
    bank = PointCloudBank.from_dataset(toy_set(), device)
    assert bank.device.type == bank.y.device.type == bank.sizes.device.type == device.type


@pytest.mark.parametrize("read", [PointCloudBank, LabelledBank])
@pytest.mark.parametrize("device", ["no such", "cuda:99", 1.5])
def test_a_device_that_is_none_is_refused_first(read, device):
    def late(data):
        pytest.fail("a cloud was read")

    with pytest.raises((TypeError, ValueError), match="'device' must be a device"):
        read.from_dataset(toy_set(transform=late), device)


@pytest.mark.parametrize(
    "y",
    [
        *(2, torch.tensor(2), torch.tensor([2]), torch.tensor([[2]])),
        *(np.int64(2), np.uint8(2), np.array(2), np.array([2]), np.array([[2]])),
    ],
)
def test_labels_of_any_form(y):
    bank = PointCloudBank.from_dataset([Data(pos=torch.rand(4, 3), y=y)])
    assert bank.y.tolist() == [2]
    assert bank.class_names == ["0", "1", "2"]


def test_names_of_a_subset_are_those_of_all():
    bank = PointCloudBank.from_dataset(toy_set()[:6])
    assert bank.num_classes == 3
    with pytest.raises(ValueError, match=r"got none of class 1 \(class1\), 2 \(class2\)"):
        bank.check_every_class()


def test_clouds_of_any_layout_in_memory():
    pos = torch.rand(3, 5).T
    bank = PointCloudBank.from_dataset([Data(pos=pos, y=0), Data(pos=pos, y=0)])
    assert torch.equal(bank.dense()[1], pos)


# Errors ###########################################################################################

GOOD = torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (Data(y=0), ValueError, r"'pos' of cloud 1 must be a tensor of shape .* got NoneType"),
        (Data(pos=np.zeros((4, 3)), y=0), ValueError, r"'pos' of cloud 1 .* got ndarray"),
        (Data(pos=torch.zeros(4, 2), y=0), ValueError, r"'pos' of cloud 1 .* got \[4, 2\]"),
        (Data(pos=torch.zeros(3), y=0), ValueError, r"'pos' of cloud 1 .* got \[3\]"),
        (Data(pos=GOOD.long(), y=0), TypeError, r"'pos' of cloud 1 .* got torch.int64"),
        (Data(pos=torch.zeros(0, 3), y=0), ValueError, "every cloud must have points, cloud 1"),
        (Data(pos=GOOD / 0, y=0), ValueError, "'pos' must be finite, got 12 NaN or infinite"),
        (Data(pos=GOOD + float("inf"), y=0), ValueError, "'pos' must be finite, got 12"),
        (Data(pos=GOOD), ValueError, "'y' of cloud 1 must be one integer label, got None"),
        (Data(pos=GOOD, y=1.0), ValueError, "'y' of cloud 1 must be one integer label, got 1.0"),
        (Data(pos=GOOD, y=True), ValueError, "'y' of cloud 1 must be one integer label, got True"),
        (Data(pos=GOOD, y="a"), ValueError, "'y' of cloud 1 must be one integer label, got 'a'"),
        (
            Data(pos=GOOD, y=np.array([1.0])),
            ValueError,
            r"'y' of cloud 1 must be one integer label, got float64 of shape \[1\]",
        ),
        (Data(pos=GOOD, y=np.bool_(True)), ValueError, "'y' of cloud 1 must be one integer label"),
        (
            Data(pos=GOOD, y=torch.tensor([1.0])),
            ValueError,
            r"'y' of cloud 1 must be one integer label, got torch.float32 of shape \[1\]",
        ),
        (
            Data(pos=GOOD, y=torch.tensor([0, 1])),
            ValueError,
            r"'y' of cloud 1 must be one integer label, got torch.int64 of shape \[2\]",
        ),
        (Data(pos=GOOD, y=-1), ValueError, r"labels must lie in 0..0 \(1 classes\), got -1..0"),
        (
            Data(pos=GOOD, y=2691156),
            ValueError,
            "labels must lie in 0..65535 where nothing names the classes, got 0..2691156",
        ),
    ],
)
def test_bad_cloud(data, error, message):
    with pytest.raises(error, match=message):
        PointCloudBank.from_dataset([Data(pos=GOOD, y=0), data])


@pytest.mark.parametrize("label", [-1, 3])
def test_label_outside_of_the_names(label):
    dataset = toy_set()
    dataset._data.y[4] = label
    with pytest.raises(ValueError, match=r"labels must lie in 0..2 \(3 classes\), got"):
        PointCloudBank.from_dataset(dataset)


@pytest.mark.parametrize(
    "dataset", [[], toy_set()[:0], iter(())], ids=["list", "slice", "iterator"]
)
def test_empty_set(dataset):
    with pytest.raises(ValueError, match="must hold at least one cloud, got none"):
        PointCloudBank.from_dataset(dataset)


def test_empty_bank():
    none = torch.zeros(0, dtype=torch.long)
    with pytest.raises(ValueError, match="must hold at least one cloud, got none"):
        PointCloudBank(torch.zeros(0, 3), none, none, ["a"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sizes": torch.tensor([2, 3])}, ValueError, "add up to the 4 points of 'pos', got 5"),
        ({"y": torch.tensor([0])}, ValueError, r"a label for each of the 2 clouds, got \[1\]"),
        ({"y": torch.zeros(2, 1).long()}, ValueError, r"of the 2 clouds, got \[2, 1\]"),
        ({"y": torch.zeros(2)}, TypeError, "'y' must have an integer type, got torch.float32"),
        ({"y": torch.zeros(2).bool()}, TypeError, "'y' must have an integer type, got torch.bool"),
    ],
)
def test_tensors_that_do_not_fit_each_other(change, error, message):
    tensors = {"pos": GOOD, "sizes": torch.tensor([2, 2]), "y": torch.tensor([0, 0])} | change
    with pytest.raises(error, match=message):
        PointCloudBank(**tensors, class_names=["a"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"pos": torch.rand(4, 2)}, ValueError, r"'pos' must have shape \[ΣN 3\], got \[4, 2\]"),
        ({"pos": torch.ones(4, 3).long()}, TypeError, "'pos' must have a floating point dtype"),
        ({"pos": [[0.0, 0.0, 0.0]] * 4}, TypeError, "'pos' must be a tensor"),
        ({"sizes": torch.tensor([2.0, 2.0])}, TypeError, "'sizes' must have an integer type"),
        ({"sizes": torch.tensor([[2, 2]])}, ValueError, r"'sizes' must have shape \[n\]"),
        ({"y": [0, 0]}, TypeError, "'y' must be a tensor"),
    ],
)
def test_tensors_of_another_kind(change, error, message):
    tensors = {"pos": GOOD, "sizes": torch.tensor([2, 2]), "y": torch.tensor([0, 0])} | change
    with pytest.raises(error, match=message):
        PointCloudBank(**tensors, class_names=["a"])


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8], ids=str)
def test_short_integers_are_kept_as_indices(dtype):
    sizes, y = torch.tensor([2, 2], dtype=dtype), torch.tensor([1, 0], dtype=dtype)
    bank = PointCloudBank(GOOD, sizes, y, ["a", "b"])
    assert bank.y.dtype == bank.sizes.dtype == torch.long
    assert bank.sha256() == PointCloudBank(GOOD, sizes.long(), y.long(), ["a", "b"]).sha256()
    assert bank.select(bank.y).y.tolist() == [0, 1]


def test_some_of_many_classes_without_clouds_are_named():
    bank = PointCloudBank.from_dataset([Data(pos=GOOD, y=60000)])
    with pytest.raises(ValueError, match="every class must have a cloud") as raised:
        bank.check_every_class()
    assert str(raised.value).endswith("8 (8), 9 (9), 59990 more")


def test_a_bank_is_read_like_a_data_set(device):
    sets = toy_set(num_points=8), toy_set(num_points=5)
    mixed = [data for pair in zip(*sets, strict=True) for data in pair]
    bank = PointCloudBank.from_dataset(mixed, device)
    again = PointCloudBank.from_dataset(bank)
    assert torch.equal(again.pos, bank.pos)
    assert torch.equal(again.sizes, bank.sizes)
    assert again.class_names == bank.class_names
    assert again.device == bank.device


def test_select(device):
    bank = PointCloudBank.from_dataset(toy_set(), device)
    chosen = bank.select(torch.tensor([17, 0, 3]))
    assert torch.equal(chosen.dense(), bank.dense()[[17, 0, 3]])
    assert chosen.y.tolist() == [2, 0, 0]
    assert chosen.class_names == bank.class_names
    assert chosen.num_points == 32


def test_moved_clouds_keep_all_but_their_points():
    bank = bank_of([1, 2])
    kept = bank.cached(PointCloudBank.sha256)
    moved = bank.moved(bank.pos + 1)
    assert torch.equal(moved.batch(torch.tensor([2])).pos, bank.batch(torch.tensor([2])).pos + 1)
    assert moved.y is bank.y
    assert moved.class_index is bank.class_index
    assert moved.cached(PointCloudBank.sha256) != kept
    assert bank.cached(PointCloudBank.sha256) == bank.sha256() == kept
    with pytest.raises(ValueError, match=r"'pos' must be of shape \[6, 3\], got \[5, 3\]"):
        bank.moved(bank.pos[1:])


def test_digest_is_what_it_was():
    """Runs and files tell the data by it."""
    assert bank_of([2, 3]).sha256() == "2eabae2a3da3e8a1"
    pos, sizes, y = torch.rand(12, 3), torch.full((4,), 3), torch.tensor([0, 1, 1, 0])
    plain = hashlib.sha256(pos.numpy().tobytes() + y.numpy().tobytes()).hexdigest()[:16]
    assert PointCloudBank(pos, sizes, y, ["a", "b"]).sha256() == plain


def test_digest_knows_all_that_clouds_hold():
    pos, y = torch.rand(12, 3), torch.tensor([0, 1, 1, 0])
    sizes = [torch.tensor(sizes) for sizes in ([3, 3, 3, 3], [1, 5, 3, 3], [5, 1, 3, 3])]
    banks = [PointCloudBank(pos, size, y, ["a", "b"]) for size in sizes]
    for factor in (1.0, 2.0):  # Far away, where single precision sees no difference.
        cloud = 1e10 + factor * torch.rand(3, 3, generator=generator(), dtype=torch.float64)
        banks.append(PointCloudBank.from_dataset([Data(pos=cloud, y=0)]))
    assert torch.equal(banks[-1].pos, banks[-2].pos)
    banks.append(PointCloudBank.from_dataset([Data(pos=pos, y=0)], dtype=torch.bfloat16))
    assert len({bank.sha256() for bank in banks}) == len(banks)


def test_names_are_found_through_subsets_and_joined_sets():
    names = ["a", "b", "c", "never drawn"]
    first = PointCloudArrays(torch.rand(6, 4, 3), torch.arange(6) % 3, names)
    inner = torch.utils.data.Subset(torch.utils.data.Subset(first, [0, 3, 1]), [0, 1])
    joined = torch.utils.data.ConcatDataset([inner, torch.utils.data.ConcatDataset([first])])
    for dataset in (inner, joined, torch.utils.data.Subset(joined, [0, 1])):
        assert PointCloudBank.from_dataset(dataset).class_names == names
    plain = [Data(pos=torch.rand(4, 3), y=0)]
    joined = torch.utils.data.ConcatDataset([plain, first])
    assert PointCloudBank.from_dataset(joined).class_names == names
    with pytest.raises(ValueError, match=r"got none of class 3 \(never drawn\)"):
        PointCloudBank.from_dataset(joined).check_every_class()


def test_joined_sets_of_other_classes_are_refused():
    sets = [
        PointCloudArrays(torch.rand(2, 4, 3), torch.arange(2), names)
        for names in (["a", "b"], ["b", "a"])
    ]
    with pytest.raises(ValueError, match="'class_names' must be the same in all parts"):
        PointCloudBank.from_dataset(torch.utils.data.ConcatDataset(sets))


def test_names_are_given_to_clouds_that_have_none():
    clouds = [Data(pos=torch.rand(4, 3), y=i % 3) for i in range(6)]
    bank = PointCloudBank.from_dataset(clouds, class_names=("a", "b", "c"))
    assert bank.class_names == ["a", "b", "c"]
    # Wherever a data set is read.
    assert PointCloudBank.from_dataset(bank).class_names == bank.class_names
    assert PointCloudBank.from_dataset(bank, class_names=["x", "y", "z"]).class_names[2] == "z"
    # A part may lack the last classes.
    few = PointCloudBank.from_dataset(clouds[:2], class_names=["a", "b", "c"])
    assert few.num_classes == 3


@pytest.mark.parametrize(
    ("dataset", "count", "names"),
    [
        ([Data(pos=torch.rand(4, 3), y=i) for i in range(3)], 3, ["a", "b"]),
        (toy_set(), 3, ["a", "b"]),
        (toy_set(), 3, ["a", "b", "c", "d"]),
    ],
)
def test_another_number_of_names_is_refused(dataset, count, names):
    told = rf"'class_names' must name {count} classes, got {len(names)}: \['a', 'b'"
    with pytest.raises(ValueError, match=told):
        PointCloudBank.from_dataset(dataset, class_names=names)


# Names that lie in folders ########################################################################


MODELNET = ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa"]
MODELNET += ["table", "toilet"]


def modelnet(root, more=(), **kwargs):
    """PyG's own ModelNet10, of a triangle a split and class."""
    for name in [*MODELNET, *more]:
        for split in ("train", "test"):
            folder = root / "raw" / name / split
            folder.mkdir(parents=True, exist_ok=True)
            text = "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
            (folder / f"{name}_0001.off").write_text(text)
    kwargs.setdefault("pre_transform", T.SamplePoints(8))
    return ModelNet(str(root), "10", **kwargs)


def test_classes_of_pygs_modelnet_are_called_by_their_folders(tmp_path, capsys):
    dataset = modelnet(tmp_path)
    assert PointCloudBank.from_dataset(dataset).class_names == MODELNET
    parts = torch.utils.data.random_split(dataset, [9, 1])
    joined = torch.utils.data.ConcatDataset([parts[0], parts[1]])
    assert PointCloudBank.from_dataset(joined).class_names == MODELNET
    # The last classes are missing, and none is added.
    few = torch.utils.data.Subset(dataset, range(4))
    assert PointCloudBank.from_dataset(few).class_names == MODELNET[:4]
    # Without the raw files PyG says what they were called.
    shutil.rmtree(tmp_path / "raw")
    assert PointCloudBank.from_dataset(dataset).class_names == MODELNET
    dataset.class_names = [f"own {i}" for i in range(10)]
    assert PointCloudBank.from_dataset(dataset).class_names[3] == "own 3"


def test_folders_that_are_no_classes_give_no_names(tmp_path, capsys):
    numbers = [str(i) for i in range(10)]
    dataset = modelnet(tmp_path)
    (tmp_path / "raw" / "readme").mkdir()
    assert PointCloudBank.from_dataset(dataset).class_names == numbers
    shutil.rmtree(tmp_path / "raw")
    for listed in (
        ["a", "b"],
        ["a.off"] * 10,
        "2d_circle",
        [f"x/{i}" for i in range(10)],
        [1] * 10,
    ):
        other = modelnet(tmp_path)
        shutil.rmtree(tmp_path / "raw")
        type(other).raw_file_names, kept = listed, type(other).raw_file_names
        try:
            assert PointCloudBank.from_dataset(other).class_names == numbers
        finally:
            type(other).raw_file_names = kept


def test_sets_of_other_folders_that_are_joined_have_numbers(tmp_path, capsys):
    first, second = modelnet(tmp_path / "a"), modelnet(tmp_path / "b", more=["airplane"])
    joined = torch.utils.data.ConcatDataset([first, second])
    names = PointCloudBank.from_dataset(joined).class_names
    assert names == [str(i) for i in range(11)]


@pytest.mark.parametrize("num", [1, 3, 7, 8, 9, 20])
@pytest.mark.parametrize("levels", [4, 1 << 24])
def test_draws_are_those_of_sorting_all_keys(num, levels, monkeypatch):
    """Also where many keys are equal, and of classes with fewer clouds."""
    y = torch.tensor([0] * 8 + [1] * 3 + [2] * 5)
    bank = PointCloudBank(torch.rand(64, 3), torch.full((16,), 4), y, ["a", "b", "c"])
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        keys = torch.rand(3, 8, generator=generator).mul(levels).floor() / levels
        monkeypatch.setattr(torch, "rand", lambda *args, keys=keys, **kwargs: keys.clone())
        drawn = bank.draw(num)
        monkeypatch.undo()
        counts = y.bincount()
        orders = keys.masked_fill(torch.arange(8) >= counts[:, None], 2.0).argsort(dim=1)
        for row, first, count, order in zip(drawn, (0, 8, 11), counts, orders, strict=True):
            assert row.tolist() == [first + int(order[i % count]) for i in range(num)]


class Numbered(torch.utils.data.Dataset):
    """A data set of PyTorch's, whose items are as many as it says, and beyond that any."""

    def __init__(self):
        self.clouds = list(toy_set())

    def __len__(self):
        return len(self.clouds)

    def __getitem__(self, i):
        assert i < len(self), "a loop that does not end"
        return self.clouds[i]


def test_a_data_set_that_only_numbers_its_items_is_read_to_its_end():
    expected = PointCloudBank.from_dataset(toy_set())
    assert torch.equal(PointCloudBank.from_dataset(Numbered()).pos, expected.pos)
    kept, held = hold_out(Numbered(), 0.34)
    assert len(kept) + len(held) == len(expected.y)
    assert len(plot_distilled(Numbered(), random_coreset(Numbered())).axes) > 0


class WithoutRawFiles(InMemoryDataset):
    """What PyG's documentation makes of clouds in memory: it says nothing of raw files."""

    def __init__(self, root, clouds):
        self.clouds = clouds
        super().__init__(root)
        self.load(self.processed_paths[0])

    @property
    def processed_file_names(self):
        return "data.pt"

    def process(self):
        self.save(self.clouds, self.processed_paths[0])


def test_a_data_set_of_pyg_without_raw_files(tmp_path):
    made = WithoutRawFiles(str(tmp_path), [Data(pos=one.pos, y=one.y) for one in toy_set()])
    for dataset in (made, made[:12], torch.utils.data.Subset(made, range(12))):
        bank = PointCloudBank.from_dataset(dataset)
        assert bank.class_names == [str(i) for i in range(bank.num_classes)]
