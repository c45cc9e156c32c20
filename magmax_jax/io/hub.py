"""Resolves a user's name for a model to a local directory with readable weights.

huggingface_hub takes a sixth of a second to import, so only code that needs the hub imports it.
"""

import glob
import re
from pathlib import Path
from typing import TYPE_CHECKING

from magmax_jax.errors import UserError
from magmax_jax.io import companions, hub_cache, misplaced

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_CLIPS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
)
SAFETENSORS = (
    *_CLIPS,
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
)
MSGPACK = "flax_model.msgpack"
WEIGHTS = (*SAFETENSORS, MSGPACK)
"""Weight files that can be read without executing their content, in order of preference."""
ADAPTER = "adapter_model.safetensors"
"""peft's file of adapter weights, which only merges read."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
INDEX = ".safetensors.index.json"
"""The end of an index's name; shards have the same stem."""
_HUB_ID = re.compile(r"([\w.-]+(?:/[\w.-]+)?)(?:@([\w.-]+(?:/[\w.-]+)*))?")
_NO_SOURCE = (
    "{}: there is no such directory, and it is not a hub id like openai/clip-vit-base-patch16: "
    "give the path of a model directory or such an id"
)


def locate(source: str | Path, weights: bool = True) -> Path:
    """The directory of `source`: itself, or the snapshot of a hub id (downloaded if necessary).

    On the hub, main's safetensors come first, then main's `flax_model.msgpack`, then the
    safetensors that a bot proposed in a `refs/pr/N` revision. `OWNER/NAME@REVISION` selects a
    revision: a branch, a tag or a commit. Small files that are not weights are fetched too.

    Args:
      weights: whether weights are needed; if not, their companion files suffice.

    Raises:
      UserError: there is no such directory, repository or revision, the hub cannot be reached and
        nothing is cached, or it holds only pickles.
    """
    if check_source(source):
        return Path(source).expanduser()
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, revision = _parse(str(source))
    try:
        return _download(repo, revision, weights)
    except HFValidationError:
        raise UserError(_NO_SOURCE.format(source)) from None
    except RevisionNotFoundError:
        raise UserError(
            f"{source}: {repo} has no revision {revision or hub_cache.MAIN} on the hub: after the "
            "@, name a branch, a tag or a full commit hash"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{source}: there is no such directory here, and no such public model on the hub; a "
            "private or gated one needs `hf auth login`"
        ) from None
    except (HTTPError, OSError) as error:
        cached = hub_cache.find(repo, revision, (*WEIGHTS, ADAPTER) if weights else ())
        if cached is None:
            first_line = str(error).partition("\n")[0]
            raise UserError(
                f"{source}: there is no such directory, it is not in the hub's cache on this "
                f"machine, and the hub cannot be reached ({first_line}): "
                "give a directory that holds the model"
            ) from None
        return cached


def cached(source: str) -> Path | None:
    """The local directory of `source`, or None if it is not on this machine; never asks the hub."""
    path = Path(source).expanduser()
    if path.is_dir() or not is_hub_id(source):
        return path if path.is_dir() else None
    try:
        return hub_cache.find(*_parse(source), (*WEIGHTS, ADAPTER))
    except UserError:
        return None


def check_source(source: str | Path) -> bool:
    """Whether a source is a directory; if False it may be a hub id (the hub is not asked).

    Raises:
      UserError: it can be neither.
    """
    path = Path(source).expanduser()
    if path.is_dir() and source != "":  # Path("") is the current directory
        return True
    if path.is_file():
        raise UserError(f"{path} is a file: give the directory that holds it and its config.json")
    if path.is_symlink():
        raise UserError(
            f"{path} is a link to {path.readlink()}, which does not exist: give an existing "
            "directory"
        )
    if isinstance(source, Path) or not is_hub_id(source):
        raise UserError(_NO_SOURCE.format(source))
    return False


def is_hub_id(source: str) -> bool:
    """Whether a source may be a repository on the hub, with or without `@REVISION`."""
    return source[:1] not in "./~" and bool(_HUB_ID.fullmatch(source))


def may_download(source: str) -> bool:
    """Whether opening a source may take a download: it is not a local path."""
    return is_hub_id(source) and not Path(source).exists()


def _parse(source: str) -> tuple[str, str | None]:
    """The repository, and the revision if given."""
    repo, _, revision = source.partition("@")
    return repo, revision or None


def _download(repo: str, revision: str | None, weights: bool) -> Path:
    from huggingface_hub import HfApi

    api = HfApi()
    main = _files(api, repo, revision or hub_cache.MAIN)
    for name in (*WEIGHTS, ADAPTER) if weights else (None,):
        if name is None or name in main:
            return _snapshot(repo, name, revision or hub_cache.MAIN, main)
    refs = []
    if revision is None:
        refs = api.list_repo_refs(repo, include_pull_requests=True).pull_requests or []
    for ref in sorted(refs, key=lambda ref: int(ref.ref.rpartition("/")[2])):
        files = _files(api, repo, ref.ref)
        for name in SAFETENSORS:
            if name in files:
                return _snapshot(repo, name, ref.ref, files)
    raise UserError(no_weights(repo if revision is None else f"{repo}@{revision}", set(main)))


def _files(api: "HfApi", repo: str, revision: str) -> dict[str, int]:
    """A revision's files and their sizes."""
    entries = api.list_repo_tree(repo, recursive=True, revision=revision)
    return {entry.path: entry.size for entry in entries if hasattr(entry, "size")}  # no folders


def _snapshot(repo: str, weights: str | None, revision: str, files: dict[str, int]) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [*companions.choose(files).names, companions.CARD, *([weights] if weights else [])]
    patterns = [glob.escape(name) for name in wanted]
    stem = weights and weights.removesuffix(INDEX).removesuffix(".safetensors")
    # Shards beside a single file may be a newer model: `open_tensors` compares the two.
    if stem and (index := f"{stem}{INDEX}") in files:
        patterns += [glob.escape(index), f"{stem}-*.safetensors"]
    return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))


def no_weights(where: str | Path, files: set[str]) -> str:
    """The error message for a place without weights that we can read."""
    if elsewhere := misplaced.why_no_weights(where, files):
        return elsewhere
    pickles = sorted(name for name in files if name.endswith(PICKLES))
    adapter = ADAPTER.replace(".safetensors", ".bin") in files
    wanted = ADAPTER if adapter else ", ".join((*_CLIPS, MSGPACK))
    if MSGPACK in files:
        return (
            f"{where}: {MSGPACK} cannot be read tensor by tensor; get the model as one of "
            f"{', '.join(_CLIPS)} (save_pretrained writes safetensors)"
        )
    if pickles:
        return (
            f"{where}: {pickles[0]} is a pickle, which can run any code when it is read, so it is "
            f"refused; get the model as one of {wanted} ({'peft' if adapter else 'transformers'}'s "
            "save_pretrained writes safetensors)"
        )
    return f"{where}: contains no weights; put one of {wanted} there"
