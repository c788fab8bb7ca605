"""The viewer: what its page holds, and what it does when it is clicked."""

import importlib.util
import json
import re
import sys

import pytest
import torch
from browser import CHROMIUM, Browser
from helpers import LabelledClouds, toy_arrays, toy_parts, toy_set
from matplotlib.colors import to_hex
from torch_geometric.data import Data

from torch_geometric_ddp import PointCloudArrays, SyntheticPointCloudDataset
from torch_geometric_ddp.methods import ddp
from torch_geometric_ddp.nn import PointNetSegmentation
from torch_geometric_ddp.parameterization import FullResolution, PointMixup, ShapeMorphing
from torch_geometric_ddp.programs import command
from torch_geometric_ddp.viewer import write_viewer
from torch_geometric_ddp.visualize import plot_clouds

NAMES = ["cup", "lamp</script><b>", 'a"b']


def morphing(ppc=1):
    generator = torch.Generator().manual_seed(0)
    pos = torch.randn(3, 3 * ppc, 40, 3, generator=generator)
    stored = ShapeMorphing.from_clouds(pos, 3, 16, 2, generator)
    return SyntheticPointCloudDataset(stored, class_names=NAMES, provenance={"source": "toys"})


def real():
    return PointCloudArrays(*toy_arrays(), class_names=NAMES)


def data_of(path):
    text = path.read_text(encoding="utf-8")
    (found,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', text)
    return json.loads(found)


plotly = pytest.mark.skipif(
    importlib.util.find_spec("plotly") is None, reason="plotly is not installed"
)


@plotly
def test_a_page_holds_the_clouds_and_their_weights(tmp_path):
    synthetic = morphing(ppc=2)
    page = data_of(write_viewer(synthetic, tmp_path / "new" / "page.html", real(), num_real=2))
    assert page["kinds"] == ["real", "stored", "morph", "path"]
    assert [one["name"] for one in page["classes"]] == NAMES
    assert all(len(one["groups"]) == 2 and len(one["real"]) == 2 for one in page["classes"])
    group = page["classes"][1]["groups"][1]
    clouds = torch.stack([data.pos for data in synthetic]).view(3, 2, 5, 16, 3)[1, 1]
    stored, morphs = (torch.tensor(group[key]).view(-1, 16, 3) for key in ("stored", "morphs"))
    scale = clouds[0].sub(clouds[0].mean(0)).norm() / stored[0].norm()
    torch.testing.assert_close(
        scale * torch.cat([stored, morphs]),
        clouds - clouds.mean(1, keepdim=True),
        atol=1e-3,
        rtol=0,
    )
    mixed = torch.einsum("lm,mnd->lnd", torch.tensor(group["weights"]), stored)
    torch.testing.assert_close(mixed, morphs, atol=1e-3, rtol=0)


@plotly
def test_a_page_of_some_classes(tmp_path):
    page = data_of(write_viewer(morphing(), tmp_path / "page.html", classes=['a"b', 0]))
    assert [one["name"] for one in page["classes"]] == ['a"b', "cup"]
    assert page["kinds"] == ["stored", "morph", "path"]


@plotly
def test_clouds_that_are_not_mixed_have_no_slider(tmp_path):
    full = SyntheticPointCloudDataset(FullResolution(torch.randn(6, 8, 3), 3))
    page = data_of(write_viewer(full, tmp_path / "full.html", [*toy_set()]))
    assert page["kinds"] == ["real", "stored"]
    assert (page["title"], page["words"]) == ("A distilled set", "Colours are heights.")
    assert [len(one["groups"][0]["stored"]) for one in page["classes"]] == [2, 2, 2]
    mixup = SyntheticPointCloudDataset(PointMixup(torch.randn(2, 2, 8, 3), 2, 1))
    assert data_of(write_viewer(mixup, tmp_path / "mixup.html"))["kinds"] == ["stored", "morph"]


@plotly
def test_clouds_of_any_extent_are_of_unit_size(tmp_path):
    generator = torch.Generator().manual_seed(0)
    clouds = torch.randn(2, 2, 8, 3, generator=generator)
    clouds *= torch.tensor([[1e3, 5e-2], [1e30, 1e-13]])[..., None, None]
    stored = SyntheticPointCloudDataset(FullResolution(clouds.flatten(0, 1), 2))
    page = data_of(write_viewer(stored, tmp_path / "all.html", []))
    assert page["kinds"] == ["stored"]
    for one in page["classes"]:
        for cloud in one["groups"][0]["stored"]:
            radii = torch.tensor(cloud).view(8, 3).norm(dim=1)
            torch.testing.assert_close(radii.amax(), torch.tensor(1.0), rtol=0, atol=1e-3)


@plotly
def test_parts_have_colours(tmp_path):
    method = ddp(num_anchors=2, num_morphs=1, anchor_points=10)
    dataset = toy_parts()
    synthetic = method.distill(
        dataset, steps=0, task="segmentation", network=PointNetSegmentation, progress=False
    )
    page = data_of(write_viewer(synthetic, tmp_path / "parts.html", dataset))
    one = page["classes"][0]
    assert [len(parts) for parts in one["groups"][0]["parts"]] == [10, 10, 10]
    assert sorted({*one["groups"][0]["parts"][0]}) == [0, 1]
    assert [len(parts) for parts in one["real_parts"]] == [24, 24, 24]
    # Of every word that the page has, what it means.
    told = page["words"].split(". ")
    assert [line.split()[0] for line in told] == ["Anchors", "PPC", "Colours"]
    assert told[-1] == "Colours are parts."


@plotly
@pytest.mark.parametrize("gap", [1, 7, 10, 20])
@pytest.mark.parametrize("num", [2, 12])
def test_the_parts_of_a_class_have_a_colour_each(gap, num, tmp_path):
    """That of the picture: they count from the lowest of the class, whatever their labels are."""
    names = ["one", "two"]
    parts = {name: [i + gap * k for k in range(num)] for i, name in enumerate(names)}
    if gap == 1:
        parts["two"] = [num + part for part in parts["two"]]
    clouds = []
    for category, name in enumerate(names):
        y = torch.tensor(parts[name]).repeat(2)
        clouds += [Data(pos=torch.randn(len(y), 3), y=y, category=torch.tensor([category]))] * 2
    dataset = LabelledClouds(clouds, parts)
    synthetic = ddp(num_anchors=1, num_morphs=0).distill(
        dataset, steps=0, task="segmentation", network=PointNetSegmentation, progress=False
    )
    page = data_of(write_viewer(synthetic, tmp_path / "parts.html", dataset))
    pictured = plot_clouds(
        [[data.pos for data in clouds[:1]]], ["one"], [""], part_labels=[[clouds[0].y]]
    )
    colors = {to_hex(color) for color in pictured.axes[0].collections[0].get_facecolors()}
    for one in page["classes"]:
        ranks = one["real_parts"][0]
        assert ranks == [*range(num)] * 2
        assert {page["palette"][rank] for rank in ranks} == colors
        assert len(colors) == num
        for group in one["groups"]:
            assert {rank for ranks in group["parts"] for rank in ranks} <= {*range(num)}


@plotly
def test_a_page_stays_as_it_was_where_the_disk_is_full(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("the disk is full")

    path = write_viewer(morphing(), tmp_path / "page.html")
    before = path.read_bytes()
    monkeypatch.setattr("torch_geometric_ddp._files.os.fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        write_viewer(morphing(), path, classes=[0])
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == before


@plotly
def test_real_clouds_of_other_classes_are_refused(tmp_path):
    for other in (toy_set(), [*toy_set(num_classes=4)]):
        with pytest.raises(ValueError, match="'real_set' must have the classes"):
            write_viewer(morphing(), tmp_path / "page.html", other)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("synthetic", value) for value in (None, "set.safetensors", [], toy_set())),
        *(("path", value) for value in (None, 1, b"x", ".", "/dev/null/page.html")),
        *(("real_set", value) for value in (1, "clouds", {}, torch.zeros(2, 3))),
        *(("num_real", value) for value in (None, -1, 1.5, "1", True)),
        *(("classes", value) for value in ("cup", 1, [], ["x"], [3], [None], [1.0])),
        *(("up", value) for value in (None, "w", 2, "")),
    ],
)
@plotly
def test_a_bad_argument_is_refused(argument, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"synthetic": morphing(), "path": "page.html", argument: value}
    with pytest.raises((TypeError, ValueError), match=f"'{argument}'"):
        write_viewer(**given)
    assert not list(tmp_path.iterdir())


@plotly
def test_show_writes_a_page(tmp_path, capsys):
    SyntheticPointCloudDataset.example().save(tmp_path / "set.safetensors")
    path = tmp_path / "page.html"
    words = ["--num-per-class", "2", "--drawn", "1", "1", "1", "--classes", "bed", "--up", "y"]
    words += ["--picture", str(tmp_path / "set.png"), "--html", str(path)]
    assert command.main(["show", str(tmp_path / "set.safetensors"), *words]) == 0
    assert f"The page is {path}" in capsys.readouterr().out
    page = data_of(path)
    assert [one["name"] for one in page["classes"]] == ["bed"]
    assert len(page["classes"][0]["real"]) == 1
    assert page["up"] == "y"


def test_without_plotly_it_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match="the extra 'view'"):
        write_viewer(morphing(), tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


# In a browser ####################################################################################

DRAWN = "JSON.stringify(document.getElementById('plot').data.map(t => [t.x[0], t.y[3], t.z[5]]))"


@pytest.fixture
def page(tmp_path):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    path = write_viewer(morphing(ppc=2), tmp_path / "page.html", real())
    with Browser(tmp_path / "profile") as browser:
        browser.open(path, "document.body?.dataset.ready === 'yes'")
        browser.path = path
        yield browser


def drawn(browser):
    return json.loads(browser.value(DRAWN))


def text(browser, selector):
    return browser.value(f"document.querySelector('{selector}').textContent")


@plotly
def test_clicks_and_the_slider_change_what_is_drawn_without_a_network(page):
    assert page.value("document.querySelectorAll('canvas').length") >= 4
    assert text(page, "#class option:nth-child(2)") == NAMES[1]
    begun = drawn(page)
    page.click("#after-stored")
    second = drawn(page)
    assert [a == b for a, b in zip(begun, second, strict=True)] == [True, False, True, True]
    assert text(page, "#panel-stored .shown") == "2 of 3"
    page.click("#before-stored")
    assert drawn(page) == begun
    page.click("#after-morph")
    assert [a == b for a, b in zip(begun, drawn(page), strict=True)] == [True, True, False, True]
    assert text(page, "#panel-morph .weights").startswith("weights 0.")

    # The slider begins at the first anchor, and half of a third of its way is half way to the next.
    assert begun[3] == begun[1]
    page.click("#slider", at=0.5)
    third = drawn(page)
    assert [a == b for a, b in zip(begun, third, strict=True)] == [True, True, False, False]
    assert text(page, "#panel-path .shown") == "anchor 2 → 3"
    page.value("document.getElementById('slider').value = 1")
    page.value("document.getElementById('slider').dispatchEvent(new Event('input'))")
    assert drawn(page)[3] == pytest.approx(second[1])
    assert text(page, "#panel-path .weights") == "weights 0.00  1.00  0.00"

    for key, value in (("class", 1), ("group", 1)):
        before = drawn(page)
        page.value(f"document.getElementById('{key}').value = {value}")
        page.value(f"document.getElementById('{key}').dispatchEvent(new Event('change'))")
        assert all(a != b for a, b in zip(before[1:], drawn(page)[1:], strict=True))
    assert page.errors == []
    assert set(page.requests) == {page.path.as_uri()}


@plotly
def test_every_class_has_its_own_groups_to_choose(tmp_path):
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    generator = torch.Generator().manual_seed(0)
    pos = torch.randn(1, 18, 40, 3, generator=generator)
    stored = ShapeMorphing.from_clouds(pos, 3, 16, 2, generator).divide((1, 3, 2))
    path = write_viewer(SyntheticPointCloudDataset(stored, class_names=NAMES), tmp_path / "p.html")
    with Browser(tmp_path / "profile") as browser:
        browser.open(path, "document.body?.dataset.ready === 'yes'")
        seen = []
        for key, value in (("class", 1), ("group", 2), ("class", 2), ("class", 0)):
            before = drawn(browser)
            browser.value(f"document.getElementById('{key}').value = {value}")
            browser.value(f"document.getElementById('{key}').dispatchEvent(new Event('change'))")
            assert all(a != b for a, b in zip(before, drawn(browser), strict=True))
            told = "e.options.length, Number(e.value), e.parentElement.hidden"
            seen.append(browser.value(f"(e => [{told}])(document.getElementById('group'))"))
        assert seen == [[3, 0, False], [3, 2, False], [2, 1, False], [1, 0, True]]
        assert browser.errors == []


@plotly
def test_clouds_are_turned_together(page):
    eye = "JSON.stringify(['scene', 'scene4'].map(n => document.getElementById('plot')"
    eye += "._fullLayout[n]._scene.getCamera().eye))"
    first, last = json.loads(page.value(eye))
    assert first == pytest.approx(last)
    page.drag((150, 250), (250, 300))
    turned, other = json.loads(page.value(eye))
    assert turned != pytest.approx(first, abs=1e-3)
    assert other == pytest.approx(turned, abs=1e-3)
