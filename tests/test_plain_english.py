"""Foreign words and constructions that must not return, in code, messages, tests and documents."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PATTERNS = {
    r"\b(un)?told\b|\btells?\b(?! apart|\()|_(un)?told\b|\b_?told_|_tells?_": (
        "a program reports or says something",
        "the limit is told; test_every_grid_tells_its_cells; MAX_TOLD = 6",
    ),
    r"\btells? \w+ apart|\btelling\b": (
        "write: distinguish",
        "the model tells classes apart",
    ),
    r"(?<!there )\b(is|are|was|were) no (?!longer\b|more\b|less\b|\w+ than\b|[\"'])": (
        "write: is not a",
        "'x' is no preset; the file is no JSON object",
    ),
    r"\bholds? no\b": (
        "write: contains no, has no",
        "the directory holds no weights",
    ),
    r"\b(is|are|was|were) not there\b": (
        "write: does not exist",
        "a link to x, which is not there",
    ),
    r"\banew\b": (
        "write: again",
        "prepare it anew",
    ),
    r"\b(exists|in use|there) already\b": (
        "the adverb precedes: already exists, already in use, there is already",
        "out exists already",
    ),
    r"\b(go|goes|went|going|gone) on (with|from|where|without|after)\b|\bto go on\b": (
        "write: continue, resume",
        "go on with the next task",
    ),
    r"\b(computed?s?|rounds?|split|read|works?) otherwise\b|\bother(s|wise) than\b": (
        "write: differently; differ from",
        "it computes otherwise than theta_0",
    ),
    r"\b(comes?|came|coming) along\b|\b(takes?|took) along\b": (
        "write: is included, is bundled; or leave it out",
        "a tokenizer comes along",
    ),
    r"\bleaves? ((it|them|the \w+) )?away\b|\bleft away\b": (
        "write: leave out, omit",
        "leave the flag away",
    ),
    r"\boutside of\b|\binside of\b": (
        "write: outside, inside",
        "outside of the main thread",
    ),
    r"\bbe(gin|gan|gun) (another|a|the) state\b|\b(state|file) was begun\b": (
        "write: start, create",
        "begin another state",
    ),
    r"\ball the same\b|\bbe it so\b|\bnone the less\b": (
        "write: anyway, nevertheless",
        "and are used all the same",
    ),
    r"\bpassed over in\b": (
        "write: skipped",
        "passed over in folders",
    ),
    r"\bmends?\b|\bmended\b|\bheed(ed|s)?\b|\bunheeded\b": (
        "write: fix; obey, respect; untimed",
        "what mends it",
    ),
    r"\b(whilst|hitherto|henceforth|whence|thence|lest|herewith|thereupon|whereof)\b": (
        "archaic: while, so far, from now on, from there, so that ... not, with this",
        "lest it fails",
    ),
    r"\b(bring|brings|brought) (it|them|that|those) back\b|\bin reach\b": (
        "write: restore; reachable",
        "bring them back",
    ),
    r"\b(it|they|each|which|that) lies? in [\[(]": (
        "write: must be in, is in",
        "validation is 2: it lies in [0, 1)",
    ),
    r"\"\"\"Of (the|its|all|both|each|every|theirs?)\b": (
        "a description starts with a noun, not with a genitive",
        '"""Of its run."""',
    ),
    r"\b(is|are) called after (a|the|none|class(es)?|them|it)\b": (
        "write: named after",
        "a file is called after none of them; names are called after the folders",
    ),
    r"\bwho\b(?! (subtract|can|want|may|must|need))": (
        "who is for people; things take which or that",
        "a cell who ends",
    ),
}
"""Pattern, in any case -> (what to write instead, examples that it finds)."""

ALLOWED = "plain-english: ok"
"""In a line that quotes such a word on purpose."""

KINDS = (".py", ".md", ".sh", ".html", ".css", ".toml", ".cff")
OTHER_TEXTS = ("LICENSE", "tests/test_plain_english.py")


def flat(text: str) -> str:
    """The text on one line, with strings and comments that span several lines joined.

    >>> flat('x = f("is no "\\n      f"preset")\\n# all\\n# the same')
    'x = f("is no preset") all the same'
    """
    text = re.sub(r'"\n\s*[frb]{0,2}"', "", text)
    text = re.sub(rf"^.*{ALLOWED}.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n[ \t]*(?:#[ \t]*|>[ \t]*)?", " ", text)


def texts() -> dict[str, str]:
    """Every text of the repository that a person reads."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is not a git checkout, whose files git lists")
    names = [name for name in listed.stdout.split("\0") if name.endswith(KINDS)]
    return {
        name: flat((ROOT / name).read_text(encoding="utf-8"))
        for name in names
        # Class names of data sets are those of their publishers.
        if name not in OTHER_TEXTS and "/data/datasets/" not in name and (ROOT / name).is_file()
    }


def test_foreign_words_do_not_return():
    found = [
        f"{name}: ...{text[max(0, match.start() - 40) : match.end() + 30]}... ({instead})"
        for name, text in texts().items()
        for pattern, (instead, _) in PATTERNS.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_finds_its_examples(pattern):
    for example in PATTERNS[pattern][1].split("; "):
        assert re.search(pattern, example, re.IGNORECASE), example


def test_text_that_spans_lines_is_joined():
    assert flat('f("is no "\n    f"preset")') == 'f("is no preset")'
    assert flat("# all\n    # the same") == "# all the same"
    assert flat("a\nall the same  # plain-english: ok\nb") == "a  b"
