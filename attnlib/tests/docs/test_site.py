"""The site's pages: every page of docs stands in the navigation, and every entry and link leads to a page."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location

import pytest
import yaml

from attnlib.compare.machines import machines
from attnlib.runs.load import load
from attnlib.tests import ROOT
from attnlib.tests.runs.examples import saved

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


@pytest.fixture(name="assemble", scope="module")
def _assemble():
    """The script that lays out the pages, as a module."""
    spec = spec_from_file_location("assemble", ROOT / "docs" / "assemble.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entries(node):
    """Return the paths in a part of the navigation."""
    if isinstance(node, str):
        return [node]
    return [path for own in (node.values() if isinstance(node, dict) else node) for path in entries(own)]


def test_every_page_is_in_the_navigation_once(assemble):
    """Those that people write, and those that are made of saved runs; a machine's README is linked from the results."""
    found = [assemble.machine_page(result.machine) for result in assemble.results("reference")]
    made = [assemble.GALLERY, assemble.OVERVIEW, *found]
    written = [path.as_posix() for path in assemble.sources() if not path.match("reference/*/README.md")]

    assert sorted(entries(CONFIG["nav"])) == sorted(written + made)
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= set(written)


def test_every_folder_of_reference_runs_is_shown(assemble):
    """The gallery has a section of each; those of other machines, which have a README, are shown as the first one's."""
    runs = (ROOT / "results" / "reference").rglob("*.json")
    folders = {path.parent for path in runs}

    assert {own.name for own in folders if own.name in assemble.SETS} == set(assemble.SETS)
    assert all((own / "README.md").is_file() for own in folders if own.name not in assemble.SETS)


def test_links_of_pages_lead_to_pages(assemble, tmp_path):
    """After the pages have been laid out, a link leads to a file among them, never to a folder."""
    for source in assemble.sources():
        assemble.copy(source, tmp_path)
    pages = list(tmp_path.rglob("*.md"))

    assert len(pages) == len(assemble.sources())
    for page in pages:
        targets = assemble.LINK.findall(page.read_text())
        assert [target for target in targets if not (page.parent / target).is_file()] == [], page


def test_lists_within_lists_are_four_deep(assemble, tmp_path):
    """Python-Markdown takes an item that is two deep for one of the outer list."""
    for source in assemble.sources():
        assemble.copy(source, tmp_path)

    assert not any(re.search(r"^ {1,3}[-*] ", page.read_text(), re.MULTILINE) for page in tmp_path.rglob("*.md"))


def test_machines_stand_side_by_side(assemble, tmp_path):
    """The page of all machines leads to each, and has their ratios and signs; of unlike stacks it has only links."""
    path, other, wide = (tmp_path / f"{name}.json" for name in ("here", "there", "wide"))
    path.write_text(json.dumps(saved(ratio=1.5)))
    run = saved(ratio=1.6, node="there")
    other.write_text(json.dumps(run))
    for row in [*run["attnlib"]["cases"], *(own["extra_info"] for own in run["benchmarks"])]:
        row["case"]["d_model"] = 128
    wide.write_text(json.dumps(run))
    like, unlike = (assemble.overview(machines([load(path), load(second)])) for second in (other, wide))

    assert "(unknown-cpu-node-here.md)" in like
    assert like.index("## Time over none") < like.index("| sinusoidal | longer |") < like.index("## Seconds")
    assert "unlike stacks, so each stands alone: d_model 64 | 128." in unlike
    assert "## Time" not in unlike


def test_nothing_is_asked_of_a_network():
    """The theme's font comes from the system, and no plugin or script from elsewhere."""
    assert CONFIG["theme"]["font"] is False
    assert CONFIG["plugins"] == ["search"]
    assert [name for name in CONFIG["extra_css"] if not (ROOT / "docs" / name).is_file()] == []
    assert not {"extra_javascript", "repo_url"} & set(CONFIG)
