"""From what the user calls a model to a directory on this machine with weights that may be read."""

import re
from pathlib import Path

from huggingface_hub import HfApi, scan_cache_dir, snapshot_download
from huggingface_hub.errors import (
    CacheNotFound,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
)

from magmax_jax.errors import UserError

SAFETENSORS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
)
MSGPACK = "flax_model.msgpack"
WEIGHTS = (*SAFETENSORS, MSGPACK)
"""Files of weights that can be read without running what they contain, in order of preference."""
ADAPTER = "adapter_model.safetensors"
"""peft's file of an adapter's weights, which only a merge reads."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_BESIDE = ("*.json", "merges.txt")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_NO_SOURCE = (
    "{}: there is no such directory, and it is no hub id like openai/clip-vit-base-patch16: "
    "give the path of a model's directory or such an id"
)


def locate(source: str | Path) -> Path:
    """The directory of `source`: itself, or the snapshot of a hub id (downloaded when it must be).

    On the hub, main's safetensors come first, then main's `flax_model.msgpack`, then the
    safetensors that a bot proposed in a `refs/pr/N` revision.

    Raises:
      UserError: there is no such directory or repository, the hub cannot be reached and nothing
        is cached, or all that it holds are pickles.
    """
    if check_source(source):
        return Path(source).expanduser()
    try:
        return _download(str(source))
    except HFValidationError:
        raise UserError(_NO_SOURCE.format(source)) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{source}: there is no such directory here, and no such public model on the hub; a "
            "private or gated one needs `hf auth login`"
        ) from None
    except (HTTPError, OSError) as error:
        cached = _cached(str(source))
        if cached is None:
            first_line = str(error).partition("\n")[0]
            raise UserError(
                f"{source}: there is no such directory, it is not in the hub's cache on this "
                f"machine, and the hub cannot be reached ({first_line}): "
                "give a directory that holds the model"
            ) from None
        return cached


def check_source(source: str | Path) -> bool:
    """Whether a source is a directory; else it may be a hub id, whose hub is not asked.

    Raises:
      UserError: it can be neither.
    """
    path = Path(source).expanduser()
    if path.is_dir() and source != "":  # which Path takes for the current directory
        return True
    if path.is_file():
        raise UserError(f"{path} is a file: give the directory that holds it and its config.json")
    if isinstance(source, Path) or source[:1] in "./~" or not _HUB_ID.fullmatch(source):
        raise UserError(_NO_SOURCE.format(source))
    return False


def _download(source: str) -> Path:
    api = HfApi()
    main = set(api.list_repo_files(source))
    for name in (*WEIGHTS, ADAPTER):
        if name in main:
            return _snapshot(source, name, "main")
    refs = api.list_repo_refs(source, include_pull_requests=True).pull_requests or []
    for ref in sorted(refs, key=lambda ref: int(ref.ref.rpartition("/")[2])):
        files = set(api.list_repo_files(source, revision=ref.ref))
        for name in SAFETENSORS:
            if name in files:
                return _snapshot(source, name, ref.ref)
    raise UserError(no_weights(source, main))


def _snapshot(source: str, weights: str, revision: str) -> Path:
    shards = ["model-*.safetensors"] if weights.endswith("index.json") else []
    patterns = [*_BESIDE, weights, *shards]
    return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))


def _cached(source: str) -> Path | None:
    """The snapshot in the hub's cache whose weights are the best, the newest of several."""
    try:
        repos = [repo for repo in scan_cache_dir().repos if repo.repo_id == source]
    except CacheNotFound:
        return None
    revisions = [revision for repo in repos for revision in repo.revisions]
    revisions.sort(key=lambda revision: revision.last_modified, reverse=True)
    for name in (*WEIGHTS, ADAPTER):
        for revision in revisions:
            if (revision.snapshot_path / name).exists():
                return revision.snapshot_path
    return None


def no_weights(where: str | Path, files: set[str]) -> str:
    """The sentence for a place that holds no weights that we read."""
    pickles = sorted(name for name in files if name.endswith(PICKLES))
    adapter = ADAPTER.replace(".safetensors", ".bin") in files
    wanted = ADAPTER if adapter else ", ".join(WEIGHTS)
    if MSGPACK in files:
        return (
            f"{where}: {MSGPACK} cannot be read tensor by tensor; get the model as one of "
            f"{', '.join(SAFETENSORS)} (save_pretrained writes safetensors)"
        )
    if pickles:
        return (
            f"{where}: {pickles[0]} is a pickle, which can run any code when it is read, so it "
            f"never is; get the model as one of {wanted} "
            f"({'peft' if adapter else 'transformers'}'s save_pretrained writes safetensors)"
        )
    return f"{where}: holds no weights; put one of {wanted} there"
