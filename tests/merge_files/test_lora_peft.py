"""Adapters written by peft against its `merge_and_unload`, and ours loaded by peft."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.helpers import libraries
from tests.merge_files.conftest import merge

pytestmark = pytest.mark.slow
PRELUDE = """
import json, sys, warnings
from pathlib import Path
import torch
from torch import nn
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification
from transformers import CLIPConfig, CLIPModel, GPT2Config, GPT2LMHeadModel
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
place = Path(sys.argv[1])
small = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)

class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv1d(4, 5, 3), nn.Conv2d(3, 8, 3)
        self.point, self.three = nn.Conv2d(8, 6, 1), nn.Conv3d(2, 3, 2)
        self.table = nn.Embedding(11, 5)

models = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(vocab_size=40, num_key_value_heads=1, **small)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)),
    "bert": lambda: BertForSequenceClassification(BertConfig(vocab_size=40, num_labels=3, **small)),
    "clip": lambda: CLIPModel(CLIPConfig(
        text_config=dict(vocab_size=40, bos_token_id=0, eos_token_id=1, **small),
        vision_config=dict(image_size=16, patch_size=8, **small))),
    "convolutions": Convolutions,
}
cases = {
    "plain": ("llama", dict(target_modules=["q_proj", "v_proj"])),
    "patterns": ("llama", dict(target_modules="all-linear", use_rslora=True,
        rank_pattern={"q_proj": 2, "^model.layers.0.mlp.up_proj": 3},
        alpha_pattern={"layers.1.self_attn.v_proj": 32})),
    "embeddings": ("llama", dict(target_modules=["embed_tokens", "lm_head", "q_proj"])),
    "orthogonal": ("llama", dict(target_modules=["q_proj"], init_lora_weights="orthogonal")),
    "transposed": ("gpt2", dict(target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
    "biases": ("bert", dict(target_modules=["query"], bias="all", task_type="SEQ_CLS")),
    "saved": ("bert", dict(target_modules=["query"], modules_to_save=["classifier"])),
    "own_bias": ("bert", dict(target_modules=["query"], lora_bias=True)),
    "clip": ("clip", dict(target_modules=["q_proj", "patch_embedding", "visual_projection"])),
    "convolutions": ("convolutions",
        dict(target_modules=["one", "two", "point", "three", "table"])),
}
"""
MAKE = """
for name, (kind, settings) in cases.items():
    for seed, adapter in enumerate(("one", "two")):
        torch.manual_seed(0)
        model = models[kind]().eval()
        if not (place / name / "base").exists():
            (place / name / "base").mkdir(parents=True)
            state = {n: t.contiguous() for n, t in model.state_dict().items()}
            state.pop("lm_head.weight", None) if kind == "gpt2" else None  # tied
            save_file(state, place / name / "base" / "model.safetensors")
        model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **settings))
        torch.manual_seed(1 + seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = torch.randn(parameter.shape) * 0.3
        model.save_pretrained(place / name / adapter)
        whole = model.merge_and_unload().state_dict()
        save_file({n: t.clone().contiguous() for n, t in whole.items()},
            place / name / f"{adapter}.safetensors")
"""
LOAD = """
kind, _ = cases[sys.argv[2]]
model = models[kind]().eval()
model.load_state_dict(load_file(place / "base" / "model.safetensors"), strict=False)
whole = PeftModel.from_pretrained(model, place / "out").merge_and_unload().state_dict()
save_file({n: t.clone().contiguous() for n, t in whole.items()}, place / "loaded.safetensors")
"""


def run(python: str, script: str, *words) -> None:
    libraries.run(python, PRELUDE + script, *words)


@pytest.fixture(scope="module")
def made(python, tmp_path_factory) -> Path:
    """theta_0, two adapters and peft's merge of each, for every case."""
    place = tmp_path_factory.mktemp("adapters")
    run(python, MAKE, place)
    return place


def compare(found, expected, tolerance=1e-6):
    for name, tensor in found.items():
        if tensor.dtype == np.float32:
            scale = np.abs(expected[name]).max(initial=1e-9)
            np.testing.assert_allclose(
                tensor / scale, expected[name] / scale, rtol=0, atol=tolerance, err_msg=name
            )


@pytest.mark.parametrize(
    "case",
    ["plain", "patterns", "embeddings", "orthogonal", "transposed", "biases", "saved", "own_bias",
     "clip", "convolutions"],
)  # fmt: skip
def test_adapters_match_merge_and_unload(made, case):
    place = made / case
    whole = [load_file(place / f"{name}.safetensors") for name in ("one", "two")]
    command = ["--pretrained", place / "base", "--rule", "average", "--scale", 1]
    assert merge(*command, "--finetuned", place / "one", "--output", place / "first") == 0
    found = load_file(place / "first" / "model.safetensors")
    assert found.keys() == load_file(place / "base" / "model.safetensors").keys()
    compare(found, whole[0])
    both = ["--finetuned", place / "one", place / "two", "--output", place / "both"]
    assert merge(*command, *both) == 0
    found = load_file(place / "both" / "model.safetensors")
    compare(found, {name: (whole[0][name] + whole[1][name]) / 2 for name in found})


@pytest.mark.parametrize("case", ["plain", "transposed", "clip", "convolutions"])
def test_peft_loads_a_merged_adapter(python, made, case):
    """The average of two adapters of rank 4 is exact at rank 8."""
    place = made / case
    flags = ["--rule", "average", "--scale", 1, "--lora-rank", 8, "--output", place / "out"]
    assert merge("--finetuned", place / "one", place / "two", *flags) == 0
    assert json.loads((place / "out" / "adapter_config.json").read_text())["r"] == 8
    run(python, LOAD, place, case)
    whole = [load_file(place / f"{name}.safetensors") for name in ("one", "two")]
    found = load_file(place / "loaded.safetensors")
    compare(found, {name: (whole[0][name] + whole[1][name]) / 2 for name in found}, 2e-6)
