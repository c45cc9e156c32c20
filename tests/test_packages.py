"""Every package that the product imports is in one list, and a missing one names its extra."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from magmax_jax import packages
from magmax_jax.errors import UserError
from tests.test_architecture import imports

ROOT = Path(__file__).parent.parent
LISTS = ROOT / "magmax_jax" / "packages"
WITH_OTHERS = {
    "absl": "grain",
    "google": "tensorflow-datasets",
    "requests": "tensorflow-datasets",
    "tokenizers": "transformers",
}
"""Modules that the product imports and that come with a listed package."""
OPTIONAL = [
    packages.module_of(packages.package_of(line))
    for extra, lines in packages.requirements().items()
    if extra != packages.CORE
    for line in lines
]
WITHOUT = """
import contextlib, io, json, sys
sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))  # importing them fails
found = {}
for line in json.loads(sys.argv[2]):
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(line, {})
        found[line] = ""
    except Exception as error:
        found[line] = f"{isinstance(error, ImportError)} {error}"
print(json.dumps(found))
"""


def without(modules: list[str], *lines: str) -> dict[str, str]:
    """Runs each statement where modules are missing; returns what it raises."""
    command = [sys.executable, "-c", WITHOUT, json.dumps(modules), json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return json.loads(done.stdout)


def test_a_missing_package_is_one_sentence_with_the_command_that_installs_it():
    train = "the package {} is not installed: pip install 'magmax_jax[train]'"
    works = (
        "import magmax_jax as mm; mm.merge({'w': 1.0}, [{'w': 3.0}]); mm.preset('quickstart')",
        "import magmax_jax as mm; assert all(mm.registry.RULES.values())",
        "import magmax_jax.cli.main as m; assert m.main(['--help']) == 0",
        "import magmax_jax.cli.main as m; assert m.main(['run', 'quickstart']) == 2",
    )
    raises = {
        "import magmax_jax; magmax_jax.CLIP": train.format("flax"),
        "from magmax_jax.models import from_pretrained": train.format("flax"),
        "import magmax_jax.models.auto": train.format("flax"),
        "from magmax_jax.training import second_moments": train.format("optax"),
        "from magmax_jax.data import as_source": train.format("pillow"),
        "import magmax_jax as mm; mm.run": train.format("pillow"),
        "from magmax_jax.report import plot; plot([], 'digits', None, None)": (
            "the package matplotlib is not installed: pip install 'magmax_jax[report]'"
        ),
    }
    found = without(OPTIONAL, *works, *raises)
    assert {line: found[line] for line in works} == dict.fromkeys(works, "")
    assert {line: found[line] for line in raises} == {
        line: f"True {message}" for line, message in raises.items()
    }


@pytest.mark.slow
def test_a_run_names_a_package_that_its_data_set_needs_and_leaves_nothing(tmp_path):
    line = f"import magmax_jax as mm; mm.run(mm.preset('quickstart'), {str(tmp_path / 'new')!r})"
    found = without(["sklearn"], line)
    missing = "the package scikit-learn is not installed: pip install 'magmax_jax[train]'"
    assert found == {line: f"True {missing}"}
    assert not (tmp_path / "new").exists()


def test_other_missing_modules_keep_their_error():
    with (
        pytest.raises(ModuleNotFoundError, match="no_such_module") as caught,
        packages.missing_extras_named(),
    ):
        import no_such_module  # noqa: F401
    assert not isinstance(caught.value, UserError)
    with pytest.raises(AttributeError, match=r"module 'magmax_jax.data' has no attribute 'x'"):
        packages.lazy_names("magmax_jax.data", {})("x")


def test_every_imported_package_is_listed():
    known = {
        packages.module_of(packages.package_of(line))
        for lines in packages.requirements().values()
        for line in lines
    }
    ours = {"magmax_jax", *sys.stdlib_module_names}
    for file in (ROOT / "magmax_jax").rglob("*.py"):
        tops = {name.partition(".")[0] for name in imports(file)}
        assert tops <= known | ours | set(WITH_OTHERS), file


def test_extras_are_made_from_the_lists_and_requirements_have_all_of_them():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
    assert tools["dependencies"]["file"] == ["magmax_jax/packages/core.txt"]
    extras = {name: found["file"] for name, found in tools["optional-dependencies"].items()}
    for name, files in extras.items():
        assert all((ROOT / file).is_file() for file in files), name
    lists = {str(file.relative_to(ROOT)) for file in LISTS.glob("*.txt")}
    devices = {str(file.relative_to(ROOT)) for file in LISTS.glob("devices/*.txt")}
    assert lists == {"magmax_jax/packages/core.txt", *extras["all"]}
    assert {Path(file).stem: [file] for file in devices}.items() <= extras.items()
    assert set(extras) == {"all"} | {Path(file).stem for file in lists | devices} - {"core"}

    included = re.findall(r"^-r (.*)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert set(included) == lists
    for kind, name in (("cuda", "cuda12"), ("tpu", "tpu")):
        text = (ROOT / f"requirements-{kind}.txt").read_text()
        included = re.findall(r"^-r (.*)$", text, re.MULTILINE)
        assert included == ["requirements.txt", f"magmax_jax/packages/devices/{name}.txt"]
