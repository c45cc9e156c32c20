"""mergekit's recipes: what is read, what is refused and in which words."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from magmax_jax.merge_files.recipes.fields import REFUSED
from magmax_jax.merge_files.recipes.methods import METHODS, OTHERS
from tests.merge_files import adapters
from tests.merge_files.conftest import merge
from tests.merge_files.mergekit_cases import (
    RECIPES,
    SHAPES,
    of,
    weighted,
    write_models,
    write_recipe,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def dry(models, tmp_path, capsys):
    """Plans a recipe, given as a value or as text with {models}; returns what was said."""

    def call(recipe: dict | str, *flags, code: int = 2) -> str:
        path = tmp_path / "recipe.yml"
        if isinstance(recipe, str):
            path.write_text(recipe.replace("{models}", str(models)))
        else:
            write_recipe(recipe, models, path)
        assert merge(path, "--dry-run", *flags) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return call


TIES = RECIPES["ties"]


def test_a_dry_run_shows_the_method_its_parameters_and_the_tensors(dry):
    shown = dry(TIES, code=0).splitlines()
    assert shown[0] == "mergekit ties of 3 models, in chunks, all models side by side"
    assert shown[1:6] == [
        "weight: 0.5; -0.3; 0.9",
        "density: 0.3; 0.57; 0.8",
        "normalize: true",
        "rescale: false",
        "lambda: 1",
    ]
    assert shown[6] == f"merges {len(SHAPES)} tensors, keeps 0 of theta_0's"


def test_parameters_that_vary_are_shown_as_written(dry):
    shown = dry(RECIPES["gradients"], code=0)
    assert "tensor by tensor" in shown
    assert "weight: [0, 1]; [1, 0] in *mlp*, 0.5 elsewhere\n" in shown
    assert "density: [0.2, 0.9, 0.4]; 0.5\n" in shown
    assert "a gradient's first value serves all tensors outside layers" in shown
    assert "lm_head.weight" in shown


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"slices": []}, "slices is not supported: layers are not cut or stacked here"),
        ({"modules": {}}, "modules is not supported: parts of a model"),
        ({"tokenizer_source": "union"}, "tokenizer_source is not supported: vocabularies"),
        ({"tokenizer": {}}, "tokenizer is not supported: vocabularies"),
        ({"chat_template": "auto"}, "chat_template is not supported: templates are copied"),
        ({"experts": []}, "experts is not supported: mixtures of experts are not built here"),
        ({"random_seed": 1}, "random_seed is not supported: mergekit takes it from the command"),
        ({"merge_methd": "ties"}, "'merge_methd' is not a field of a recipe"),
        ({"merge_method": "karcher"}, "merge_method karcher is not supported here: choose from"),
        ({"merge_method": "tie"}, "tie is not a method of mergekit's: choose from"),
        ({"merge_method": "tie"}, "(did you mean ties?)"),
        ({"merge_method": None}, "merge_method names no method"),
        ({"parameters": {"lamda": 1}}, "parameters: 'lamda' is not a parameter: ties takes weight"),
        ({"parameters": {"lamda": 1}}, "(did you mean lambda?)"),
        ({"parameters": {"weight": "big"}}, "weight is 'big': give a finite number"),
        ({"parameters": {"weight": True}}, "weight is True: give a finite number"),
        ({"parameters": {"weight": float("nan")}}, "weight is nan: give a finite number"),
        ({"parameters": {"weight": None}}, "weight has no value: give one or leave it out"),
        ({"parameters": {"normalize": 1}}, "normalize is 1: give true or false"),
        ({"parameters": [1]}, "parameters are [1]: give names with values"),
        ({"dtype": "int64"}, "dtype is 'int64': choose from float32, float16, bfloat16"),
        ({"out_dtype": "auto"}, "out_dtype is 'auto': choose from float32"),
        ({"models": []}, "`models` lists no models"),
        ({"models": [{"modl": "a"}]}, "models, entry 1 has no `model`"),
        ({"models": [{"model": "a", "weight": 1}]}, "models, entry 1 has 'weight': a model has"),
        ({"models": [{"model": 3}]}, "models, entry 1: the model is 3: give a path or a hub id"),
        ({"models": [{"model": {"path": "a"}}]}, "the model is given by parts"),
        ({"models": [{"model": "a+b"}]}, "a+b is a model with an adapter"),
        ({"models": [{"model": "a"}, {"model": "a"}]}, "a is listed twice"),
        ({"models": [{"model": "a", "layer_range": [0, 2]}]}, "layer_range is not supported"),
        ({"base_model": None}, "ties needs a base_model, from which it takes changes"),
        ({"base_model": "a", "models": [{"model": "a"}]}, "ties merges 1 or more models besides"),
    ],
)
def test_what_is_no_recipe_is_refused_in_one_sentence(tmp_path, capsys, fields, said):
    recipe = {"merge_method": "ties", "base_model": "base", "models": [{"model": "a"}]} | fields
    path = tmp_path / "recipe.yml"
    path.write_text(yaml.safe_dump(recipe))
    assert merge(path, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert said in error and str(path) in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("merge_method: ties\nmerge_method: linear\n", "'merge_method' is given twice"),
        ("merge_method: [ties\n", "line 2: this is not YAML"),
        ("- ties\n", "is not a recipe: it has no fields such as merge_method and models"),
        ("", "is not a recipe"),
        ("a: &a [*a]\n", "'a' is not a field of a recipe"),
        ("[" * 3000, "this is not YAML"),
    ],
)
def test_what_is_no_yaml_is_refused(tmp_path, capsys, text, said):
    path = tmp_path / "recipe.yml"
    path.write_text(text)
    assert merge(path, "--output", tmp_path / "out") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--rule", "ties"], ["--scale", 1], ["--finetuned", "x"],
                                   ["--options", "density=1"], ["--out-dtype", "float16"],
                                   ["--state", "s"], ["--lora-rank", 4]])  # fmt: skip
def test_flags_that_say_what_a_recipe_says_are_refused(dry, flags):
    assert f"leave out {flags[0]}, or set them in the recipe" in dry(TIES, *flags)


def test_a_model_in_place_of_a_recipe_is_refused(models, capsys):
    assert merge(models / "base", "--dry-run") == 2
    assert "base is a model, not a recipe: give models behind --pret" in capsys.readouterr().err


def test_a_missing_recipe_is_refused(tmp_path, capsys):
    assert merge(tmp_path / "recipe.yml", "--output", tmp_path / "out") == 2
    assert "recipe.yml cannot be read (No such file or directory)" in capsys.readouterr().err


def test_a_parameter_of_the_recipe_under_a_model_is_refused(dry):
    recipe = of("slerp", ("a", {"t": 0.5}))
    assert "models, entry 1: t is one value for the whole recipe" in dry(recipe)


def test_a_filter_that_matches_no_tensor_is_a_problem(dry):
    values = [{"filter": "self_atn", "value": 1}, {"value": 0.5}]
    said = dry(of("ties", "a", parameters={"weight": values}))
    assert "the filter 'self_atn' of weight matches no tensor" in said


def test_tensors_without_a_required_value_are_named(dry):
    said = dry(of("ties", "a", parameters={"weight": [{"filter": "mlp", "value": 1}]}))
    assert "ties needs weight for" in said and "which has no value (" in said
    assert "model.embed_tokens.weight" in said


def test_parameters_without_effect_are_noted(dry):
    recipe = of("sce", "a", "b", parameters={"weight": 0.5, "int8_mask": True})
    shown = dry(recipe, code=0)
    assert "note: weight has no effect on sce, as in mergekit\n" in shown
    assert "note: int8_mask has no effect on sce, as in mergekit\n" in shown


def test_linear_says_that_it_averages_the_base_in(dry):
    shown = dry(RECIPES["linear_base"], code=0)
    assert "note: linear takes base_model as one more model" in shown
    assert "weight: 0.5\n" in shown
    assert shown.startswith("mergekit linear of 3 models")


def test_the_bases_own_parameters_are_noted_as_unused(dry):
    recipe = of("ties", ("base", {"weight": 3}), ("a", {"weight": 1}))
    assert "base have no effect: it is base_model" in dry(recipe, code=0)


@pytest.mark.parametrize("value", ["1e-1", "0.1", 0.1])
def test_numbers_may_be_text_as_yaml_reads_exponents(dry, value):
    assert "weight: 0.1\n" in dry(of("ties", "a", parameters={"weight": value}), code=0)


def test_a_single_filter_and_a_star_are_read(dry):
    recipe = of("ties", "a", parameters={"weight": {"filter": "*", "value": 0.25}})
    assert "weight: 0.25 elsewhere\n" in dry(recipe, code=0)


def test_impossible_parameters_are_refused_before_anything_is_read(dry):
    recipe = of("della", "a", parameters={"weight": 1, "density": 0.1})
    assert "density 0.1 and epsilon 0.15 give probabilities from -0.05 to 0.25" in dry(recipe)


def test_the_same_file_spelled_differently_is_one_more_model_without_change(dry, models):
    text = f"""
        merge_method: ties
        base_model: {models}/base
        models: [{{model: {models}/a}}, {{model: {models}/../{models.name}/base}}]
        parameters: {{weight: 1}}
    """
    shown = dry("\n".join(line.strip() for line in text.splitlines()), code=0)
    assert "ties of 2 models" in shown and "is theta_0 itself: its task vector is zero" in shown


def test_two_runs_write_the_same_bytes_and_a_card_with_the_method(models, tmp_path):
    path = write_recipe(TIES, models, tmp_path / "recipe.yml")
    for name in ("one", "two"):
        assert merge(path, "--output", tmp_path / name) == 0
    one, two = (tmp_path / name / "model.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    card = (tmp_path / "one" / "README.md").read_text()
    assert "`mergekit ties`, weight=0.5; -0.3; 0.9, density=0.3; 0.57; 0.8" in card
    assert str(models) not in card
    assert json.loads((tmp_path / "one" / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, np.float32),
        ({"dtype": "bfloat16"}, ml_dtypes.bfloat16),
        ({"dtype": "torch.float32", "out_dtype": "float16"}, np.float16),
    ],
)
def test_inputs_are_rounded_to_dtype_before_changes_are_taken(tmp_path, fields, found):
    """A change of 2 ** -12 of the base is lost in bfloat16, and kept in float32."""
    changed = 1 + 2.0**-12
    for name, value, dtype in (("base", 1, np.float32), ("a", changed, np.float32)):
        (tmp_path / name).mkdir()
        content = {"w": np.full((4, 4), value, dtype)}
        save_file(content, tmp_path / name / "model.safetensors")
    recipe = of("task_arithmetic", "a", parameters={"weight": 64.0}, **fields)
    path = write_recipe(recipe, tmp_path, tmp_path / "recipe.yml")
    assert merge(path, "--output", tmp_path / "out") == 0
    value = load_file(tmp_path / "out" / "model.safetensors")["w"]
    assert value.dtype == found
    kept = fields.get("dtype") != "bfloat16"
    np.testing.assert_array_equal(value.astype(float), 1 + kept * 64 * 2.0**-12)


def test_without_a_dtype_the_result_has_that_to_which_the_inputs_promote(tmp_path):
    for name, dtype in (("base", ml_dtypes.bfloat16), ("a", np.float16)):
        (tmp_path / name).mkdir()
        save_file({"w": np.ones((4, 4), dtype)}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"dtype": "bfloat16"}')
    path = write_recipe(
        of("linear", "base", "a", base=None, parameters={"weight": 1}), tmp_path, tmp_path / "r.yml"
    )
    assert merge(path, "--output", tmp_path / "out") == 0
    assert load_file(tmp_path / "out" / "model.safetensors")["w"].dtype == np.float32
    assert "float32" in (tmp_path / "out" / "config.json").read_text()


def test_a_result_beyond_its_dtype_is_refused_with_words_for_the_recipe(tmp_path, capsys):
    for name, value in (("base", 1), ("a", 60_000)):
        (tmp_path / name).mkdir()
        content = {"w": np.full((4, 4), value, np.float32)}
        save_file(content, tmp_path / name / "model.safetensors")
    recipe = of("task_arithmetic", "a", parameters={"weight": 2}, out_dtype="float16")
    path = write_recipe(recipe, tmp_path, tmp_path / "recipe.yml")
    assert merge(path, "--output", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "choose out_dtype in the recipe: bfloat16 or float32, or smaller weights in the" in said


def test_of_equal_changes_exactly_as_many_are_kept_as_the_density_says(tmp_path):
    """Also across chunks' rows: a tensor of equal changes, of which the first ones are kept."""
    size = 50_000
    contents = {"base": np.zeros(size, np.float32), "a": np.full(size, 0.5, np.float32)}
    contents["a"][100:200] = 0.75
    for name, array in contents.items():
        (tmp_path / name).mkdir()
        content = {"first": np.zeros(3000, np.float32), "w": array}
        save_file(content, tmp_path / name / "model.safetensors")
    recipe = of("ties", *weighted("a", weight=[1.0], density=[0.29]))
    path = write_recipe(recipe, tmp_path, tmp_path / "recipe.yml")
    assert merge(path, "--output", tmp_path / "out") == 0
    found = load_file(tmp_path / "out" / "model.safetensors")["w"]
    kept = int(0.29 * size)
    assert (found[:kept] == contents["a"][:kept]).all() and not found[kept:].any()


DOCS = Path(__file__).parents[2] / "docs" / "mergekit.md"


def test_the_documentation_lists_every_method_with_its_parameters_and_defaults():
    rows = {
        cells[1].strip(" `"): cells
        for line in DOCS.read_text().splitlines()
        if len(cells := line.split("|")) == 8 and "`" in cells[1]
    }
    rows.pop("merge_method")
    assert rows.keys() == set(METHODS)
    for name, (_, _, own, shared, base, _, _, _) in rows.items():
        for column, per_model in ((own, True), (shared, False)):
            keys = [k for k in METHODS[name].keys if k.per_model == per_model and not k.unused]
            defaults = [
                "" if k.default is None else f" ({str(k.default).lower()})".replace(".0)", ")")
                for k in keys
            ]
            listed = [f"`{k.name}`{default}" for k, default in zip(keys, defaults, strict=True)]
            assert column.strip() == ", ".join(listed)
        words = {"required": "required", "optional": "optional", "member": "one more model"}
        assert base.strip() == words[METHODS[name].base]


def test_the_documentation_names_every_refused_field_and_method():
    text = DOCS.read_text()
    hidden = {
        "experts_per_token",
        "shared_experts",
        "residual_scale",
        "random_seed",
        "name",
        "lora",
    }
    assert all(f"`{word}`" in text for word in {*REFUSED, *OTHERS} - hidden)


def test_the_documented_recipe_runs(models, tmp_path, monkeypatch, capsys):
    recipe = DOCS.read_text().split("```yaml\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    for name, model in (("base", "base"), ("maths", "a"), ("code", "b")):
        Path("models", name).symlink_to(models / model)
    Path("recipe.yml").write_text(recipe)
    assert merge("recipe.yml", "--output", "merged") == 0
    assert load_file("merged/model.safetensors")["lm_head.weight"].dtype == ml_dtypes.bfloat16
    assert "mergekit ties of 2 models" in capsys.readouterr().out


def test_an_adapter_may_be_listed_as_a_model(tmp_path):
    theta_0, made = adapters.base(tmp_path / "base"), adapters.adapter(tmp_path / "a")
    recipe = of("task_arithmetic", "a", parameters={"weight": 0.5}, dtype="float32")
    path = write_recipe(recipe, tmp_path, tmp_path / "recipe.yml")
    assert merge(path, "--output", tmp_path / "out") == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    name = f"{adapters.Q0}.weight"
    expected = theta_0[name] + 0.5 * adapters.delta(made, adapters.Q0)
    np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-6)
