"""LoRA adapters as sources of a merge: theta_0 + scaled B A, as NumPy computes it."""

import json
import math
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from magmax_jax.cli.main import main
from magmax_jax.io.safetensors.reader import Reader, open_tensors
from magmax_jax.merge_files import chunk_sizes
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.lora import delta as computing
from magmax_jax.merge_files.planner import make_plan
from tests.merge_files.adapters import Q0, Q1, SHAPES, V0, adapter, base, delta, matrices, random
from tests.merge_files.conftest import merge, write

WHOLE = ("--rule", "average", "--scale", 1)
"""With these flags, merging one model gives that model."""


def one(tmp_path, *flags, name="a") -> dict[str, np.ndarray]:
    """The model made of theta_0 and one adapter."""
    sources = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / name]
    assert merge(*sources, *WHOLE, *flags, "--output", tmp_path / "out") == 0
    return load_file(tmp_path / "out" / "model.safetensors")


def check(found, theta_0, **changed):
    """Every tensor equals theta_0's, except the changed ones."""
    assert found.keys() == theta_0.keys()
    for name, value in (theta_0 | changed).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def test_an_adapter_is_theta_0_and_its_scaled_product(tmp_path):
    theta_0, made = base(tmp_path / "base"), adapter(tmp_path / "a")
    changed = {f"{m}.weight": theta_0[f"{m}.weight"] + delta(made, m) for m in (Q0, V0, Q1)}
    check(one(tmp_path), theta_0, **changed)


@pytest.mark.parametrize("rule", ["max_magnitude", "ties"])
def test_adapters_merge_like_the_models_that_they_make(tmp_path, rule, monkeypatch):
    """In chunks and, with a surveying rule, in several passes over pieces of any length."""
    monkeypatch.setattr(chunk_sizes, "SMALLEST", chunk_sizes.LANES)
    monkeypatch.setattr(chunk_sizes, "BUFFER_BYTES", 1024)
    monkeypatch.setattr(computing, "BLOCK", 20)
    theta_0 = base(tmp_path / "base")
    for i, name in enumerate(("a", "b")):
        made = adapter(tmp_path / name, seed=10 * i)
        changed = {
            f"{m}.weight": np.float32(theta_0[f"{m}.weight"] + delta(made, m)) for m in (Q0, V0, Q1)
        }
        save_file(theta_0 | changed, tmp_path / f"{name}.safetensors")
    for kind, end in (("adapters", ""), ("models", ".safetensors")):
        sources = [tmp_path / f"{name}{end}" for name in "ab"]
        command = ["--pretrained", tmp_path / "base", "--finetuned", *sources, "--rule", rule]
        assert merge(*command, "--output", tmp_path / kind) == 0
    adapters, models = (
        load_file(tmp_path / kind / "model.safetensors") for kind in ("adapters", "models")
    )
    for name, value in models.items():
        np.testing.assert_allclose(adapters[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
    changed = "model.layers.0.q_proj.weight"
    assert np.any(models[changed] != theta_0[changed])


def test_names_that_include_the_adapters_and_extra_files(tmp_path):
    """As in a training checkpoint, or a manually saved state dict."""
    theta_0, made = base(tmp_path / "base"), matrices(Q0, 12, 8)
    named = {name.replace(".weight", ".default.weight"): t for name, t in made.items()}
    adapter(tmp_path / "a", {n.removeprefix("base_model.model."): t for n, t in named.items()})
    save_file({"step": np.zeros(1)}, tmp_path / "a" / "optimizer.safetensors")
    check(one(tmp_path), theta_0, **{f"{Q0}.weight": theta_0[f"{Q0}.weight"] + delta(made, Q0)})


def test_scales_are_alpha_over_rank_or_its_root_by_pattern(tmp_path):
    theta_0 = base(tmp_path / "base")
    made = matrices(Q0, 12, 8, rank=3) | matrices(V0, 8, 8) | matrices(Q1, 12, 8)
    patterns = {"rank_pattern": {"layers.0.q_proj": 3}, "alpha_pattern": {r"^model.*\.v_proj": 10}}
    adapter(tmp_path / "a", made, use_rslora=True, **patterns)
    scales = {Q0: 6 / math.sqrt(3), V0: 10 / math.sqrt(2), Q1: 6 / math.sqrt(2)}
    changed = {
        f"{m}.weight": theta_0[f"{m}.weight"] + delta(made, m, scale) for m, scale in scales.items()
    }
    check(one(tmp_path), theta_0, **changed)


def test_embeddings_convolutions_biases_and_saved_modules(tmp_path):
    theta_0 = base(tmp_path / "base")
    start = "base_model.model.model."
    a, b = random((2, 20), 1), random((8, 2), 2)
    c, d = random((2, 4, 3, 3), 3), random((6, 2, 1, 1), 4)
    made = {
        f"{start}embed_tokens.lora_embedding_A": a,
        f"{start}embed_tokens.lora_embedding_B": b,
        f"{start}embed_tokens.base_layer.weight": theta_0["model.embed_tokens.weight"] + 1,
        f"{start}conv.lora_A.default.weight": c,
        f"{start}conv.lora_B.default.weight": d,
        f"{start}norm.bias": random((8,), 5),
        "base_model.model.score.modules_to_save.weight": random((3, 8), 6),
        "base_model.model.score.original_module.weight": random((3, 8), 7),
    }
    adapter(tmp_path / "a", {n.replace(".default", ""): t for n, t in made.items()})
    changed = {
        "model.embed_tokens.weight": theta_0["model.embed_tokens.weight"] + 1 + 3 * (b @ a).T,
        "model.conv.weight": theta_0["model.conv.weight"]
        + 3 * np.einsum("or,rikl->oikl", d[:, :, 0, 0], c),
        "model.norm.bias": made[f"{start}norm.bias"],
        "score.weight": made["base_model.model.score.modules_to_save.weight"],
    }
    check(one(tmp_path), theta_0, **changed)


def test_a_bias_of_b_is_scaled_and_added(tmp_path):
    theta_0 = base(tmp_path / "base") | {f"{Q0}.bias": random((12,), 8)}
    save_file(theta_0, tmp_path / "base" / "model.safetensors")
    bias = {f"base_model.model.{Q0}.lora_B.bias": random((12,), 9)}
    made = adapter(tmp_path / "a", matrices(Q0, 12, 8) | bias, lora_bias=True)
    changed = {
        f"{Q0}.weight": theta_0[f"{Q0}.weight"] + delta(made, Q0),
        f"{Q0}.bias": theta_0[f"{Q0}.bias"] + 3 * bias[f"base_model.model.{Q0}.lora_B.bias"],
    }
    check(one(tmp_path), theta_0, **changed)


def test_transposed_weights_by_shape_and_by_configuration_where_square(tmp_path):
    theta_0 = base(tmp_path / "base")
    theta_0[f"{Q0}.weight"] = np.ascontiguousarray(theta_0[f"{Q0}.weight"].T)
    save_file(theta_0, tmp_path / "base" / "model.safetensors")
    made = adapter(tmp_path / "a", matrices(Q0, 12, 8) | matrices(V0, 8, 8), fan_in_fan_out=True)
    changed = {f"{m}.weight": theta_0[f"{m}.weight"] + delta(made, m).T for m in (Q0, V0)}
    check(one(tmp_path), theta_0, **changed)


def test_half_precision_theta_0_meets_exact_deltas(tmp_path):
    """The model is float32 even if theta_0 is not, since small deltas would round away."""
    theta_0 = base(tmp_path / "base", ml_dtypes.bfloat16)
    made = adapter(tmp_path / "a", lora_alpha=0.002)
    found = one(tmp_path, "--out-dtype", "float32")
    exact = theta_0[f"{Q0}.weight"].astype(np.float64) + delta(made, Q0, 0.001)
    np.testing.assert_allclose(found[f"{Q0}.weight"], exact, rtol=1e-6)
    shutil.rmtree(tmp_path / "out")
    assert one(tmp_path)[f"{Q0}.weight"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(("ours", "theirs"), [("vision_model.", ""), ("", "bert."), ("x.", "y.")])
def test_one_other_prefix_is_read_and_noted(tmp_path, capsys, ours, theirs):
    theta_0 = base(tmp_path / "base")
    theta_0 = {ours + name: tensor for name, tensor in theta_0.items()}
    save_file(theta_0, tmp_path / "base" / "model.safetensors")
    made = adapter(tmp_path / "a", matrices(theirs + Q0, 12, 8) | matrices(theirs + Q1, 12, 8))
    name = f"{ours}{Q0}.weight"
    np.testing.assert_allclose(
        one(tmp_path)[name], theta_0[name] + delta(made, theirs + Q0), rtol=1e-6, atol=1e-6
    )
    shown = dry(tmp_path, capsys)
    assert "the prefix" in shown and ours in shown and theirs in shown


def dry(tmp_path, capsys, *flags) -> str:
    sources = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "a"]
    capsys.readouterr()
    assert merge(*sources, *flags, "--dry-run") == 0
    return capsys.readouterr().out


def test_planning_reads_headers_only_and_names_adapters(tmp_path, capsys, monkeypatch):
    base(tmp_path / "base")
    adapter(tmp_path / "a")

    def refuse(*_):
        raise AssertionError("a plan reads no tensors")

    monkeypatch.setattr(Reader, "into", refuse)
    shown = dry(tmp_path, capsys)
    assert f"note: {tmp_path / 'a'} is a LoRA adapter, read as theta_0 + scaled B A" in shown
    assert shown.count("note:") == 1


@pytest.mark.parametrize(
    ("named", "noted"),
    [("base", False), ("/mnt/old/Base/", False), ("acme/base", False), ("acme/other", True)],
)
def test_another_base_than_its_own_is_noted(tmp_path, capsys, named, noted):
    base(tmp_path / "base")
    adapter(tmp_path / "a", base_model_name_or_path=named)
    assert (f"trained on {named}" in dry(tmp_path, capsys)) is noted


def test_a_configuration_may_name_the_origin_of_theta_0(tmp_path, capsys):
    base(tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text('{"_name_or_path": "acme/other"}')
    adapter(tmp_path / "a", base_model_name_or_path="acme/other")
    assert "trained on" not in dry(tmp_path, capsys)


def test_a_loose_file_beside_its_configuration_and_patterns(tmp_path):
    theta_0, made = base(tmp_path / "base"), adapter(tmp_path / "a")
    found = one(tmp_path, "--exclude", "*.1.*", name="a/adapter_model.safetensors")
    changed = {f"{m}.weight": theta_0[f"{m}.weight"] + delta(made, m) for m in (Q0, V0)}
    check(found, theta_0, **changed)


def test_adapters_beside_whole_models_and_with_a_state(tmp_path, capsys):
    theta_0 = base(tmp_path / "base")
    for i, name in enumerate("ab"):
        adapter(tmp_path / name, seed=10 * i)
    save_file({n: t + 0.1 for n, t in theta_0.items()}, tmp_path / "whole.safetensors")
    first = [tmp_path / "a", tmp_path / "whole.safetensors"]
    start = ["--pretrained", tmp_path / "base"]
    assert merge(*start, "--finetuned", *first, tmp_path / "b", "--output", tmp_path / "once") == 0
    state = ["--state", tmp_path / "state"]
    assert merge(*start, "--finetuned", *first, *state, "--output", tmp_path / "1") == 0
    assert merge("--finetuned", tmp_path / "b", *state, "--output", tmp_path / "2") == 0
    once, twice = (load_file(tmp_path / o / "model.safetensors") for o in ("once", "2"))
    for name, tensor in once.items():
        np.testing.assert_array_equal(tensor, twice[name], err_msg=name)
    # Adapters are identified by their file.
    shutil.copytree(tmp_path / "b", tmp_path / "copy")
    capsys.readouterr()
    assert merge("--finetuned", tmp_path / "copy", *state, "--output", tmp_path / "3") == 2
    assert "is already in this state, as task 3" in capsys.readouterr().err


def test_opening_large_adapters_takes_no_memory(tmp_path):
    """A product of 40 GB from matrices of 400 kB."""
    n = 100_000
    (tmp_path / "base").mkdir()
    header = {"w.weight": {"dtype": "F32", "shape": [n, n], "data_offsets": [0, 4 * n * n]}}
    text = json.dumps(header).encode()
    with (tmp_path / "base" / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 4 * n * n)  # a sparse file, which takes no space
    made = adapter(tmp_path / "a", matrices("w", n, n, rank=1), r=1)
    plan = make_plan(Job(pretrained=str(tmp_path / "base"), finetuned=(str(tmp_path / "a"),)))
    plan.check()
    tensor, piece = plan.models[0].tensors["w.weight"], np.empty(5, np.float32)
    start = 70_000 * n + 33
    with Reader() as reader:
        reader.into(piece, tensor, start)
    a, b = (made[f"base_model.model.w.lora_{which}.weight"].reshape(-1) for which in "AB")
    np.testing.assert_allclose(piece, 6 * b[70_000] * a[33:38], rtol=1e-6)


def test_tensors_of_one_adapter_are_distinguished(tmp_path):
    base(tmp_path / "base")
    adapter(tmp_path / "a")
    job = Job(pretrained=str(tmp_path / "base"), finetuned=(str(tmp_path / "a"),) * 2)
    first, second = (model.tensors for model in make_plan(job).models)
    q0, q1 = f"{Q0}.weight", f"{Q1}.weight"
    assert first[q0] != first[q1] and first[q0] == second[q0]
    assert len({first[q0], first[q1], second[q0]}) == 2


def test_inspect_describes_an_adapter(tmp_path, capsys):
    adapter(tmp_path / "a", alpha_pattern={"v_proj": 2})
    assert main(["inspect", str(tmp_path / "a")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "LoRA adapter of base: rank 2, scale 1 to 3, 3 modules (q_proj, v_proj)" in shown


def test_every_tensor_of_theta_0_is_present(tmp_path):
    base(tmp_path / "base")
    adapter(tmp_path / "a")
    job = Job(pretrained=str(tmp_path / "base"), finetuned=(str(tmp_path / "a"),))
    plan = make_plan(job)
    assert plan.models[0].tensors.keys() == SHAPES.keys()
    theta_0 = open_tensors(tmp_path / "base").tensors
    assert plan.models[0].tensors["score.weight"] == theta_0["score.weight"]


@pytest.mark.parametrize("changed", ["lm_head", "model.embed_tokens"])
def test_deltas_of_one_tensor_of_a_tied_pair_are_added_to_both(tmp_path, changed, capsys):
    """They are one parameter, so peft's merge_and_unload changes both."""
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    theta_0 = {embedding: random((20, 8), 0), head: random((20, 8), 0)}
    write(tmp_path / "base", theta_0)
    (tmp_path / "base" / "config.json").write_text('{"tie_word_embeddings": true}')
    made = adapter(tmp_path / "a", matrices("lm_head", 20, 8))
    expected = theta_0[head] + delta(made, "lm_head")
    if changed != "lm_head":
        shutil.rmtree(tmp_path / "a")
        start = f"base_model.model.{changed}.lora_embedding_"
        a, b = random((2, 20), 1), random((8, 2), 2)
        adapter(tmp_path / "a", {f"{start}A": a, f"{start}B": b})
        expected = theta_0[head] + 3 * (b @ a).T
    found = one(tmp_path)
    check(found, theta_0, **{embedding: expected, head: expected})
    assert found[embedding].tobytes() == found[head].tobytes()
    assert "are tied in theta_0, so what" in capsys.readouterr().err


def test_a_head_that_an_adapter_holds_whole_is_not_tied(tmp_path):
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    theta_0 = {embedding: random((20, 8), 0), head: random((20, 8), 0)}
    write(tmp_path / "base", theta_0)
    own = random((20, 8), 5)
    adapter(tmp_path / "a", {f"base_model.model.{head}": own}, modules_to_save=["lm_head"])
    check(one(tmp_path), theta_0, **{head: own})


def test_a_whole_model_next_to_an_adapter_is_read_and_noted(tmp_path, capsys):
    base(tmp_path / "base")
    adapter(tmp_path / "a")
    shutil.copy(tmp_path / "base" / "model.safetensors", tmp_path / "a")
    path = tmp_path / "a" / "adapter_model.safetensors"
    note = f"its whole model is read, not the adapter beside it: name {path} if you want that one"
    sources = ["--pretrained", tmp_path / "base", "--finetuned"]
    for source, noted in (
        (path.parent, True),
        (path, False),
        (path.parent / "model.safetensors", False),
    ):
        assert merge(*sources, source, "--dry-run") == 0
        assert (note in capsys.readouterr().out) == noted
