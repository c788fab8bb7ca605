"""What the package says of itself to those who install it, and what it takes along."""

import re
import tomllib
from pathlib import Path

import yaml

import torch_geometric_ddp
from torch_geometric_ddp.programs import command

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = torch_geometric_ddp.__version__
    assert version == PROJECT["project"]["version"] == cited["version"]
    assert cited["license"] == PROJECT["project"]["license"]


def test_what_cites_the_package_says_what_the_package_says():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = PROJECT["project"]
    assert cited["keywords"] == project["keywords"]
    assert [author["name"] for author in cited["authors"]] == [
        author["name"] for author in project["authors"]
    ]
    assert cited["identifiers"][0]["value"] == project["urls"]["Paper"]
    assert cited["title"].startswith(f"{project['name']}: ")
    # One address, since there is no other: none is made up.
    assert set(project["urls"]) == {"Paper"}


def test_classifiers_name_the_pythons_that_are_tested():
    told = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if " :: 3." in c]
    page = (ROOT / "docs" / "install.rst").read_text(encoding="utf-8")
    for version in told:
        assert f"    * - {version}\n" in page
    assert told[0] == PROJECT["project"]["requires-python"].removeprefix(">=")


def test_the_command_is_that_of_the_module():
    assert PROJECT["project"]["scripts"] == {
        "distill3d": f"{command.main.__module__}:{command.main.__name__}"
    }


def test_files_beside_the_code_are_taken_along():
    package = ROOT / "torch_geometric_ddp"
    others = {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert others == {*PROJECT["tool"]["setuptools"]["package-data"]["torch_geometric_ddp"]}


def test_every_extra_is_pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines}
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    needed = [need for group in groups for need in group]
    assert {re.split("[=>]", need)[0].lower() for need in needed} <= pinned
