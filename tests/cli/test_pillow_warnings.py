"""Pillow warns of large pictures and damaged EXIF without naming the file."""

import os
import subprocess
import sys
from pathlib import Path

import magmax_jax

PROGRAM = """
import atexit, warnings
from magmax_jax.cli.main import launch

@atexit.register
def end():
    warnings.warn_explicit("of a picture", RuntimeWarning, "Image.py", 1, module="PIL.Image")
    warnings.warn_explicit("of the user", RuntimeWarning, "mine.py", 1, module="mine")

launch(["--help"])
"""


def test_commands_do_not_show_them():
    there = {"PYTHONPATH": str(Path(magmax_jax.__file__).parents[1])}
    for options, shown in (([], ["of the user"]), (["-Walways"], ["of a picture", "of the user"])):
        done = subprocess.run(
            [sys.executable, *options, "-c", PROGRAM],
            env=os.environ | there,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0
        assert [text for text in ("of a picture", "of the user") if text in done.stderr] == shown
