"""Configuration of Sphinx."""

import sys
from pathlib import Path

import torch_geometric_ddp

# The pages show tables that are rendered from the results, so that none goes stale.
sys.path.insert(0, str(Path(__file__).resolve().parent))
from render_results import render_all

render_all()

project = "torch_geometric_ddp"
author = "The torch_geometric_ddp authors"
copyright = f"2026, {author}"
version = release = torch_geometric_ddp.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_tables"]
html_theme = "furo"
html_title = f"{project} {release}"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
