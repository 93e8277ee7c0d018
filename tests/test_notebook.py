"""The notebook runs, wherever it lies."""

import shutil
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"


def test_the_notebook_runs_from_another_folder(tmp_path):
    """A cell that raises an exception fails the test."""
    notebook = nbformat.read(shutil.copy(NOTEBOOK, tmp_path), as_version=4)
    assert not any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")  # outputs of some machine do not belong in it
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    texts = "".join(str(output.get("text") or output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert "100 episodes, mean return per step 1.0" in texts
    assert "<inspo on xor-ab_ba, 3 seeds: mean return" in texts
    assert "[1.0, 1.0, 1.0, 1.0]" in texts
    assert any("image/png" in output.get("data", {}) for output in outputs)
