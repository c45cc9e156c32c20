"""torch's first training step, as the start-up benchmark times it."""

import json
import sys
import time

import pytest

from benchmarks.first_step import PARTS
from benchmarks.output import Output
from benchmarks.processes import Bench
from benchmarks.shapes import SIZES
from benchmarks.times import Times
from benchmarks.trainers import tower_config

pytest.importorskip("torch")
pytest.importorskip("transformers")


def test_torch_takes_the_same_step_in_parts_of_the_same_names(tmp_path):
    answer = tmp_path / "torch.json"
    facts = {"config": tower_config(SIZES["tiny"].model), "batch_size": 2, "dtype": "bfloat16"}
    facts |= {"answer": str(answer), "start": time.monotonic()}
    bench = Bench(tmp_path, 1, 300, Times(Output(None, {})))
    run = bench.once([sys.executable, "-m", "benchmarks.peers.first_step", json.dumps(facts)])
    assert run.outcome == "ok"
    parts = json.loads(answer.read_text())["parts"]
    assert set(parts) < set(PARTS) and all(seconds > 0 for seconds in parts.values())
