"""The installed program finds a rule in the working directory, which is not on `sys.path`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.helpers.own_rules import write

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_new_process_finds_it(tmp_path):
    write(tmp_path, "my_rules")
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        tensors = {"w": np.full(3, number**2, np.float32)}
        save_file(tensors, tmp_path / str(number) / "model.safetensors")
    program = "from magmax_jax.cli.main import launch; launch()"
    flags = "merge --pretrained 0 --finetuned 1 2 3 --rule my_rules:median --output out".split()
    subprocess.run(
        [sys.executable, "-P", "-c", program, *flags],  # -P: as console scripts start
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert load_file(tmp_path / "out" / "model.safetensors")["w"].tolist() == [4, 4, 4]
