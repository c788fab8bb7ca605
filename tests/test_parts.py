"""Parts of categories, and the intersection over union against plain loops and torchmetrics."""

import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Subset
from torchmetrics.functional.classification import multiclass_jaccard_index

from torch_geometric_ddp.clouds.part_space import PartSpace
from torch_geometric_ddp.tasks import PartIoU, part_iou, restrict

NAMES = ("seat", "back", "leg", "wing", "body", "blade")
SPACE = PartSpace(NAMES, ((0, 1, 2), (4, 3), (5,)))


# The parts ########################################################################################


def named(**changes):
    """A data set, as far as its names go."""
    values = {
        "part_names": list(NAMES),
        "class_names": ["chair", "plane", "knife"],
        "category_parts": {"chair": [0, 1, 2], "plane": [4, 3], "knife": [5]},
    }
    return SimpleNamespace(**values | changes)


def test_parts_of_a_data_set():
    assert PartSpace.of(named()) == SPACE
    assert (SPACE.num_parts, SPACE.num_categories) == (6, 3)
    subset = Subset(Subset(named(), [0]), [0])
    assert PartSpace.of(subset) == SPACE


def test_parts_of_fewer_categories():
    space = PartSpace.of(named(class_names=["plane"], category_parts={"plane": [3, 4]}))
    assert space.num_parts == 6
    assert space.mask().tolist() == [[False, False, False, True, True, False]]


def test_mask(device):
    mask = SPACE.mask(device)
    assert mask.device.type == device.type
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]


def test_parts_through_json():
    assert PartSpace.from_dict(json.loads(json.dumps(SPACE.to_dict()))) == SPACE
    assert hash(PartSpace.from_dict(SPACE.to_dict())) == hash(SPACE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "must have at least one category, got none"),
        (((0,), ()), "must not be empty, category 1 is"),
        (((0,), (6,)), "must lie below the 6 parts, got 6 in category 1"),
        (((0, 1), (2, 1)), r"must be disjoint, got part 1 \('back'\) in category 0 and in 1"),
        (((0, 0),), r"must be disjoint, got part 0 \('seat'\) in category 0 and in 0"),
        (((-1,),), "must be at least 0, got -1"),
    ],
)
def test_bad_parts(rows, message):
    with pytest.raises(ValueError, match=f"'category_parts' {message}"):
        PartSpace(NAMES, rows)


def test_parts_are_integers():
    with pytest.raises(TypeError, match="'category_parts' must be an integer, got float"):
        PartSpace(NAMES, ((0.5,),))


def test_data_sets_without_parts():
    with pytest.raises(ValueError, match=r"got list without \['part_names', 'category_parts', "):
        PartSpace.of([])
    with pytest.raises(ValueError, match=r"got SimpleNamespace without \['category_parts'\]"):
        PartSpace.of(Subset(named(category_parts=None), [0]))
    with pytest.raises(ValueError, match=r"must name the categories \['a'\] in this order, got"):
        PartSpace.of(named(class_names=["a"]))


@pytest.mark.parametrize(
    "values", [{}, {"part_names": ["a"]}, {"part_names": ["a"], "category_parts": [0]}]
)
def test_bad_headers(values):
    with pytest.raises(ValueError, match="'values' must hold lists 'part_names' and"):
        PartSpace.from_dict(values)


# The intersection over union ######################################################################


def iou_loop(pred, y, batch, category, space):
    values = []
    for shape, number in enumerate(category.tolist()):
        ours = [(int(p), int(t)) for p, t, b in zip(pred, y, batch, strict=True) if b == shape]
        parts = []
        for part in space.category_parts[number]:
            union = [pair for pair in ours if part in pair]
            both = [pair for pair in union if pair == (part, part)]
            parts.append(len(both) / len(union) if union else 1.0)
        values.append(sum(parts) / len(parts))
    return torch.tensor(values)


def shapes(seed, sizes, category=None):
    """Random predictions (one in five of any part) and labels of shapes of a few points."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high, num):
        return torch.randint(high, (num,), generator=generator)

    category = draw(3, len(sizes)) if category is None else torch.tensor(category)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    parts = [torch.tensor(SPACE.category_parts[c]) for c in category[batch].tolist()]
    y, pred = (torch.stack([row[draw(len(row), 1)[0]] for row in parts]) for _ in range(2))
    pred = torch.where(draw(5, len(pred)) == 0, draw(6, len(pred)), pred)
    return pred, y, batch, category


MANY = st.tuples(st.integers(0, 2**16), st.lists(st.integers(1, 8), min_size=1, max_size=5))


@given(MANY)
def test_iou_is_the_plain_loop(device, drawn):
    values = shapes(*drawn)
    ours = part_iou(*(x.to(device) for x in values), SPACE)
    assert ours.shape == values[-1].shape
    torch.testing.assert_close(ours.cpu(), iou_loop(*values, SPACE))


@given(MANY)
def test_iou_is_bounded_and_knows_no_order_of_points(drawn):
    pred, y, batch, category = shapes(*drawn)
    ours = part_iou(pred, y, batch, category, SPACE)
    assert bool(((ours >= 0) & (ours <= 1)).all())
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(drawn[0]))
    assert torch.equal(part_iou(pred[order], y[order], batch[order], category, SPACE), ours)


@given(MANY)
def test_iou_of_a_perfect_prediction_is_one(drawn):
    _, y, batch, category = shapes(*drawn)
    assert part_iou(y, y, batch, category, SPACE).tolist() == [1.0] * len(category)


@given(MANY, st.permutations(range(6)))
def test_iou_knows_no_numbers_of_parts(drawn, numbers):
    pred, y, batch, category = shapes(*drawn)
    rows = tuple(tuple(numbers[part] for part in row) for row in SPACE.category_parts)
    space, new = PartSpace(NAMES, rows), torch.tensor(numbers)
    ours = part_iou(new[pred], new[y], batch, category, space)
    torch.testing.assert_close(ours, part_iou(pred, y, batch, category, SPACE))


@given(MANY)
def test_iou_of_a_batch_is_that_of_its_shapes(drawn):
    pred, y, batch, category = shapes(*drawn)
    ours = part_iou(pred, y, batch, category, SPACE)
    for i in range(len(category)):
        its, one = batch == i, category[i : i + 1]
        zeros = torch.zeros(int(its.sum()), dtype=torch.long)
        assert torch.equal(part_iou(pred[its], y[its], zeros, one, SPACE), ours[i : i + 1])


@given(MANY)
def test_ptr_says_what_batch_says(drawn):
    pred, y, batch, category = shapes(*drawn)
    ptr = torch.tensor([0, *torch.bincount(batch).cumsum(0).tolist()])
    ours = part_iou(pred, y, ptr, category, SPACE)
    assert torch.equal(ours, part_iou(pred, y, batch, category, SPACE))
    logits = torch.randn(len(y), 6, generator=torch.Generator().manual_seed(drawn[0]))
    both = [restrict(logits, category, which, SPACE) for which in (batch, ptr)]
    assert torch.equal(*both)


@pytest.mark.parametrize(
    ("category", "pred", "y", "expected"),
    [
        (0, [0, 0, 1, 1], [0, 1, 1, 1], (1 / 2 + 2 / 3 + 1) / 3),  # No legs: they count as 1.
        (0, [0, 2, 1, 1], [0, 1, 1, 1], (1 + 2 / 3 + 0) / 3),  # Legs where there are none.
        (1, [4, 4, 4], [3, 4, 3], (1 / 3 + 0) / 2),
        (1, [0, 0, 4], [3, 4, 4], (1 / 2 + 0) / 2),  # A part of another category.
        (2, [5, 5], [5, 5], 1),
        (2, [0, 1], [5, 5], 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_iou_by_hand(category, pred, y, expected, dtype):
    pred, y, category = (torch.tensor(x, dtype=dtype) for x in (pred, y, [category]))
    ours = part_iou(pred, y, torch.zeros_like(y), category, SPACE)
    assert float(ours) == pytest.approx(expected)


@given(st.integers(0, 2**16))
def test_iou_is_that_of_torchmetrics(seed):
    # Of a shape all of whose parts occur: where one does not, torchmetrics leaves it out.
    pred, y, batch, category = shapes(seed, [12], category=[0])
    pred, y[:3] = torch.where(pred > 2, 0, pred), torch.arange(3)
    theirs = multiclass_jaccard_index(pred, y, num_classes=3, average="macro")
    torch.testing.assert_close(part_iou(pred, y, batch, category, SPACE), theirs[None])


def test_restriction_is_the_best_part_of_the_category(device):
    logits = torch.tensor([[1, 2, 0, 9, 9, 9], [1, 2, 0, 9, 9, 9], [9, 9, 9, 0, -1, 9]])
    logits, category = logits.float().to(device), torch.tensor([0, 1], device=device)
    batch = torch.tensor([0, 1, 1], device=device)
    assert restrict(logits, category, batch, SPACE).tolist() == [1, 3, 3]


@given(MANY)
def test_restriction_is_the_plain_loop(drawn):
    _, _, batch, category = shapes(*drawn)
    logits = torch.randn(len(batch), 6, generator=torch.Generator().manual_seed(drawn[0]))
    ours = restrict(logits, category, batch, SPACE)
    for row, shape, part in zip(logits, batch, ours, strict=True):
        parts = SPACE.category_parts[int(category[shape])]
        assert int(part) == max(parts, key=lambda p, row=row: float(row[p]))


def bad(message, error=ValueError, **changes):
    zeros = torch.zeros(2, dtype=torch.long)
    values = {"pred": zeros, "y": zeros, "batch": zeros, "category": zeros[:1]} | changes
    with pytest.raises(error, match=message):
        part_iou(**values, space=SPACE)


def test_bad_shapes():
    bad(r"'pred' must have shape \[2\], got \[1\]", pred=torch.tensor([0]))
    bad(r"'pred' must lie in 0..5, got 0..6", pred=torch.tensor([0, 6]))
    bad(r"'y' must lie in 0..5, got -1..0", y=torch.tensor([0, -1]))
    bad("got part 4 in shape 0 of category 0", y=torch.tensor([0, 4]))
    bad("'category' must lie in 0..2, got 3..3", category=torch.tensor([3]))
    bad("'batch' must lie in 0..0, got 0..1", batch=torch.tensor([0, 1]))
    bad("shape 1 has none", category=torch.tensor([0, 1]))
    bad("'ptr' must rise from 0", batch=torch.tensor([1, 2]))
    bad("'pred' must hold integers, got torch.float32", TypeError, pred=torch.zeros(2))
    empty = torch.zeros(0, dtype=torch.long)
    bad("there must be shapes with points", category=empty)
    bad("there must be shapes with points", y=empty)
    with pytest.raises(ValueError, match=r"'logits' must have shape \[ΣN, 6\], got \[2, 5\]"):
        restrict(torch.zeros(2, 5), empty, empty, SPACE)


# Their means ######################################################################################


def test_means_over_shapes_and_categories(device):
    iou = torch.tensor([0.5, 1.0, 0.0, 0.3], device=device)
    mean = PartIoU(iou, torch.tensor([0, 0, 2, 0], device=device), num_categories=4)
    assert mean.instance == pytest.approx(0.45)
    expected = torch.tensor([0.6, float("nan"), 0.0, float("nan")], device=device)
    torch.testing.assert_close(mean.per_category, expected, equal_nan=True)
    assert mean.category_mean == pytest.approx(0.3)


def test_bad_means():
    zeros = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"'iou' must have shape \[B\] with B > 0, got \[0\]"):
        PartIoU(torch.zeros(0), zeros, 3)
    with pytest.raises(ValueError, match=r"'category' must have shape \[3\], got \[2\]"):
        PartIoU(torch.zeros(3), zeros, 3)
    with pytest.raises(ValueError, match=r"'category' must lie in 0..0, got 1..1"):
        PartIoU(torch.zeros(2), zeros + 1, 1)


@pytest.mark.parametrize("index", range(4))
def test_a_list_in_the_place_of_a_tensor_is_refused(index):
    space = PartSpace(("a", "b"), ((0, 1),))
    given = [torch.tensor(values) for values in ([0, 1], [0, 1], [0, 0], [0])]
    given[index] = given[index].tolist()
    names = ("pred", "y", "batch", "category")
    with pytest.raises(TypeError, match=f"'{names[index]}' must be a tensor of shape"):
        part_iou(*given, space)
