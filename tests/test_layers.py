"""The walls of the library: which package may import which. Read from the imports themselves, lazy ones too."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "tools" / "selfie"
COMMANDS = [*LIBRARY.parent.glob("*.py"), *LIBRARY.parents[1].glob("pycaffe_scripts/*.py")]

# Package -> packages that it may import beside itself. The order of the lines is that of the data.
ALLOWED = {
    "common": set(),
    "data": {"common"},
    "net": {"common", "data"},
    "faces": {"common", "data", "net"},
    "runs": {"common", "data", "net"},
    "gather": {"common", "data"},
    "cluster": {"common"},
    "experiments": {"common", "data", "net", "faces", "runs"},
    "original": {"common", "data", "net", "faces", "runs", "experiments"},
    "bench": {"common", "data", "net", "faces", "runs", "experiments", "original"},
    "serve": {"common", "data", "net", "faces", "runs", "gather", "experiments"},
}
LARGEST = 400  # lines of a module: more is more than one concept
OPTIONAL = {  # packages that may be missing
    *("caffe", "h5py", "onnx", "onnxruntime", "openTSNE", "openvino", "safetensors", "sklearn", "torch"),
    *("dask", "distributed", "fsspec", "s3fs"),
    *("idna", "mastodon", "protego"),
    *("fastapi", "prometheus_client", "starlette", "tweepy", "uvicorn"),
}
NEEDING_THEM = {  # modules that cannot do without; all others can be imported
    "selfie.bench.torch_peer",
    *(f"selfie.serve.bot.{name}" for name in ("mastodon", "x")),
    *(f"selfie.serve.{name}" for name in ("batcher", "guard", "inference", "inference_routes", "intake", "metrics")),
    *(f"selfie.serve.{name}" for name in ("openapi", "server", "service", "web")),
}
CAFFE = {"net"}  # the only package that may import Caffe itself


def modules() -> list[Path]:
    return sorted(LIBRARY.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Modules that a file imports, wherever in it: selfie.x.y for `from selfie.x import y` where y is a module."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    known = {name_of(one) for one in modules()}
    return {name for name in names if name in known or not name.startswith("selfie")}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_package_imports_only_those_before_it(path):
    parts = path.relative_to(LIBRARY).parts
    if len(parts) == 1:
        assert path.name == "__init__.py" and not imports(path), "modules stand in packages"
        return
    allowed = ALLOWED[parts[0]] | {parts[0]}
    packages = {name.split(".")[1] for name in imports(path) if name.startswith("selfie.")}
    assert packages <= allowed, f"{parts[0]} must not import {packages - allowed}"
    if parts[0] not in CAFFE:
        assert not {name for name in imports(path) if name.split(".")[0] == "caffe"}


def test_every_module_can_be_imported():
    """With any Python of pyproject.toml, without Caffe and without what only some users install."""
    code = f"""if True:
        import importlib, sys
        sys.modules.update(dict.fromkeys({sorted(OPTIONAL)}))
        for line in sys.stdin:
            importlib.import_module(line.strip())
    """
    names = "\n".join(name for name in map(name_of, modules()) if name not in NEEDING_THEM)
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY.parent)}
    result = subprocess.run([sys.executable, "-c", code], input=names, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr


def test_no_module_imports_itself_by_way_of_others():
    graph = {name_of(path): {name for name in imports(path) if name.startswith("selfie.")} for path in modules()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in graph[name] - {name}:
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_library_module_hides_no_import_and_is_of_one_concept(path):
    """Imports of our own stand at the top, and a module that needs more than 400 lines has more than one concept."""
    text = path.read_text()
    tree = ast.parse(text)
    ours = [
        node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and str(node.module).startswith("selfie")
    ]
    assert all(node in tree.body for node in ours), "an import of selfie inside a function"
    assert text.count("\n") <= LARGEST
    assert "argparse" not in imports(path) or name_of(path) == "selfie.common.cli"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_commands_do_not_import_commands(path):
    names = {one.stem for one in COMMANDS}
    assert not {name for name in imports(path) if name.split(".")[0] in names}
