"""Class folders in any script, with an ASCII locale and Python's UTF-8 fallbacks disabled."""

import os
import subprocess
import sys

import pytest
from PIL import Image

ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_file_name_of_another_script_is_read_and_printed(tmp_path):
    (tmp_path / "雪" / "für").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "雪" / "für" / "1.png")
    command = [sys.executable, "-m", "magmax_jax", "inspect", str(tmp_path / "雪")]
    done = subprocess.run(command, env=os.environ | ASCII, capture_output=True)
    assert done.returncode == 2
    assert str(tmp_path / "雪") in done.stderr.decode("utf-8")


@pytest.mark.parametrize("flags", [("-X", "utf8=0"), ("-X", "utf8=0", "-E"), ("-u", "-")])
def test_a_python_that_cannot_restart_in_utf8_mode_continues_without_it(flags):
    program = "from magmax_jax.cli.main import launch\nlaunch(['--help'])\n"
    command = [sys.executable, *flags, *(() if "-" in flags else ("-c", program))]
    environment = os.environ | ASCII
    done = subprocess.run(
        command, input=program, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage: magmax")


def test_a_program_piped_into_python_still_runs():
    program = "from magmax_jax.cli.main import launch\nlaunch(['--help'])\n"
    done = subprocess.run(
        [sys.executable], input=program, env=os.environ | ASCII, capture_output=True, text=True
    )
    assert done.stdout.startswith("usage: magmax")
