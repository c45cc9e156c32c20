#!/usr/bin/env bash
# One NaN leaves a bfloat16 array unsorted in NumPy: numbers too, not just the NaN, are out of place.
#
# Versions: NumPy 2.4.6, ml_dtypes 0.6.0. (ml_dtypes' issue 346: nan_to_num skips bfloat16.)
# Guess: np.sort, argsort and partition put NaN last and everything else in order, as for float16
#   and float32, whatever the dtype is called.
# Seen: ml_dtypes compares NaN as neither less nor greater, so NaN stays where the algorithm leaves
#   it and splits what lies around it. kind="stable" misplaces nearly every number for a single NaN;
#   the default one misplaces most in short arrays and few in long ones. A quantile or the k-th
#   magnitude taken from it is wrong without a warning. nan_to_num and nansum do not see the NaN.
# So: for thresholds over weights in bfloat16, convert to float32 first. Ours sort float32 or bits.
# Output seen (numbers out of place among 9,999 or 15, and the 0.9 quantile of 15):
#   float16: 10,000 sorted 0, stable 0; 16 sorted 0, quantile 0.94531; nan_to_num 0.0
#   bfloat16: 10,000 sorted 6, stable 9995; 16 sorted 15, quantile -0.625; nan_to_num nan
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 ml_dtypes==0.6.0
cat > "$work/sorted.py" <<'PYTHON'
import ml_dtypes
import numpy as np

EXPECTED = {
    "float16": "10,000 sorted 0, stable 0; 16 sorted 0, quantile 0.94531; nan_to_num 0.0",
    "bfloat16": "10,000 sorted 6, stable 9995; 16 sorted 15, quantile -0.625; nan_to_num nan",
}


def with_a_nan(size, dtype):
    values = np.random.default_rng(0).normal(size=size).astype(ml_dtypes.bfloat16).astype(dtype)
    values[size // 2] = np.nan
    return values


def out_of_place(values, kind):
    found = np.sort(values, kind=kind).astype(np.float32)
    right = np.sort(values.astype(np.float32))
    return int((found[~np.isnan(found)] != right[~np.isnan(right)]).sum())


for dtype in (np.float16, ml_dtypes.bfloat16):
    long, short = with_a_nan(10_000, dtype), with_a_nan(16, dtype)
    said = (
        f"10,000 sorted {out_of_place(long, None)}, stable {out_of_place(long, 'stable')}; "
        f"16 sorted {out_of_place(short, None)}, quantile {float(np.partition(short, 13)[13]):.5g}; "
        f"nan_to_num {float(np.nan_to_num(np.array([np.nan], dtype))[0])}"
    )
    print(f"{np.dtype(dtype)}: {said}")
    assert said == EXPECTED[str(np.dtype(dtype))], "this has changed"
PYTHON
"$work/venv/bin/python" "$work/sorted.py"
