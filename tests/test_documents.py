"""README and ARCHITECTURE.md name only what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "ARCHITECTURE.md")
PLACE = re.compile(r"`((?:cluster|actors|netlab|scripts|dashboards|tests)/[\w/.*-]*)(?::(\w+))?`")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_and_name_in_it_exists(document: str) -> None:
    places = PLACE.findall((ROOT / document).read_text())
    missing = []
    for path, name in places:
        found = list(ROOT.glob(path)) if "*" in path else [ROOT / path]
        if not found or not found[0].exists():
            missing.append(path)
        elif name and not re.search(
            rf"^(async def|def|class) {name}\b", found[0].read_text(), re.M
        ):
            missing.append(f"{path}:{name}")
    assert missing == []


def test_every_metric_in_it_is_one_of_ours() -> None:
    sources = "".join(p.read_text() for p in (ROOT / "cluster" / "metrics").glob("*.py"))
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([a-z]+_[a-z0-9_]+_(?:seconds|total|bytes|pods))`", text))
    assert len(named) >= 10
    unknown = [n for n in named if _stem(n) not in sources]
    assert unknown == []


def _stem(metric: str) -> str:
    """The name as the client library is given it; kube-proxy's prefix is put on in one place."""
    return metric.removesuffix("_total").removeprefix("kubeproxy_")


def test_every_top_level_folder_is_on_the_map() -> None:
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    readme = (ROOT / "README.md").read_text()
    assert all(f"{folder}/" in readme for folder in folders - {"tests"})
