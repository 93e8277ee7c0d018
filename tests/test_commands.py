"""Every module with a command explains it."""

from pathlib import Path

import pytest

from support.project import ROOT, Project, project_in

FOLDERS = ("datasets", "plots", "running", "tools")
FILES = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
COMMANDS = sorted(path.relative_to(ROOT) for path in FILES if '__name__ == "__main__"' in path.read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return project_in(tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("path", COMMANDS, ids=str)
def test_help(project, path: Path):
    module = ".".join(path.with_suffix("").parts).removesuffix(".__main__")
    shown = project.run("--help", program=str(path) if len(path.parts) == 1 else module)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(f"usage: {path}" if len(path.parts) == 1 else f"usage: python -m {module} ")
    assert len(shown.out.splitlines()) > 3
