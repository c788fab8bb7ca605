"""Rows that differ from a method in one setting."""

from functools import partial

import pytest
from helpers import lab_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from torch_geometric_ddp._identity import describe
from torch_geometric_ddp.comparison import ENTRIES, Distilled, Sensitivity, summarize
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.parameterization import Uniform

BASE = Distilled("DDP", {"num_morphs": 2}, build=ddp)


def test_a_row_with_other_settings():
    row = BASE.changed({"num_anchors": 2, "adaptive": False})
    assert row.name == "DDP(num_anchors=2, adaptive=False)"
    assert row.settings == {"num_morphs": 2, "num_anchors": 2, "adaptive": False}
    assert row.identity() == {**BASE.identity(), "num_anchors": 2, "adaptive": False}


@pytest.mark.parametrize(
    ("row", "settings", "error", "message"),
    [
        (
            "DDP",
            {"num_morph": 2},
            ValueError,
            "settings of 'DDP' must be among num_anchors, ",
        ),
        ("DDP", {"steps": 2}, ValueError, "got 'steps'"),
        ("DDP", {"batch_size": 0}, ValueError, "'batch_size' must be at least 1, got 0"),
        ("DDP", {"batch_size": "8"}, TypeError, "'batch_size'"),
        ("DDP-initial", {"adaptive": 3}, TypeError, "'adaptive' must be True or False"),
        ("anchors", {"batch_size": 0}, ValueError, "'batch_size' must be at least 1, got 0"),
        ("PCC", {"choose": None}, ValueError, "settings of 'PCC' must be among lr, got 'choose'"),
        ("random", {"num_points": 2}, ValueError, "the row 'random' has no settings"),
        ("whole", {"num_points": 2}, ValueError, "the row 'whole' has no settings"),
    ],
)
def test_settings_that_a_row_cannot_have(row, settings, error, message):
    with pytest.raises(error, match=message):
        ENTRIES[row].changed(settings)
    if isinstance(ENTRIES[row], Distilled):
        with pytest.raises(error, match=message):
            Sensitivity(ENTRIES[row], {name: [value] for name, value in settings.items()})


def test_every_setting_of_ddp_can_be_changed_and_is_part_of_the_identity():
    row = BASE.changed({"align": False, "fill": True, "anchor_points": 8, "codec": Uniform(6)})
    told = row.identity()
    assert (told["align"], told["fill"]) == (False, True)
    assert "Uniform" in str(told["codec"])
    with pytest.raises(TypeError, match="'align' must be True or False"):
        BASE.changed({"align": 0})
    with pytest.raises(ValueError, match="'fill' must be with 'anchor_points'"):
        BASE.changed({"fill": True})
    found = Sensitivity(BASE, {"align": (False,)})
    assert list(found.of("align")) == ["False", "True"]


def test_settings_that_were_not_told_are_told_only_where_they_differ(monkeypatch):
    """So that runs that were made before are found, and a new default makes new runs."""
    later = {"align", "codec", "weight_codec", "fill"}
    assert not later & BASE.identity().keys()
    # What was told explicitly before is told still.
    assert ENTRIES["DDP-no-align"].identity()["align"] is False
    assert Distilled("x", {"fill": False}, build=ddp).identity()["fill"] is False
    own = Distilled("mine", build=lambda align=True: ddp(align=align))
    assert own.identity() == {"align": True, "build": describe(own.build)}
    part = Distilled("part", build=partial(ddp, align=False))
    assert part.identity()["align"] is False
    monkeypatch.setitem(ddp.__kwdefaults__, "align", False)
    assert BASE.identity()["align"] is False


def test_every_setting_is_changed_alone():
    found = Sensitivity(BASE, {"num_morphs": (4, 2, 1), "anchor_points": (8,), "num_anchors": (4,)})
    names = ["DDP", "DDP(num_morphs=1)", "DDP(num_morphs=4)", "DDP(anchor_points=8)"]
    assert [row.name for row in found.entries] == names
    assert {value: row.name for value, row in found.of("num_morphs").items()} == {
        "1": "DDP(num_morphs=1)",
        "2": "DDP",
        "4": "DDP(num_morphs=4)",
    }
    assert list(found.of("anchor_points")) == ["8", "usual"]
    assert found.of("num_anchors") == {"4": BASE}


def test_values_of_the_same_short_word_are_told_apart():
    values = (0.12345671, 0.12345672, 2.0)
    found = Sensitivity(BASE, {"uniformity_lambda": values}).of("uniformity_lambda")
    assert list(found) == ["0.12345671", "0.12345672", "2", "1000"]
    codecs = Sensitivity(BASE, {"codec": (Uniform(6), Uniform(5))}).of("codec")
    assert len(codecs) == 3


def test_values_that_are_lists():
    """As the command line reads '--vary ages "[0,20]"'."""
    base = ENTRIES["PKR"].changed({"ages": [0, 5]})
    found = Sensitivity(base, {"ages": [[0, 20], (0, 5)]}).of("ages")
    assert found["(0, 5)"] is base
    assert found["(0, 20)"].settings["ages"] == (0, 20)


def test_no_setting_is_refused():
    with pytest.raises(ValueError, match="'values' must name at least one setting, got none"):
        Sensitivity(BASE, {})


def test_table_and_picture(tmp_path, monkeypatch):
    lab = lab_of(tmp_path / "lab")
    found = Sensitivity(BASE, {"num_morphs": (1,), "uniformity_lambda": (0.0, 10.0)})
    runs = lab.run(list(lab.cells(found.entries, (1, 2), (0, 1))))
    assert lab.failures == {}
    rows = summarize(runs)
    head, _, *lines, empty, means, note = found.markdown(rows).splitlines()
    assert (empty, note.rpartition(": ")[2]) == ("", "`mirrored 32x5` (PPC 1, 2).")
    assert means == "Means over 2 seeds."
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        *("setting", "value", "PPC", "accuracy %", "above the method")
    ]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    wanted = [("num_morphs", value) for value in "12"]
    wanted += [("uniformity_lambda", value) for value in ("0", "10", "1000")]
    assert [tuple(line[:3]) for line in cells] == [
        (*pair, ppc) for pair in wanted for ppc in ("1", "2")
    ]
    means = {(row.method, str(row.ppc)): row.mean for row in rows}
    for setting, value, ppc, figure, above in cells:
        row = found.of(setting)[value].name
        assert float(figure.split(" ")[0]) == pytest.approx(100 * means[row, ppc], abs=0.051)
        gap = 100 * (means[row, ppc] - means["DDP", ppc])
        assert above == ("-" if row == "DDP" else f"{gap:+.1f}")

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: drawn.append(self))
    found.plot(rows, tmp_path / "picture.png", "toy")
    panels = [axes for axes in drawn[0].axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["num_morphs", "uniformity_lambda"]
    line = panels[0].get_lines()[0]
    assert list(line.get_xdata()) == [0, 1]
    assert list(line.get_ydata()) == pytest.approx(
        [100 * means["DDP(num_morphs=1)", "1"], 100 * means["DDP", "1"]]
    )
    assert [text.get_text() for text in panels[0].get_xticklabels()] == ["1", "2"]


@pytest.mark.parametrize(
    ("base", "name", "values", "turned"),
    [
        ("DDP", "anchor_lr", [0.0001 * 3**i for i in range(9)], True),
        ("DDP", "num_anchors", [2, 8], False),
        ("PKR", "ages", [(0, 50)], False),
        ("PKR", "ages", [tuple(range(n)) for n in (1, 8, 9, 10)], True),
    ],
)
def test_values_do_not_stand_over_each_other(base, name, values, turned, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: drawn.append(self))
    found = Sensitivity(ENTRIES[base], {name: values})
    run = {"backbone": "Tiny", "ppc": 1, "budget_bits": 8, "value": 0.5, "metric": "accuracy"}
    found.plot(
        summarize({**run, "method": row.name} for row in found.entries), tmp_path / "any.png"
    )
    canvas = FigureCanvasAgg(drawn[0])
    canvas.draw()
    labels = drawn[0].axes[0].get_xticklabels()
    assert [" ".join(label.get_text().split()) for label in labels] == [*found.of(name)]
    assert [label.get_rotation() for label in labels] == [45 * turned] * len(labels)
    boxes = [label.get_window_extent(canvas.get_renderer()) for label in labels]
    assert all(box.y0 >= 0 for box in boxes)
    if not turned:
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_no_runs(tmp_path):
    found = Sensitivity(BASE, {"num_morphs": (1,)})
    assert found.markdown([]) == "No runs.\n"
    with pytest.raises(ValueError, match="'rows' must hold at least one row"):
        found.plot([], tmp_path / "picture.png")
