"""The site of the documentation is built without a warning, and needs no network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_site_is_complete_and_has_no_broken_link(tmp_path):
    pytest.importorskip("mkdocs", reason="`make docs` installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "CONTRIBUTING.html", "docs/results.html", "docs/methods/inspo.html"} < pages.keys()
    loaded = [url for text in pages.values() for url in re.findall(r"<(?:script|img|iframe)[^>]* src=\"?(https?:[^\s\">]+)", text)]
    loaded += [url for text in pages.values() for url in re.findall(r"<link[^>]* rel=\"?stylesheet[^>]* href=\"?(https?:[^\s\">]+)", text)]
    assert not loaded
