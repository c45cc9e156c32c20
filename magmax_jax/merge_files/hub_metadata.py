"""Metadata for a merged model's card: what the hub reads, carried over from the models' cards.

The fields are those of https://huggingface.co/docs/hub/model-cards.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from magmax_jax.io import hub, hub_cache
from magmax_jax.io.companions import CARD
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files.configurations import belonging, has_neighbours

TAGS = ("merge", "magmax")
UNREADABLE = (OSError, ValueError, RecursionError, AttributeError, LookupError, TypeError)
"""Errors of reading a card, the last three for values that contradict their YAML tags."""
_LICENCE = ("license", "license_name", "license_link")


def metadata(
    pretrained: TensorFiles,
    models: Sequence[TensorFiles],
    relation: str = "merge",
    tags: Sequence[str] = TAGS,
) -> str:
    """A card's YAML, without the dashed lines around it.

    Args:
      relation: to the base models, "merge" or "finetune".
      tags: added to those of the models' cards.
    """
    sources = [pretrained, *models]
    cards = [_read(files) for files in sources]
    bases = list(_bases(sources, cards))
    languages = list(dict.fromkeys(_texts(card.get("language") for card in cards)))
    pipelines = list(dict.fromkeys(_texts(card.get("pipeline_tag") for card in cards)))
    # In the order and style of huggingface_hub's `ModelCardData`, which is slow to import.
    licence = _licence(cards)
    data = {
        "base_model": bases,
        "language": languages[0] if len(languages) == 1 else languages,
        "library_name": next(_texts([cards[0].get("library_name")]), _library(pretrained)),
        "license": licence.get("license"),
        "license_link": licence.get("license_link"),
        "license_name": licence.get("license_name"),
        "pipeline_tag": pipelines[0] if pipelines else None,
        "tags": [*dict.fromkeys([*_texts(card.get("tags") for card in cards), *tags])],
        "base_model_relation": relation if bases else None,
    }
    given = {key: value for key, value in data.items() if value}
    import yaml  # only cards need it

    return yaml.safe_dump(given, sort_keys=False, allow_unicode=True).strip()


def notes(sources: Sequence[TensorFiles]) -> Iterator[str]:
    """Cards that cannot be read, and differing licences, all of which must be complied with."""
    named: dict[str, str] = {}
    for files in sources:
        try:
            licence = _licence_id(_read(files, strict=True))
        except (OSError, ValueError):
            yield (
                f"{files.directory / CARD} begins with metadata that cannot be read, so the "
                "output's card lacks its licence"
            )
            continue
        if licence:
            named.setdefault(licence, display_name(str(files.directory)))
    if len(named) > 1:
        shown = ", ".join(f"{name}: {licence}" for licence, name in named.items())
        yield f"licences differ ({shown}): the card names all; check whether they can be combined"


def base_models(files: TensorFiles) -> list[str]:
    """The `base_model` entries of a model's own card; none if there is no card."""
    return list(_texts([_read(files).get("base_model")]))


def display_name(source: str) -> str:
    """A source's name in a card: a hub id, or only the last part of a path, for privacy.

    >>> display_name("/home/somebody/project/january/")
    'january'
    >>> display_name("acme/vit@main")
    'acme/vit@main'
    """
    path = Path(source).expanduser()
    found = hub_cache.repository(Path(os.path.abspath(path)))
    if found:
        return "@".join(found)
    if path.exists():
        return Path(os.path.abspath(path)).name
    return source if hub.is_hub_id(source) else path.name


def _read(files: TensorFiles, strict: bool = False) -> dict[str, Any]:
    """A card's metadata; empty if there is none or, unless `strict`, if it cannot be read.

    Raises:
      OSError, ValueError: it cannot be read, or is not YAML, and `strict` is set.
    """
    path = files.directory / CARD
    if not has_neighbours(files) or not path.is_file():
        return {}
    import yaml
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    # libyaml's loader has limits; the hub's library uses the one in Python, which can take a minute
    # for a damaged card of a few kilobytes.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        block = REGEX_YAML_BLOCK.search(path.read_text(encoding="utf-8-sig"))
        card = yaml.load(block[2], Loader=loader) if block else {}
        if not isinstance(card or {}, dict):
            raise ValueError(f"{path} has metadata that is not a mapping")
        return card or {}
    except (*UNREADABLE, yaml.YAMLError) as error:
        if strict:
            raise ValueError(f"{path} contains no metadata") from error
        return {}


def _texts(values: Iterable[Any]) -> Iterator[str]:
    """The strings in fields that hold one or a list of them."""
    for value in values:
        for text in value if isinstance(value, list) else [value]:
            if text is False:
                yield "no"  # Norwegian, which YAML reads as a boolean
            elif isinstance(text, str) and text:
                yield text


def _licence_id(card: dict[str, Any]) -> str:
    """A licence's id, or its own name in the hub's spelling if the hub does not list it."""
    found = list(_texts([card.get("license")]))
    if found == ["other"]:
        found = [*_texts([card.get("license_name")]), "other"][:1]
    return _all_of(re.sub(r"[^a-z0-9.-]+", "-", text.lower()) for text in found)


def _all_of(licences: Iterable[str]) -> str:
    """The combined name of several licences, without repetition."""
    each = (one for licence in licences for one in licence.split("-and-"))
    return "-and-".join(dict.fromkeys(each))


def _licence(cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The licence that all cards share, with its name and link; else `other`, naming them all."""
    stating = {_licence_id(card): card for card in reversed(cards) if _licence_id(card)}
    if len(stating) > 1:
        every = _all_of(filter(None, map(_licence_id, cards)))
        return {"license": "other", "license_name": every}
    for name, card in stating.items():
        found = list(_texts([card.get("license")]))
        if len(found) > 1:
            return {"license": "other", "license_name": name}
        more = {key: next(_texts([card.get(key)]), None) for key in _LICENCE[1:]}
        return {"license": found[0].lower()} | more
    return {}


def _library(files: TensorFiles) -> str | None:
    """The library that loads a model, judging by its files; None for a lone file."""
    if files.loose:
        return None
    config, names = belonging(files), {path.name for path in files.directory.iterdir()}
    weights = files.files[0].name
    for library, found in (
        ("sentence-transformers", "modules.json" in names),
        ("diffusers", "_diffusers_version" in config or weights.startswith("diffusion_")),
        ("open_clip", "open_clip_config.json" in names or weights.startswith("open_clip_")),
        ("peft", weights == hub.ADAPTER),
        ("timm", "pretrained_cfg" in config),
    ):
        if found and not (library == "open_clip" and weights.startswith("model")):
            return library
    return "transformers"


def _bases(sources: Sequence[TensorFiles], cards: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Hub ids of the merged models; for a model without one, those of its base models."""
    seen = set()
    for files, card in zip(sources, cards, strict=True):
        found = hub_cache.repository(Path(os.path.abspath(files.directory)))
        for name in [found[0]] if found else _texts([card.get("base_model")]):
            if name not in seen and _is_hub_id(name):
                seen.add(name)
                yield name


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name[0] not in "./~"
