"""No import climbs: a folder imports from its own floor and from those below."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = [{"core"}, {"envs"}, {"datasets"}, {"learning"}, {"algorithms", "running"}, {"plots", "tools"}]
FLOOR = {folder: floor for floor, folders in enumerate(FLOORS) for folder in folders}


def imports(path: Path) -> set[str]:
    """The project's folders that a file imports from."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    whole = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "inspo_benchmark"]
    names |= {f"inspo_benchmark.{alias.name}" for node in whole for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("inspo_benchmark.")}


def test_no_import_climbs():
    files = {path: folder for folder in FLOOR for path in (ROOT / folder).rglob("*.py")}
    climbing = {
        f"{path.relative_to(ROOT)} imports {other}"
        for path, folder in files.items()
        for other in imports(path)
        if (floor := FLOOR.get(other, len(FLOORS))) > FLOOR[folder] or (other != folder and floor == FLOOR[folder] and folder != "tools")
    }
    assert not climbing
