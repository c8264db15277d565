"""The house's rules that a reader of the code relies on: who imports whom, and what is nowhere."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("tfvlad", "tfvlad_cli", "pipelines", "tuning", "export")
FILES = [path for package in PACKAGES for path in sorted((PROJECT / package).rglob("*.py"))]

# What a room may import of the project, besides itself. The command line sees everything.
ALLOWED = {
    "tfvlad.ops": (),
    "tfvlad.compat": (),
    "tfvlad.layers": ("tfvlad.ops", "tfvlad.compat"),
    "tfvlad.backbones": ("tfvlad.layers", "tfvlad.compat"),
    "tfvlad.models": ("tfvlad.ops", "tfvlad.layers", "tfvlad.backbones", "tfvlad.compat"),
    "tfvlad.training": (
        "pipelines.progress",
        "pipelines.storage",
        "tfvlad.ops",
        "tfvlad.layers",
        "tfvlad.backbones",
        "tfvlad.models",
        "tfvlad.compat",
    ),
    "tfvlad.evaluation": ("tfvlad.compat", "pipelines.storage"),
    "tfvlad.visualization": (
        "tfvlad.ops",
        "tfvlad.layers",
        "tfvlad.backbones",
        "tfvlad.models",
        "tfvlad.compat",
    ),
    "tfvlad.live": (
        "tfvlad.layers",
        "tfvlad.models",
        "tfvlad.evaluation",
        "tfvlad.compat",
        "pipelines",
    ),
    "tfvlad.runs": PACKAGES,
    "tfvlad.highlights": (
        "tfvlad.models",
        "tfvlad.evaluation",
        "tfvlad.visualization",
        "tfvlad.compat",
        "pipelines",
    ),
    "tfvlad.studies": (
        "tfvlad.backbones",
        "tfvlad.compat",
        "tfvlad.evaluation",
        "tfvlad.models",
        "tfvlad.runs",
        "tfvlad.training",
        "tfvlad.visualization",
        "pipelines",
    ),
    "tfvlad_cli": PACKAGES,
    "pipelines.progress": (),
    "pipelines.storage": (),
    "pipelines.video": ("pipelines.progress", "pipelines.storage"),
    "pipelines.lists": ("pipelines.video",),
    "pipelines.clips": ("pipelines.lists", "pipelines.video", "pipelines.progress"),
    "pipelines.features": (
        "pipelines.clips",
        "pipelines.lists",
        "pipelines.video",
        "pipelines.progress",
        "pipelines.storage",
    ),
    "pipelines.flow": (
        "pipelines.lists",
        "pipelines.video",
        "pipelines.progress",
        "pipelines.storage",
    ),
    "pipelines.synthetic": (
        "pipelines.lists",
        "pipelines.video",
        "pipelines.progress",
        "pipelines.storage",
    ),
    "tuning": ("tfvlad", "pipelines"),
    "tuning.latency": ("export",),  # measures it, and is imported when that is asked for
    "export": ("tfvlad", "pipelines"),
}
# The only places that import a library.
ONLY_IN = {
    "av": ("pipelines.video.codec",),
    "ai_edge_litert": ("export",),
    "ai_edge_quantizer": ("export",),
    "tensorflow_serving": ("export",),
    "keras_tuner": ("tuning",),
    "tensorflow_io": ("pipelines.features.row_dataset",),
}
FORBIDDEN = ("keras.src", "tensorflow.python")
# Import hooks, module subclasses, patches of other libraries, bags of options.
FORBIDDEN_TEXTS = ("meta_path", "ModuleType", "RegisterGradient", " options: dict")
# What the command does is the library's work.
NOT_IN_COMMANDS = ("av", "cv2", "h5py", "numpy", "keras", "tensorflow", "matplotlib")


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


@functools.cache
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


def imports_at_once(path: Path) -> Iterator[str]:
    """Full names of what a module imports when it is itself imported."""
    nodes: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    for node in nodes:  # it grows
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imports(ast.unparse(node), module_name(path), path.name == "__init__.py")
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            nodes += ast.iter_child_nodes(node)


def test_no_import_cycle():
    modules = {module_name(path): path for path in FILES}

    def module_of(name: str) -> str:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    imported = {
        module: {module_of(name) for name in imports_at_once(path)} - {"", module}
        for module, path in modules.items()
    }
    # Modules that import nothing of what is left are taken away; a cycle stays.
    while free := [module for module, names in imported.items() if not names & imported.keys()]:
        for module in free:
            del imported[module]
    assert imported == {}


def test_every_file_has_a_room():
    rooms = {module_name(path) for path in FILES} - {"tfvlad", "pipelines"}
    assert [m for m in rooms if not any(is_inside(m, room) for room in ALLOWED)] == []


@every_file
def test_imports_go_one_way(path):
    module = module_name(path)
    # The package itself only gathers the names of its rooms.
    rooms = ["tfvlad"] if module == "tfvlad" else [r for r in ALLOWED if is_inside(module, r)]
    allowed = [*rooms, *(name for room in rooms for name in ALLOWED.get(room, ()))]
    ours = [name for name in imports_of(path) if name.split(".")[0] in PACKAGES]
    assert [name for name in ours if not any(is_inside(name, room) for room in allowed)] == []


@every_file
def test_libraries_stay_in_their_place(path):
    module, names = module_name(path), imports_of(path)
    assert [name for name in names if any(is_inside(name, private) for private in FORBIDDEN)] == []
    for library, places in ONLY_IN.items():
        if any(is_inside(name, library) for name in names):
            assert any(is_inside(module, place) for place in places), library


def test_no_tricks_and_no_bags_of_options():
    found = [
        f"{file_id(path)}: {text}"
        for path in FILES
        for text in FORBIDDEN_TEXTS
        if text in path.read_text("utf-8")
    ]
    assert found == []


def test_commands_are_thin():
    found = [
        f"{file_id(path)}: {name}"
        for path in FILES
        for name in imports_of(path)
        if is_inside(module_name(path), "tfvlad_cli") and name.split(".")[0] in NOT_IN_COMMANDS
    ]
    assert found == []


@every_file
def test_no_asserts_and_no_star_imports(path):
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    assert [node.lineno for node in nodes if isinstance(node, ast.Assert)] == []
    assert [name for name in imports_of(path) if name.endswith(".*")] == []


SECTION = re.compile(r"^(Args|Attributes|Call arguments|Raises):\n((?: {4}.*\n|\n)+)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\S.*?):\s+(\w+)", re.MULTILINE)
CAPITAL = re.compile(r"A|[A-Z][a-z]+")
KEEP_THEIR_CAPITAL = {"Da", "Dv", "False", "Hyperband", "None", "True"}


@every_file
def test_docstrings_have_one_dialect(path):
    """Arguments are "name: what it is", errors "ValueError: when it is raised"."""
    other = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            continue
        for section, entries in SECTION.findall((ast.get_docstring(node) or "") + "\n"):
            for name, word in ENTRY.findall(entries):
                is_capital = CAPITAL.fullmatch(word) and word not in KEEP_THEIR_CAPITAL
                if is_capital or (section == "Raises" and word != "when"):
                    other.append(f"{node.name}: {name}: {word}")
    assert other == []


def test_no_rooms_for_odds_and_ends():
    names = {"utils", "util", "common", "helpers", "misc"}
    assert [str(path) for path in FILES if names & set(path.with_suffix("").parts)] == []


@pytest.mark.parametrize("modules", ["pipelines", "tfvlad_cli", "pipelines.lists.annotations"])
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
def test_every_public_name_is_there_and_has_a_docstring(module):
    room = importlib.import_module(module)
    for name in room.__all__:
        public = getattr(room, name)
        # A module of a function's name would take the function's place.
        assert not inspect.ismodule(public) or module == "tfvlad", name
        if inspect.isclass(public) or inspect.isroutine(public) or inspect.ismodule(public):
            assert (public.__doc__ or "").strip(), name
