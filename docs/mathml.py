"""Formulas as MathML, which every browser draws by itself: a page needs no script and no network.

The translation is that of latex2mathml. Browsers need a font with a table of mathematics, which
many systems lack: STIX Two Math, of the package ziamath, comes with the pages.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from fontTools.subset import Options, Subsetter, load_font, save_font
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html import HTML5Translator

FONT = "STIXTwoMath-Regular"
# Latin, Greek, accents, punctuation, arrows, operators, brackets and letters of mathematics.
_RANGES = (
    *((0x20, 0x17F), (0x2B0, 0x36F), (0x370, 0x3FF), (0x2000, 0x214F), (0x2190, 0x23FF)),
    *((0x27E0, 0x27FF), (0x1D400, 0x1D7FF)),
)


def write_font(folder: Path) -> Path:
    """Writes what is needed of the font, for browsers."""
    spec = find_spec("ziamath")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the documentation needs ziamath, which the extra docs has")
    path = folder / f"{FONT}.woff"
    if not path.exists():
        options = Options(flavor="woff", layout_features=["*"], notdef_outline=True)
        font = load_font(str(Path(spec.origin).parent / "fonts" / f"{FONT}.ttf"), options)
        subset = Subsetter(options)
        subset.populate(unicodes=[code for a, b in _RANGES for code in range(a, b + 1)])
        subset.subset(font)
        folder.mkdir(parents=True, exist_ok=True)
        save_font(font, str(path), options)
    return path


def _visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Registers the renderer."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
