"""Imports run one way, and neither torch nor TensorFlow is among them."""

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from magmax_jax.registry import REGULARIZERS, SCENARIO_KINDS

ROOT = Path(__file__).parent.parent
ORDER = [
    "version", "former_names", "errors", "packages", "registry", "devices", "config", "io",
    "inputs", "merging", "rules", "refit", "analysis", "data", "scenarios", "models", "sharding",
    "training", "evaluation", "merge_files", "runs", "report", "api", "doctor", "cli", "__main__",
]  # fmt: skip
"""Lowest first; each may import those before it."""


def imports(file: Path) -> set[str]:
    """Every module that a file imports, by full name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources() -> dict[Path, set[str]]:
    return {file: imports(file) for file in (ROOT / "magmax_jax").rglob("*.py")}


def test_every_module_has_a_layer():
    floors = {p.stem for p in (ROOT / "magmax_jax").iterdir() if not p.name.startswith("__py")}
    assert floors - {"__init__", "py"} == set(ORDER)


def test_there_are_no_circular_imports():
    """Imports for type checkers count too: circular types mean circular designs."""
    files = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for folder in ("magmax_jax", "experiments", "tools")
        for file in (ROOT / folder).rglob("*.py")
    }
    graph = {
        module: {
            name if name in files else name.rpartition(".")[0]
            for name in imports(file)
            if name in files or name.rpartition(".")[0] in files
        }
        - {module}
        for module, file in files.items()
    }
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
    assert set(order) == set(files)


def test_layout_task_plan_and_progress_are_defined_once():
    defined = Counter(
        node.name
        for file in (ROOT / "magmax_jax").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert {name: defined[name] for name in ("Layout", "Task", "Plan", "Progress")} == {
        "Layout": 1,
        "Task": 1,
        "Plan": 1,
        "Progress": 1,
    }


def test_imports_run_downward():
    for file, names in sources().items():
        floor = file.relative_to(ROOT / "magmax_jax").parts[0].removesuffix(".py")
        if floor == "__init__":
            continue
        ours = {name.split(".")[1] for name in names if name.startswith("magmax_jax.")}
        for other in ours - {floor}:
            assert ORDER.index(other) < ORDER.index(floor), f"{file} imports {other}"
        assert not any(name.startswith(("experiments", "tests")) for name in names)


@pytest.mark.parametrize(
    ("floor", "known"),
    [("io", set()), ("inputs", set()), ("merging", set()), ("models", {"io", "inputs"})],
)
def test_io_inputs_and_merging_are_independent_and_models_use_only_io_and_inputs(floor, known):
    for file, names in sources().items():
        ours = {name.split(".")[1] for name in names if name.startswith("magmax_jax.")}
        if file.relative_to(ROOT / "magmax_jax").parts[0] == floor:
            assert ours <= {floor, "errors", "packages", "registry"} | known


def test_model_families_are_known_only_through_the_registry():
    """Except `magmax_jax.models` itself, which exports CLIP's public names."""
    rooms = ROOT / "magmax_jax" / "models"
    families = {directory.name for directory in rooms.iterdir() if directory.is_dir()}
    for family in families - {"layers", "__pycache__"}:
        for file, names in sources().items():
            if rooms / family not in file.parents and file != rooms / "__init__.py":
                found = [n for n in names if f"{n}.".startswith(f"magmax_jax.models.{family}.")]
                assert not found, f"{file} imports {found}"


def test_no_code_depends_on_names_of_regularizers_or_scenario_kinds():
    """No decision compares a name, except where that name is defined."""
    homes = [
        ROOT / "magmax_jax" / "training" / "regularizers",
        ROOT / "magmax_jax" / "scenarios" / "kinds",
    ]
    names = {*REGULARIZERS, *SCENARIO_KINDS}
    for file in (ROOT / "magmax_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare) and not set(homes) & set(file.parents):
                for side in (node.left, *node.comparators):
                    values = (
                        side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]
                    )
                    compared = {v.value for v in values if isinstance(v, ast.Constant)} & names
                    assert not compared, f"{file}:{node.lineno} compares {compared}"


def test_only_one_file_handles_meshes():
    """And to files that take a user's mesh, which must not change merges or classification."""
    knowing = {
        file.name
        for file, names in sources().items()
        if any(name.startswith("jax.sharding") for name in names)
    }
    assert knowing == {
        "sharding.py", "on_mesh.py", "placement.py", "replication.py", "auto_axes.py",
    }  # fmt: skip


def test_nothing_unpickles():
    for file, names in sources().items():
        assert not names & {"pickle", "cloudpickle", "dill", "joblib", "torch"}, file


def test_neither_torch_nor_tensorflow_is_loaded():
    """Even if they are installed: the whole program, as a run imports it."""
    program = (
        "import sys, experiments.run, magmax_jax, magmax_jax.runs.train, magmax_jax.__main__\n"
        "import magmax_jax.data.readers.tfds, magmax_jax.data.readers.folder\n"
        "print([m for m in ('torch', 'tensorflow') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout.strip() == "[]"
