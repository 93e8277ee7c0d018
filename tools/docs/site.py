"""What mkdocs.yml cannot say: which files of the repository are on the site. They keep their paths, so that links between them work."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = (*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "datasets/CARDS.md")), *ROOT.glob("docs/**/*.md"))
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the methods, whose pages are generated, to their section."""
    paths = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/methods/*.md") if path.stem != "index")
    [section] = [entry for entry in config.nav if "Methods" in entry]
    section["Methods"] = ["docs/methods/index.md", *section["Methods"], *paths]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages, and every file that they link to."""
    linked = {(page.parent / target).resolve() for page in PAGES for target in LINK.findall(page.read_text())}
    paths = {*PAGES, ROOT / "docs" / "site.css", *(path for path in linked if path.is_file() and path.is_relative_to(ROOT))}
    kept = [file for file in files if file.src_uri.startswith("assets/")]  # the theme's
    own = [File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)) for path in sorted(paths)]
    return Files([*kept, *own])
