"""Clouds whose points carry part labels: the bank, its arrangements, and how they are stored."""

import json
from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import torch
from helpers import TOY_PARTS, LabelledClouds, check_labelled, toy_parts, toy_set
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Subset
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_ddp import StorageBudget, SyntheticPointCloudDataset, _files, ops
from torch_geometric_ddp.clouds.bank import PointCloudBank
from torch_geometric_ddp.clouds.labelled_bank import LabelledBank
from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.coreset import random_coreset
from torch_geometric_ddp.parameterization import FullResolution, PartLabels, ShapeMorphing

SPACE = PartSpace.of(toy_parts())
SEEDS = st.integers(0, 2**16)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bank_of(dataset=None, device="cpu", dtype=torch.float32):
    return LabelledBank.from_dataset(toy_parts() if dataset is None else dataset, device, dtype)


def of_parts(*clouds):
    """A bank of one category with these parts of the points of every cloud."""
    num = 1 + max(part for cloud in clouds for part in cloud)
    made = [
        Data(pos=rand(len(cloud), 3, seed=i), y=torch.tensor(cloud), category=torch.tensor([0]))
        for i, cloud in enumerate(clouds)
    ]
    return bank_of(LabelledClouds(made, {"one": list(range(num))}))


# The bank #########################################################################################


def test_bank_holds_the_clouds(device):
    clouds = toy_parts(sizes=[24, 17, 9, 30])
    bank = bank_of(clouds, device)
    assert (len(bank), bank.num_classes, bank.network_sizes) == (12, 3, (7, 3))
    assert (bank.class_names, bank.space) == (["cup", "lamp", "ball"], SPACE)
    for ours, theirs in zip(bank, clouds, strict=True):
        assert sorted(ours.keys()) == ["category", "pos", "y"]
        for key in ours.keys():  # noqa: SIM118
            assert torch.equal(ours[key].cpu(), theirs[key])


def test_bank_of_a_bank(device):
    bank = bank_of(device=device)
    again = LabelledBank.from_dataset(bank)
    assert (again.space, again.class_names) == (bank.space, bank.class_names)
    assert all(torch.equal(getattr(again, k), getattr(bank, k)) for k in ("pos", "part", "y"))


def test_categories_are_named_by_their_data_set():
    with pytest.raises(ValueError, match="'class_names' must be None where points have parts"):
        LabelledBank.from_dataset(toy_parts(), class_names=["a", "b", "c"])


def test_bank_of_a_subset_of_a_subset():
    clouds = toy_parts()
    bank = bank_of(Subset(Subset(clouds, [9, 4, 0, 7]), [2, 3, 1]))
    assert bank.class_names == ["cup", "lamp", "ball"]
    assert bank.y.tolist() == [0, 1, 1]
    assert torch.equal(bank.part, torch.cat([clouds[i].y for i in (0, 7, 4)]))


@pytest.mark.parametrize("sizes", [None, [24, 17, 9, 30]])
def test_batch_is_that_of_pyg(device, sizes):
    clouds = toy_parts(sizes=sizes)
    index = torch.tensor([3, 0, 9, 3])
    ours = bank_of(clouds, device).batch(index.to(device))
    theirs = next(iter(DataLoader([clouds[i] for i in index.tolist()], batch_size=4)))
    for key in ("pos", "y", "category", "batch", "ptr"):
        assert torch.equal(ours[key].cpu(), theirs[key]), key


def test_selected_and_normalized_clouds_keep_their_labels(device):
    bank = bank_of(toy_parts(sizes=[24, 17, 9, 30]), device)
    some = bank.select(torch.tensor([5, 0]))
    assert torch.equal(some.part, torch.cat([[*bank][i].y for i in (5, 0)]))
    assert some.y.tolist() == [1, 0]
    ball = bank.normalize()
    assert (ball.space, ball.y.tolist()) == (bank.space, bank.y.tolist())
    assert torch.equal(ball.part, bank.part)
    assert all(abs(float(data.pos.norm(dim=1).amax()) - 1) < 1e-6 for data in ball)


def test_numbers_of_parts_are_counted(device):
    bank = bank_of(toy_parts(sizes=[24, 17, 9, 30]), device)
    expected = [[int((data.y == part).sum()) for part in range(7)] for data in bank]
    assert bank.part_sizes().tolist() == expected


def test_digest_knows_the_labels():
    bank, other = bank_of(), bank_of()
    assert bank.sha256() == other.sha256()
    other.part[(other.part == 4).nonzero()[0]] = 1
    assert bank.sha256() != other.sha256()


def test_room_of_the_labels_is_counted():
    # Two, three and one part, 32 bits each.
    assert SPACE.label_bits == 192
    budget = bank_of().budget(3)
    assert budget == StorageBudget(24, 3, 3, label_bits=192)
    assert budget.bits == 3 * (3 * 96 * 24 + 192)


def changed(i=5, **attributes):
    clouds = toy_parts()
    clouds[i] = Data(**{**clouds[i].to_dict(), **attributes})
    return clouds


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"y": None}, "'y' of cloud 5 must be a part for each of its 24 points, got None"),
        ({"y": torch.tensor([1])}, r"'y' of cloud 5 .* 24 points, got torch.int64 of shape \[1\]"),
        ({"y": torch.zeros(24)}, r"'y' of cloud 5 .* got torch.float32 of shape \[24\]"),
        ({"y": torch.ones(24).bool()}, r"'y' of cloud 5 .* got torch.bool of shape \[24\]"),
        ({"y": torch.full((24,), 3)}, r"cloud 5 of category 'lamp' .* among \[0, 6, 2\], got 3"),
        ({"y": torch.full((24,), 7)}, r"cloud 5 of category 'lamp' .* among \[0, 6, 2\], got 7"),
        ({"y": torch.full((24,), -1)}, r"cloud 5 of category 'lamp' .* among .*, got -1"),
        ({"category": None}, "'category' of cloud 5 must be one integer label, got None"),
        ({"category": torch.tensor([1.0])}, "'category' of cloud 5 must be one integer label, got"),
        (
            {"category": torch.tensor([1, 1])},
            "'category' of cloud 5 must be one integer label, got",
        ),
        ({"category": torch.tensor([3])}, r"labels must lie in 0\.\.2"),
        ({"category": torch.tensor([-1])}, r"labels must lie in 0\.\.2"),
        ({"pos": torch.zeros(24, 2)}, r"'pos' of cloud 5 must be a tensor of shape \[N, 3\]"),
    ],
)
def test_bad_clouds(attributes, message):
    with pytest.raises(ValueError, match=message):
        bank_of(changed(**attributes))


def test_sets_without_parts():
    with pytest.raises(ValueError, match="'dataset' must have 'part_names'"):
        bank_of(toy_set())
    with pytest.raises(ValueError, match="at least one cloud"):
        bank_of(LabelledClouds([], TOY_PARTS))


def test_narrow_labels_and_plain_numbers():
    clouds = changed(category=1)
    for data in clouds:
        data.y = data.y.to(torch.uint8)
    bank = bank_of(clouds)
    assert bank.part.dtype == torch.int64
    assert bank.y.tolist() == bank_of().y.tolist()


def test_bad_arguments_of_the_bank():
    bank = bank_of()
    args = (bank.pos, bank.sizes, bank.y, bank.class_names)
    with pytest.raises(ValueError, match="'space' must be of 3 categories, got 1"):
        LabelledBank(*args, bank.part, PartSpace(("a",), ((0,),)))
    for part in (bank.part[1:], bank.part.int()):
        with pytest.raises(ValueError, match=r"'part' must be integers \(int64\) of shape \[288\]"):
            LabelledBank(*args, part, SPACE)


# The arrangement ##################################################################################


def shares_loop(bank):
    """The mean share of every part, exactly."""
    shares = []
    for category in range(bank.num_classes):
        mine = [data.y.tolist() for data in bank if int(data.category) == category]
        shares.append(
            [
                sum(Fraction(y.count(part), len(y)) for y in mine) / max(1, len(mine))
                for part in range(bank.space.num_parts)
            ]
        )
    return shares


def arrangement_loop(bank, num_points):
    """The largest remainder in exact fractions, ties to the part with the lower number."""
    rows = []
    for shares in shares_loop(bank):
        exact = [share * num_points for share in shares]
        row = [int(value) for value in exact]
        order = sorted(range(len(row)), key=lambda i: (row[i] - exact[i], i))
        for i in order[: num_points - sum(row)] if sum(shares) else []:
            row[i] += 1
        rows.append(row)
    return rows


@pytest.mark.parametrize("num_points", [1, 2, 3, 5, 7, 24, 100, 1023])
@pytest.mark.parametrize("sizes", [None, [24, 17, 9, 30]])
def test_arrangement_is_the_plain_loop(device, num_points, sizes):
    bank = bank_of(toy_parts(sizes=sizes), device)
    arrangement = bank.arrangement(num_points)
    assert arrangement.dtype == torch.int64
    assert arrangement.tolist() == arrangement_loop(bank, num_points)


@st.composite
def labelled_clouds(draw):
    """One to four clouds of a category of one to four parts, of any sizes."""
    num = draw(st.integers(1, 4))
    cloud = st.lists(st.integers(0, num - 1), min_size=1, max_size=12)
    return draw(st.lists(cloud, min_size=1, max_size=4))


@given(clouds=labelled_clouds(), num_points=st.integers(1, 60))
def test_arrangement_has_the_largest_remainders(clouds, num_points):
    bank = of_parts(*clouds)
    arrangement = bank.arrangement(num_points)[0].tolist()
    exact = [share * num_points for share in shares_loop(bank)[0]]
    assert sum(arrangement) == num_points
    assert all(int(e) <= n <= -int(-e // 1) for n, e in zip(arrangement, exact, strict=True))
    more = [e % 1 for n, e in zip(arrangement, exact, strict=True) if n > int(e)]
    fewer = [e % 1 for n, e in zip(arrangement, exact, strict=True) if n == int(e)]
    # Equal remainders may go either way.
    assert not more or not fewer or min(more) > max(fewer) - Fraction(1, 10**9)


@given(clouds=labelled_clouds(), num_points=st.integers(1, 30))
def test_arranged_clouds_have_the_arrangement_that_they_were_given(clouds, num_points):
    bank = of_parts(*clouds)
    arranged = bank.arranged(num_points)
    assert torch.equal(arranged.arrangement(num_points), bank.arrangement(num_points))
    expected = PartLabels(bank.arrangement(num_points), bank.space)(0, 1, len(bank))
    assert torch.equal(arranged.part.view(len(bank), -1), expected)


def test_part_of_too_small_a_share_has_no_point():
    bank = of_parts([0] * 9 + [1], [0] * 10)
    assert bank.arrangement(3).tolist() == [[3, 0]]
    assert (bank.arranged(3).part == 0).all()
    assert bank.arrangement(10).tolist() == [[10, 0]]  # Half a point each: the lower number.
    assert bank.arrangement(20).tolist() == [[19, 1]]


def test_category_without_clouds():
    bank = bank_of(Subset(toy_parts(), [0, 1, 8]))
    assert bank.arrangement(10)[1].tolist() == [0] * 7
    assert bank.arranged(10).num_points == 10
    with pytest.raises(ValueError, match=r"every class must have a cloud, got none .* 1 \(lamp\)"):
        bank.draw(1)


@pytest.mark.parametrize("num_points", [0, -1])
def test_bad_number_of_points(num_points):
    with pytest.raises(ValueError, match="'num_points' must be at least 1"):
        bank_of().arrangement(num_points)
    with pytest.raises(ValueError, match="'num_points' must be at least 1"):
        bank_of().partition(1, num_points)


# The partition ####################################################################################


def test_farthest_points_keep_their_parts(device):
    bank = bank_of(device=device)
    fewer = bank.farthest_points(5)
    assert isinstance(fewer, LabelledBank)
    assert fewer.space == bank.space
    assert fewer.num_points == 5
    index = ops.farthest_point_sample(bank.dense(), 5)
    assert torch.equal(fewer.dense(), ops.gather_points(bank.dense(), index))
    assert torch.equal(
        fewer.part.view(len(bank), 5), bank.part.view(len(bank), -1).gather(1, index)
    )


def partition_loop(bank, num_subsets, num_points):
    """Part by part and cloud by cloud, each by farthest point sampling of what remains."""
    sizes, arrangement = bank.sizes.tolist(), bank.arrangement(num_points)
    labels, starts = bank.part.split(sizes), bank.offsets.tolist()
    out = torch.full((len(bank), num_subsets, num_points), -1)
    for i, category in enumerate(bank.y.tolist()):
        members = (bank.y == category).nonzero().flatten().tolist()
        circle = members[members.index(i) :] + members[: members.index(i)]
        place = 0
        for part, num in enumerate(arrangement[category].tolist()):
            if num == 0:
                continue
            lender = next(j for j in circle if part in labels[j].tolist())
            rows = starts[lender] + (labels[lender] == part).nonzero().flatten()
            # Farthest point sampling, subset by subset; then from the beginning.
            taken, current, dist = [], 0, torch.full((len(rows),), torch.inf)
            for step in range(min(len(rows), num_subsets * num)):
                if step and step % num == 0:
                    dist[:] = torch.inf
                taken.append(current)
                gap = (bank.pos[rows] - bank.pos[rows[current]]).double().square().sum(dim=1)
                dist = torch.minimum(dist, gap.float())
                dist[taken] = -torch.inf
                current = int(dist.argmax())
            again = [taken[k % len(taken)] for k in range(num_subsets * num)]
            out[i, :, place : place + num] = rows[again].view(num_subsets, num)
            place += num
    return out


@pytest.mark.parametrize(("num_subsets", "num_points"), [(1, 24), (2, 7), (3, 8), (1, 40), (1, 2)])
@pytest.mark.parametrize("sizes", [None, [24, 17, 9, 30]])
def test_partition_is_the_plain_loop(num_subsets, num_points, sizes):
    bank = bank_of(toy_parts(sizes=sizes))
    ours = bank.partition(num_subsets, num_points)
    assert torch.equal(ours, partition_loop(bank, num_subsets, num_points))


@given(seed=SEEDS, num_subsets=st.integers(1, 3), num_points=st.integers(1, 12))
def test_rows_have_the_parts_that_their_places_say(device, seed, num_subsets, num_points):
    bank = bank_of(toy_parts(seed=seed, sizes=[24, 17, 9, 30]), device)
    rows = bank.partition(num_subsets, num_points)
    assert rows.shape == (12, num_subsets, num_points)
    labels = PartLabels(bank.arrangement(num_points), bank.space).to(device)
    assert torch.equal(bank.part[rows], labels(0, 3, 4)[:, None].expand_as(rows))
    # Lent or not, points are of the own category.
    owner = torch.arange(12, device=device).repeat_interleave(bank.sizes)
    assert torch.equal(bank.y[owner[rows]], bank.y[:, None, None].expand_as(rows))


@given(seed=SEEDS)
def test_subsets_are_disjoint_where_there_are_enough_points(seed):
    num_subsets, num_points = 2, 8
    bank = bank_of(toy_parts(seed=seed))
    rows, arrangement, sizes = (
        bank.partition(num_subsets, num_points),
        bank.arrangement(8),
        bank.part_sizes(),
    )
    for i, category in enumerate(bank.y.tolist()):
        points, start = rows[i].flatten().tolist(), 24 * i
        for part, num in enumerate(arrangement[category].tolist()):
            mine = [p for p in points if bank.part[p] == part]
            enough, there = int(sizes[i, part]) >= num_subsets * num, int(sizes[i, part])
            if enough:
                assert len(set(mine)) == len(mine)
            elif there:  # All of them, and then again.
                assert len(set(mine)) == there
            if there:
                assert all(start <= p < start + 24 for p in mine)


def test_first_subset_is_the_farthest_point_sample_of_the_part(device):
    bank = bank_of(device=device)
    arrangement, rows = bank.arrangement(12), bank.partition(2, 12)[:, 0]
    for i, category in enumerate(bank.y.tolist()):
        start = 0
        for part, num in enumerate(arrangement[category].tolist()):
            own = (bank.part[24 * i : 24 * i + 24] == part).nonzero().flatten() + 24 * i
            if num and len(own) >= num:
                index = ops.farthest_point_sample(bank.pos[own][None], num)[0]
                assert torch.equal(rows[i, start : start + num], own[index])
            start += num


def test_missing_part_is_lent_by_the_next_cloud():
    # The first and the last lack part 1; the last comes round to the second.
    bank = of_parts([0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0])
    rows = bank.partition(1, 4)[:, 0]
    assert bank.arrangement(4).tolist() == [[3, 1]]
    owner = rows // 4
    assert owner[:, :3].tolist() == [[i] * 3 for i in range(4)]
    assert owner[:, 3].tolist() == [1, 1, 2, 1]
    assert bank.part[rows[:, 3]].tolist() == [1] * 4


def test_fewer_points_than_needed_come_again():
    bank = of_parts([0, 1, 0, 0, 0, 0])
    rows = bank.partition(2, 6)[0]
    assert rows[:, 5].tolist() == [1, 1]
    assert sorted(rows[0, :5].tolist()) == [0, 2, 3, 4, 5]
    assert torch.equal(rows[0], rows[1])


def test_one_part_is_partitioned_as_if_unlabelled(device):
    clouds = toy_parts()[8:]
    for data in clouds:
        data.category = torch.tensor([0])
    bank = bank_of(LabelledClouds(clouds, {"ball": [3]}), device)
    plain = PointCloudBank(bank.pos, bank.sizes, bank.y, bank.class_names)
    assert torch.equal(bank.partition(3, 8), plain.partition(3, 8))


def test_order_of_the_clouds_does_not_matter(device):
    clouds = toy_parts()
    order = [11, 3, 2, 8, 0, 7, 6, 1, 10, 4, 5, 9]
    first = bank_of(clouds, device)
    other = bank_of(LabelledClouds([clouds[i] for i in order], TOY_PARTS), device)
    assert torch.equal(first.arrangement(10), other.arrangement(10))
    ours = first.pos[first.partition(2, 10)][order]
    theirs = other.pos[other.partition(2, 10)]
    # All but the two that borrow, and whose next cloud is another one.
    kept = [k for k, i in enumerate(order) if i not in (0, 5)]
    assert torch.equal(ours[kept], theirs[kept])


def test_partition_shows_its_progress(capsys):
    bank_of().partition(1, 8, progress=True)
    assert "Partition" in capsys.readouterr().err


@pytest.mark.parametrize("sizes", [[0, 5], [5, 6], [5], [[5, 5]]])
def test_bad_sizes_of_a_partition(sizes):
    with pytest.raises(ValueError, match=r"'sizes' must be 2 numbers from 1 to 5"):
        ops.farthest_point_partition(rand(2, 5, 3), 2, 2, torch.tensor(sizes))


# Alignment ########################################################################################


def cost(first, cloud):
    return float((first - cloud).norm(dim=-1).sum())


@given(seed=SEEDS, counts=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_alignment_is_optimal_for_every_part(seed, counts):
    part = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    pos = rand(3, len(part), 3, seed=seed).double()
    # Interleaved, so that a part is no run.
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))
    part = part[order]
    index = ops.alignment(pos, part)
    aligned = ops.align_points(pos, part)
    assert torch.equal(aligned, ops.gather_points(pos, index))
    assert torch.equal(aligned[0], pos[0])
    assert torch.equal(part[index], part.expand_as(index))
    assert all(sorted(row) == list(range(len(part))) for row in index.tolist())
    for m in (1, 2):
        for value in part.unique().tolist():
            rows = (part == value).nonzero().flatten()
            best = min(cost(pos[0, rows], pos[m, list(p)]) for p in permutations(rows.tolist()))
            assert cost(pos[0, rows], aligned[m, rows]) == pytest.approx(best, rel=1e-9)


def test_alignment_of_one_part_is_that_without_labels(device, dtype):
    pos = rand(4, 20, 3).to(device, dtype)
    labels = torch.full((20,), 3, device=device)
    assert torch.equal(ops.align_points(pos, labels), ops.align_points(pos))


def test_alignment_within_parts_is_no_better_than_without():
    pos, labels = rand(2, 30, 3), torch.arange(30) % 3
    free, bound = ops.align_points(pos), ops.align_points(pos, labels)
    assert cost(pos[0], free[1]) < cost(pos[0], bound[1])


@pytest.mark.parametrize("shape", [(19,), (2, 20), (1,)])
def test_alignment_refuses_other_labels(shape):
    with pytest.raises(ValueError, match=r"'part' must have shape \[20\], got"):
        ops.align_points(rand(2, 20, 3), torch.zeros(shape, dtype=torch.long))


# Part labels ######################################################################################


def arrangement_of(num_points=12):
    return bank_of().arrangement(num_points)


def labels_of(num_points=12):
    return PartLabels(arrangement_of(num_points), SPACE)


def test_labels_are_the_counts_spelled_out():
    labels = labels_of()
    assert (labels.num_points, labels.rows_per_class) == (12, 1)
    for row, counts in zip(labels.part, arrangement_of(), strict=True):
        assert row.tolist() == [part for part in range(7) for _ in range(int(counts[part]))]


def test_rows_of_classes_and_clouds():
    labels = labels_of()
    expected = torch.stack([labels.part[c] for c in (1, 1, 2, 2)])
    assert torch.equal(labels(1, 3, 2), expected)
    several = PartLabels(arrangement_of().repeat_interleave(2, dim=0).contiguous(), SPACE)
    assert several.rows_per_class == 2
    assert torch.equal(several(1, 3, 2), expected)
    assert torch.equal(several(1, 2, 4), labels.part[1].expand(4, -1))


def test_every_cloud_may_have_a_row():
    bank = bank_of()
    labels = PartLabels(bank.part_sizes(), SPACE)
    assert labels.rows_per_class == 4
    assert torch.equal(labels(0, 3, 4), bank.part.view(12, 24).sort(dim=1).values)
    assert torch.equal(labels(1, 2, 4), bank.part.view(12, 24)[4:8].sort(dim=1).values)


@given(seed=SEEDS, rows=st.integers(1, 3), num=st.integers(1, 40))
def test_labels_there_and_back(seed, rows, num):
    generator = np.random.default_rng(seed)
    counts = torch.zeros(3 * rows, 7, dtype=torch.long)
    for i, row in enumerate(counts):
        mine = SPACE.category_parts[i // rows]
        row[list(mine)] = torch.from_numpy(generator.multinomial(num, [1 / len(mine)] * len(mine)))
    labels = PartLabels(counts, SPACE)
    storage = labels.storage()
    assert storage["part_counts"].dtype == torch.int32
    assert storage["part_counts"].shape == (6 * rows,)
    config = json.loads(json.dumps(labels.config()))
    again = PartLabels.from_storage(storage, config, num)
    assert again.space == SPACE
    assert again.rows_per_class == rows
    assert torch.equal(again.part, labels.part)


def test_no_labels_there_and_back():
    assert PartLabels.from_storage({}, {}, 8) is None


def test_labels_are_no_parameters(device):
    labels = labels_of().to(device)
    assert list(labels.parameters()) == []
    assert labels.part.device.type == device.type
    assert labels.double().part.dtype == torch.int64


def counts_with(row, changes):
    counts = arrangement_of()
    for part, change in changes.items():
        counts[row, part] += change
    return counts


@pytest.mark.parametrize(
    "counts",
    [
        counts_with(0, {4: 1}),
        counts_with(2, {3: -1, 0: 1}),
        counts_with(0, {4: -1, 5: 1}),
        counts_with(0, {4: -20, 1: 20}),
    ],
    ids=["sum", "category", "none", "negative"],
)
def test_bad_counts(counts):
    with pytest.raises(ValueError, match="'counts' must not be negative, lie in the parts"):
        PartLabels(counts, SPACE)


@pytest.mark.parametrize(
    "counts",
    [
        arrangement_of()[:2],
        arrangement_of()[:, :6],
        arrangement_of().int(),
        arrangement_of().repeat(2, 1)[:5],
    ],
    ids=["too few rows", "too few parts", "narrow", "uneven"],
)
def test_bad_shapes_of_counts(counts):
    with pytest.raises(ValueError, match=r"'counts' must be integers \(int64\), a row of 7"):
        PartLabels(counts, SPACE)


# Parameterizations ################################################################################


def morphing(ppc=1, num_points=12, num_morphs=3, adaptive=True, seed=0, device="cpu"):
    """Two anchors a group, of real clouds."""
    bank = bank_of(device=device)
    labels = PartLabels(bank.arrangement(num_points), SPACE).to(device)
    generator = torch.Generator().manual_seed(seed)
    bank = bank.arranged(num_points)
    clouds = bank.dense()[bank.draw(2 * ppc, generator)]
    return ShapeMorphing.from_clouds(clouds, 2, num_points, num_morphs, generator, adaptive, labels)


def full(ppc=2, device="cpu"):
    """A row of labels for every cloud."""
    bank = bank_of(device=device).select(torch.tensor([0, 1, 4, 5, 8, 9])[: 3 * ppc])
    order = bank.part.view(len(bank), -1).argsort(dim=1, stable=True)
    clouds = ops.gather_points(bank.dense(), order)
    return FullResolution(clouds, 3, labels=PartLabels(bank.part_sizes(), SPACE))


MAKERS = {
    "ShapeMorphing": morphing,
    "static": lambda **kwargs: morphing(adaptive=False, **kwargs),
    "two groups": lambda **kwargs: morphing(ppc=2, **kwargs),
    "FullResolution": full,
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def test_unfolded_batch(make, device):
    shape = make(device=device)
    batch = shape()
    each = shape.num_clouds // 3
    assert batch.y.shape == batch.batch.shape == (len(batch.pos),)
    assert batch.category.tolist() == [c for c in range(3) for _ in range(each)]
    mask = SPACE.mask(device)
    assert bool(mask[batch.category[batch.batch], batch.y].all())
    assert bool((batch.y.view(-1, batch.num_points).diff(dim=1) >= 0).all())


@pytest.mark.parametrize("classes", [slice(0, 1), slice(1, 3), slice(2, 3)])
def test_some_classes_are_a_slice_of_all(make, classes):
    shape = make()
    whole, some = shape(), shape(classes)
    points = slice(*(len(whole.pos) // 3 * end for end in (classes.start, classes.stop)))
    clouds = slice(*(shape.num_clouds // 3 * end for end in (classes.start, classes.stop)))
    for key, where in (("pos", points), ("y", points), ("category", clouds)):
        assert torch.equal(some[key], whole[key][where])


@pytest.mark.parametrize("ppc", [1, 2])
def test_morphs_have_the_labels_of_their_anchors(ppc, device):
    shape = morphing(ppc=ppc, device=device)
    batch = shape()
    labels = batch.y.view(3, ppc, 5, 12)
    assert torch.equal(labels, labels[:, :1, :1].expand_as(labels))
    # And those of the real points that the anchors are.
    bank = bank_of(device=device)
    anchors = batch.pos.view(3, ppc, 5, 12, 3)[:, :, :2].reshape(-1, 3)
    wanted = labels[:, :, :2].reshape(-1)
    for point, part in zip(anchors, wanted, strict=True):
        same = (bank.pos == point).all(dim=1)
        assert set(bank.part[same].tolist()) == {int(part)}


@given(seed=SEEDS, sharpness=st.floats(0, 20), num_points=st.integers(3, 20))
def test_morphs_stay_within_the_parts_of_their_anchors(seed, sharpness, num_points):
    shape = morphing(num_points=num_points, seed=seed)
    with torch.no_grad():
        shape.weights.mul_(sharpness)
        batch = shape()
    clouds = batch.pos.view(3, 5, num_points, 3).double()
    anchors, morphs = clouds[:, :2], clouds[:, 2:]
    weights = shape.weights.detach().double().softmax(dim=-1)
    for c in range(3):
        part = batch.y.view(3, 5, num_points)[c, 0]
        for morph, (w, _) in zip(morphs[c], weights[c], strict=True):
            # A point lies on the segment between the two that it mixes, as far as the weight says.
            mixed = w * anchors[c, 0] + (1 - w) * anchors[c, 1]
            torch.testing.assert_close(morph, mixed, rtol=1e-6, atol=1e-6)  # Of single precision.
            for value in part.unique():
                rows = part == value
                box = anchors[c][:, rows].flatten(0, 1)
                assert bool((morph[rows] >= box.amin(dim=0) - 1e-6).all())
                assert bool((morph[rows] <= box.amax(dim=0) + 1e-6).all())


def test_anchors_are_aligned_within_their_parts():
    bank, labels = bank_of(), labels_of(8)
    clouds = bank.arranged(8).dense()[torch.tensor([[0, 1], [4, 5], [8, 9]])]
    shape = ShapeMorphing.from_clouds(clouds, 2, 8, 1, labels=labels)
    for c in range(3):
        expected = ops.align_points(clouds[c], labels.part[c])
        assert torch.equal(shape.anchors[c].detach(), expected)


def test_one_part_is_stored_as_if_unlabelled():
    space = PartSpace(("all",), ((0,),))
    labels = PartLabels(torch.tensor([[10]]), space)
    clouds = rand(1, 4, 10, 3)
    args = (clouds, 4, 10, 3)
    ours, theirs = (
        ShapeMorphing.from_clouds(*args, torch.Generator().manual_seed(0), labels=which)
        for which in (labels, None)
    )
    # Without labels the points come in the order of farthest point sampling.
    first = theirs.anchors[0, 0].detach()
    order = [(ours.anchors[0, 0] == point).all(dim=1).nonzero().item() for point in first]
    assert torch.allclose(ours.anchors[:, :, order], theirs.anchors)
    assert torch.equal(ours.weights, theirs.weights)


def test_labels_count(make):
    shape = make()
    rows = shape.labels.rows_per_class
    without = sum(value.numel() for key, value in shape.storage().items() if key != "part_counts")
    assert shape.storage_bits() == 32 * (without + 6 * rows)


@pytest.mark.parametrize("num_morphs", [1, 3])
@pytest.mark.parametrize("num_anchors", [1, 2, 3])
@pytest.mark.parametrize("ppc", [1, 2, 3])
def test_largest_anchors_fit_with_their_labels(ppc, num_anchors, num_morphs):
    budget = bank_of().budget(ppc)
    points = ShapeMorphing.largest_anchor_points(budget, num_anchors, num_morphs)

    def store(points):
        anchors = rand(3 * ppc, num_anchors, points, 3)
        return ShapeMorphing(anchors, 3, num_morphs, labels=labels_of(points))

    assert store(points).check_budget(budget) <= budget.bits
    with pytest.raises(ValueError, match="more than the budget"):
        store(points + 1).check_budget(budget)


def test_most_groups_fit_with_their_labels():
    """Two groups of every class fill the budget, which leaves no room for any label."""
    budget, labels = bank_of().budget(1), labels_of(6)
    groups = rand(6, 2, 6, 3)
    assert ShapeMorphing(groups, 3, 1).storage_bits() == budget.bits
    most = ShapeMorphing.most_groups(budget, 2, 6, 1)
    assert most == 1
    ShapeMorphing(groups[:3], 3, 1, labels=labels).check_budget(budget)
    # All groups of a class share its labels.
    budget, labels = bank_of().budget(2), labels_of(6)
    most = ShapeMorphing.most_groups(budget, 1, 6, 0)
    ShapeMorphing(rand(3 * most, 1, 6, 3), 3, 0, labels=labels).check_budget(budget)
    more = ShapeMorphing(rand(3 * most + 3, 1, 6, 3), 3, 0, labels=labels)
    with pytest.raises(ValueError, match="more than the budget"):
        more.check_budget(budget)


def test_most_morphs_leave_room_for_the_labels():
    budget = bank_of().budget(1)
    most = ShapeMorphing.most_morphs(budget, 2)
    assert ShapeMorphing.largest_anchor_points(budget, 2, most) == 1
    with pytest.raises(ValueError, match="do not fit"):
        ShapeMorphing.largest_anchor_points(budget, 2, most + 1)


def test_budget_refuses_more_labels_than_it_has_room_for():
    shape = full(ppc=2)
    assert shape.storage_bits() == StorageBudget(24, 3, 2, 192).bits
    budget = StorageBudget(24, 3, 2, 192 - 1)
    with pytest.raises(ValueError, match="which is 2 more than the budget"):
        shape.check_budget(budget)
    with pytest.raises(ValueError, match="'label_bits' must be at least 0"):
        StorageBudget(24, 3, 2, -1)


def test_there_and_back(make):
    shape = make()
    config = json.loads(json.dumps(shape.config()))
    again = type(shape).from_storage(shape.storage(), config, 3, shape.ppc)
    assert again.config() == shape.config()
    ours, theirs = again(), shape()
    assert torch.equal(ours.y, theirs.y)
    assert torch.equal(ours.category, theirs.category)
    torch.testing.assert_close(ours.pos, theirs.pos)


def test_labels_of_another_size_are_refused():
    for labels in (labels_of(11), PartLabels(torch.tensor([[12]]), PartSpace(("a",), ((0,),)))):
        with pytest.raises(ValueError, match="'labels' must be 1 rows of 12 points"):
            ShapeMorphing(rand(3, 2, 12, 3), 3, 1, labels=labels)
    several = PartLabels(arrangement_of().repeat_interleave(2, dim=0), SPACE)
    with pytest.raises(ValueError, match=r"'labels' must be 1 rows of 12 points .* got 2 of 12"):
        ShapeMorphing(rand(6, 2, 12, 3), 3, 1, labels=several)
    with pytest.raises(ValueError, match=r"'labels' must be 1 or 3 rows of 12 points .* got 2"):
        FullResolution(rand(9, 12, 3), 3, labels=several)
    assert FullResolution(rand(6, 12, 3), 3, labels=several).labels is several


@pytest.mark.parametrize("num_points", [6, 24])
def test_anchors_of_another_size_than_their_clouds_are_refused(num_points):
    with pytest.raises(ValueError, match=r"'pos' must have clouds of 12 points, .* got "):
        ShapeMorphing.from_clouds(rand(3, 2, num_points, 3), 2, 12, 1, labels=labels_of())


# The data set #####################################################################################


def set_of(shape, **kwargs):
    return SyntheticPointCloudDataset(shape, class_names=list(TOY_PARTS), **kwargs)


def test_data_set_is_in_the_convention_of_pyg(make):
    shape = make()
    dataset = set_of(shape)
    check_labelled(dataset)
    assert (len(dataset), dataset.num_classes) == (shape.num_clouds, 7)
    assert dataset.part_names == [f"part{i}" for i in range(7)]
    assert dataset.category_parts == TOY_PARTS
    assert PartSpace.of(dataset) == dataset.space == SPACE
    batch = shape()
    assert torch.equal(torch.cat([data.pos for data in dataset]), batch.pos.detach())
    assert torch.equal(torch.cat([data.y for data in dataset]), batch.y)
    assert torch.equal(torch.cat([data.category for data in dataset]), batch.category)


def test_loader_batches_the_clouds(make):
    dataset = set_of(make())
    batch = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    expected = dataset.parameterization()
    for key in ("pos", "y", "category", "batch", "ptr"):
        assert torch.equal(batch[key], expected[key].detach()), key


def test_splits():
    shape = morphing(ppc=2)
    whole, anchors, morphs = (set_of(shape, split=s) for s in ("all", "anchors", "morphs"))
    assert (len(whole), len(anchors), len(morphs)) == (30, 12, 18)
    for some in (anchors, morphs):
        check_labelled(some)
    for i, data in enumerate(whole):
        group, place = divmod(i, 5)
        theirs = anchors[2 * group + place] if place < 2 else morphs[3 * group + place - 2]
        assert all(torch.equal(data[key], theirs[key]) for key in ("pos", "y", "category"))


def test_data_set_is_read_as_a_bank(make):
    dataset = set_of(make())
    bank = bank_of(dataset)
    assert (bank.space, bank.class_names) == (SPACE, list(TOY_PARTS))
    assert torch.equal(bank.part, dataset.parameterization().y)
    assert bank_of(dataset[3:6]).y.tolist() == bank.y[3:6].tolist()
    assert bank_of(Subset(dataset, [0])).space == SPACE


def test_unlabelled_sets_have_no_parts():
    dataset = SyntheticPointCloudDataset(FullResolution(rand(3, 8, 3), 3))
    assert (dataset.space, dataset.part_names, dataset.category_parts) == (None, None, None)
    assert (dataset.num_classes, dataset[0].y.shape) == (3, (1,))
    assert "category" not in dataset[0]
    with pytest.raises(ValueError, match="'dataset' must have 'part_names'"):
        bank_of(dataset)


def test_saved_and_read_again(make, tmp_path):
    dataset = set_of(make(), provenance={"method": "none"})
    dataset.save(tmp_path / "set")
    again = SyntheticPointCloudDataset(tmp_path / "set")
    check_labelled(again)
    assert again.category_parts == TOY_PARTS
    assert again.storage_bits == dataset.storage_bits
    for ours, theirs in zip(again, dataset, strict=True):
        torch.testing.assert_close(ours.pos, theirs.pos)
        assert torch.equal(ours.y, theirs.y)
        assert torch.equal(ours.category, theirs.category)
    again.save(tmp_path / "again")
    if "weights" not in again.parameterization.storage():
        assert (tmp_path / "again").read_bytes() == (tmp_path / "set").read_bytes()


def rewrite(path, change):
    """Writes the file again with other contents and a checksum that fits."""
    tensors, header = _files.read_tensors(path, "synthetic point cloud data set", 1)
    change(header, tensors)
    kind, version = header.pop("kind"), header.pop("version")
    header["bits"] = sum(8 * t.numel() * t.element_size() for t in tensors.values())
    _files.write_tensors(path, tensors, header, kind, version)


def put(change):
    def apply(_, tensors):
        tensors["part_counts"] = change(tensors["part_counts"].clone())

    return apply


def moved(counts):
    counts[0] -= 100
    counts[1] += 100
    return counts


TAMPERED = {
    "nothing": None,
    "wider": put(lambda counts: counts.long()),
    "floats": put(lambda counts: counts.float()),
    "shorter": put(lambda counts: counts[1:]),
    "empty": put(lambda counts: counts[:0]),
    "too many rows": put(lambda counts: counts.repeat(3)),
    "a table": put(lambda counts: counts[None]),
    "sum of one": put(lambda counts: counts + torch.eye(len(counts), dtype=torch.int32)[0]),
    "sum of all": put(lambda counts: counts * 2),
    "huge": put(lambda counts: torch.full_like(counts, 2**31 - 1)),
    "negative": put(moved),
    "zero": put(torch.zeros_like),
    "missing": lambda _, tensors: tensors.pop("part_counts"),
    "no parts": lambda header, _: header["config"].pop("parts"),
    "parts of nothing": lambda header, _: header["config"].update(parts=None),
    "parts of text": lambda header, _: header["config"].update(parts={"part_names": "a"}),
    "fewer parts": lambda header, _: header["config"]["parts"].update(category_parts=[[0]]),
    "parts out of range": lambda header, _: header["config"]["parts"].update(part_names=["a"]),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_tampered_files(make, tmp_path, change):
    path = tmp_path / "set"
    set_of(make()).save(path)
    if change is None:
        rewrite(path, lambda header, tensors: None)
        check_labelled(SyntheticPointCloudDataset(path))
        return
    rewrite(path, change)
    with pytest.raises(ValueError, match="is damaged"):
        SyntheticPointCloudDataset(path)


# The coreset ######################################################################################


@pytest.mark.parametrize("ppc", [1, 2, 4])
def test_random_coreset(ppc, tmp_path):
    clouds = toy_parts()
    coreset = random_coreset(clouds, ppc, seed=3, task="segmentation")
    check_labelled(coreset)
    assert len(coreset) == 3 * ppc
    assert coreset.storage_bits == bank_of().budget(ppc).bits == coreset.provenance["bits"]
    chosen = coreset.provenance["chosen"]
    assert len(set(chosen)) == 3 * ppc
    for data, i in zip(coreset, chosen, strict=True):
        # The very points, sorted by part, each in the order of the cloud.
        order = clouds[i].y.argsort(stable=True)
        assert torch.equal(data.pos, clouds[i].pos[order])
        assert torch.equal(data.y, clouds[i].y[order])
        assert torch.equal(data.category, clouds[i].category)
    coreset.save(tmp_path / "set")
    again = SyntheticPointCloudDataset(tmp_path / "set")
    assert all(torch.equal(a.y, b.y) for a, b in zip(again, coreset, strict=True))


def test_random_coreset_draws_clouds_again_where_there_are_too_few():
    coreset = random_coreset(toy_parts(per_class=2), 3, task="segmentation")
    assert [data.category.item() for data in coreset] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_random_coreset_refuses():
    with pytest.raises(ValueError, match=r"'task' must be a Task or one of .*, got 'segment'"):
        random_coreset(toy_parts(), task="segment")
    with pytest.raises(ValueError, match="'y' of cloud 0 must be one integer label"):
        random_coreset(toy_parts())
    with pytest.raises(ValueError, match="'dataset' must have 'part_names'"):
        random_coreset(toy_set(), task="segmentation")
    with pytest.raises(ValueError, match=r"got none of class 2 \(ball\)"):
        random_coreset(Subset(toy_parts(), range(8)), task="segmentation")
    with pytest.raises(ValueError, match="all clouds must have the same number of points"):
        random_coreset(toy_parts(sizes=[24, 17, 9, 30]), task="segmentation")


def test_names_of_parts_are_found_through_subsets_and_joined_sets():
    whole = toy_parts()
    inner = torch.utils.data.Subset(torch.utils.data.Subset(whole, range(6)), range(4))
    joined = torch.utils.data.ConcatDataset([inner, whole])
    for dataset in (inner, joined, torch.utils.data.Subset(joined, range(5))):
        bank = LabelledBank.from_dataset(dataset)
        assert bank.space == LabelledBank.from_dataset(whole).space
        assert bank.class_names == list(whole.class_names)
