"""Figures that can be printed: one legend, names where lines end, one scale, nothing cut off."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import plots
from attnlib.compare.cells import Cells
from attnlib.runs.load import load
from attnlib.show.figures import FIGURES, find_figure
from attnlib.show.figures.drawing import GAP, apart, look
from attnlib.show.figures.files import caption
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved

COMPARED = {"encoding_cost": 3, "time_against_seq_len": 3, "memory": 2, "gradients": 4, "profiles": 6, "collapse": 3}


@pytest.fixture(name="figures", scope="module")
def _figures():
    cells = Cells([load(ROOT / "results" / "reference" / "laptop-cpu-1.json")])
    found = {name: figure for name in FIGURES if (figure := find_figure(name)(cells)) is not None}
    for figure in found.values():
        figure.draw_without_rendering()
    return found


HOSTILE = """
text.usetex: True
font.family: a font that nobody has
figure.dpi: 200
figure.constrained_layout.use: False
savefig.bbox: tight
savefig.transparent: True
axes.prop_cycle: cycler("color", ["ff0000"])
axes.facecolor: black
lines.linestyle: --
svg.fonttype: path
"""


def test_the_users_settings_change_no_figure(tmp_path):
    """The same bytes with a matplotlibrc that asks for LaTeX and other looks, and a backend that needs a display."""
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    (tmp_path / "run.json").write_text(json.dumps(saved()))
    words = [str(tmp_path / "run.json"), "--only", "time_against_seq_len", "heat_map", "--out"]
    assert plots.main([*words, str(tmp_path / "usual")]) == 0
    environment = os.environ | {"MATPLOTLIBRC": str(tmp_path), "MPLBACKEND": "TkAgg"}
    subprocess.run(
        [sys.executable, "plots.py", *words, str(tmp_path / "hostile")], cwd=ROOT, env=environment, check=True
    )
    usual, hostile = ({f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in ("usual", "hostile"))

    assert len(usual) == 4
    assert usual == hostile


def test_the_ratio_leads(figures):
    """The cost of encodings comes first, a panel a depth."""
    assert next(iter(FIGURES)) == "encoding_cost"
    assert [axes.get_title() for axes in figures["encoding_cost"].axes] == ["L = 2", "L = 8", "L = 32"]


def test_one_legend_outside_the_panels(figures):
    """The whole figure has one legend, with each name once."""
    for name, figure in figures.items():
        assert all(axes.get_legend() is None for axes in figure.axes), name
        assert len(figure.legends) == (name != "heat_map"), name
        names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert len(names) == len(set(names)), name


def test_one_scale_where_panels_are_compared(figures):
    """Their vertical limits are equal; so are the colours of the heat map."""
    for name, count in COMPARED.items():
        assert len({axes.get_ylim() for axes in figures[name].axes[:count]}) == 1, name
    maps = [image for axes in figures["heat_map"].axes for image in axes.get_images()]
    assert len({(image.norm.vmin, image.norm.vmax) for image in maps}) == 1


def test_lines_are_named_where_they_end(figures):
    """In each panel every name stands beside it, and no name lies on another or outside of the figure."""
    for name in ("encoding_cost", "time_against_seq_len", "memory", "profiles", "collapse", "denormals"):
        for axes in figures[name].axes:
            labels = {line.get_label() for line in axes.get_lines() if not line.get_label().startswith("_")}
            ends = [text for text in axes.texts if text.get_position()[0] == 1.03]
            assert {word for text in ends for word in text.get_text().replace(",\n", ", ").split(", ")} == labels, name
            boxes = sorted((text.get_window_extent() for text in ends), key=lambda box: box.y0)
            assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes)), name
            assert all(box.x1 <= figures[name].bbox.x1 for box in boxes), name


def test_titles_are_not_cut(figures):
    """Whatever the width of a figure, its title and notes are within it."""
    for name, figure in figures.items():
        texts = [figure._suptitle, *(legend.get_title() for legend in figure.legends)]
        for text in texts:
            box = text.get_window_extent()
            assert box.x0 >= 0, name
            assert box.x1 <= figure.bbox.x1, name


def test_numbers_of_the_heat_map_can_be_read(figures):
    """Black on light and white on dark: contrast of at least 4.5 (WCAG 2, AA)."""

    def light(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for axes in figures["heat_map"].axes[:9]:
        (image,) = axes.get_images()
        for text in axes.texts:
            column, row = map(int, text.get_position())
            ground = light(image.cmap(image.norm(image.get_array()[row, column])))
            ink = {"black": 0.0, "white": 1.0}[text.get_color()]
            bright, dark = max(ground, ink) + 0.05, min(ground, ink) + 0.05
            assert bright / dark >= 4.5, (axes.get_title(), text.get_text())


def test_lines_that_coincide_are_told_apart():
    """Each is narrower than those below it, so that all of them show, with a marker of its own."""
    looks = [look(place, "") for place in range(10)]

    assert all(one["linewidth"] > two["linewidth"] + 0.2 for one, two in pairwise(looks))
    assert len({own["marker"] for own in looks}) == len({own["color"] for own in looks}) == 10


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_names_are_pushed_apart(places):
    """In order, a gap between each two, all within the panel, and each at its own place where there is room."""
    found = apart(sorted(places), ["name"] * len(places))

    assert all(two - one >= GAP - 1e-9 for one, two in pairwise(found))
    assert found[-1] <= 1
    if len(places) == 1:
        assert found[0] == min(places[0], 1 - GAP / 2)


def test_every_figure_says_what_it_shows():
    """A sentence, which is its caption and its alternative text in the report."""
    assert all(caption(name).endswith(".") for name in FIGURES)
