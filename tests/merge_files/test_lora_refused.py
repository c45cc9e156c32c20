"""Adapters that are not theta_0 + scaled B A, or belong to another theta_0: one sentence each."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from magmax_jax.cli.main import main
from tests.merge_files.adapters import Q0, V0, adapter, base, matrices, random
from tests.merge_files.conftest import merge


@pytest.fixture
def refused(tmp_path, capsys):
    """The one-line error for merging `a` into `base`, in a dry run and a real one."""

    def run(*flags, source="a", count=1) -> str:
        sources = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / source, *flags]
        capsys.readouterr()
        assert merge(*sources, "--output", tmp_path / "out") == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == count
        assert merge(*sources, "--dry-run") == 2
        assert capsys.readouterr().err == said
        assert not (tmp_path / "out").exists()
        return said

    base(tmp_path / "base")
    return run


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, "of type IA3, and only LoRA adapters are read"),
        ({"peft_type": "PROMPT_TUNING"}, "changes no weights, so it cannot be merged"),
        ({"peft_type": None}, "has no peft_type in adapter_config.json"),
        ({"use_dora": True}, "a DoRA adapter, which also rescales the weights"),
        ({"trainable_token_indices": [1]}, "trained tokens"),
        ({"target_parameters": ["experts.gate_up_proj"]}, "a LoRA adapter of parameters"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "olora"}, "(init_lora_weights is olora)"),
        ({"r": 4}, f"{Q0} has matrices of shape [2, 8] and [12, 2], but its rank is 4"),
        ({"r": "two"}, "is not the configuration of a LoRA adapter"),
        ({"r": None}, "(None is not a rank): fetch it again"),
        ({"r": 2.5}, "(2.5 is not a rank)"),
        ({"r": True}, "(True is not a rank)"),
        ({"lora_alpha": "6"}, "('6' is not a finite number)"),
        ({"lora_alpha": float("nan")}, "(nan is not a finite number)"),
        ({"alpha_pattern": {"q_proj": False}}, "(False is not a finite number)"),
        ({"use_rslora": "false"}, "(use_rslora is 'false', neither true nor false)"),
        ({"fan_in_fan_out": 0}, "(fan_in_fan_out is 0, neither true nor false)"),
        ({"rank_pattern": {"(": 3}}, "is not the configuration of a LoRA adapter"),
    ],
)
def test_configurations_that_change_the_meaning(tmp_path, refused, config, words):
    adapter(tmp_path / "a", **config)
    assert words in refused()


def test_initialisations_that_do_not_change_the_base_are_read(tmp_path):
    base(tmp_path / "base")
    adapter(tmp_path / "a", init_lora_weights="orthogonal", lora_dropout=0.1)
    sources = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "a"]
    assert merge(*sources, "--dry-run") == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.layers.0.q_proj.lora_magnitude_vector", "plain LoRA adapters do not have"),
        ("model.embed_tokens.token_adapter.trainable_tokens_delta", "plain LoRA adapters do not"),
        ("model.layers.0.q_proj.lora_A.bias", "plain LoRA adapters do not have"),
        ("attn.base_layer.out_proj.lora_A.weight", "torch's MultiheadAttention"),
        ("model.layers.1.q_proj.lora_A.weight", "contains no lora_B of model.layers.1.q_proj"),
        ("model.layers.0.q_proj.lora_A.other.weight", "holds several adapters (None, other)"),
    ],
)
def test_tensors_that_plain_adapters_lack(tmp_path, refused, name, words):
    extra = {f"base_model.model.{name}": random((2, 8), 1)}
    adapter(tmp_path / "a", matrices(Q0, 12, 8) | extra)
    assert words in refused()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("lora_unet_mid_block.lora_down.weight", "lora_unet_mid_block.lora_up.weight"), "kohya"),
        (("lora_te1_text_model.hada_w1_a", "lora_te1_text_model.alpha"), "kohya"),
        (("unet.mid_block.to_q.lora_A.weight", "unet.mid_block.to_q.lora_B.weight"), "diffusers"),
        (("unet.mid_block.to_q_lora.down.weight", "unet.mid_block.to_q_lora.up.weight"), "fuse"),
        (("base_model.model.x.lora_A.weight",), "no adapter_config.json beside them"),
        (("x.base_layer.weight", "x.lora_A.default.weight"), "merge_and_unload) or keep them"),
    ],
)
def test_files_without_a_configuration(tmp_path, refused, names, words):
    (tmp_path / "a").mkdir()
    save_file({name: random((2, 8), 1) for name in names}, tmp_path / "a" / "lora.safetensors")
    assert words in refused()
    assert words in refused(source="a/lora.safetensors")


def test_models_with_built_in_lora_are_merged_if_it_is_excluded(tmp_path):
    """As in Phi-4: their matrices stay theta_0's."""
    for i, name in enumerate(("base", "a")):
        made = {"x.base_layer.weight": random((2, 2), i), "x.lora_A.vision.weight": random((2,), i)}
        (tmp_path / name).mkdir()
        save_file(made, tmp_path / name / "model.safetensors")
    sources = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "a"]
    assert merge(*sources, "--output", tmp_path / "out") == 2
    assert merge(*sources, "--exclude", "*lora_*", "--output", tmp_path / "out") == 0


def test_pickled_adapters_name_the_remedy_in_peft(tmp_path, refused):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "adapter_config.json").write_text("{}")
    (tmp_path / "a" / "adapter_model.bin").write_bytes(b"never read")
    assert "adapter_model.bin is a pickle" in (said := refused())
    assert "get the model as one of adapter_model.safetensors (peft's save_pretrained" in said


class TestOtherTheta0:
    def test_modules_missing_from_theta_0(self, tmp_path, refused):
        lost = [matrices(f"decoder.{i}.fc", 12, 8) for i in range(40)]
        adapter(tmp_path / "a", {name: t for made in lost for name, t in made.items()})
        said = refused()
        assert "lacks 40 of the 40 modules that it changes, decoder.0.fc first" in said
        assert "(it was trained on base)" in said and "--pretrained" in said

    def test_another_shape(self, tmp_path, refused):
        adapter(tmp_path / "a", matrices(Q0, 12, 16))
        assert f"changes {Q0}.weight by [12, 16], theta_0's is [12, 8]" in refused()

    def test_prefixes_that_fit_in_two_places(self, tmp_path, refused):
        two = {f"{tower}.fc.weight": random((12, 8), 1) for tower in ("vision", "text")}
        save_file(two, tmp_path / "base" / "model.safetensors")
        adapter(tmp_path / "a", matrices("fc", 12, 8))
        assert "lacks 1 of the 1 modules" in refused()

    def test_whole_tensors_missing_from_theta_0(self, tmp_path, refused):
        extra = {"base_model.model.model.layers.2.o_proj.weight": random((3, 8), 1)}
        adapter(tmp_path / "a", matrices(Q0, 12, 8) | extra)
        assert "model.layers.2.o_proj.weight is not in theta_0" in refused()

    def test_a_bias_missing_from_theta_0(self, tmp_path, refused):
        bias = {f"base_model.model.{Q0}.lora_B.bias": random((12,), 1)}
        adapter(tmp_path / "a", matrices(Q0, 12, 8) | bias, lora_bias=True)
        assert f"theta_0 has no {Q0}.bias" in refused()

    def test_an_unknown_orientation(self, tmp_path, refused):
        adapter(tmp_path / "a", matrices(Q0, 12, 8) | matrices(V0, 8, 8), fan_in_fan_out=True)
        assert f"whether {V0}.weight is transposed is not known" in refused()


def test_values_that_are_not_finite_name_the_adapter(tmp_path, capsys):
    base(tmp_path / "base")
    made = matrices(Q0, 12, 8)
    made[f"base_model.model.{Q0}.lora_B.weight"][3, 1] = np.inf
    adapter(tmp_path / "a", made)
    sources = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "a"]
    assert merge(*sources, "--output", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"error: {tmp_path / 'a'}: {Q0}.weight holds" in said.splitlines()[-1]


def test_theta_0_that_is_an_adapter(tmp_path, capsys):
    for name in "ab":
        adapter(tmp_path / name)
    sources = ["--pretrained", tmp_path / "a", "--finetuned", tmp_path / "b"]
    assert merge(*sources, "--output", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "is a LoRA adapter, so no whole model can be written: give --pretrained base" in said
    assert "--lora-rank" in said and len(said.splitlines()) == 1


def test_inspect_says_why_an_adapter_is_not_merged(tmp_path, capsys):
    adapter(tmp_path / "a", use_dora=True)
    assert main(["inspect", str(tmp_path / "a")]) == 0
    assert "is a DoRA adapter" in " ".join(capsys.readouterr().out.split())


def test_theta_0s_configuration_is_listed_among_the_problems(tmp_path, refused):
    adapter(tmp_path / "a")
    (tmp_path / "base" / "config.json").write_text("{")
    assert "config.json is not readable JSON" in refused()


def test_a_configuration_that_is_not_json(tmp_path, refused):
    adapter(tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps([1]))
    assert "adapter_config.json is not a JSON object" in refused()
