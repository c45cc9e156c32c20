"""Class folders of any script where the locale is ASCII and Python must not help itself."""

import os
import subprocess
import sys

from PIL import Image

ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_file_name_of_another_script_is_read_and_printed(tmp_path):
    (tmp_path / "雪" / "für").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "雪" / "für" / "1.png")
    command = [sys.executable, "-m", "magmax_jax", "inspect", str(tmp_path / "雪")]
    done = subprocess.run(command, env=os.environ | ASCII, capture_output=True)
    assert done.returncode == 2
    assert str(tmp_path / "雪") in done.stderr.decode("utf-8")
