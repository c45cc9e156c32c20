"""Hub ids, without a network: which file of which revision is fetched, and the messages."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import validate_repo_id
from safetensors.numpy import save_file

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.safetensors.reader import open_tensors

SOURCE = "openai/clip-vit-base-patch16"


class Hub:
    """Stands in for the hub."""

    def __init__(self, revisions: dict[str, list[str]]):
        self.revisions = revisions
        self.fetched = []
        self.error = None

    def list_repo_tree(self, source, recursive, revision):
        validate_repo_id(source)
        assert recursive
        if self.error:
            raise self.error
        if revision not in self.revisions:
            response = SimpleNamespace(headers={}, request=None, status_code=404)
            raise RevisionNotFoundError("Revision Not Found", response=response)
        names = ["README.md", "config.json", *self.revisions[revision]]
        sizes = {"video.mp4": 1 << 30}
        yield SimpleNamespace(path="1_Pooling")  # a folder
        for name in names:
            yield SimpleNamespace(path=name, size=sizes.get(name, 100))

    def list_repo_refs(self, source, include_pull_requests):
        assert include_pull_requests
        refs = [SimpleNamespace(ref=name) for name in self.revisions if name != "main"]
        return SimpleNamespace(pull_requests=refs or None)

    def snapshot_download(self, source, revision, allow_patterns):
        self.fetched.append((revision, allow_patterns))
        return "/cache/snapshot"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Makes snapshots in a cache with huggingface_hub's layout."""
    folder = tmp_path / "hub" / "models--openai--clip-vit-base-patch16"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def snapshot(commit: str, *files: str, ref: str | None = None, time: int = 0) -> Path:
        place = folder / "snapshots" / commit
        place.mkdir(parents=True)
        (folder / "blobs").mkdir(exist_ok=True)
        for name in files:
            blob = folder / "blobs" / f"{commit}-{name}"
            blob.write_bytes(b"")
            os.utime(blob, (time, time))
            (place / name).symlink_to(Path("..", "..", "blobs", blob.name))
        if ref:
            path = folder / "refs" / ref
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(commit)
        return place

    return snapshot


@pytest.fixture
def fake(monkeypatch):
    def install(**revisions: list[str]) -> Hub:
        found = Hub({name.replace("pr_", "refs/pr/"): files for name, files in revisions.items()})
        monkeypatch.setattr("huggingface_hub.HfApi", lambda: found)
        monkeypatch.setattr("huggingface_hub.snapshot_download", found.snapshot_download)
        return found

    return install


@pytest.mark.parametrize(
    ("revisions", "revision", "weights"),
    [
        (
            {"main": ["pytorch_model.bin", "flax_model.msgpack", "model.safetensors"]},
            "main",
            "model.safetensors",
        ),
        (
            {"main": ["open_clip_pytorch_model.bin", "open_clip_model.safetensors"]},
            "main",
            "open_clip_model.safetensors",
        ),
        (
            {"main": ["flax_model.msgpack"], "pr_1": ["model.safetensors"]},
            "main",
            "flax_model.msgpack",
        ),
        (
            {"main": ["pytorch_model.bin"], "pr_10": ["model.safetensors"], "pr_2": ["a.txt"]},
            "refs/pr/10",
            "model.safetensors",
        ),
        (
            {"main": [], "pr_10": ["model.safetensors"], "pr_9": ["model.safetensors"]},
            "refs/pr/9",
            "model.safetensors",
        ),
    ],
)
def test_order_of_preference(revisions, revision, weights, fake):
    found = fake(**revisions)
    assert hub.locate(SOURCE) == Path("/cache/snapshot")
    [(fetched, patterns)] = found.fetched
    assert fetched == revision
    assert weights in patterns
    others = [name for files in revisions.values() for name in files if name != weights]
    assert not set(others) & set(patterns)


def test_shards_are_fetched_with_their_index(fake):
    index, shard = "model.safetensors.index.json", "model-*.safetensors"
    found = fake(main=[index, "model-00001-of-00002.safetensors"])
    hub.locate(SOURCE)
    [(_, patterns)] = found.fetched
    assert {index, shard} <= set(patterns)


def test_shards_beside_a_single_file_are_fetched_to_compare_them(fake):
    found = fake(main=["model.safetensors", "model.safetensors.index.json", "model-1.safetensors"])
    hub.locate(SOURCE)
    [(_, patterns)] = found.fetched
    single, index, shards = (
        "model.safetensors",
        "model.safetensors.index.json",
        "model-*.safetensors",
    )
    assert {single, index, shards} <= set(patterns)


def test_pickles_are_not_fetched(fake):
    found = fake(main=["pytorch_model.bin"], pr_1=["flax_model.msgpack"])
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle.*model\.safetensors") as e:
        hub.locate(SOURCE)
    assert SOURCE in str(e.value)
    assert not found.fetched


def test_unknown_repository(fake):
    found = fake(main=[])
    response = SimpleNamespace(headers={}, request=None, status_code=404)
    found.error = RepositoryNotFoundError("Repository Not Found", response=response)
    with pytest.raises(UserError, match=rf"{SOURCE}.*no such public model on the hub.*auth login"):
        hub.locate(SOURCE)


def offline(found: Hub) -> None:
    found.error = HTTPError("Name or service not known\nwith a long trace")


@pytest.mark.parametrize("there", [False, True], ids=["no cache", "empty cache"])
def test_offline_and_not_cached(there, fake, cache, tmp_path):
    if there:
        (tmp_path / "hub").mkdir()
    offline(fake(main=[]))
    with pytest.raises(UserError, match=r"cannot be reached.*Name or service.*give a direct") as e:
        hub.locate(SOURCE)
    assert SOURCE in str(e.value)
    assert "long trace" not in str(e.value)


def test_offline_takes_the_newest_cached_snapshot_of_the_best_kind(fake, cache):
    """If main was never fetched."""
    offline(fake(main=[]))
    cache("newest", "README.md", time=4)
    cache("new", "flax_model.msgpack", time=3)
    middle = cache("middle", "model.safetensors", time=2)
    cache("a_old", "model.safetensors", time=1)
    assert hub.locate(SOURCE) == middle


def test_offline_tensors_are_read_from_the_cache(fake, cache):
    offline(fake(main=[]))
    file = cache("a" * 40, ref="main") / "model.safetensors"
    save_file({"a": np.ones(3)}, file)
    assert open_tensors(SOURCE).tensors["a"].shape == (3,)


def test_offline_main_is_the_snapshot_fetched_as_main(fake, cache):
    offline(fake(main=[]))
    main = cache("a" * 40, "model.safetensors", ref="main", time=1)
    other = cache("b" * 40, "model.safetensors", ref="pr/7", time=9)
    assert hub.locate(SOURCE) == main
    assert hub.locate(f"{SOURCE}@pr/7") == other
    assert hub.locate(f"{SOURCE}@{'b' * 40}") == hub.locate(f"{SOURCE}@bbbbbbb") == other
    with pytest.raises(UserError, match="not in the hub's cache"):
        hub.locate(f"{SOURCE}@v2")


def test_offline_a_pull_request_is_used_if_main_has_only_pickles(fake, cache):
    offline(fake(main=[]))
    cache("a" * 40, "pytorch_model.bin", ref="main", time=1)
    cache("b" * 40, "model.safetensors", ref="refs/pr/10", time=9)
    first = cache("c" * 40, "model.safetensors", ref="refs/pr/9", time=1)
    cache("d" * 40, "model.safetensors", time=99)  # of an unknown revision
    assert hub.locate(SOURCE) == first


def test_offline_another_revision_does_not_replace_a_missing_main(fake, cache):
    """As in huggingface_hub, where refs/main may be newer than the local snapshots."""
    offline(fake(main=[]))
    main = cache("a" * 40, "model.safetensors", ref="main")
    cache("b" * 40, "model.safetensors", ref="refs/pr/1")
    shutil.rmtree(main)
    with pytest.raises(UserError, match="not in the hub's cache"):
        hub.locate(SOURCE)


def test_offline_without_weights_any_snapshot_is_used(fake, cache):
    offline(fake(main=[]))
    main = cache("a" * 40, "tokenizer.json", ref="main")
    assert hub.locate(SOURCE, weights=False) == main


def test_offline_a_link_to_a_removed_file_is_named(fake, cache):
    offline(fake(main=[]))
    file = cache("a" * 40, "model.safetensors", ref="main") / "model.safetensors"
    file.resolve().unlink()
    with pytest.raises(
        UserError, match=r"model\.safetensors is a link to .*blobs.*no longer exists"
    ):
        hub.locate(SOURCE)


def test_a_revision_is_fetched(fake):
    found = fake(main=["model.safetensors"], v2=["model.safetensors"])
    hub.locate(f"{SOURCE}@v2")
    assert [revision for revision, _ in found.fetched] == ["v2"]
    with pytest.raises(UserError, match=rf"{SOURCE} has no revision v3 on the hub"):
        hub.locate(f"{SOURCE}@v3")


def test_a_revision_without_weights_is_not_replaced(fake):
    found = fake(main=["model.safetensors"], v2=["a.txt"], pr_1=["model.safetensors"])
    with pytest.raises(UserError, match=rf"{SOURCE}@v2: contains no weights"):
        hub.locate(f"{SOURCE}@v2")
    assert not found.fetched


def test_companions_are_fetched(fake):
    beside = ["tokenizer.model", "vocab.txt", "chat_template.jinja", "modeling_x.py", "LICENSE",
              "1_Pooling/config.json"]  # fmt: skip
    others = ["pytorch_model.bin", "model.onnx", "onnx/config.json", "onnx/model.onnx", "video.mp4",
              "model.fp16.safetensors", ".gitattributes", "checkpoint-5/optimizer.pt",
              "checkpoint-5/config.json", "pytorch_model.bin.index.json"]  # fmt: skip
    found = fake(main=["model.safetensors", *beside, *others])
    hub.locate(SOURCE)
    hub.locate(SOURCE, weights=False)
    (_, fetched), (_, without) = found.fetched
    assert set(fetched) == {"model.safetensors", "config.json", "README.md", *beside}
    assert set(without) == set(fetched) - {"model.safetensors"}


@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model"])
def test_other_libraries_shards_are_fetched_with_their_index(fake, stem):
    index = f"{stem}.safetensors.index.json"
    found = fake(main=[index, f"{stem}-00001-of-00002.safetensors"])
    hub.locate(SOURCE)
    [(_, patterns)] = found.fetched
    assert {index, f"{stem}-*.safetensors"} <= set(patterns)


@pytest.mark.parametrize(
    "source",
    ["./absent", "/absent/model", "~/absent", "a b", "a/b/c", "", "a--b/c", "org/name.git"],
)
def test_a_source_that_is_neither_a_directory_nor_an_id(source, fake):
    fake(main=[])
    with pytest.raises(UserError, match=r"no such directory.*give the path"):
        hub.locate(source)


def test_a_dangling_link_is_named(tmp_path):
    (tmp_path / "model").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"model is a link to .*gone, which does not exist"):
        hub.locate(str(tmp_path / "model"))


def test_a_directory_takes_precedence_over_an_id(tmp_path, monkeypatch):
    (tmp_path / "openai" / "clip-vit-base-patch16").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub.locate(SOURCE) == Path(SOURCE)
