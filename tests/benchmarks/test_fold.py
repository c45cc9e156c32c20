"""The benchmark in memory at its smallest: what it tells, not how fast anything is."""

import json
from importlib.util import find_spec

from benchmarks.fold import main


def test_it_tells_copies_folds_and_thresholds(tmp_path):
    output = tmp_path / "fold.md"
    main(["--size", "tiny", "--numbers", "5000", "--repeats", "2", "--output", str(output)])
    text = output.read_text()
    for name in ("numpy.copyto, one thread", "jitted jnp.copy", "fold, max_magnitude", "5,000"):
        assert f"| {name}" in text
    assert text.count(", the reference") == 1
    assert ("equal" if find_spec("torch") else "absent") in text.splitlines()[-1]
    first, *timings = map(json.loads, output.with_suffix(".jsonl").read_text().splitlines())
    assert "cores" in first["environment"]
    assert all(second > 0 for timing in timings for second in timing["seconds"])
