"""Files next to the merged weights: everything that the model's library needs, and no more."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.merge_files import tokenizers
from magmax_jax.merge_files.job import Job
from magmax_jax.merge_files.planner import make_plan
from tests.merge_files.conftest import merge

WEIGHTS = {"w": np.arange(4, dtype=np.float32)}


@pytest.fixture
def model(tmp_path):
    """Writes a model of one tensor, its configuration and other files."""

    def write(name, files=(), config='{"model_type": "vit"}', weights="model.safetensors"):
        directory = tmp_path / name
        directory.mkdir()
        save_file({"w": WEIGHTS["w"] + len(name)}, directory / weights)
        for file, text in {**({"config.json": config} if config else {}), **dict(files)}.items():
            (directory / file).parent.mkdir(parents=True, exist_ok=True)
            (directory / file).write_text(text)
        return directory

    return write


def files_of(directory) -> list[str]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return sorted(path.relative_to(directory).as_posix() for path in paths)


def notes(pretrained, *models, **options) -> list[str]:
    plan = make_plan(Job(str(pretrained), tuple(map(str, models)), **options))
    assert plan.problems == []
    return plan.notes


def run(tmp_path, pretrained, *models, flags=()) -> list[str]:
    sources = ["--pretrained", pretrained, "--finetuned", *models, *flags]
    assert merge(*sources, "--output", tmp_path / "out") == 0
    return files_of(tmp_path / "out")


def test_subfolders_are_copied_and_modules_keep_theta_0s_weights(model, tmp_path):
    files = {"modules.json": "[]", "1_Pooling/config.json": "{}", "2_Dense/config.json": "{}"}
    base, tuned = model("base", files), model("tuned", files)
    for directory, value in ((base, 1), (tuned, 2)):
        save_file({"v": np.full(3, value, np.float32)}, directory / "2_Dense/model.safetensors")
    dense = "2_Dense/model.safetensors"
    wanted = [*files, "README.md", "config.json", "model.safetensors", dense]
    assert run(tmp_path, base, tuned) == sorted(wanted)
    np.testing.assert_array_equal(load_file(tmp_path / "out" / dense)["v"], [1, 1, 1])
    assert any(dense in note and "is theta_0's" in note for note in notes(base, tuned))


def test_a_module_whose_weights_are_a_pickle_is_named(model):
    files = {"modules.json": "[]", "2_Dense/pytorch_model.bin": "boom"}
    assert any("pytorch_model.bin is a pickle" in note for note in notes(model("a", files)
               , model("bc")))  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["diffusion_pytorch_model", "diffusion_pytorch_model.fp16", "open_clip_model",
     "open_clip_pytorch_model", "model", "model.fp16"],
)  # fmt: skip
def test_weights_keep_the_name_that_their_library_expects(model, tmp_path, name):
    base, tuned = (model(n, weights=f"{name}.safetensors") for n in ("base", "tuned"))
    wanted = ["README.md", "config.json", f"{name}.safetensors"]
    assert run(tmp_path, base, tuned) == sorted(wanted)


def test_a_variants_name_is_dropped_with_its_dtype(model, tmp_path):
    base, tuned = (model(n, weights="model.fp16.safetensors") for n in ("base", "tuned"))
    assert "model.safetensors" in run(tmp_path, base, tuned, flags=["--out-dtype", "float32"])


def test_a_variant_next_to_the_weights_is_not_copied(model, tmp_path):
    base, tuned = (model(n, weights="diffusion_pytorch_model.safetensors") for n in ("base", "ft"))
    for directory in (base, tuned):
        save_file(WEIGHTS, directory / "diffusion_pytorch_model.fp16.safetensors")
    assert "diffusion_pytorch_model.safetensors" in run(tmp_path, base, tuned)


@pytest.fixture
def folder(tmp_path):
    """Single-file checkpoints among other files."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for i, name in enumerate(("sd15", "style")):
        save_file({"w": WEIGHTS["w"] + i}, folder / f"{name}.safetensors")
    (folder / "passwords.txt").write_text("not for publication")
    return folder


def test_files_next_to_a_loose_file_do_not_belong_to_it(folder, tmp_path):
    base, style = folder / "sd15.safetensors", folder / "style.safetensors"
    assert run(tmp_path, base, style) == ["README.md", "model.safetensors"]
    assert "library_name" not in (tmp_path / "out" / "README.md").read_text()


def test_a_folder_of_files_is_not_a_model(folder, tmp_path):
    style = (folder / "style.safetensors").rename(tmp_path / "style.safetensors")
    assert run(tmp_path, folder, style) == ["README.md", "model.safetensors"]


def test_an_output_named_like_a_file_is_a_file(folder, tmp_path, capsys):
    flags = ["--pretrained", folder / "sd15.safetensors", "--finetuned",
             folder / "style.safetensors", "--rule", "average", "--scale", 1]  # fmt: skip
    output = tmp_path / "new" / "mix.safetensors"
    assert merge(*flags, "--output", output) == 0
    assert files_of(tmp_path / "new") == ["mix.safetensors"]
    np.testing.assert_array_equal(load_file(output)["w"], WEIGHTS["w"] + 1)
    before = output.read_bytes()
    assert merge(*flags, "--output", output) == 2
    assert "already exists" in capsys.readouterr().err
    assert output.read_bytes() == before


def test_a_single_file_from_a_models_directory_is_noted(model):
    base = model("base")
    found = notes(base / "model.safetensors", model("tuned"))
    assert any("named as a file" in note and str(base) in note for note in found)


def test_files_not_copied_are_noted(model, tmp_path):
    base = model("base")
    (base / "images").symlink_to(tmp_path)
    (base / "lost.json").symlink_to(tmp_path / "none")
    with (base / "film.mp4").open("wb") as file:
        file.truncate(1 << 30)
    found = "\n".join(notes(base, model("tuned")))
    for words in ("images is not copied: it is a link that leads to a directory",
                  "lost.json is not copied: it is a link that leads nowhere",
                  "film.mp4 is not copied: its 1074 MB"):  # fmt: skip
        assert words in found


def test_targets_of_links_elsewhere_are_not_copied(model, tmp_path):
    """Otherwise a downloaded model could get a user's own files published."""
    base = model("base")
    (tmp_path / "secret").write_text("mine")
    (base / "tokenizer.json").symlink_to(tmp_path / "secret")
    (base / "vocab.txt").write_text("a")
    (base / "same.txt").symlink_to("vocab.txt")
    tuned, output = model("tuned"), tmp_path / "out"
    found = notes(base, tuned)
    why = f"it is a link out of its directory, to {tmp_path / 'secret'}"
    assert f"{base / 'tokenizer.json'} is not copied: {why}" in "\n".join(found)
    assert merge("--pretrained", base, "--finetuned", tuned, "--output", output) == 0
    assert not (output / "tokenizer.json").exists()
    assert (output / "same.txt").read_text() == "a"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_dangling_link_is_named(model, tmp_path, capsys, name):
    base, tuned = model("base"), model("tuned")
    (base / name).unlink()
    (base / name).symlink_to(tmp_path / "gone")
    flags = ["--pretrained", base, "--finetuned", tuned, "--output", tmp_path / "out"]
    assert merge(*flags) == 2
    assert (
        f"{base / name} is a link to {tmp_path / 'gone'}, which does not" in capsys.readouterr().err
    )


BASE = {
    "tokenizer.json": '{"added_tokens": []}',
    "vocab.txt": "a",
    "generation_config.json": '{"eos_token_id": 0}',
    "LICENSE": "free",
}
CHAT = {
    "tokenizer.json": '{"added_tokens": [{"id": 2, "content": "<|end|>"}]}',
    "generation_config.json": '{"eos_token_id": 2}',
    "chat_template.jinja": "{{ messages }}",
    "LICENSE": "other",
}


class TestCompanionsFrom:
    @pytest.fixture
    def chat(self, model):
        base = model("base", BASE, '{"model_type": "llama", "eos_token_id": 0}')
        tuned = model("chat", CHAT, '{"model_type": "llama", "eos_token_id": 2}')
        return base, tuned

    def test_a_models_tokenizer_replaces_theta_0s(self, chat, tmp_path):
        base, tuned = chat
        found = run(tmp_path, base, tuned, flags=["--companions-from", tuned])
        texts = ["chat_template.jinja", "generation_config.json", "tokenizer.json"]
        assert found == sorted([*texts, "LICENSE", "README.md", "config.json", "model.safetensors"])
        for name in texts:
            assert (tmp_path / "out" / name).read_text() == CHAT[name]
        assert (tmp_path / "out" / "LICENSE").read_text() == "free"
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        assert config == {"model_type": "llama", "eos_token_id": 2}

    def test_differences_are_noted_unless_chosen(self, chat):
        base, tuned = chat
        (note,) = notes(base, tuned)
        for words in ("tokenizer", "chat template", "generation config", f"from {tuned}"):
            assert words in note
        assert notes(base, tuned, companions_from=str(tuned)) == []

    def test_a_tokenizer_with_impossible_ids_has_no_vocabulary(self, model):
        text = '{"model": {"vocab": {"a": %s}}}'
        base, tuned = (
            open_tensors(model(name, {"tokenizer.json": text % number}))
            for name, number in (("base", "1"), ("tuned", "Infinity"))
        )
        (note,) = tokenizers.notes(base, [tuned], None)
        assert "not theta_0's tokenizer" in note

    def test_models_without_companions_are_not_noted(self, chat, model):
        base, _ = chat
        assert notes(base, model("plain", config='{"model_type": "llama"}')) == []

    def test_a_lone_file_cannot_have_them(self, chat, tmp_path, capsys):
        base, tuned = chat
        flags = ["--pretrained", base, "--finetuned", tuned, "--companions-from", tuned]
        assert merge(*flags, "--output", tmp_path / "out.safetensors") == 2
        assert "name a directory as --output" in capsys.readouterr().err

    def test_a_model_without_any_is_refused(self, chat, model, tmp_path, capsys):
        base, tuned = chat
        flags = ["--pretrained", base, "--finetuned", tuned, "--output", tmp_path / "out"]
        assert merge(*flags, "--companions-from", model("plain")) == 2
        assert "has no tokenizer, chat template or generation config" in capsys.readouterr().err
