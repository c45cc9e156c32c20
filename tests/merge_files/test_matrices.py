"""What matrix rules treat as matrices in files, as stated in the dry run and the card."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from magmax_jax.merge_files import groups
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from tests.merge_files.conftest import merge, write

RULES = pytest.mark.parametrize("rule", ["iso_c", "tsv_m", "opcm", "tsv_stream"])
D = 6


def hugging_face(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    tower = "vision_model"
    shapes = {
        f"{tower}.embeddings.position_embedding.weight": (5, D),
        f"{tower}.embeddings.patch_embedding.weight": (D, 3, 2, 2),
        "visual_projection.weight": (4, D),
    }
    layer = f"{tower}.encoder.layers.0"
    shapes |= {f"{layer}.self_attn.{x}_proj.weight": (D, D) for x in "qkv"}
    shapes |= {f"{layer}.self_attn.q_proj.bias": (D,), f"{layer}.mlp.fc1.weight": (4 * D, D)}
    return {name: np.float32(random.normal(size=shape)) for name, shape in shapes.items()}


def openclip(seed: int) -> dict[str, np.ndarray]:
    """The same weights under OpenCLIP's names."""
    theirs = hugging_face(seed)
    layer, block = "vision_model.encoder.layers.0", "visual.transformer.resblocks.0"
    attention = [theirs[f"{layer}.self_attn.{x}_proj.weight"] for x in "qkv"]
    embeddings = "vision_model.embeddings"
    return {
        "visual.positional_embedding": theirs[f"{embeddings}.position_embedding.weight"],
        "visual.conv1.weight": theirs[f"{embeddings}.patch_embedding.weight"],
        "visual.proj": np.ascontiguousarray(theirs["visual_projection.weight"].T),
        f"{block}.attn.in_proj_weight": np.concatenate(attention),
        f"{block}.ln_1.bias": theirs[f"{layer}.self_attn.q_proj.bias"],
        f"{block}.mlp.c_fc.weight": theirs[f"{layer}.mlp.fc1.weight"],
    }


def job(models, rule: str, **options) -> Job:
    base, *rest = map(str, models)
    return Job(pretrained=base, finetuned=tuple(rest), rule=rule, options=options)


@pytest.fixture
def models(tmp_path):
    return [write(tmp_path / f"hf{i}", hugging_face(i)) for i in range(3)]


@RULES
def test_one_model_under_two_naming_schemes_is_merged_alike(models, tmp_path, rule):
    others = [write(tmp_path / f"oc{i}", openclip(i)) for i in range(3)]
    merged = []
    for sources, out in ((models, tmp_path / "hf"), (others, tmp_path / "oc")):
        flags = ["--pretrained", sources[0], "--finetuned", *sources[1:], "--rule", rule]
        assert merge(*flags, "--output", out) == 0
        merged.append(load_file(out / "model.safetensors"))
    found, theirs = merged
    layer, block = "vision_model.encoder.layers.0", "visual.transformer.resblocks.0"
    pairs = {
        "visual.proj": found["visual_projection.weight"].T,
        "visual.positional_embedding": found["vision_model.embeddings.position_embedding.weight"],
        f"{block}.mlp.c_fc.weight": found[f"{layer}.mlp.fc1.weight"],
        f"{block}.attn.in_proj_weight": np.concatenate(
            [found[f"{layer}.self_attn.{x}_proj.weight"] for x in "qkv"]
        ),
    }
    for name, value in pairs.items():
        np.testing.assert_allclose(theirs[name], value, atol=2e-5, err_msg=name)


def test_a_dry_run_and_the_card_list_matrices_and_tables(models, tmp_path, capsys):
    flags = ["--pretrained", models[0], "--finetuned", *models[1:], "--rule", "tsv_m"]
    assert merge(*flags, "--dry-run") == 0
    line = (
        "takes 1 tensor (120 bytes: vision_model.embeddings.position_embedding.weight) as tables "
        "(averaged); 5 tensors (1.1 kB) as matrices; 2 tensors (312 bytes: "
    )
    shown = capsys.readouterr().out
    assert "tensors" in shown and all(part in shown for part in line.split("; ")[1:2])
    assert "vision_model.embeddings.position_embedding.weight) as tables (averaged)" in shown
    assert merge(*flags, "--output", tmp_path / "out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The rule takes " in card and "5 tensors (1.1 kB) as matrices" in card
    assert "as tables (averaged)" in card
    assert merge(*flags, "--options", "matrices=by_shape", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "6 tensors" in shown and "tables" not in shown
    assert merge(*flags[:-1], "average", "--dry-run") == 0
    assert "takes 5" not in capsys.readouterr().out.replace("takes about", "")


@RULES
def test_leaves_that_are_alike_are_compiled_once(models, rule):
    plan = make_plan(job(models, rule))
    kinds = set()
    for names in groups.groups(plan):
        fed = groups.fed(plan.rule, names, plan.pretrained.tensors[names[0]].shape)
        assert fed.key == "tensor"
        kinds.add(plan.rule.of_leaf(names[0], plan.pretrained.tensors[names[0]].shape).rule)
    assert len(kinds) == 2  # matrices and the rest


def test_a_resumed_state_of_components_equals_merging_all_at_once(models, tmp_path):
    flags, state = ["--rule", "tsv_stream"], tmp_path / "state.safetensors"
    whole = ["--pretrained", models[0], "--finetuned", *models[1:]]
    assert merge(*whole, *flags, "--output", tmp_path / "whole") == 0
    first = ["--pretrained", models[0], "--finetuned", models[1]]
    assert merge(*first, *flags, "--state", state, "--output", tmp_path / "first") == 0
    assert merge("--finetuned", models[2], "--state", state, "--output", tmp_path / "second") == 0
    found, expected = (load_file(tmp_path / d / "model.safetensors") for d in ("second", "whole"))
    for name, value in expected.items():
        assert found[name].tobytes() == value.tobytes(), name
