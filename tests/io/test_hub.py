"""Hub ids, without a network: which file of which revision is fetched, and what is said."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from huggingface_hub.errors import CacheNotFound, HTTPError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from safetensors.numpy import save_file

from magmax_jax.errors import UserError
from magmax_jax.io import hub
from magmax_jax.io.safetensors.reader import open_tensors

SOURCE = "openai/clip-vit-base-patch16"


class Hub:
    """Stands for the hub and for its cache on this machine."""

    def __init__(self, revisions: dict[str, list[str]]):
        self.revisions = revisions
        self.fetched = []
        self.cache = []
        self.error = None

    def list_repo_files(self, source, revision="main"):
        validate_repo_id(source)
        if self.error:
            raise self.error
        return ["README.md", "config.json", *self.revisions[revision]]

    def list_repo_refs(self, source, include_pull_requests):
        assert include_pull_requests
        refs = [SimpleNamespace(ref=name) for name in self.revisions if name != "main"]
        return SimpleNamespace(pull_requests=refs or None)

    def snapshot_download(self, source, revision, allow_patterns):
        self.fetched.append((revision, allow_patterns))
        return "/cache/snapshot"

    def scan_cache_dir(self):
        if self.cache is None:
            raise CacheNotFound("no cache", cache_dir="/cache")
        return SimpleNamespace(repos=[SimpleNamespace(repo_id=SOURCE, revisions=self.cache)])


@pytest.fixture
def fake(monkeypatch):
    def install(**revisions: list[str]) -> Hub:
        found = Hub({name.replace("pr_", "refs/pr/"): files for name, files in revisions.items()})
        monkeypatch.setattr(hub, "HfApi", lambda: found)
        monkeypatch.setattr(hub, "snapshot_download", found.snapshot_download)
        monkeypatch.setattr(hub, "scan_cache_dir", found.scan_cache_dir)
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


@pytest.mark.parametrize("cache", [None, []], ids=["no cache", "empty cache"])
def test_offline_and_not_cached(cache, fake):
    found = fake(main=[])
    offline(found)
    found.cache = cache
    with pytest.raises(UserError, match=r"cannot be reached.*Name or service.*give a direct") as e:
        hub.locate(SOURCE)
    assert SOURCE in str(e.value)
    assert "long trace" not in str(e.value)


def test_offline_takes_the_newest_cached_snapshot_of_the_best_kind(fake, tmp_path):
    found = fake(main=[])
    offline(found)
    for name, time, weights in (
        ("newest", 4, "README.md"),
        ("new", 3, "flax_model.msgpack"),
        ("middle", 2, "model.safetensors"),
        ("a_old", 1, "model.safetensors"),
    ):
        path = tmp_path / name
        path.mkdir()
        (path / weights).touch()
        found.cache.append(SimpleNamespace(snapshot_path=path, last_modified=time))
    assert hub.locate(SOURCE) == tmp_path / "middle"


def test_offline_tensors_are_read_from_the_cache(fake, tmp_path):
    found = fake(main=[])
    offline(found)
    save_file({"a": np.ones(3)}, tmp_path / "model.safetensors")
    found.cache.append(SimpleNamespace(snapshot_path=tmp_path, last_modified=1))
    assert open_tensors(SOURCE).tensors["a"].shape == (3,)


@pytest.mark.parametrize(
    "source",
    ["./absent", "/absent/model", "~/absent", "a b", "a/b/c", "", "a--b/c", "org/name.git"],
)
def test_neither_a_directory_nor_an_id(source, fake):
    fake(main=[])
    with pytest.raises(UserError, match=r"no such directory.*give the path"):
        hub.locate(source)


def test_a_directory_comes_before_an_id(tmp_path, monkeypatch):
    (tmp_path / "openai" / "clip-vit-base-patch16").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub.locate(SOURCE) == Path(SOURCE)
