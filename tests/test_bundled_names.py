"""Names of bundled values are known before their modules are imported, so `--help` lists all."""

import json
import subprocess
import sys

PROGRAM = """
import importlib, json, pkgutil
import magmax_jax
from magmax_jax import registry

values = vars(registry).items()
tables = {name: value for name, value in values if isinstance(value, registry.Registry)}
before = {name: list(table) for name, table in tables.items()}
for module in pkgutil.walk_packages(magmax_jax.__path__, "magmax_jax."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(json.dumps({name: [before[name], list(table)] for name, table in tables.items()}))
"""


def test_importing_all_modules_adds_no_name():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert "max_magnitude" in found["RULES"][0] and "run" in found["COMMANDS"][0]
    assert {name: before for name, (before, _) in found.items()} == {
        name: after for name, (_, after) in found.items()
    }
