"""Reads a recipe: YAML that mergekit takes, checked key by key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from magmax_jax.errors import UserError, meant
from magmax_jax.merge_files.recipes.fields import DTYPES, REFUSED, check_field
from magmax_jax.merge_files.recipes.methods import METHODS, OTHERS, Method
from magmax_jax.merge_files.recipes.settings import Key, Setting, parse

Settings = Mapping[str, Setting | None]


@dataclass(frozen=True)
class Source:
    """A model of a recipe and its own parameters."""

    model: str
    settings: Settings


@dataclass(frozen=True)
class Recipe:
    """A recipe whose keys and values have been checked; nothing has been opened.

    Attributes:
      path: its file.
      method_name: mergekit's name for the method.
      theta_0: the model from which changes are taken: the base, or the first model.
      models: the other models.
      members: whose parameters count, in order: the models, behind theta_0 if that is one of them.
      settings: of the whole recipe.
      dtype: every input is rounded to it first; None for as stored.
      out_dtype: of the result; None for the dtype to which the inputs promote.
      notes: what mergekit does with this recipe that its author may not expect.
    """

    path: Path
    method_name: str
    theta_0: str
    models: tuple[str, ...]
    members: tuple[Source, ...]
    settings: Settings
    dtype: str | None
    out_dtype: str | None
    notes: tuple[str, ...] = ()

    @property
    def method(self) -> Method:
        return METHODS[self.method_name]

    @property
    def whole(self) -> bool:
        """Whether theta_0 is one of the models that are merged."""
        return len(self.members) > len(self.models)


def read_recipe(path: Path) -> Recipe:
    """Raises a UserError, one sentence, for whatever is not a recipe that can be computed here."""
    if path.is_dir() or path.suffix == ".safetensors":
        raise UserError(
            f"{path} is a model, not a recipe: give models behind --pretrained and --finetuned"
        )
    from magmax_jax.merge_files.recipes.load import load  # PyYAML, which other merges do without

    found = load(path)
    for field in found:
        check_field(path, field)
    name = found.get("merge_method")
    if not isinstance(name, str):
        raise UserError(f"{path}: merge_method names no method: choose from {', '.join(METHODS)}")
    if name not in METHODS:
        known = "not supported here" if name in OTHERS else "not a method of mergekit's"
        raise UserError(
            f"{path}: merge_method {name} is {known}: choose from {', '.join(METHODS)}"
            + meant(name, METHODS)
        )
    notes: list[str] = []
    method = METHODS[name]
    settings = _parameters(path, "parameters", found.get("parameters"), name, False, notes)
    listed = _models(path, found.get("models"), name, notes)
    base = found.get("base_model")
    if base is not None:
        base = _model(path, "base_model", base)
    dtype, out_dtype = (_dtype(path, field, found.get(field)) for field in ("dtype", "out_dtype"))
    theta_0, members = _arrange(path, name, method, base, listed, notes)
    models = tuple(source.model for source in members if source.model != theta_0)
    return Recipe(
        path=path,
        method_name=name,
        theta_0=theta_0,
        models=models,
        members=members,
        settings=settings,
        dtype=dtype,
        out_dtype=out_dtype or dtype,
        notes=tuple(dict.fromkeys(notes)),
    )


def _models(path: Path, found: Any, method: str, notes: list[str]) -> list[Source]:
    if not isinstance(found, list) or not found:
        raise UserError(f"{path}: `models` lists no models: give `- model: PATH` for each")
    sources = []
    for i, entry in enumerate(found, start=1):
        where = f"models, entry {i}"
        if not isinstance(entry, dict) or "model" not in entry:
            raise UserError(f"{path}: {where} has no `model`: give a path or a hub id")
        for field in entry:
            if field in REFUSED:
                raise UserError(f"{path}: {where}: {field} is not supported: {REFUSED[field]}")
            if field not in ("model", "parameters"):
                raise UserError(
                    f"{path}: {where} has {field!r}: a model has `model` and `parameters`"
                    + meant(str(field), ("model", "parameters"))
                )
        model = _model(path, where, entry["model"])
        given = entry.get("parameters")
        sources.append(Source(model, _parameters(path, where, given, method, True, notes)))
    names = [source.model for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path}: {twice[0]} is listed twice: list it once, with another weight")
    return sources


def _model(path: Path, where: str, found: Any) -> str:
    if isinstance(found, dict):
        raise UserError(
            f"{path}: {where}: the model is given by parts: write it as one path or hub id, with "
            "@REVISION behind it if need be"
        )
    if not isinstance(found, str) or not found.strip():
        raise UserError(f"{path}: {where}: the model is {found!r}: give a path or a hub id")
    if "+" in found and not Path(found).expanduser().exists():
        raise UserError(
            f"{path}: {where}: {found} is a model with an adapter: give only the adapter, which is "
            "applied to theta_0"
        )
    return found


def _parameters(
    path: Path, where: str, found: Any, method: str, of_model: bool, notes: list[str]
) -> dict[str, Setting | None]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{path}: {where}: parameters are {found!r}: give names with values")
    own = {key.name: key for key in METHODS[method].keys}
    anywhere = {key.name: key for other in METHODS.values() for key in other.keys}
    settings = {}
    for name, value in found.items():
        place = f"{path}: {where}"
        if name not in anywhere:
            raise UserError(
                f"{place}: {name!r} is not a parameter: {method} takes "
                f"{', '.join(own) or 'none'}{meant(str(name), anywhere)}"
            )
        key: Key = own.get(name) or anywhere[name]
        if value is None:
            raise UserError(f"{place}: {name} has no value: give one or leave it out")
        setting = parse(value, key, place)
        if name not in own or key.unused:
            notes.append(f"{name} has no effect on {method}, as in mergekit")
        elif of_model and not key.per_model:
            raise UserError(
                f"{place}: {name} is one value for the whole recipe: write it under the recipe's "
                "own `parameters`"
            )
        else:
            settings[name] = setting
    return settings


def _dtype(path: Path, field: str, found: Any) -> str | None:
    if found is None:
        return None
    name = found.removeprefix("torch.") if isinstance(found, str) else found
    if name not in DTYPES:
        raise UserError(f"{path}: {field} is {found!r}: choose from {', '.join(DTYPES)}")
    return name


def _arrange(
    path: Path,
    name: str,
    method: Method,
    base: str | None,
    listed: list[Source],
    notes: list[str],
) -> tuple[str, tuple[Source, ...]]:
    """theta_0, and the models whose parameters count, theta_0 first if it is one of them."""
    own = [source for source in listed if source.model == base]
    others = [source for source in listed if source.model != base]
    if base is None and method.base == "required":
        raise UserError(f"{path}: {name} needs a base_model, from which it takes changes")
    if base is not None and method.base == "member":
        members = [own[0] if own else Source(base, {}), *others]
        notes.append(
            f"{name} takes base_model as one more model: it is averaged in with its weight, as in "
            "mergekit; leave base_model out to average the models alone"
        )
    else:
        members = others
        if own and own[0].settings:
            notes.append(
                f"the parameters of {base} have no effect: it is base_model, which has no change"
            )
    count = len(members)
    if not method.fewest <= count <= (method.most or count):
        wanted = f"{method.fewest}" if method.most == method.fewest else f"{method.fewest} or more"
        besides = " besides base_model" if method.base != "member" and base else ""
        raise UserError(f"{path}: {name} merges {wanted} models{besides}, not {count}")
    if base is not None:
        return base, tuple(members)
    if count < 2:
        raise UserError(f"{path}: there is one model, and nothing to merge it with: list another")
    return members[0].model, tuple(members)
