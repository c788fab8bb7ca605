"""Configuration of Sphinx."""

import shutil
import sys
from importlib import import_module
from pathlib import Path
from pydoc import locate
from typing import Any

from docutils.nodes import Element
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import torch_geometric_ddp

HERE = Path(__file__).resolve().parent

# The pages show tables that are rendered from the results and options of the programs, so that
# none goes stale.
sys.path.insert(0, str(HERE))
import_module("rendering").render_all()
import_module("leaderboard").render()
import_module("mathml").write_font(HERE / "_tables" / "fonts")
intersphinx_mapping = import_module("inventories").mapping(HERE / "_tables")
# Otherwise the page of an object that is gone would stay.
shutil.rmtree(HERE / "api", ignore_errors=True)

project = "torch_geometric_ddp"
author = "The torch_geometric_ddp authors"
copyright = f"2026, {author}"
version = release = torch_geometric_ddp.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxarg.ext",
    "myst_nb",
    "mathml",
]
exclude_patterns = ["_build", "_tables"]
# The notebook is shown as it was run last; a test runs it.
nb_execution_mode = "off"
# What stands before a command or a result is not copied.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"
templates_path = ["_templates"]
html_theme = "furo"
html_static_path = ["_static", "_tables/fonts"]
html_css_files = ["custom.css"]
html_title = f"{project} {release}"

add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autosummary_imported_members = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
# Functions and methods that a text names must have a page. What else it names are also words for
# types and values, which have none.
nitpicky = True
nitpick_ignore_regex = [("py:(obj|class|attr|exc|data)", r"[\s\S]*")]


def find_import_name(
    app: Sphinx, env: BuildEnvironment, node: Element, contnode: Element
) -> Element | None:
    """Links an object that a docstring calls by another name to its page.

    A page has the name by which an object is imported; docstrings also use that of the module which
    defines it, or one that is short for it.
    """
    domain, target = env.get_domain("py"), node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    owner, _, member = target.rpartition(".")
    for name, rest in ((target, ""), (owner, f".{member}")):
        found = _locate(name, node.get("py:module")) if name else None
        if found is None:
            continue
        for known in domain.objects:
            if known.rpartition(".")[2] == found.__name__ and locate(known) is found:
                return _link(app, env, node, contnode, known + rest)
    kinds = ("method", "attribute") if owner else ("class", "function")
    ends = [
        name
        for name, entry in domain.objects.items()
        # An object that is imported from elsewhere is entered under both names.
        if name.endswith(f".{target}") and entry.objtype in kinds and not entry.aliased
    ]
    return _link(app, env, node, contnode, ends[0]) if len(ends) == 1 else None


def _link(
    app: Sphinx, env: BuildEnvironment, node: Element, contnode: Element, name: str
) -> Element | None:
    domain, page = env.get_domain("py"), node["refdoc"]
    return domain.resolve_xref(env, page, app.builder, "obj", name, node, contnode)


def _locate(name: str, module: str | None) -> Any:
    """The class or function of a full name, or of a short one that stands in a module."""
    for full in (name, f"{module}.{name}", f"{project}.{name}"):
        if full.startswith(f"{project}."):
            found = locate(full)
            if hasattr(found, "__name__"):
                return found
    return None


def setup(app: Sphinx) -> None:
    """Registers what stands above."""
    app.connect("missing-reference", find_import_name)
