"""Examples are programs that run as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def test_an_experiment_from_arrays_draws_its_rows(tmp_path):
    example = ROOT / "examples" / "from_arrays.py"
    assert len(example.read_text().splitlines()) <= 30
    for _ in range(2):  # the second one finds the run finished
        ended = subprocess.run(
            [sys.executable, example],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert ended.returncode == 0, ended.stderr
        picture = Image.open(tmp_path / "runs" / "from_arrays" / "accuracies.png")
        assert picture.size == (900, 600) and len(picture.convert("L").getcolors(256)) > 50
    assert "holds this run already" in ended.stdout
