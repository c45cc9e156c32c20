"""Mutants that reach new code: `python -m tests.mutants.coverage KIND -max_total_time=600`.

Needs atheris, which is not among the test requirements. The flags are libFuzzer's. Ends at the
first fault, or after the given time. The kinds are those whose mutants change a single file.
"""

import random
import sys
import tempfile
from pathlib import Path

from magmax_jax.errors import UserError


def main(name: str, flags: list[str]) -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    with atheris.instrument_imports(include=["magmax_jax.io", "json"]):
        from tests.mutants.kinds import KINDS

    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as corpus:
        folder = Path(made)
        kind.make(folder)
        (path,) = folder.glob(kind.files)
        (Path(corpus) / "valid").write_bytes(path.read_bytes())

        def check(data: bytes) -> None:
            path.write_bytes(data)
            try:
                found = kind.read(folder)
            except UserError as error:
                assert "\n" not in str(error)
                return
            assert kind.agrees is None or kind.agrees(folder, found), "wrong"

        def mutated(data: bytes, most: int, seed: int) -> bytes:
            draw = random.Random(seed)
            if draw.random() < 0.5:
                try:
                    return kind.mutate(data, draw)[:most]
                except Exception:  # the data is not a valid document any more
                    pass
            return atheris.Mutate(data, most)

        atheris.Setup([sys.argv[0], *flags, corpus], check, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
