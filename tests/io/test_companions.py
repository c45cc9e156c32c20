"""Which files accompany weights, given a directory's or the hub's listing."""

import pytest

from magmax_jax.io.companions import SMALL, choose, file_sizes

BESIDE = [
    "LICENSE",
    "additional_chat_templates/tools.jinja",
    "chat_template.jinja",
    "config.json",
    "merges.txt",
    "modeling_acme.py",
    "spiece.model",
    "tokenizer.model",
    "vocab.txt",
]


def names(*files: str, **sizes: int) -> list[str]:
    return choose(dict.fromkeys(files, 10) | sizes).names


@pytest.mark.parametrize(
    "other",
    [
        "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.ONNX", "model.onnx_data",
        "model.onnx.data_1", "q4.gguf", "x.ckpt", "training_args.bin", "optimizer.pt",
        "adapter_model.safetensors", "pytorch_model.bin.index.json",
        "model.safetensors.index.fp16.json", "variables.data-00000-of-00001", "saved_model.pb",
        "runs/events.out.tfevents.1", ".gitattributes", ".git/config", ".cache/x/a.json",
        "README.md", "__pycache__/modeling_acme.pyc", "1_Pooling/pytorch_model.bin",
    ],
)  # fmt: skip
def test_neither_weights_of_any_format_nor_hidden_files_do(other):
    assert names(*BESIDE, other) == BESIDE


def test_folders_with_weights_are_other_variants_of_the_model():
    others = ["onnx/config.json", "onnx/fp16/model.onnx", "checkpoint-5/config.json",
              "checkpoint-5/model.safetensors"]  # fmt: skip
    assert names(*BESIDE, *others) == BESIDE


def test_modules_of_sentence_transformers_have_weights_of_their_own():
    modules = ["1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"]
    pickled = ["2_Dense/pytorch_model.bin"]
    assert names("modules.json", *modules, *pickled) == [*modules, "modules.json"]
    assert names(*modules, *pickled) == ["1_Pooling/config.json"]


def test_an_adapters_configuration_next_to_a_whole_model_does_not():
    """Libraries would load the adapter, which the output lacks, instead of the merged weights."""
    adapter = ["adapter_config.json", "adapter_model.safetensors"]
    assert names(*BESIDE, *adapter, "model.safetensors") == BESIDE
    assert names("adapter_config.json", "config.json", "adapter_model.safetensors") == [
        "adapter_config.json", "config.json",
    ]  # fmt: skip


def test_large_files_are_named():
    found = choose({"a.json": 1, "video.mp4": SMALL + 1, "data/a": SMALL, "data/b": 1})
    assert found.names == ["a.json"]
    assert found.too_large == {"video.mp4": SMALL + 1, "data": SMALL + 1}


def test_links_to_files_count_but_links_to_directories_do_not(tmp_path):
    model, other = tmp_path / "model", tmp_path / "other"
    for folder in (model / "1_Pooling", other):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (model / "tokenizer.json").symlink_to(other / "config.json")
    (model / "elsewhere").symlink_to(other)
    (model / "dangling").symlink_to(other / "none")
    assert file_sizes(model) == {"1_Pooling/config.json": 2, "tokenizer.json": 2}
