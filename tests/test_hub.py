"""Sharing sets: the client of the Hub speaks with a server on this machine, and with no other."""

import base64
import hashlib
import http.server
import importlib.util
import json
import re
import sys
import threading
from urllib.parse import unquote, urlsplit

import pytest
import torch
from matplotlib.figure import Figure

from torch_geometric_ddp import SyntheticPointCloudDataset
from torch_geometric_ddp.parameterization import FullResolution
from torch_geometric_ddp.visualize import plot_distilled

hub = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="huggingface-hub is not installed"
)
REPO = "someone/shapes-distilled"
COMMIT = "a" * 40


class Handler(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as a repository takes: to be made, committed to and read from."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status, content=b"", **headers):
        content = json.dumps(content).encode() if isinstance(content, dict) else content
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        path, body, hub = urlsplit(self.path).path, self._body(), self.server.hub
        hub.posts.append((path, body))
        if path == "/api/repos/create":
            asked = json.loads(body)
            hub.made.append(asked)
            name = asked["name"]
            if asked.get("organization"):
                name = f"{asked['organization']}/{name}"
            self._answer(200, {"url": f"{hub.url}/datasets/{name}", "name": name, "id": name})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            ways = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self._answer(200, {"files": ways})
        elif "/commit/" in path:
            for line in filter(None, body.splitlines()):
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "header":
                    hub.messages.append(entry["value"]["summary"])
            self._answer(
                200,
                {
                    "commitOid": COMMIT,
                    "commitUrl": f"{hub.url}/datasets/{REPO}/commit/{COMMIT}",
                    "success": True,
                },
            )
        else:
            self._answer(200, {})

    def do_HEAD(self):
        self._read()

    def do_GET(self):
        self._read()

    def _read(self):
        path, hub = unquote(urlsplit(self.path).path), self.server.hub
        found = re.fullmatch(rf"/datasets/{REPO}/resolve/([^/]+)/(.+)", path)
        if not found or found[2] not in hub.files:
            self._answer(404, b"", X_Error_Code="EntryNotFound" if found else "RepoNotFound")
            return
        content = hub.files[found[2]]
        if self.command == "GET":
            hub.fetched.append((found[2], found[1]))
        self._answer(
            200,
            content,
            ETag=f'"{hashlib.sha1(content).hexdigest()}"',
            X_Repo_Commit=COMMIT,
            Content_Length=str(len(content)),
            Accept_Ranges="bytes",
        )


class Hub:
    """What the server holds, and what it was asked."""

    def __init__(self, url):
        self.url = url
        self.files, self.made, self.messages, self.fetched, self.posts = {}, [], [], [], []


@pytest.fixture
def server(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        url = f"http://127.0.0.1:{httpd.server_port}"
        httpd.hub = Hub(url)
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield httpd.hub
        httpd.shutdown()
        thread.join()
        sys.modules["huggingface_hub"].close_session()


@pytest.fixture
def example():
    return SyntheticPointCloudDataset.example()


def same(first, second):
    return torch.equal(first.pos, second.pos) and first.provenance == second.provenance


def test_a_set_goes_there_and_comes_back(server, example, tmp_path):
    picture = plot_distilled([], example, num_real=0, classes=["bed"])
    place = example.push_to_hub(
        REPO, license="mit", picture=picture, private=True, token="hf_none", message="The first"
    )
    assert place == f"{server.url}/datasets/{REPO}/commit/{COMMIT}"
    (made,) = server.made
    assert made["name"] == "shapes-distilled"
    assert made["type"] == "dataset"
    assert made.get("visibility", "private" if made.get("private") else None) == "private"
    assert server.messages == ["The first"]
    assert {*server.files} == {"distilled.safetensors", "README.md", "distilled.png"}
    assert server.files["distilled.png"].startswith(b"\x89PNG")
    example.save(tmp_path / "same.safetensors")
    assert server.files["distilled.safetensors"] == (tmp_path / "same.safetensors").read_bytes()

    server.files["code.py"] = b"raise SystemExit"
    cache = tmp_path / "cache"
    back = SyntheticPointCloudDataset.from_hub(REPO, cache_dir=cache, token=False)
    assert same(back, example)
    assert server.fetched == [("distilled.safetensors", "main")]
    # Again from what is kept, without a question.
    posts, server.files = len(server.posts), {}
    again = SyntheticPointCloudDataset.from_hub(
        REPO, split="morphs", cache_dir=cache, local_files_only=True
    )
    assert len(again) == 40
    assert (len(server.posts), len(server.fetched)) == (posts, 1)


def test_another_name_and_revision(server, example, tmp_path):
    example.push_to_hub(REPO, "other.safetensors", license="mit", token="hf_none")
    assert server.messages == ["Add other.safetensors"]
    assert {*server.files} == {"other.safetensors", "README.md"}
    given = {"revision": "b" * 40, "cache_dir": tmp_path, "token": False}
    assert same(SyntheticPointCloudDataset.from_hub(REPO, "other.safetensors", **given), example)
    assert server.fetched == [("other.safetensors", "b" * 40)]
    with pytest.raises(OSError, match="404"):
        SyntheticPointCloudDataset.from_hub(REPO, cache_dir=tmp_path, token=False)


def test_a_second_set_leaves_card_and_picture_of_the_first(server, example):
    example.push_to_hub(REPO, license="mit", picture=Figure(), token="hf_none")
    first = dict(server.files)
    picture = Figure(facecolor="red")
    with pytest.warns(UserWarning, match=f"the card of '{REPO}' stays as it is"):
        example.push_to_hub(
            REPO, "with space.safetensors", license="other", picture=picture, token="hf_none"
        )
    assert {*server.files} - {*first} == {"with space.safetensors", "with space.png"}
    assert {name: server.files[name] for name in first} == first
    assert server.files["with space.png"] != first["distilled.png"]

    # Nor is a card lost that a person has edited, unless it is asked for.
    server.files["README.md"] = b"By hand."
    with pytest.warns(UserWarning, match="overwrite_card=True puts that of 'distilled.safe"):
        example.push_to_hub(REPO, license="mit", token="hf_none")
    assert server.files["README.md"] == b"By hand."
    example.push_to_hub(
        REPO,
        "with space.safetensors",
        license="mit",
        picture=picture,
        token="hf_none",
        overwrite_card=True,
    )
    assert b"(with%20space.png)" in server.files["README.md"]
    assert b"    distill3d evaluate 'with space.safetensors'" in server.files["README.md"]


@pytest.mark.parametrize("content", [b"", b"\x80\x04cos\nsystem\n", b"{}" * 10**5])
def test_a_file_that_lies_is_refused(content, server, tmp_path):
    server.files["distilled.safetensors"] = content
    with pytest.raises(ValueError, match="is truncated or no safetensors file"):
        SyntheticPointCloudDataset.from_hub(REPO, cache_dir=tmp_path, token=False)


# The card ########################################################################################


def card_of(synthetic, server, **kwargs):
    synthetic.push_to_hub(REPO, token="hf_none", **{"license": "cc-by-4.0", **kwargs})
    return server.files["README.md"].decode()


def test_the_card_tells_what_the_file_tells(server, example):
    from huggingface_hub import DatasetCard

    text = card_of(example, server, picture=Figure())
    data = DatasetCard(text).data
    assert data.license == "cc-by-4.0"
    assert "point-cloud" in data.tags
    head, row = re.findall(r"^\| (.+) \|$", text, re.MULTILINE)
    told = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    made = example.provenance["evaluated"]
    assert told == {
        "method": "DDP",
        "PPC": "1",
        "bits": "245,760",
        "accuracy %": f"{100 * made['value']:.1f}",
        "network": made["backbone"],
        "protocol": made["protocol"]["name"],
        "seeds": ", ".join(map(str, made["seeds"])),
    }
    assert "    distill3d evaluate distilled.safetensors" in text
    assert f"epochs {made['protocol']['epochs']}" in text
    assert "![Clouds of the set](distilled.png)" in text
    assert f"from_hub('{REPO}', 'distilled.safetensors')" in text
    assert "The real clouds: cc-by-4.0." in text


@pytest.mark.parametrize("told", [{"value": None}, {"value": 0.5, "network": "mine.Net"}])
def test_the_card_tells_no_command_that_repeats_nothing(told, server):
    made = {"evaluated": {"metric": "accuracy", "backbone": "Mine", **told}}
    bare = SyntheticPointCloudDataset(FullResolution(torch.randn(2, 8, 3), 2), provenance=made)
    text = card_of(bare, server)
    assert "distill3d evaluate" not in text
    assert ("repeat_figure" in text) == (told["value"] is not None)


def test_the_card_of_a_set_that_tells_nothing(server):
    bare = SyntheticPointCloudDataset(FullResolution(torch.randn(2, 8, 3), 2))
    text = card_of(bare, server)
    assert "| method | PPC | bits |\n|---|---|---|\n| - | - | 1,536 |" in text
    assert "The set does not say." in text
    assert "Clouds of the set" not in text
    assert "evaluate" not in text


def test_what_a_file_holds_stays_text(server):
    from huggingface_hub import DatasetCard

    odd = "x | y\n# Title <script>alert(1)</script> [a](b) ![p](q) \\[d](e) {0} `c`"
    made = {"method": odd, "source": odd, "evaluated": {"value": 0.5, "seeds": odd, "protocol": 3}}
    bare = SyntheticPointCloudDataset(FullResolution(torch.randn(2, 8, 3), 2), provenance=made)
    whole = card_of(bare, server)
    text = whole.removeprefix("---\n").split("\n---\n", 1)[1]
    assert "<script>" not in text.replace("\\<", "")
    # No link and no picture, also where the text itself has a backslash before it.
    assert re.search(r"(?<!\\)(\\\\)*\[[ade]", text) is None
    assert r"\!\[p\](q)" in text
    assert text.count("\n# ") == 1
    # The head is no Markdown, where nothing needs a backslash.
    data = DatasetCard(whole).data
    assert data.pretty_name == f"{' '.join(odd.split())}, distilled"


# What goes wrong #################################################################################

PUSH = {"repo_id": REPO, "license": "mit"}


@hub
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("repo_id", value) for value in (None, 1, "", "a/b/c", "a b", "../x")),
        *(
            ("filename", value)
            for value in (None, "", "x.pkl", "../x.safetensors", "a/x.safetensors")
        ),
        *(("license", value) for value in (None, 1, [], "", " ")),
        *(("picture", value) for value in (1, b"x", "nowhere.png", __file__)),
        *(("private", value) for value in (1, None, "yes")),
        *(("overwrite_card", value) for value in (1, None, "yes")),
        *(("revision", value) for value in (1, b"main")),
        *(("message", value) for value in (1, b"x")),
    ],
)
def test_a_bad_argument_is_refused_before_the_hub_is_asked(argument, value, example, monkeypatch):
    monkeypatch.setattr("torch_geometric_ddp._hub.upload", None)
    monkeypatch.setattr("torch_geometric_ddp._hub.download", None)
    with pytest.raises((TypeError, ValueError), match=f"'{argument}'"):
        example.push_to_hub(**{**PUSH, argument: value})
    if argument in ("repo_id", "filename", "revision"):
        with pytest.raises((TypeError, ValueError), match=f"'{argument}'"):
            SyntheticPointCloudDataset.from_hub(**{"repo_id": REPO, argument: value})


@hub
def test_a_set_that_is_not_finite_makes_no_repository(server):
    broken = SyntheticPointCloudDataset(FullResolution(torch.zeros(2, 8, 3), 2))
    with torch.no_grad():
        next(broken.parameterization.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="must be finite"):
        broken.push_to_hub(REPO, license="mit", token="hf_none")
    assert server.posts == []


def test_without_the_client_it_says_what_is_missing(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: example.push_to_hub(**PUSH), lambda: example.from_hub(REPO)):
        with pytest.raises(ImportError, match="the extra 'hub'"):
            call()
