"""The card of a merged model, as huggingface_hub reads it."""

import json
import logging

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from safetensors.numpy import load_file, save_file

from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.merge_files.hub_metadata import base_models, notes
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from tests.merge_files.conftest import merge


@pytest.fixture
def model(tmp_path):
    """Writes a model with card metadata."""

    def write(name, metadata=None, files=(), weights="model.safetensors"):
        directory = tmp_path / "home" / "somebody" / name
        directory.mkdir(parents=True)
        save_file({"w": np.full(4, len(name), np.float32)}, directory / weights)
        if metadata is not None:
            (directory / "README.md").write_text(f"---\n{metadata}\n---\n# {name}\n")
        for file, content in dict(files).items():
            (directory / file).write_text(json.dumps(content))
        return directory

    return write


@pytest.fixture
def card(tmp_path, caplog):
    """Merges and returns the card; huggingface_hub must not complain about it."""

    def run(pretrained, *models) -> ModelCard:
        flags = ["--pretrained", pretrained, "--finetuned", *models, "--output", tmp_path / "out"]
        assert merge(*flags) == 0
        with caplog.at_level(logging.WARNING):
            found = ModelCard.load(tmp_path / "out" / "README.md", ignore_metadata_errors=False)
        assert not caplog.records
        return found

    return run


def test_metadata_are_copied_and_joined(model, card):
    base = model("base", "license: mit\nlanguage: de\ntags: [vision]\nbase_model: google/vit")
    one = model("one", "license: mit\nlanguage: [en, de]\ntags: [vision, x]\nbase_model: acme/base")
    data = card(base, one, model("two")).data.to_dict()
    assert data == {
        "license": "mit",
        "language": ["de", "en"],
        "tags": ["vision", "x", "merge", "magmax"],
        "base_model": ["google/vit", "acme/base"],
        "base_model_relation": "merge",
        "library_name": "transformers",
    }


def test_different_licences_are_all_named(model, card):
    base, one = model("base", "license: cc-by-nc-4.0"), model("one", "license: llama3")
    plan = make_plan(Job(str(base), (str(one),)))
    assert any("licences differ (base: cc-by-nc-4.0, one: llama3)" in note for note in plan.notes)
    data = card(base, one).data
    assert (data.license, data.license_name) == ("other", "cc-by-nc-4.0-and-llama3")


@pytest.mark.parametrize(
    ("ours", "theirs", "licence", "name"),
    [
        ("license: Apache-2.0", "license: apache-2.0", "apache-2.0", None),
        ("license: [mit, apache-2.0]", "", "other", "mit-and-apache-2.0"),
        ("license: other\nlicense_name: My License v1", "license: mit", "other",
         "my-license-v1-and-mit"),
        ("license: other", "license: mit", "other", "other-and-mit"),
        ("license: [mit, apache-2.0]", "license: mit", "other", "mit-and-apache-2.0"),
        ("", "license: mit", "mit", None),
        ("", "", None, None),
    ],
)  # fmt: skip
def test_licences_use_the_hubs_spelling(model, card, ours, theirs, licence, name):
    data = card(model("base", ours), model("one", theirs)).data
    assert (data.license, data.license_name) == (licence, name)


def test_a_custom_licence_keeps_its_name_and_link(model, card):
    metadata = "license: other\nlicense_name: acme-1.0\nlicense_link: LICENSE"
    data = card(model("base", metadata), model("one")).data
    assert (data.license, data.license_name, data.license_link) == ("other", "acme-1.0", "LICENSE")


def test_no_path_of_the_machine_is_published(model, card, tmp_path, monkeypatch):
    base = model("base", f"license: mit\nbase_model: {tmp_path}/secret")
    (tmp_path / "link").symlink_to(model("one"))
    monkeypatch.chdir(base.parent)
    text = str(card("./base", tmp_path / "link", "base/", base / "model.safetensors"))
    assert "somebody" not in text and str(tmp_path) not in text and "base_model" not in text
    for name in ("| theta_0 | `base`", "| 1 | `link`", "| 2 | `base`", "| 3 | `model.safetensors`"):
        assert name in text


def test_names_with_any_characters_stay_in_their_cells(model, card):
    text = str(card(model("base"), model("a|b`c\nd")))
    assert "| 1 | `a\\|b'c d` | " in text


def test_language_code_no_stays_norwegian(model, card):
    assert card(model("base", "language: no"), model("one")).data.language == "no"


@pytest.mark.parametrize("metadata", ["a: [", "- a", "tags: 7\nlicense: [1]\nlanguage: {a: b}"])
def test_empty_cards_are_skipped(model, card, metadata):
    base, one = model("base", metadata), model("one", "license: mit")
    found = make_plan(Job(str(base), (str(one),))).notes
    assert any("README.md begins with metadata" in n for n in found) == (metadata[:4] != "tags")
    data = card(base, one).data
    assert data.license == "mit" and data.tags == ["merge", "magmax"]


@pytest.mark.parametrize(
    ("library", "files", "weights"),
    [
        ("transformers", {"config.json": {"model_type": "vit"}}, "model.safetensors"),
        ("sentence-transformers", {"modules.json": []}, "model.safetensors"),
        ("diffusers", {"config.json": {"_diffusers_version": "0"}}, "model.safetensors"),
        (
            "transformers", {"config.json": {"model_type": "vit"}, "adapter_config.json": {}},
            "model.safetensors",
        ),
        ("diffusers", {}, "diffusion_pytorch_model.safetensors"),
        ("open_clip", {"open_clip_config.json": {}}, "open_clip_model.safetensors"),
        ("timm", {"config.json": {"architecture": "a", "pretrained_cfg": {}}}, "model.safetensors"),
    ],
)  # fmt: skip
def test_the_library_is_the_one_that_loads_it(model, card, library, files, weights):
    base, one = model("base", None, files, weights), model("one", None, files, weights)
    assert card(base, one).data.library_name == library


def test_a_hub_id_is_named_with_its_commit(card, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for repo, commit in (("base", "a" * 40), ("one", "b" * 40)):
        folder = tmp_path / "hub" / f"models--acme--{repo}"
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)
        save_file(
            {"w": np.ones(3, np.float32)}, folder / "snapshots" / commit / "model.safetensors"
        )
    found = card("acme/base", f"acme/one@{'b' * 40}")
    assert found.data.base_model == ["acme/base", "acme/one"]
    assert f"| theta_0 | `acme/base@{'a' * 40}`" in str(found)
    assert f"| 1 | `acme/one@{'b' * 40}`" in str(found)


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (["--rule", "negmerge"], "scale -0.5: theta_0 - 0.5 tau"),
        (["--scale", -0.3], "scale -0.3: theta_0 - 0.3 tau"),
        (["--scale", 0.3], "scale 0.3: theta_0 + 0.3 tau"),
    ],
)
def test_subtraction_is_shown_as_such(model, tmp_path, capsys, flags, shown):
    given = ["--pretrained", model("b"), "--finetuned", model("one"), "--output", tmp_path / "out"]
    assert merge(*given, *flags) == 0
    scale = float(shown.split()[1].rstrip(":"))
    assert f"of 1 model at scale {scale}" in capsys.readouterr().out
    assert shown in (tmp_path / "out" / "README.md").read_text()
    merged = load_file(tmp_path / "out" / "model.safetensors")["w"]
    np.testing.assert_allclose(merged, np.full(4, 1 + 2 * scale), rtol=1e-6)


@pytest.mark.parametrize("value", ["!!bool x", "!!timestamp x", "!!int ''", "[" * 1_001, "[", "*a"])
def test_metadata_that_cannot_be_read_is_left_out_and_noted(model, value):
    directory = model("a", f"license: {value}")
    opened = open_tensors(directory)
    assert base_models(opened) == []
    (note,) = notes([opened])
    assert note == (
        f"{directory / 'README.md'} begins with metadata that cannot be read, so the output's card "
        "lacks its licence"
    )
