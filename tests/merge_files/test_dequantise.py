"""`--dequantise`: FP8 weights are codes times scales, exact to float32 rounding."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from tests.helpers.raw_safetensors import of_array, raw, zeros
from tests.merge_files.conftest import merge

W = "layer.weight"
E4M3, E5M2, E8M0, BF16 = (
    np.dtype(getattr(ml_dtypes, name))
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "bfloat16")
)
NAMES = {E4M3: "F8_E4M3", E5M2: "F8_E5M2", E8M0: "F8_E8M0", BF16: "BF16"}


def codes(seed: int, *shape: int, dtype=E4M3) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * 40).astype(dtype)


def stored(array: np.ndarray) -> tuple:
    name = NAMES.get(array.dtype, f"F{8 * array.itemsize}")
    return of_array(array, name if array.dtype.kind != "i" else f"I{8 * array.itemsize}")


def scales(seed: int, *shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(100 + seed).uniform(0.001, 0.02, shape).astype(dtype)


def write(directory, tensors, **config):
    raw(directory / "model.safetensors", {name: stored(array) for name, array in tensors.items()})
    if config:
        (directory / "config.json").write_text(json.dumps(config))
    return directory


def spread(scale: np.ndarray, rows: int, columns: int, block: tuple[int, int]) -> np.ndarray:
    """One scale per weight, looked up by its row and column."""
    i, j = np.indices((rows, columns))
    return scale[..., i // block[0], j // block[1]]


def merged(tmp_path, *sources, flags=(), code=0):
    arguments = ["--pretrained", sources[0], "--finetuned", *sources[1:], "--dequantise", *flags]
    out = tmp_path / "out"
    assert merge(*arguments, "--output", out) == code
    return load_file(out / "model.safetensors") if code == 0 else None


EXACT = ("--rule", "average", "--scale", 1, "--out-dtype", "float32")
"""Flags with which merging theta_0 with itself gives theta_0."""
BLOCKS = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}


@pytest.mark.parametrize(
    ("shape", "name", "scale_shape", "block", "config"),
    [
        ((16, 24), "layer.weight_scale", (), (16, 24), {}),
        ((16, 24), "layer.weight_scale_inv", (1,), (16, 24), BLOCKS),
        ((16, 24), "layer.scale_weight", (1, 1), (16, 24), {}),
        ((1100, 1000), "layer.weight_scale_inv", (9, 8), (128, 128), BLOCKS),
        ((1100, 1000), "layer.weight_scale_inv", (9, 8), (128, 128), {}),
        ((32, 24), "layer.weight_scale", (4, 3), (8, 8), {}),
        ((300, 130), "layer.weight_scale", (3, 1), (100, 130),
         {"quantization_config": {"config_groups": {"a": {"block_structure": [100, 130]}}}}),
        ((30, 24), "layer.weight_scale", (30, 1), (1, 24), BLOCKS),
        ((3, 30, 24), "layer.weight_scale", (3, 1, 24), (30, 1), {}),
        ((7,), "layer.weight_scale", (), None, {}),
    ],
)  # fmt: skip
def test_weights_are_codes_times_scales(shape, name, scale_shape, block, config, tmp_path):
    theta = []
    for seed in range(2):
        code, scale = codes(seed, *shape), scales(seed, *scale_shape)
        factors = scale if scale.size == 1 else spread(scale, *shape[-2:], block)
        theta.append(code.astype(np.float32) * factors.reshape(-1)[0] if scale.size == 1
                     else code.astype(np.float32) * factors)  # fmt: skip
        write(tmp_path / str(seed), {W: code, name: scale}, **config)
    found = merged(tmp_path, tmp_path / "0", tmp_path / "0", flags=EXACT)
    assert found.keys() == {W} and found[W].dtype == np.float32
    np.testing.assert_array_equal(found[W], theta[0])
    other = ["--pretrained", tmp_path / "0", "--finetuned", tmp_path / "1", "--dequantise"]
    assert merge(*other, *EXACT, "--output", tmp_path / "other") == 0
    expected = theta[0] + (theta[1] - theta[0])
    np.testing.assert_array_equal(load_file(tmp_path / "other" / "model.safetensors")[W], expected)


@pytest.mark.parametrize("dtype", [np.float16, BF16, E8M0])
def test_scales_of_other_dtypes(dtype, tmp_path):
    code = codes(0, 4, 6, dtype=E5M2)
    scale = np.asarray([[0.125], [4]]).astype(dtype)
    theta_0 = write(tmp_path / "0", {W: code, "layer.weight_scale": scale})
    found = merged(tmp_path, theta_0, theta_0, flags=EXACT)
    np.testing.assert_array_equal(
        found[W], code.astype(np.float32) * np.repeat([0.125, 4], 2)[:, None].astype(np.float32)
    )


def test_a_model_with_scales_merges_into_plain_weights(tmp_path):
    """Also tensor by tensor, and with 8-bit floats that are plain weights."""
    theta_0 = np.random.default_rng(3).normal(size=(24, 16)).astype(np.float32)
    plain, scaled = codes(1, 24, 16), codes(2, 24, 16)
    write(tmp_path / "0", {W: theta_0})
    write(tmp_path / "1", {W: plain})
    write(tmp_path / "2", {W: scaled, "layer.weight_scale": np.float32(0.25).reshape(())})
    sources = [tmp_path / str(i) for i in range(3)]
    found = merged(tmp_path, *sources, flags=("--rule", "model_stock"))
    assert found[W].dtype == np.float32 and found.keys() == {W}
    write(tmp_path / "a", {W: plain.astype(np.float32)})
    write(tmp_path / "b", {W: scaled.astype(np.float32) / 4})
    whole = ["--pretrained", sources[0], "--finetuned", tmp_path / "a", tmp_path / "b"]
    assert merge(*whole, "--rule", "model_stock", "--output", tmp_path / "whole") == 0
    np.testing.assert_array_equal(found[W], load_file(tmp_path / "whole" / "model.safetensors")[W])


def test_weights_beside_codes_keep_their_dtype(tmp_path):
    """Both are read as float32; only dequantised weights are written as bfloat16."""
    norms = [np.random.default_rng(i).normal(size=40).astype(np.float32) for i in range(3)]
    sources = [
        write(
            tmp_path / f"theta_{i}",
            {W: codes(i, 8, 8), "layer.weight_scale": scales(i), "norm.weight": norms[i]},
        )
        for i in range(3)
    ]
    for rule in ("task_arithmetic", "dare", "max_magnitude", "average"):
        found = merged(tmp_path / rule, *sources, flags=("--rule", rule, "--scale", 1))
        assert (found[W].dtype, found["norm.weight"].dtype) == (BF16, np.float32)
        if rule == "task_arithmetic":
            want = norms[1] + norms[2] - norms[0]
            np.testing.assert_allclose(found["norm.weight"], want, rtol=1e-5, atol=1e-6)
        if rule == "average":
            want = (norms[1] + norms[2]) / 2
            np.testing.assert_allclose(found["norm.weight"], want, rtol=1e-5, atol=1e-6)


def test_codes_stored_before_other_weights(tmp_path):
    """Adjacent reads are joined; these only look adjacent, when bytes are multiplied by four."""
    tensors = {
        W: codes(0, 10, 10),
        "layer.ids": np.arange(75, dtype=np.int32),
        "norm.weight": np.arange(50, dtype=np.float32),
    }
    theta_0 = write(tmp_path / "0", tensors)
    found = merged(tmp_path, theta_0, theta_0, flags=EXACT)
    np.testing.assert_array_equal(found[W], tensors[W].astype(np.float32))
    np.testing.assert_array_equal(found["norm.weight"], tensors["norm.weight"])


def test_the_output_is_a_model_of_plain_weights(tmp_path, capsys):
    settings = {"quant_method": "fp8", "activation_scheme": "static"}
    config = {
        "model_type": "llama",
        "torch_dtype": "float16",
        "quantization_config": settings,
        "text_config": {"quantization_config": settings, "heads": 4},
    }
    for seed in range(2):
        tensors = {
            W: codes(seed, 8, 8),
            "layer.weight_scale": np.float32(0.5).reshape(()),
            "layer.input_scale": np.ones((), np.float32),
            "attention.k_scale": np.ones((), np.float32),
            "kept.weight": codes(2, 8, 8),
            "kept.weight_scale": np.float32(1 / 3).reshape(()),
            "norm.weight": np.full(8, 1 / 3 + seed, np.float32),
        }
        write(tmp_path / str(seed), tensors, **config)
        (tmp_path / str(seed) / "hf_quant_config.json").write_text("{}")
    sources = tmp_path / "0", tmp_path / "1"
    found = merged(tmp_path, *sources, flags=(*EXACT[:4], "--exclude", "kept.*"))
    assert {name: str(array.dtype) for name, array in found.items()} == {
        W: "bfloat16", "kept.weight": "bfloat16", "norm.weight": "float32",
    }  # fmt: skip
    np.testing.assert_array_equal(
        found[W], (codes(1, 8, 8).astype(np.float32) / 2).astype(ml_dtypes.bfloat16)
    )
    kept = codes(2, 8, 8).astype(np.float32) * np.float32(1 / 3)
    np.testing.assert_array_equal(found["kept.weight"], kept.astype(ml_dtypes.bfloat16))
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written == {"model_type": "llama", "dtype": "bfloat16", "text_config": {"heads": 4}}
    assert not (tmp_path / "out" / "hf_quant_config.json").exists()

    job = Job(str(sources[0]), (str(sources[1]),), dequantise=True)
    notes = make_plan(job).notes
    assert notes == [f"{s}: 8-bit floats read times their scales: 2 tensors" for s in sources]
    capsys.readouterr()
    arguments = ["--pretrained", sources[0], "--finetuned", sources[1], "--dequantize"]
    assert merge(*arguments, "--out-dtype", "float16", "--output", tmp_path / "half") == 0
    written = json.loads((tmp_path / "half" / "config.json").read_text())
    assert written["dtype"] == "float16" and "quantization_config" not in written


def test_values_beyond_float16_are_named(tmp_path, capsys):
    tensors = {
        W: np.full((4, 4), 448, E4M3),
        "layer.weight_scale": np.float32(1000).reshape(()),
        "norm.weight": np.ones(4, np.float32),
    }
    theta_0 = write(tmp_path / "0", tensors)
    flags = ("--exclude", W, "--out-dtype", "float16")
    merged(tmp_path, theta_0, theta_0, flags=flags, code=2)
    assert f"{W} exceeds float16: choose --out-dtype" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    merged(tmp_path, theta_0, theta_0, flags=("--exclude", W))


def test_scales_that_exceed_float32_are_refused(tmp_path, capsys):
    scale = np.float32(1e38).reshape(())
    theta_0 = write(tmp_path / "0", {W: np.full((4, 4), 448, E4M3), "layer.weight_scale": scale})
    merged(tmp_path, theta_0, theta_0, code=2)
    assert f"{W} holds inf" in capsys.readouterr().err


def test_a_state_continues_with_the_flag(tmp_path, capsys):
    for seed in range(3):
        write(tmp_path / str(seed),
              {W: codes(seed, 8, 8), "layer.weight_scale": scales(seed)})  # fmt: skip
    sources = [tmp_path / str(i) for i in range(3)]
    at_once = merged(tmp_path, *sources)
    state = ("--state", tmp_path / "s.state")
    first = ["--pretrained", sources[0], "--finetuned", sources[1], "--dequantise", *state]
    assert merge(*first, "--output", tmp_path / "first") == 0
    second = ["--finetuned", sources[2], *state, "--output", tmp_path / "second"]
    assert merge(*second) == 2
    assert (
        "or convert FP8 to the weights that it encodes with --dequantise" in capsys.readouterr().err
    )
    assert merge(*second, "--dequantise") == 0
    found = load_file(tmp_path / "second" / "model.safetensors")
    np.testing.assert_array_equal(found[W], at_once[W])


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({W: zeros("F8_E4M3", 192, 256), "layer.weight_scale_inv": zeros("F32", 2, 2)},
         "fits layer.weight [192, 256] with blocks of several sizes: name the right one"),
        ({W: zeros("F8_E4M3", 8, 8), "layer.weight_scale": zeros("F32", 3, 3)},
         "is neither one scale for layer.weight [8, 8] nor one for each"),
        ({W: zeros("F8_E4M3", 8, 8), "layer.weight_scale": zeros("F32", 8)},
         "nor one for each of its blocks: fetch"),
        ({W: zeros("F8_E4M3", 8, 8), "layer.weight_scale": zeros("U8", 8, 1)},
         "nor one for each of its blocks: fetch"),
        ({W: zeros("F8_E4M3", 8, 8), "layer.weight_scale": zeros("F32"),
          "layer.weight_zero_point": zeros("F32")},
         "(--dequantise does not support such codes)"),
        ({"layer._weight_qdata": zeros("F8_E4M3", 8, 8), "layer._weight_scale": zeros("F32", 8, 1)},
         "(--dequantise does not support such codes)"),
        ({W: zeros("F8_E4M3", 8, 8), "layer.scale": zeros("F8_E8M0", 1, 1)},
         "(--dequantise does not support such codes)"),
        ({"layer.qweight": zeros("I32", 8, 8), "layer.scales": zeros("F16", 1, 8)},
         "(--dequantise does not support such codes)"),
        ({"layer.weight_packed": zeros("U8", 8, 8), "layer.weight_scale": zeros("F8_E4M3", 8, 1),
          "layer.weight_global_scale": zeros("F32")},
         "(--dequantise does not support such codes)"),
    ],
)  # fmt: skip
def test_other_codes_and_odd_scales_are_refused(others, words, tmp_path):
    raw(tmp_path / "0" / "model.safetensors", others)
    job = Job(str(tmp_path / "0"), (str(tmp_path / "0"),), dequantise=True)
    (problem, _) = make_plan(job).problems
    assert words in problem and str(tmp_path / "0") in problem and "\n" not in problem
    assert "with --dequantise" not in problem


def test_the_block_size_in_the_configuration_decides(tmp_path):
    code, scale = codes(0, 192, 256), scales(0, 2, 2)
    for size, block in (([128, 128], (128, 128)), ([96, 128], (96, 128))):
        config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": size}}
        directory = write(
            tmp_path / str(size), {W: code, "layer.weight_scale_inv": scale}, **config
        )
        arguments = ["--pretrained", directory, "--finetuned", directory, "--dequantise"]
        out = tmp_path / f"out {size}"
        assert merge(*arguments, *EXACT, "--output", out) == 0
        expected = code.astype(np.float32) * spread(scale, 192, 256, block)
        np.testing.assert_array_equal(load_file(out / "model.safetensors")[W], expected)
