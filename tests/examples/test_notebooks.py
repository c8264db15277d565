"""The notebooks run without a warning, reach what they promise, and are stored as they ran."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT

FOLDER = PROJECT / "examples"
# What each notebook prints of its result, in %, and a bound between chance and what it reaches.
RESULTS = {
    "1_classify_your_videos": (r"test top-1: ([\d.]+)%", 60),
    "2_ablation_on_cached_features": (r"TA-VLAD .*\[\+([\d.]+)%", 0),
    "3_tune": (r"test top-1: ([\d.]+)%", 50),
    "4_highlight_and_look_inside": (r"inside: ([\d.]+)% of the scores, 25% of the time", 35),
    "5_export_serve_and_phone": (r"int8: .* agreement ([\d.]+)%", 80),
    "6_one_layer_in_your_model": (r"NetVLAD: .* recall@1 ([\d.]+)%", 20),
}
# What stands in a stored notebook beside its cells, whatever ran it.
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def execute(path: Path, folder: Path) -> dict:
    """The notebook after a run by this interpreter, in an empty folder."""
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    # A kernel of its own: the installed ones may be of other interpreters. What TensorFlow's
    # libraries write when they are loaded is left out.
    launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {
        "argv": [*launch, "--IPKernelApp.capture_fd_output=False"],
        "display_name": "Python 3",
        "language": "python",
    }
    place = folder / "kernels" / "python3"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps(kernel))
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(place.parent)]),
    )
    work = folder / "work"
    work.mkdir()
    client = NotebookClient(
        nbformat.read(path, as_version=4), km=manager, timeout=600, record_timing=False
    )
    notebook = client.execute(cwd=str(work), env={**os.environ, "TMPDIR": str(work)})
    notebook = json.loads(nbformat.writes(notebook))
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if not is_progress(output)]
    return notebook


def is_progress(output: dict) -> bool:
    """Whether an output is progress bars alone, which a stored notebook has none of."""
    lines = re.split(r"[\r\n]+", "".join(output.get("text", "")))
    return output.get("name") == "stderr" and all(
        re.search(r"\d+/\d+, \S+ left", line) for line in lines if line.strip()
    )


def refresh(pattern: str = "*") -> None:
    """Run the notebooks whose names match and store them with their outputs."""
    for path in sorted(FOLDER.glob(f"{pattern}.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        notebook["metadata"] = METADATA
        for output in outputs(notebook):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = with_256_colors(output["data"]["image/png"])
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def with_256_colors(png: str | list[str]) -> str:
    """A picture of a third of the size."""
    from PIL import Image

    content = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode("".join(png)))).convert("RGB")
    picture.quantize(256).save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def outputs(notebook: dict) -> Iterator[dict]:
    for cell in notebook["cells"]:
        yield from cell.get("outputs", [])


def printed(notebook: dict) -> str:
    """All text of the outputs."""
    texts = []
    for output in outputs(notebook):
        data = {"text": output.get("text", ""), **output.get("data", {})}
        texts += ["".join(text) for name, text in data.items() if name != "image/png"]
    return "\n".join(texts)


def check(name: str, notebook: dict) -> None:
    text = printed(notebook)
    pattern, bound = RESULTS[name]
    assert float(re.search(pattern, text)[1]) > bound
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 2
    assert not [o for o in outputs(notebook) if o.get("name") == "stderr"]
    assert "warning" not in text.lower()


def test_progress_is_not_stored():
    bars = ["\rTrial:   0/2, ? left, ?/s", "\rTrial: \u2588 2/2, 00:00 left, 3.1/s\n"]
    assert is_progress({"name": "stderr", "text": bars})
    assert not is_progress({"name": "stderr", "text": [*bars, "Warning: no"]})
    assert not is_progress({"name": "stdout", "text": bars})


def test_all_are_known():
    assert [path.stem for path in sorted(FOLDER.glob("*.ipynb"))] == sorted(RESULTS)


@pytest.mark.parametrize("name", RESULTS)
def test_stored(name):
    path = FOLDER / f"{name}.ipynb"
    notebook = json.loads(path.read_text())
    check(name, notebook)
    assert notebook["metadata"] == METADATA
    assert path.stat().st_size < 400_000
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any(cell["metadata"] for cell in notebook["cells"])
    assert not re.search(r"/(home|work|tmp|root|Users)/", path.read_text())


def test_first_notebook_is_short():
    """From a folder of videos to a highlighted video."""
    notebook = json.loads((FOLDER / "1_classify_your_videos.ipynb").read_text())
    code = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = [line.strip() for line in "".join("\n".join(map("".join, code))).split("\n")]
    assert len([line for line in lines if line and line[0] not in "%#"]) <= 40


@pytest.mark.slow
@pytest.mark.current
@pytest.mark.parametrize("name", RESULTS)
def test_runs(name, tmp_path):
    check(name, execute(FOLDER / f"{name}.ipynb", tmp_path))
