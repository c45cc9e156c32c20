"""Writes the generated pages of `docs/`, or with `--check` fails if one is out of date."""

import sys

from tools.docs.pages import DOCS, PAGES, out_of_date


def main(argv: list[str]) -> int:
    if "--check" in argv:
        stale = out_of_date()
        for name in stale:
            print(f"docs/{name} is out of date: run python -m tools.docs", file=sys.stderr)
        return 1 if stale else 0
    for name in out_of_date():
        (DOCS / name).write_text(PAGES[name]())
        print(f"docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
