"""README and docs are correct: names, paths and links exist, and every command's flags parse."""

import importlib
import re
from pathlib import Path

import pytest
import tyro

import magmax_jax
from magmax_jax.cli import run
from magmax_jax.cli.grid import command as grid
from magmax_jax.cli.main import main
from magmax_jax.registry import COMMANDS
from tests.docs.blocks import BLOCKS, LANGUAGES, PAGES, ROOT, commands, of_magmax
from tools.docs.pages import out_of_date

TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
TEXT = "\n".join(TEXTS.values())
NAMES = sorted(set(re.findall(r"\b(?:magmax_jax|mm)(?:\.[A-Za-z_]\w*)+", TEXT)))
PATHS = sorted(
    set(re.findall(r"(?<![\w/.])(?:magmax_jax|experiments|examples|tests|tools)/[\w./-]*\w", TEXT))
)
COMMAND_LINES = [
    (block.where, argv)
    for block in BLOCKS
    if block.language == "bash"
    for words in commands(block)
    if (argv := of_magmax(words)) is not None
]


def resolve(name: str) -> object:
    """Resolves a dotted name: modules as far as possible, then attributes."""
    first, *rest = name.split(".")
    found, module = magmax_jax, "magmax_jax"
    assert first in ("magmax_jax", "mm")
    for part in rest:
        if not hasattr(found, part):
            importlib.import_module(f"{module}.{part}")
        found, module = getattr(found, part), f"{module}.{part}"
    return found


def test_there_are_names_paths_and_commands():
    assert "mm.CLIP.from_pretrained" in NAMES and "experiments/assets/tiny-clip" in PATHS
    used = {argv[0] for _, argv in COMMAND_LINES}
    assert used == set(COMMANDS), "every command is shown, and no other"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_can_be_imported(name):
    resolve(name)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", magmax_jax.__all__)
def test_public_names_are_listed_in_one_place(name):
    assert name in dir(magmax_jax) and getattr(magmax_jax, name) is resolve(f"mm.{name}")
    importlib.import_module("magmax_jax.rules")


def test_generated_pages_are_up_to_date():
    assert out_of_date() == [], "run python -m tools.docs"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", re.sub(r"`[^`\n]*`", "", TEXTS[page]))
    here = (ROOT / page).parent
    lost = [t for t in targets if "://" not in t and not (here / t).exists()]
    assert lost == []


def test_readme_is_short():
    assert len(TEXTS["README.md"].splitlines()) <= 200


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_blocks_have_a_language_and_skipped_ones_a_reason(block):
    assert block.language in LANGUAGES
    above = TEXTS[block.page].splitlines()[max(block.line - 4, 0) : block.line - 1]
    assert bool(block.reason) == any(line.startswith("<!-- not run") for line in above)


class Parsed(Exception):
    """A command's flags are valid."""


@pytest.mark.parametrize(("where", "argv"), COMMAND_LINES)
def test_the_flags_of_every_command_exist(where, argv, monkeypatch, tmp_path, capsys):
    """Also of commands that the pages show and that take too long to run."""
    parse, (name, *rest) = tyro.cli, argv
    if "--help" in rest:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        assert not ended.value.code
    elif name == "grid":
        grid.select(*grid.parse(rest))
    elif name == "run":
        run.parse([existing(word, tmp_path) for word in rest])
    else:

        def parse_only(*args, **options):
            parse(*args, **options)
            raise Parsed

        monkeypatch.setattr(tyro, "cli", parse_only)
        with pytest.raises(Parsed):
            main(argv)


def existing(word: str, folder: Path) -> str:
    """A configuration to read, in place of a run's; other words as they are."""
    if not word.endswith("config.json"):
        return word
    (folder / "config.json").write_text(magmax_jax.preset("quickstart").to_json())
    return str(folder / "config.json")


def test_every_page_is_in_the_navigation_once():
    text = Path(ROOT / "mkdocs.yml").read_text()
    shown = re.findall(r"[-:] ([\w/-]+\.md)$", text, re.MULTILINE)
    pages = {page.removeprefix("docs/") for page in PAGES} - {"README.md"}
    assert sorted(shown) == sorted(pages)
