"""Configurations and tokenizers that give equal shapes different meanings."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from tests.merge_files.conftest import merge

LLAMA = {
    "model_type": "llama",
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "num_attention_heads": 4,
    "vision_config": {"layer_norm_eps": 1e-5},
}


@pytest.fixture
def notes(tmp_path):
    """Notes of a plan for theta_0 and models with the same weights but other files."""

    def make(*models: dict) -> list[str]:
        places = []
        for i, files in enumerate(models):
            directory = tmp_path / f"theta_{i}"
            directory.mkdir()
            save_file({"embed": np.full(4, i, np.float32)}, directory / "model.safetensors")
            for name, content in files.items():
                (directory / name).parent.mkdir(exist_ok=True)
                text = content if isinstance(content, str) else json.dumps(content)
                (directory / name).write_text(text)
            places.append(str(directory))
        plan = make_plan(Job(places[0], tuple(places[1:])))
        assert plan.problems == []
        return plan.notes

    return make


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope_theta": 2e7}, "rope_theta is 20000000.0 (theta_0's 500000.0)"),
        ({"rope_scaling": {"type": "linear", "factor": 8.0}}, "rope_scaling is {'rope_type': 'l"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4}}, "rope_scaling is {'rope_type'"),
        ({"num_attention_heads": 2}, "num_attention_heads is 2 (theta_0's 4)"),
        ({"hidden_act": "gelu"}, "hidden_act is gelu (theta_0's silu)"),
        ({"model_type": "mistral"}, "model_type is mistral (theta_0's llama)"),
        ({"vision_config": {"layer_norm_eps": 1e-6}}, "vision_config.layer_norm_eps is 1e-06"),
    ],
)
def test_models_that_compute_differently_get_one_line_each(notes, change, words):
    same, other = {"config.json": LLAMA}, {"config.json": LLAMA | change}
    (note,) = notes(same, same, other)
    assert "theta_2 computes differently from theta_0" in note and words in note


@pytest.mark.parametrize(
    "change",
    [
        {"torch_dtype": "float16", "transformers_version": "5.0", "architectures": ["A"]},
        {"attention_dropout": 0.1, "initializer_range": 1, "use_cache": False, "_name_or_path": ""},
        {"a_field_of_newer_versions": 7, "rope_scaling": None, "rope_theta": 500000},
        {"sliding_window": None, "partial_rotary_factor": 1.0},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
    ],
)
def test_equivalent_configurations_are_not_noted(notes, change):
    assert notes({"config.json": LLAMA}, {"config.json": LLAMA | change}) == []


def test_a_standalone_tower_is_compared_with_the_whole_models_tower(notes):
    tower = {"model_type": "clip_vision_model", "hidden_act": "quick_gelu", "projection_dim": 512}
    whole = {"model_type": "clip", "projection_dim": 64, "vision_config": tower}
    assert notes({"config.json": whole}, {"config.json": tower}) == []


def test_a_tower_that_computes_differently_is_noted(notes):
    tower = {"model_type": "clip_vision_model", "hidden_act": "quick_gelu"}
    whole = {"model_type": "clip", "vision_config": tower}
    (note,) = notes({"config.json": whole}, {"config.json": tower | {"hidden_act": "gelu"}})
    assert "vision_config.hidden_act is gelu (theta_0's quick_gelu)" in note


def test_many_differences_are_still_one_line(notes):
    fields = {f"field_{i}": i for i in range(30)}
    (note,) = notes({"config.json": fields}, {"config.json": dict.fromkeys(fields, -1)})
    assert "field_5 is -1" in note and note.endswith("and 24 more")


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "words"),
    [
        ("preprocessor_config.json", {"image_mean": [0.5]}, {"image_mean": [0.4]}, "image_mean"),
        ("preprocessor_config.json", {"size": 224}, {"size": {"shortest_edge": 384}}, "size"),
        ("open_clip_config.json", {"model_cfg": {"a": 1}}, {"model_cfg": {"quick_gelu": True}},
         "model_cfg.quick_gelu is True (theta_0's not set)"),
        ("open_clip_config.json", {"preprocess_cfg": {"std": 1}}, {"preprocess_cfg": {"std": 2}},
         "preprocess_cfg.std is 2 (theta_0's 1)"),
        ("sentence_bert_config.json", {"max_seq_length": 9}, {"max_seq_length": 8}, "max_seq_len"),
    ],
)  # fmt: skip
def test_other_files_count_too(notes, name, ours, theirs, words):
    (note,) = notes({name: ours}, {name: theirs})
    assert words in note and name in note


def test_pooling_of_sentence_transformers(notes):
    mean, cls = (
        {"modules.json": "[]", "1_Pooling/config.json": {"mode": m}} for m in ("mean", "cls")
    )
    (note,) = notes(mean, cls)
    assert "mode is cls (theta_0's mean) in 1_Pooling/config.json" in note


def test_image_processors_of_transformers_4_and_5(notes):
    flat = {"image_mean": [0.5], "size": 224, "image_processor_type": "A"}
    nested = {"image_processor": {"image_mean": [0.5], "size": {"shortest_edge": 224}}}
    four, five = {"preprocessor_config.json": flat}, {"processor_config.json": nested}
    assert notes(four, five, four) == []


def test_configurations_that_are_not_json_are_refused(tmp_path, capsys):
    for name in ("base", "tuned"):
        (tmp_path / name).mkdir()
        save_file({"w": np.ones(2, np.float32)}, tmp_path / name / "model.safetensors")
    (tmp_path / "tuned" / "preprocessor_config.json").write_text("[]")
    (tmp_path / "base" / "preprocessor_config.json").write_text("{}")
    flags = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "tuned"]
    assert merge(*flags, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "preprocessor_config.json is not a JSON object" in error and error.count("\n") == 1


def vocabulary(*words, kind=dict, **more) -> dict:
    table = {word: i for i, word in enumerate(words)}
    return {"model": {"vocab": table if kind is dict else [[word, 0.0] for word in words]}} | more


class TestTokenizers:
    @pytest.mark.parametrize("kind", [dict, list], ids=["table", "unigrams"])
    def test_tokens_that_moved(self, notes, kind):
        one = {"tokenizer.json": vocabulary("the", "dog", "</s>", kind=kind)}
        other = {"tokenizer.json": vocabulary("der", "dog", "</s>", kind=kind)}
        found = notes(one, one, other)
        assert (
            "theta_2: its tokenizer.json is a different one: 1 tokens differ: 0 is 'der'"
            in found[0]
        )
        assert not any("theta_1" in note for note in found)

    def test_added_tokens_move_none(self, notes):
        one = {"tokenizer.json": vocabulary("the", "dog")}
        more = {
            "tokenizer.json": vocabulary("the", "dog", added_tokens=[{"id": 2, "content": "x"}])
        }
        (note,) = notes(one, more)
        assert "--companions-from" in note and "tokenizer" in note

    @pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.model", "merges.txt", "spiece.model"])
    def test_files_of_other_tokenizers(self, notes, name):
        assert f"a different one ({name} differs" in notes({name: "the"}, {name: "der"})[0]

    def test_the_writing_library_does_not_matter(self, notes):
        one = {"tokenizer_config.json": {"eos": "x", "name_or_path": "/a"}}
        other = {"tokenizer_config.json": '{"name_or_path":"/b",  "eos": "x"}'}
        generation = "generation_config.json"
        one[generation], other[generation] = ({"transformers_version": v} for v in ("4", "5"))
        assert notes(one, other) == []

    @pytest.mark.parametrize(
        "content", ["[]", "no JSON", '{"model": 3}', '{"added_tokens": [{}]}', '{"model": null}']
    )
    def test_files_of_another_layout_are_no_problem(self, notes, content):
        (note,) = notes({"tokenizer.json": vocabulary("the")}, {"tokenizer.json": content})
        assert "not theta_0's tokenizer" in note

    def test_ids_of_special_tokens(self, notes):
        (note,) = notes({"config.json": {"eos_token_id": 0}}, {"config.json": {"eos_token_id": 2}})
        assert "ids of special tokens" in note and "--companions-from" in note


class TestDtype:
    @pytest.fixture
    def written(self, tmp_path):
        def run(config: dict, *flags: str) -> dict:
            for name in ("base", "tuned"):
                (tmp_path / name).mkdir()
                save_file({"w": np.ones(2, np.float32)}, tmp_path / name / "model.safetensors")
                (tmp_path / name / "config.json").write_text(json.dumps(config))
            sources = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "tuned"]
            assert merge(*sources, *flags, "--output", tmp_path / "out") == 0
            return json.loads((tmp_path / "out" / "config.json").read_text())

        return run

    def test_nested_configurations_have_it_too(self, written):
        config = {
            "model_type": "clip",
            "torch_dtype": "float32",
            "text_config": {"torch_dtype": "float32", "sizes": {"a": 1}},
            "vision_config": {"dtype": "float32"},
        }
        assert written(config, "--out-dtype", "bfloat16") == {
            "model_type": "clip",
            "dtype": "bfloat16",
            "text_config": {"dtype": "bfloat16", "sizes": {"a": 1}},
            "vision_config": {"dtype": "bfloat16"},
        }

    def test_configurations_of_libraries_without_it_have_none(self, written):
        config = {"_class_name": "UNet2DModel", "in_channels": 3}
        assert written(config, "--out-dtype", "float16") == config
