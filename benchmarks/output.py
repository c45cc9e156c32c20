"""Where results go: to the terminal and, if asked for, to FILE.md; single runs to FILE.jsonl."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tables import facts


class Output:
    """Written as they come, so that those of a run that is interrupted are there too."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]):
        """Begins both files anew with what was measured on and with."""
        self._path = path
        if path:
            path.write_text("")
            path.with_suffix(".jsonl").write_text("")
        self.show(facts(environment))
        self.record({"environment": dict(environment)})

    def show(self, text: str) -> None:
        """Markdown, a paragraph or more."""
        print(text, end="\n\n", flush=True)
        if self._path:
            with self._path.open("a") as file:
                file.write(text + "\n\n")

    def record(self, row: Mapping[str, Any]) -> None:
        if self._path:
            with self._path.with_suffix(".jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
