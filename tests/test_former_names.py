"""Scripts can import modules by their former names."""

import importlib

import pytest

from magmax_jax.former_names import HOMES


@pytest.mark.parametrize(
    ("module", "name", "now"),
    [
        ("data.folders", "ImageFiles", "data.readers.folder"),
        ("data.sources", "load_source", "data.load"),
        ("data.sources", "Source", "data.source"),
        ("experiment", "run", "runs.train"),
        ("results", "RunDirectory", "runs.directory"),
        ("models.config", "CLIPConfig", "models.clip.config"),
    ],
)
def test_a_former_name_gives_the_current_object(module, name, now):
    former = importlib.import_module(f"magmax_jax.{module}")
    with pytest.warns(DeprecationWarning, match=f"is now magmax_jax.{now}.{name}: import it"):
        found = getattr(former, name)
    assert found is getattr(importlib.import_module(f"magmax_jax.{now}"), name)


@pytest.mark.filterwarnings("ignore:magmax_jax.results:DeprecationWarning")
def test_a_star_import_takes_all_public_names():
    names = {}
    with pytest.warns(DeprecationWarning, match=r"results\.RunDirectory is now"):
        exec("from magmax_jax.results import *", names)
    assert {"RunDirectory", "Row", "ModelRef"} <= names.keys()


def test_an_unknown_name_is_an_ordinary_error():
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from magmax_jax.results import nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("magmax_jax.no_such_module")


def test_no_former_module_shadows_a_public_name():
    """An imported module becomes an attribute of its package: `mm.export` must stay a function."""
    for former in HOMES:
        package, _, name = f"magmax_jax.{former}".rpartition(".")
        assert name not in getattr(importlib.import_module(package), "__all__", ()), former


def test_every_former_module_has_a_successor():
    for former, homes in HOMES.items():
        importlib.import_module(f"magmax_jax.{former}")
        for home in homes:
            importlib.import_module(f"magmax_jax.{home}")
