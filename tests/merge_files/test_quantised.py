"""Quantised weights are recognised in every format; plain weights never are."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from magmax_jax.cli.main import main
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from tests.helpers.raw_safetensors import of_array, raw, zeros
from tests.merge_files.conftest import merge

L = "model.layers.0.mlp.up_proj."
FORMATS = {
    "GPTQ or AWQ": {
        L + "qweight": zeros("I32", 8, 16), L + "qzeros": zeros("I32", 2, 2),
        L + "scales": zeros("F16", 2, 16), L + "g_idx": zeros("I32", 64),
    },
    "GPTQ or AWQ ": {"qweight": zeros("I32", 64, 2), "scales": zeros("F16", 2, 16)},
    "bitsandbytes": {
        L + "weight": zeros("U8", 512, 1), L + "weight.absmax": zeros("F32", 16),
        L + "weight.quant_map": zeros("F32", 16),
        L + "weight.quant_state.bitsandbytes__nf4": zeros("U8", 80),
    },
    "bitsandbytes ": {L + "weight": zeros("I8", 16, 16), L + "SCB": zeros("F32", 16)},
    "codes with scales": {
        L + "weight": zeros("F8_E4M3", 16, 16), L + "weight_scale_inv": zeros("F32", 1, 1),
    },
    "codes with scales ": {
        L + "weight": zeros("F8_E5M2", 16, 16), L + "scale_weight": zeros("F32"),
        "scaled_fp8": zeros("F8_E4M3", 0),
    },
    "codes with scales  ": {
        "experts.gate_up_proj": zeros("F8_E4M3", 2, 16, 16),
        "experts.gate_up_proj_scale": zeros("F32", 2, 1, 16),
    },
    # Upcast without their scale, so already wrong.
    "codes with scales   ": {
        L + "weight": zeros("BF16", 16, 16), L + "weight_scale": zeros("F32"),
    },
    # MLX
    "codes with scales    ": {
        L + "weight": zeros("U32", 16, 2), L + "scales": zeros("BF16", 16, 1),
        L + "biases": zeros("BF16", 16, 1),
    },
    "compressed-tensors": {
        L + "weight_packed": zeros("I32", 16, 2), L + "weight_scale": zeros("BF16", 16, 1),
        L + "weight_shape": zeros("I64", 2),
    },
    # NVFP4
    "compressed-tensors ": {
        L + "weight_packed": zeros("U8", 16, 8), L + "weight_scale": zeros("F8_E4M3", 16, 1),
        L + "weight_global_scale": zeros("F32", 1),
    },
    "MX": {
        "experts.gate_up_proj_blocks": zeros("U8", 2, 16, 1, 16),
        "experts.gate_up_proj_scales": zeros("U8", 2, 16, 1),
    },
    "MX ": {"a": zeros("F4", 16, 32)},
    "MX  ": {"a": zeros("F6_E2M3", 16, 32)},
    "HQQ": {L + "W_q": zeros("U8", 512), L + "scale": zeros("F16", 16)},
    "torchao": {L + "_weight_qdata": zeros("I8", 16, 16), L + "_weight_scale": zeros("F32", 16)},
    "quanto": {L + "weight._data": zeros("I8", 16, 16), L + "weight._scale": zeros("F32", 16, 1)},
    "AQLM": {L + "codes": zeros("I8", 16, 2, 1), L + "codebooks": zeros("F16", 1, 256, 1, 8)},
    "SqueezeLLM": {L + "qweight": zeros("I32", 2, 16), L + "lookup_table": zeros("F16", 16, 16)},
    "Marlin": {L + "B": zeros("I32", 1, 32), L + "s": zeros("F16", 1, 16)},
    "QuIP#": {L + "Qidxs": zeros("I64", 16, 2), L + "SU": zeros("F16", 16)},
    "SpQR": {
        L + "dense_weights": zeros("I64", 16), L + "row_offsets": zeros("I32", 17),
        L + "col_vals": zeros("I32", 17),
    },
    # SINQ, whose scales are one module deeper
    "integers in place of weights": {
        L + "W_q": zeros("U8", 16, 8), L + "meta.scale": zeros("F16", 16),
    },
    "integers in place of weights ": {
        L + "weight_q4": zeros("I32", 16, 2), L + "weight_d": zeros("F16", 16),
    },
    "8-bit floats": {L + "weight": zeros("F8_E4M3", 16, 16)},
    "integers with scales": {
        L + "packed_codes": zeros("I32", 16, 2), L + "row_scales": zeros("F16", 16, 1),
    },
    "8-bit integers": {L + "weight": zeros("I8", 16, 16)},
}  # fmt: skip
"""Tensors by quantisation method; trailing spaces keep keys unique; tests add a plain norm."""
NORM = {"model.norm.weight": zeros("F32", 16)}


def problems(pretrained, *finetuned, **options) -> list[str]:
    return make_plan(Job(str(pretrained), tuple(map(str, finetuned)), **options)).problems


@pytest.fixture
def whole(tmp_path):
    tensors = {L + "weight": zeros("BF16", 16, 16), **NORM}
    raw(tmp_path / "whole" / "model.safetensors", tensors)
    return tmp_path / "whole"


@pytest.mark.parametrize("method", FORMATS)
def test_codes_are_refused_wherever_they_are(method, whole, tmp_path):
    """One sentence per source, even if hundreds of names would differ."""
    loose = raw(tmp_path / "model-q.safetensors", {**FORMATS[method], **NORM})
    raw(tmp_path / "quantised" / "model.safetensors", {**FORMATS[method], **NORM})
    directory = tmp_path / "quantised"
    for source in (loose, directory):
        sentence = f"{source} is quantised ({method.strip()}: "
        for found in (problems(source, source), problems(whole, whole, source)):
            assert all(problem.startswith(sentence) for problem in found)
            assert all("fetch the float16 or bfloat16 edition" in problem for problem in found)
            assert all("\n" not in problem for problem in found)
        assert len(problems(source, source)) == 2 and len(problems(whole, whole, source)) == 1


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq, 4 bits"),
        ({"quantization_config": {"load_in_8bit": True}}, "bitsandbytes, 8 bits"),
        ({"text_config": {"quantization_config": {"quant_method": "awq"}}}, "awq"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "MLX, 4 bits"),
        ({"compression_config": {"config_groups": {}}}, "compressed-tensors"),
    ],
)
def test_the_configuration_names_the_method(config, named, whole, tmp_path):
    codes = raw(
        tmp_path / "codes" / "model.safetensors", {**FORMATS["8-bit integers"], **NORM}
    ).parent
    for directory in (codes, whole):
        (directory / "config.json").write_text(json.dumps(config))
    (problem,) = problems(tmp_path / "none", codes)[1:]
    assert problem.startswith(f"{codes} is quantised ({named}: {L}weight is int8)")
    # Plain weights with such a configuration would give a model that nothing can load.
    for problem in problems(whole, whole):
        assert f"says that the model is quantised ({named})" in problem
        assert "remove quantization_config" in problem
    assert not problems(whole, whole, dequantise=True)
    (whole / "config.json").write_text('{"quantization_config": null}')
    assert not problems(whole, whole)


def test_another_models_configuration_does_not_apply_to_a_loose_file(whole, tmp_path):
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "gptq"}}')
    loose = (whole / "model.safetensors").rename(tmp_path / "mine.safetensors")
    assert not problems(loose, loose)


def test_the_variant_to_fetch_is_named(tmp_path):
    codes = raw(tmp_path / "codes" / "model.safetensors", FORMATS["8-bit integers"]).parent
    (codes / "README.md").write_text("---\nbase_model: acme/whole\n---\n# A model")
    assert "edition of this model (acme/whole, says its model card)" in problems(codes, codes)[0]
    loose = raw(tmp_path / "codes" / "other.safetensors", FORMATS["8-bit integers"])
    assert "acme/whole" not in problems(loose, loose)[0]
    for card in ("---\nbase_model: [acme/whole]\n---", "---\n{\n---", "", "\xff"):
        (codes / "README.md").write_text(card)
        assert ("acme/whole" in problems(codes, codes)[0]) == ("acme" in card)


def test_integers_and_scales_of_plain_models_are_accepted(tmp_path):
    theta_0 = {
        "attention.mask": np.ones((1, 1, 16, 16), np.uint8),
        "attention.scale": np.ones(1, np.float32),
        "attention.weight_mask": np.ones((16, 16), np.uint8),
        "embeddings.position_ids": np.arange(16, dtype=np.int32)[None],
        "relative_position_index": np.ones((4, 4), np.int64),
        "norm.num_batches_tracked": np.asarray(3),
        "norm.weight": np.ones(4, np.float32),
        "layer_scale": np.ones(4, np.float32),
        "logit_scale": np.asarray(4.6, np.float32),
        "block.weight": np.ones((4, 4), np.float32),
        "block.scale": np.ones(4, np.float32),
        "block.scales": np.ones((4, 1), np.float32),
        "block.input_scale": np.ones(1, np.float32),
        "stage_blocks": np.ones(4, np.float32),
        "stage_scales": np.ones(4, np.float32),
    }
    theta = {n: np.asarray(t + (t.dtype == np.float32), t.dtype) for n, t in theta_0.items()}
    for name, content in (("theta_0", theta_0), ("theta_1", theta)):
        (tmp_path / name).mkdir()
        save_file(content, tmp_path / name / "model.safetensors")
    flags = ["--rule", "average", "--output", tmp_path / "out"]
    sources = ["--pretrained", tmp_path / "theta_0", "--finetuned", tmp_path / "theta_1"]
    assert main(["merge", *map(str, (*sources, *flags))]) == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in theta.items():
        np.testing.assert_array_equal(found[name], tensor, err_msg=name)


def test_frozen_codes_that_are_excluded_are_copied_unchanged(tmp_path, capsys):
    """As in gpt-oss, where only attention is fine-tuned; F4 is copied as bytes."""
    random = np.random.default_rng(0)
    codes = {
        "experts.up_blocks": of_array(random.integers(0, 256, (2, 8), np.uint8), "U8"),
        "experts.up_scales": of_array(random.integers(0, 256, (2, 1), np.uint8), "U8"),
        "experts.down": ("F4", (4, 6), random.bytes(12)),
        "experts.six": ("F6_E3M2", (2, 8), random.bytes(12)),
        "experts.scale": ("F8_E8M0", (3,), random.bytes(3)),
    }
    for name, value in (("theta_0", 1), ("theta_1", 3)):
        tensors = {**codes, "norm": of_array(np.full(4, value, np.float32), "F32")}
        raw(tmp_path / name / "model.safetensors", tensors)
    theta_0, theta_1, out = (tmp_path / name for name in ("theta_0", "theta_1", "out"))
    (theta_0 / "config.json").write_text('{"quantization_config": {"quant_method": "mxfp4"}}')
    arguments = ("--pretrained", theta_0, "--finetuned", theta_1, "--output", out)
    assert merge(*arguments) == 2 and "is quantised" in capsys.readouterr().err
    assert merge(*arguments, "--exclude", "experts.*", "--scale", 1, "--rule", "average") == 0
    text = (out / "model.safetensors").read_bytes()
    size = int.from_bytes(text[:8], "little")
    header = json.loads(text[8 : 8 + size])
    for name, (dtype, shape, data) in codes.items():
        low, high = header[name]["data_offsets"]
        assert (header[name]["dtype"], tuple(header[name]["shape"])) == (dtype, shape)
        assert text[8 + size + low : 8 + size + high] == data
    assert (out / "config.json").read_text() == (theta_0 / "config.json").read_text()
    capsys.readouterr()
    assert main(["inspect", str(theta_0)]) == 0
    shown = capsys.readouterr().out
    assert "24 F4" in shown and "quantised (mxfp4)" in shown


def test_complex_tensors_are_kept_if_all_models_agree(tmp_path, capsys):
    theta = np.asarray([1 + 2j, 3 - 4j, 5], np.complex64)
    out = tmp_path / "out"
    for name, angles in (("theta_0", theta), ("same", theta), ("other", theta * 1j)):
        tensors = {"w": of_array(np.ones(2, np.float32), "F32"), "angles": of_array(angles, "C64")}
        raw(tmp_path / name / "model.safetensors", tensors)
    both = ("--pretrained", tmp_path / "theta_0", "--finetuned", tmp_path / "same")
    assert merge(*both, "--output", out) == 0
    np.testing.assert_array_equal(load_file(out / "model.safetensors")["angles"], theta)
    capsys.readouterr()
    assert merge(*both, tmp_path / "other", "--output", tmp_path / "no") == 2
    assert (
        f"{tmp_path / 'other'}: angles is complex64 (C64), which is not merged, and differs from "
        "theta_0's: keep theta_0's with --exclude angles"
    ) in capsys.readouterr().err
    arguments = (*both, tmp_path / "other", "--output", tmp_path / "kept")
    assert merge(*arguments, "--exclude", "angles") == 0
    assert main(["inspect", str(tmp_path / "theta_0")]) == 0
    assert "3 complex64 (C64)" in capsys.readouterr().out
