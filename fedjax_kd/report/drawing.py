"""The canvas of all pictures: two layouts, one style, and SVG text that is the same every time."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from fedjax_kd.report.palette import GRID, INK, MUTED


class Layout(NamedTuple):
    """A width to draw for; text keeps its size in both, so a phone does not shrink it away."""

    name: str
    width_in: float

    @property
    def narrow(self) -> bool:
        """Whether panels must be stacked and legends go below."""
        return self.width_in < 6


WIDE = Layout("wide", 10.8)
NARROW = Layout("narrow", 4.2)
LAYOUTS = (WIDE, NARROW)

Draw = Callable[[Any, Layout], Figure]  # from the results of the kind of study it is made for

_FONT = "DejaVu Sans"  # comes with matplotlib, so pictures are alike on every machine
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "fedjax_kd",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": [_FONT],
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#98a2b3",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "hatch.linewidth": 1.0,
    "path.simplify": True,
}


@contextmanager
def picture_style() -> Iterator[None]:
    """Sets the drawing style for a block and puts the caller's own back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(layout: Layout, height_in: float) -> Figure:
    """An empty figure of the layout's width, whose axes are placed so that nothing overlaps."""
    figure = Figure(figsize=(layout.width_in, height_in), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.03)  # pyright: ignore
    return figure


def settled(figure: Figure) -> Figure:
    """The figure with its axes fixed where its layout puts them.

    The layout's solver leaves rounding errors that differ from run to run, and a picture has to be
    the same every time; so the places are rounded to a hundred-thousandth of the figure.
    """
    figure.set_dpi(72)  # the resolution of SVG, for which the layout is made
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position(original=True).bounds
        axes.set_position([round(float(each), 5) for each in (left, bottom, width, height)])  # pyright: ignore
    return figure


def value_grid(axes: Axes, which: str = "x") -> None:
    """Light lines along one axis, and no tick marks on the other."""
    axes.grid(True, axis="x" if which == "x" else "y")
    axes.tick_params(axis="both", which="both", length=0)


@functools.cache
def _drawable() -> frozenset[int]:
    return frozenset(get_font(findfont(_FONT)).get_charmap())


def plain(text: object, most: int = 26) -> str:
    """A label as the font can draw it: unknown characters become `?`, long labels are cut."""
    known = _drawable()
    drawn = "".join(char if ord(char) in known else "?" for char in " ".join(str(text).split()))
    return drawn if len(drawn) <= most else drawn[: most - 1] + "…"


def svg_document(figure: Figure) -> str:
    """The picture as an SVG file, without dates or program names in it."""
    stream = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(stream, format="svg", metadata=metadata)
    return stream.getvalue()


def png_bytes(figure: Figure, dots_per_inch: int = 160) -> bytes:
    """The picture as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return stream.getvalue()


def inline_svg(document: str, prefix: str, label: str) -> str:
    """An SVG file's text, made fit to stand inside an HTML page beside others.

    Args:
        document: what `svg_document` returned.
        prefix: put before every id, since ids must differ over the whole page.
        label: what a screen reader says instead of the picture.

    Returns:
        One `<svg>` element that takes the width it is given.
    """
    text = document[document.index("<svg") :]
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # An embedded image's id comes from its content, so that two equal ones would have the same.
    text = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(xlink:)?href="#', f'href="#{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    text = re.sub(r'( d=")([^"]*)"', _shorter_path, text)
    text = re.sub(r">\s+<", "><", text)
    head, _, rest = text.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(label)}">{rest}'.strip()


def _shorter_path(match: re.Match[str]) -> str:
    numbers = re.sub(r"-?\d+\.\d{3,}", _rounded, match.group(2))
    return f'{match.group(1)}{" ".join(numbers.split())}"'


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match.group()):.2f}".rstrip("0").rstrip(".")
