"""The import graph: layers point down, heavy packages load at the point of use, modules stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ddx

ROOT = Path(ddx.__file__).parent
# Highest first; a module imports from its own layer or from below. cli, spark and plots stand at the edge.
LAYERS = (
    ("ddx.cli", "ddx.spark", "ddx.plots"),
    ("ddx.batch", "ddx.interop", "ddx.draws", "ddx.validation", "ddx.sensitivity"),
    ("ddx.diagnosis",),
    (
        "ddx.cases",
        "ddx.network",
        "ddx.noisy_or",
        "ddx.forms",
        "ddx.splitting",
        "ddx.logistic",
        "ddx.admission",
        "ddx.risk_factors",
        "ddx.values",
    ),
    ("ddx.knowledge", "ddx.inference"),
    ("ddx.errors",),
)
EDGE = LAYERS[0]
ENTRANCES = ("ddx", "ddx.__main__")
# The format of tables in files, and between Spark and Python: what these are for.
ALLOWED = {"ddx.batch": ("pyarrow",), "ddx.spark": ("pyarrow",)}
HEAVY = ("pgmpy", "rich", "typer", "pyarrow", "matplotlib", "mpmath", "pyagrum", "SALib", "scipy", "pyspark")
MAX_LINES = 400


def _name(path: Path) -> str:
    parts = ["ddx", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imports(module: str, top_level: bool = False) -> set[str]:
    """Full names of what a module imports, without what only type checkers see; ``top_level``: while it is loaded."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if _type_checking(node):
            return
        if top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import; write the whole name"
            # "from ddx import network" imports the module ddx.network; "from ddx.errors import UsageError" does not go deeper.
            children = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(children & set(MODULES) or {str(node.module)})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return found


def _inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def _layer(module: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if _inside(module, layer))


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_every_module_has_a_layer():
    assert [m for m in MODULES if m not in ENTRANCES and not any(_inside(m, layer) for layer in LAYERS)] == []
    assert len(MODULES) > 20


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ENTRANCES])
def test_imports_point_down(module):
    upward = [i for i in _imports(module) if _inside(i, ("ddx",)) and i not in ENTRANCES and _layer(i) < _layer(module)]
    # Methods of the model that hand over to a module built on top of it load it at the point of use.
    handed_over = {
        "ddx.diagnosis": {"ddx.draws", "ddx.interop"},
    }
    assert set(upward) <= handed_over.get(module, set())
    loaded = [i for i in _imports(module, top_level=True) if i in upward]
    assert loaded == []


def test_nobody_imports_the_edge():
    importers = {
        (module, i) for module in MODULES for i in _imports(module) if _inside(i, EDGE) and not _inside(module, ("ddx.cli",))
    }
    assert importers == {("ddx.__main__", "ddx.cli")}


def test_the_packages_of_one_layer_do_not_import_each_other_in_a_circle():
    graph = {m: {i for i in _imports(m, top_level=True) if i in MODULES and i != m} for m in MODULES}
    # A package and its own modules import each other by design of Python; modules must not.
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circle: {' -> '.join((*path, module))}"
        if module not in done:
            for other in graph[module]:
                walk(other, (*path, module))
            done.add(module)

    for module in MODULES:
        walk(module, ())


@pytest.mark.parametrize("module", [m for m in MODULES if _inside(m, ("ddx.inference",))])
def test_the_core_knows_nothing_of_files_or_pandas(module):
    imports = _imports(module)
    assert [i for i in imports if _inside(i, ("ddx",)) and not _inside(i, ("ddx.inference",))] == []
    # To decide whether to load the compiled kernel it may look where numba keeps its machine code, and at nothing else.
    allowed = ("os", "pathlib") if module == "ddx.inference.choice" else ()
    files = [i for i in imports if _inside(i, ("pandas", "csv", "pathlib", "json", "os", "io", "tomllib"))]
    assert [i for i in files if not _inside(i, allowed)] == []


@pytest.mark.parametrize("module", [m for m in MODULES if _inside(m, ("ddx.knowledge", "ddx.errors"))])
def test_the_knowledge_base_is_plain_python(module):
    assert [i for i in _imports(module) if _inside(i, ("pandas", "numpy", *HEAVY))] == []


@pytest.mark.parametrize("module", [m for m in MODULES if not _inside(m, ("ddx.cli",))])
def test_heavy_packages_load_at_the_point_of_use(module):
    allowed = next((packages for name, packages in ALLOWED.items() if _inside(module, (name,))), ())
    assert [i for i in _imports(module, top_level=True) if _inside(i, HEAVY) and not _inside(i, allowed)] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_at_most_400_lines(module):
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_importing_ddx_loads_next_to_nothing():
    loaded = _run(
        "import sys, ddx; print(sorted({m.split('.')[0] for m in sys.modules} & {'pandas', 'numpy', 'typer', 'rich'}))"
    )
    assert loaded == "[]"


def test_the_knowledge_base_loads_without_pandas_and_numpy(tiny_folder):
    code = (
        "import sys, ddx.knowledge as k\n"
        f"kb = k.load_knowledge({str(tiny_folder)!r})\n"
        "print(kb.name, sorted({m.split('.')[0] for m in sys.modules} & {'pandas', 'numpy', 'typer', 'rich'}))"
    )
    assert _run(code) == "tiny []"


def test_the_core_loads_without_pandas_and_files():
    code = (
        "import sys, ddx.inference\n"
        "print('numpy' in sys.modules, [m for m in sys.modules if m.split('.')[0] == 'pandas'],"
        " sorted(m for m in sys.modules if m.startswith('ddx.') and not m.startswith('ddx.inference')))"
    )
    assert _run(code) == "True [] []"


def test_every_public_name_can_be_had():
    assert set(dir(ddx)) == set(ddx.__all__)
    for name in ddx.__all__:
        assert getattr(ddx, name) is not None
    with pytest.raises(AttributeError, match="module 'ddx' has no attribute 'lod'"):
        ddx.lod  # noqa: B018
