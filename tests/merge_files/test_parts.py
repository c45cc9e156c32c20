"""Models with more or fewer tensors than theta_0: heads, buffers, averages, unused tensors."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.merge_files.conftest import merge, write

ENCODER = [f"vit.layer.{i}.{part}" for i in range(3) for part in ("fc.weight", "norm.bias")]
HEAD = ["classifier.weight", "classifier.bias"]


def made(seed, **more) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    content = {name: random.normal(size=(4, 5)).astype(np.float32) for name in ENCODER}
    return content | more


def head(rows) -> dict[str, np.ndarray]:
    return {HEAD[0]: np.ones((rows, 4), np.float32), HEAD[1]: np.ones(rows, np.float32)}


def merged(tmp_path, contents, *flags) -> dict[str, np.ndarray]:
    names = [write(tmp_path / f"theta_{i}", content) for i, content in enumerate(contents)]
    given = ["--pretrained", names[0], "--finetuned", *names[1:], "--rule", "average"]
    assert merge(*given, "--scale", 1, *flags, "--output", tmp_path / "out") == 0
    return load_file(tmp_path / "out" / "model.safetensors")


def assert_mean(found, contents, names=ENCODER) -> None:
    for name in names:
        mean = np.mean([content[name] for content in contents[1:]], axis=0)
        np.testing.assert_allclose(found[name], mean, atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "noted"),
    [([], True), (["--exclude", "classifier.*"], False), (["--include", "vit.*"], False)],
)
def test_heads_that_theta_0_lacks_are_left_out(tmp_path, capsys, flags, noted):
    contents = [made(0), made(1) | head(10), made(2) | head(7)]
    found = merged(tmp_path, contents, *flags)
    assert found.keys() == contents[0].keys()
    assert_mean(found, contents)
    error = capsys.readouterr().err
    places = f"{tmp_path / 'theta_1'}, {tmp_path / 'theta_2'}"
    said = f"note: left out of {places}, as theta_0 lacks them: classifier.*\n"
    assert error == (said if noted else "")


def test_a_head_that_no_model_has_stays_theta_0s(tmp_path, capsys):
    contents = [made(0) | head(10), made(1), made(2)]
    found = merged(tmp_path, contents)
    assert_mean(found, contents)
    np.testing.assert_array_equal(found[HEAD[0]], contents[0][HEAD[0]])
    assert "theta_0's are kept, as no model has them: classifier.*" in capsys.readouterr().err


def test_missing_learned_tensors_are_not_taken_for_heads(tmp_path, capsys):
    """A head that one model lacks, half a head, a layer: each is refused with the flag."""
    short = made(2)
    del short[ENCODER[-1]]
    half = made(2) | {HEAD[0]: np.ones((10, 4), np.float32)}
    for theta_0, last, flag in (
        (made(0) | head(10), made(2), "--exclude 'classifier.*'"),
        (made(0) | head(10), half, "--exclude classifier.bias"),
        (made(0), short, f"--exclude {ENCODER[-1]}"),
        (made(0), made(2) | {"vit.extra": np.ones(3, np.float32)}, "--exclude vit.extra"),
        (made(0) | head(10), made(2) | head(7), "--exclude 'classifier.*'"),
    ):
        second = made(1) | (head(10) if HEAD[0] in theta_0 else {})
        contents = [theta_0, second, last]
        names = [write(tmp_path / f"m{i}", content) for i, content in enumerate(contents)]
        given = ["--pretrained", names[0], "--finetuned", *names[1:]]
        capsys.readouterr()
        assert merge(*given, "--output", tmp_path / "none") == 2
        assert flag in capsys.readouterr().err
        found = merged(tmp_path, contents, *[word.strip("'") for word in flag.split()])
        (tmp_path / "out" / "model.safetensors").unlink()
        for path in sorted((tmp_path / "out").iterdir()):
            path.unlink()
        (tmp_path / "out").rmdir()
        assert found.keys() == theta_0.keys()
        assert_mean(found, contents, [n for n in ENCODER if n in last])


@pytest.mark.parametrize(
    "buffer",
    [
        {"embeddings.position_ids": np.arange(7)[None]},
        {"embeddings.position_ids": np.arange(7, dtype=np.float16)[None] * np.float16(0.6)},
        {"layer.0.rotary_emb.inv_freq": np.geomspace(1, 1e-4, 8).astype(np.float32)},
        {"h.0.attn.bias": np.tril(np.ones((1, 1, 4, 4), np.float32))},
        {"h.0.attn.masked_bias": np.array(-1e4, np.float32)},
        {"bn.num_batches_tracked": np.array(17)},
    ],
    ids=lambda buffer: next(iter(buffer)),
)
def test_buffers_are_theta_0s_or_left_out(tmp_path, capsys, buffer):
    ((name, value),) = buffer.items()
    contents = [made(0), made(1) | buffer, made(2)]
    found = merged(tmp_path / "extra", contents)
    assert found.keys() == contents[0].keys()
    assert_mean(found, contents)
    assert f"as theta_0 lacks them: {name}" in capsys.readouterr().err
    # Missing in one model; other value and dtype in the other.
    contents = [made(0) | buffer, made(1), made(2) | {name: np.array(value + 1, np.int64)}]
    found = merged(tmp_path / "missing", contents)
    np.testing.assert_array_equal(found[name], value)
    assert found[name].dtype == value.dtype
    assert_mean(found, contents)
    assert f": {name}\n" in capsys.readouterr().err


def test_moving_averages_are_left_out_or_used_by_name(tmp_path, capsys):
    averages = {f"model_ema.{name}": tensor for name, tensor in made(5).items()}
    contents = [made(0), made(1) | averages]
    assert_mean(merged(tmp_path / "weights", contents), contents)
    assert "as theta_0 lacks them: model_ema.*" in capsys.readouterr().err
    found = merged(tmp_path / "averages", contents, "--rename", "model_ema.=")
    assert_mean(found, [made(0), made(5)])
    assert "--rename replaces 6 tensors" in capsys.readouterr().err
    found = merged(tmp_path / "kept", [made(0) | averages, made(1)])
    np.testing.assert_array_equal(found[f"model_ema.{ENCODER[0]}"], made(5)[ENCODER[0]])


def test_one_tower_of_theta_0_is_suggested(tmp_path, capsys):
    text = {f"text.{i}.weight": np.ones(3, np.float32) for i in range(9)}
    extra = {"scale": np.ones(1, np.float32), "projection": np.ones(2, np.float32)}
    names = [write(tmp_path / "base", made(0) | text | extra), write(tmp_path / "tuned", made(1))]
    command = ["--pretrained", names[0], "--finetuned", names[1], "--output", tmp_path / "out"]
    assert merge(*command) == 2
    assert "to merge the rest, give --include 'vit.*'" in capsys.readouterr().err
    assert merge(*command, "--include", "vit.*") == 0
    assert merge(*command[:4], "--exclude", "text.*", "--output", tmp_path / "second") == 2
    assert "--exclude 'text.*' projection scale" in capsys.readouterr().err


def test_more_tokens_are_refused_with_the_flag(tmp_path, capsys):
    def language(seed, rows):
        embeddings = dict.fromkeys(("embed.weight", "head.out.weight"), np.ones((rows, 4), "f4"))
        return made(seed) | embeddings

    contents = [language(0, 32), language(1, 34), language(2, 32)]
    names = [write(tmp_path / f"m{i}", content) for i, content in enumerate(contents)]
    given = ["--pretrained", names[0], "--finetuned", *names[1:], "--output", tmp_path / "none"]
    assert merge(*given) == 2
    error = capsys.readouterr().err
    assert "embed.weight has shape [34, 4], theta_0's [32, 4]" in error
    assert "give --exclude embed.weight head.out.weight" in error
    found = merged(tmp_path, contents, "--exclude", "embed.weight", "head.out.weight")
    assert_mean(found, contents)
    assert found["embed.weight"].shape == (32, 4)


def test_patterns_must_choose_something(tmp_path, capsys):
    names = [write(tmp_path / "base", made(0)), write(tmp_path / "tuned", made(1) | head(3))]
    command = ["--pretrained", names[0], "--finetuned", names[1], "--output", tmp_path / "out"]
    for flags in (["--exclude", "clasifier.*"], ["--include", "vit.*", "classifier.*"]):
        assert merge(*command, *flags) == 2
        assert f"{flags[-1]!r} matches no tensor of {names[0]}" in capsys.readouterr().err


def test_one_of_two_heads_is_kept_and_the_other_one_merged(tmp_path):
    """As in BERT, whose fine-tuned language models lack the next-sentence head."""
    heads = [{f"cls.{name}.bias": np.full(3, i, np.float32)} for i, name in
             enumerate(("predictions", "predictions", "seq_relationship"), start=1)]  # fmt: skip
    found = merged(tmp_path, [made(0) | heads[0] | heads[2], made(1) | heads[1]])
    np.testing.assert_array_equal(found["cls.predictions.bias"], [2, 2, 2])
    np.testing.assert_array_equal(found["cls.seq_relationship.bias"], [3, 3, 3])


def test_a_requested_but_missing_head_is_refused(tmp_path, capsys):
    names = [write(tmp_path / "base", made(0) | head(3)), write(tmp_path / "tuned", made(1))]
    command = ["--pretrained", names[0], "--finetuned", names[1], "--output", tmp_path / "out"]
    assert merge(*command, "--include", "classifier.*") == 2
    assert f"{names[1]}: {HEAD[0]} is missing" in capsys.readouterr().err


def test_a_name_with_brackets_is_not_a_pattern(tmp_path, capsys):
    contents = [{"w[0]": np.full(3, i, np.float32), "v": np.ones(3, np.float32)} for i in (1, 2)]
    names = [write(tmp_path / f"m{i}", content) for i, content in enumerate(contents)]
    command = ["--pretrained", names[0], "--finetuned", names[1], "--output", tmp_path / "none"]
    assert merge(*command, "--exclude", "w[0]") == 2
    assert "write 'w[[]0]' for the tensor w[0]" in capsys.readouterr().err
    assert merge(*command, "--exclude", "w[[]0]") == 0


def test_a_state_continues_without_heads_left_out_at_its_start(tmp_path):
    write(tmp_path / "base", made(0) | head(10))
    save_file(made(1), tmp_path / "first.safetensors")
    save_file(made(2) | head(10), tmp_path / "second.safetensors")
    source = ["--pretrained", tmp_path / "base", "--rule", "average", "--scale", 1]
    for name in ("first", "second"):
        flags = ["--finetuned", tmp_path / f"{name}.safetensors", "--state", tmp_path / "state"]
        assert merge(*flags, *source, "--output", tmp_path / f"out-{name}") == 0
        source = []
    found = load_file(tmp_path / "out-second" / "model.safetensors")
    assert_mean(found, [made(0), made(1), made(2)])
