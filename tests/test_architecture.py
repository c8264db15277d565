"""The house's rules that a reader of the code relies on: who imports whom, and what is nowhere."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("tfvlad", "pipelines", "tuning", "export")
FILES = [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]

# What a room may import of the project, besides itself. The command line sees everything.
ALLOWED = {
    "tfvlad.ops": (),
    "tfvlad.compat": (),
    "tfvlad.layers": ("tfvlad.ops", "tfvlad.compat"),
    "tfvlad.backbones": ("tfvlad.layers", "tfvlad.compat"),
    "tfvlad.models": ("tfvlad.ops", "tfvlad.layers", "tfvlad.backbones", "tfvlad.compat"),
    "tfvlad.training": (
        "tfvlad.ops",
        "tfvlad.layers",
        "tfvlad.backbones",
        "tfvlad.models",
        "tfvlad.compat",
    ),
    "tfvlad.evaluation": ("tfvlad.compat",),
    "tfvlad.visualization": (
        "tfvlad.ops",
        "tfvlad.layers",
        "tfvlad.backbones",
        "tfvlad.models",
        "tfvlad.compat",
    ),
    "tfvlad.cli": PACKAGES,
    "pipelines": ("tfvlad.compat",),
    "tuning": ("tfvlad",),
    "export": ("tfvlad",),
}
# The only places that import a library.
ONLY_IN = {
    "av": ("pipelines.decoding", "pipelines.encoding", "pipelines.live", "pipelines.streaming"),
    "ai_edge_litert": ("export",),
    "ai_edge_quantizer": ("export",),
    "tensorflow_serving": ("export",),
    "keras_tuner": ("tuning",),
    "tensorflow_io": ("tfvlad.compat",),
}
FORBIDDEN = ("keras.src", "tensorflow.python")


def is_inside(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def module_name(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Full names of what a file imports, in functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join([*parents, base]).rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> list[str]:
    is_package = path.name == "__init__.py"
    return list(imports(path.read_text("utf-8"), module_name(path), is_package))


def file_id(path: Path) -> str:
    return str(path.relative_to(PROJECT))


every_file = pytest.mark.parametrize("path", FILES, ids=file_id)


def test_imports_are_seen_wherever_they_are():
    source = "import a.b\ndef f():\n    from .c import d\n    from ..e import g\nfrom h import *\n"
    assert list(imports(source, "top.room.file", is_package=False)) == [
        "a.b",
        "h.*",
        "top.room.c.d",
        "top.e.g",
    ]
    assert list(imports("from . import x", "top.room", is_package=True)) == ["top.room.x"]


def test_every_file_has_a_room():
    rooms = {module_name(path) for path in FILES} - {"tfvlad"}
    assert [m for m in rooms if not any(is_inside(m, room) for room in ALLOWED)] == []


@every_file
def test_imports_go_one_way(path):
    module = module_name(path)
    rooms = [room for room in ALLOWED if is_inside(module, room)]
    allowed = [*rooms, *(name for room in rooms for name in ALLOWED[room])]
    ours = [name for name in imports_of(path) if name.split(".")[0] in PACKAGES]
    assert [name for name in ours if not any(is_inside(name, room) for room in allowed)] == []


@every_file
def test_libraries_stay_in_their_place(path):
    module, names = module_name(path), imports_of(path)
    assert [name for name in names if any(is_inside(name, private) for private in FORBIDDEN)] == []
    for library, places in ONLY_IN.items():
        if any(is_inside(name, library) for name in names):
            assert any(is_inside(module, place) for place in places), library


@every_file
def test_no_asserts_and_no_star_imports(path):
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    assert [node.lineno for node in nodes if isinstance(node, ast.Assert)] == []
    assert [name for name in imports_of(path) if name.endswith(".*")] == []


def test_no_rooms_for_odds_and_ends():
    names = {"utils", "util", "common", "helpers", "misc"}
    assert [str(path) for path in FILES if names & set(path.with_suffix("").parts)] == []


@pytest.mark.parametrize("modules", ["pipelines, tfvlad", "tfvlad.cli", "pipelines.annotations"])
def test_tensorflow_is_imported_late(modules):
    code = f"import sys, {modules}; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert result.stdout.strip() == "[]"


ROOMS_WITH_PUBLIC_NAMES = sorted(
    module_name(path)
    for path in FILES
    if path.name == "__init__.py" and "__all__" in path.read_text("utf-8")
)


@pytest.mark.parametrize("module", ROOMS_WITH_PUBLIC_NAMES)
def test_every_public_name_has_a_docstring(module):
    room = importlib.import_module(module)
    for name in room.__all__:
        public = getattr(room, name)
        if inspect.isclass(public) or inspect.isroutine(public) or inspect.ismodule(public):
            assert (public.__doc__ or "").strip(), name
