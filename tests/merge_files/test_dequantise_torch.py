"""FP8 as transformers itself reads it, and how it loads the output."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.merge_files.conftest import merge

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate", reason="transformers loads FP8 with accelerate")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.slow


def test_weights_match_transformers_dequantisation(tmp_path):
    from safetensors.torch import save_file

    config = transformers.LlamaConfig(
        hidden_size=256,
        intermediate_size=384,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=64,
    )
    torch.manual_seed(0)
    tensors = {}
    for name, weight in transformers.LlamaForCausalLM(config).state_dict().items():
        if not name.endswith("proj.weight"):
            tensors[name] = weight.contiguous()
            continue
        rows, columns = weight.shape
        blocks = weight.reshape(rows // 128, 128, columns // 128, 128)
        scale = blocks.abs().amax((1, 3)) / 448
        codes = (blocks / scale[:, None, :, None]).reshape(rows, columns)
        tensors[name] = codes.to(torch.float8_e4m3fn)
        tensors[f"{name}_scale_inv"] = scale
    theta_0 = tmp_path / "theta_0"
    theta_0.mkdir()
    save_file(tensors, theta_0 / "model.safetensors", metadata={"format": "pt"})
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    settings["activation_scheme"] = "dynamic"
    described = config.to_dict() | {"architectures": ["LlamaForCausalLM"]}
    described["quantization_config"] = settings
    (theta_0 / "config.json").write_text(json.dumps(described))

    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        theta_0,
        quantization_config=transformers.FineGrainedFP8Config(dequantize=True),
        dtype=torch.float32,
    )
    out = tmp_path / "out"
    flags = ("--rule", "average", "--out-dtype", "float32", "--output", out)
    assert merge("--pretrained", theta_0, "--finetuned", theta_0, "--dequantise", *flags) == 0
    ours = load_file(out / "model.safetensors")
    expected = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(ours[name], tensor, err_msg=name)

    again = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(tokens).logits, theirs.eval()(tokens).logits)
