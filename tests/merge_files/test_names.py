"""The same weights under other names: prefixes, wrappers, older naming."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.merge_files.conftest import merge, write

LAYERS = (
    "embeddings.weight",
    "encoder.0.fc.weight",
    "encoder.1.fc.weight",
    "encoder.1.norm.weight",
)
OPENCLIP = {
    "visual.transformer.resblocks.0.attn.in_proj_weight": (12, 4),
    "visual.transformer.resblocks.0.attn.in_proj_bias": (12,),
    "visual.class_embedding": (4,),
    "visual.conv1.weight": (4, 3, 2, 2),
}


def made(names, seed, rows=3) -> dict[str, np.ndarray]:
    """Tensors whose values depend on the position in `names`, so that mix-ups are noticed."""
    random = np.random.default_rng(seed)
    return {
        name: random.normal(size=(rows, i + 2)).astype(np.float32) for i, name in enumerate(names)
    }


def prefixed(prefix, names=LAYERS):
    return [prefix + name for name in names]


def merged(tmp_path, ours, theirs, *flags, rows=3):
    """theta_0 named `ours`, a model named `theirs`: the output and the inputs."""
    base, tuned = made(ours, 0), made(theirs, 1, rows)
    write(tmp_path / "base", base)
    write(tmp_path / "tuned", tuned)
    flags = ["--rule", "average", "--scale", 1, *flags, "--output", tmp_path / "out"]
    assert merge("--pretrained", tmp_path / "base", "--finetuned", tmp_path / "tuned", *flags) == 0
    return load_file(tmp_path / "out" / "model.safetensors"), base, tuned


VLM = ["language_model.model.layers.0.fc.weight", "vision_tower.fc.weight",
       "multi_modal_projector.weight", "language_model.lm_head.weight"]  # fmt: skip
NEWER = ["model.language_model.layers.0.fc.weight", "model.vision_tower.fc.weight",
         "model.multi_modal_projector.weight", "lm_head.weight"]  # fmt: skip
OLD_WORDS = ["conv.weight_g", "conv.weight_v", "a.LayerNorm.gamma", "a.LayerNorm.beta"]
WORDS = ["conv.parametrizations.weight.original0", "conv.parametrizations.weight.original1",
         "a.LayerNorm.weight", "a.LayerNorm.bias"]  # fmt: skip


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (LAYERS, prefixed("module."), "without the prefix module."),
        (LAYERS, prefixed("module._orig_mod."), "without the prefix module._orig_mod."),
        (LAYERS, prefixed("base_model.model."), "without the prefix base_model.model."),
        (LAYERS, prefixed("bert."), "without the prefix bert."),
        (prefixed("roberta."), LAYERS, "with the prefix roberta."),
        (prefixed("vision_model."), LAYERS, "with the prefix vision_model."),
        (prefixed("_orig_mod."), prefixed("module."), "with module as _orig_mod"),
        (
            LAYERS,
            [name.replace("encoder.", "encoder._orig_mod.") for name in LAYERS],
            "without the prefix _orig_mod.",
        ),
        (OLD_WORDS, WORDS, "LayerNorm"),
        (WORDS, OLD_WORDS, "LayerNorm"),
        (VLM, NEWER, "language_model.model"),
        (NEWER, VLM, "language_model.model"),
    ],
)  # fmt: skip
def test_a_mapping_that_fits_everything_is_applied_and_noted(tmp_path, capsys, ours, theirs, said):
    found, base, tuned = merged(tmp_path, ours, theirs)
    assert found.keys() == base.keys()
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found[our], tuned[their], atol=1e-6)
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(f"note: reads names of {tmp_path / 'tuned'} ")
    assert said in note or (said == "LayerNorm" and "gamma" in note and "weight_g" in note)


def test_one_tower_of_several(tmp_path):
    towers = [*prefixed("text_model.", LAYERS[1:]), *prefixed("vision_model."), "logit_scale"]
    inner = ["embeddings.weight", *LAYERS[1:]]
    base = made(towers, 0)
    tuned = {name: np.ones_like(base[f"vision_model.{name}"]) for name in inner}
    write(tmp_path / "base", base)
    write(tmp_path / "tuned", tuned)
    flags = ["--rule", "average", "--scale", 1, "--include", "vision_model.*"]
    names = [tmp_path / "base", tmp_path / "tuned"]
    for i, (first, second) in enumerate((names, names[::-1])):
        out = tmp_path / f"out-{i}"
        given = flags if first == names[0] else [*flags[:4], "--exclude", "text_model.*", "logit_*"]
        assert merge("--pretrained", first, "--finetuned", second, *given, "--output", out) == 0
        found = load_file(out / "model.safetensors")
        for name in inner:
            one, other = f"vision_model.{name}", name
            ours, theirs = (one, tuned[other]) if first == names[0] else (other, base[one])
            np.testing.assert_allclose(found[ours], theirs, atol=1e-6)
    assert found.keys() == tuned.keys()


def test_a_state_takes_the_next_model_under_other_names(tmp_path):
    write(tmp_path / "base", made(LAYERS, 0))
    models = [made(LAYERS, 1), made(prefixed("module."), 2)]
    state, source = ["--state", tmp_path / "state"], ["--pretrained", tmp_path / "base"]
    for i, model in enumerate(models):
        write(tmp_path / f"m{i}", model)
        flags = ["--finetuned", tmp_path / f"m{i}", *source, "--rule", "average", "--scale", 1]
        assert merge(*flags, *state, "--output", tmp_path / f"out-{i}") == 0
        source = []
    found = load_file(tmp_path / "out-1" / "model.safetensors")
    for name in LAYERS:
        mean = (models[0][name] + models[1][f"module.{name}"]) / 2
        np.testing.assert_allclose(found[name], mean, atol=1e-6)


def refused(tmp_path, capsys, ours, theirs, *flags) -> list[str]:
    """The lines of the error, which a dry run must repeat."""
    shapes = {**dict.fromkeys([*ours, *theirs], (3, 4)), **OPENCLIP}
    for directory, names in (("base", ours), ("tuned", theirs)):
        write(tmp_path / directory, {n: np.zeros(shapes[n], np.float32) for n in names})
    command = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "tuned", *flags]
    capsys.readouterr()
    assert merge(*command, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert merge(*command, "--dry-run") == 2
    shown = capsys.readouterr()
    assert shown.err == error and len(shown.out.splitlines()) <= 20
    return error.splitlines()


MANY = [f"layers.{i}.self_attn.{part}.weight" for i in range(50) for part in "qkv"]


def test_with_two_matching_sets_of_weights_none_is_chosen(tmp_path, capsys):
    both = [*prefixed("student.", MANY), *prefixed("teacher.", MANY)]
    (line,) = refused(tmp_path, capsys, MANY, both)
    assert "--rename 'student.*=*' or --rename 'teacher.*=*'" in line
    flags = ["--rename", "student.=", "--exclude", "teacher.*"]
    out = tmp_path / "out"
    command = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "tuned", *flags]
    assert merge(*command, "--output", out) == 0


def test_rules_are_suggested_for_the_original_names(tmp_path, capsys):
    both = [*prefixed("module.student.", MANY), *prefixed("module.teacher.", MANY)]
    (line,) = refused(tmp_path, capsys, MANY, both)
    assert "--rename 'module.student.*=*'" in line
    command = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "tuned"]
    flags = ["--rename", "module.student.*=*", "--exclude", "*.teacher.*"]
    assert merge(*command, *flags, "--output", tmp_path / "out") == 0


def test_another_tower_does_not_fill_a_gap(tmp_path, capsys):
    """The missing tensor has a look-alike (same suffix and shape) in a tower that theta_0 lacks."""
    ours = [*MANY, "norm.weight"]
    theirs = [*MANY, "vision.norm.weight", "vision.patch.weight"]
    lines = refused(tmp_path, capsys, ours, theirs)
    assert any("norm.weight is missing" in line for line in lines)
    assert "--exclude norm.weight 'vision.*'" in lines[-1]


def test_a_differing_word_is_named_with_the_flag(tmp_path, capsys):
    theirs = [name.replace("self_attn", "attention") for name in MANY]
    (line,) = refused(tmp_path, capsys, MANY, theirs)
    flag = "'*.attention.*=*.self_attn.*'"
    assert f"--rename {flag}" in line
    command = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "tuned"]
    assert merge(*command, "--rename", flag.strip("'"), "--output", tmp_path / "out") == 0


def test_another_librarys_names_give_a_one_sentence_error(tmp_path, capsys):
    (line,) = refused(tmp_path, capsys, MANY, list(OPENCLIP))
    assert "it has none of the 150 tensors to merge" in line
    assert "like visual.transformer.resblocks.0" in line and "theta_0's like layers." in line


def test_experts_one_by_one_and_packed(tmp_path, capsys):
    ours = [f"layers.{i}.mlp.experts.{j}.up_proj.weight" for i in range(4) for j in range(8)]
    theirs = [f"layers.{i}.mlp.experts.gate_up_proj" for i in range(4)]
    (line,) = refused(tmp_path, capsys, ours, theirs)
    assert "stores experts packed into one tensor a layer, theta_0 one by one" in line
    (line,) = refused(tmp_path, capsys, theirs, ours)
    assert "stores experts one by one, theta_0 packed into one tensor a layer" in line


def test_few_names_are_explained_like_many(tmp_path, capsys):
    ours = ["norm.weight", "layers.0.mlp.experts.0.up_proj.weight"]
    theirs = ["norm.weight", "layers.0.mlp.experts.gate_up_proj"]
    (line,) = refused(tmp_path, capsys, ours, theirs)
    assert "stores experts packed into one tensor a layer" in line
    (line,) = refused(tmp_path, capsys, ["norm.weight", "a.fc.bias"], ["norm.weight", "a.out.bias"])
    assert "1 tensor has another name, such as a.out.bias, while theta_0 has a.fc.bias" in line
    assert "--rename '*.out.*=*.fc.*'" in line


def test_unread_weights_of_another_library_are_named(tmp_path, capsys):
    """As in repositories for both transformers and OpenCLIP."""
    both = write(tmp_path / "both", made(MANY, 0))
    save_file(made(OPENCLIP, 0), both / "open_clip_model.safetensors")
    tuned = write(tmp_path / "open_clip", made(OPENCLIP, 1))
    command = ["--output", tmp_path / "out", "--pretrained"]
    for sources in ([both, "--finetuned", tuned], [tuned, "--finetuned", both]):
        assert merge(*command, *sources) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"but {both / 'open_clip_model.safetensors'} lies beside the file that was" in line
    loose = both / "open_clip_model.safetensors"
    assert merge(*command, loose, "--finetuned", tuned) == 0


def test_only_names_left_over_by_a_prefix_are_listed(tmp_path, capsys):
    (line,) = refused(tmp_path, capsys, MANY, prefixed("student.", MANY[:-1]))
    assert f"{MANY[-1]} is missing" in line and f"--exclude {MANY[-1]}" in line


def test_names_without_their_prefix_are_not_guessed(tmp_path, capsys):
    """The text tower has the same names and shapes as the other one."""
    both = [*prefixed("text_model.", MANY), *prefixed("vision_model.", MANY)]
    (line,) = refused(tmp_path, capsys, both, MANY)
    assert "'*=text_model.*'" in line and "'*=vision_model.*'" in line
