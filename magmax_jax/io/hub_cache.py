"""The hub's local cache, used when the hub cannot be reached.

The layout is documented by huggingface_hub: `models--OWNER--NAME` holds `refs/main`, whose content
is a commit, and `snapshots/COMMIT`, whose files are links to `blobs`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from magmax_jax.errors import UserError

MAIN = "main"
_FOLDER = "models--"
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,40}")


def repository(directory: Path) -> tuple[str, str] | None:
    """The hub id and the commit of a snapshot in a cache; None for any other directory.

    >>> repository(Path("/hub/models--acme--vit/snapshots/0123abc"))
    ('acme/vit', '0123abc')
    """
    snapshots, folder = directory.parent, directory.parent.parent.name
    if snapshots.name != "snapshots" or not folder.startswith(_FOLDER):
        return None
    return folder.removeprefix(_FOLDER).replace("--", "/"), directory.name


def find(repo: str, revision: str | None, weights: Sequence[str]) -> Path | None:
    """The snapshot of a revision; None if there is no suitable one.

    Without a revision this is main's, as in huggingface_hub and transformers; None if only main's
    commit is known. If main's has no readable weights, it is the first pull request's that has; if
    main was never fetched, the newest snapshot of the best kind.

    Args:
      repo: as "owner/name".
      weights: file names, best first, one of which the snapshot must hold; if empty, any snapshot.

    Raises:
      UserError: the weights are a link whose file was removed from the cache.
    """
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / (_FOLDER + repo.replace("/", "--"))
    commits = {
        path.relative_to(folder / "refs").as_posix(): path.read_text().strip()
        for path in (folder / "refs").rglob("*")
        if path.is_file()
    }
    refs = {name: folder / "snapshots" / commit for name, commit in commits.items()}
    snapshots = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    if revision is not None:
        named = [refs[revision]] if revision in refs else []
        if not named and _SHORT_COMMIT.fullmatch(revision):
            named = [path for path in snapshots if path.name.startswith(revision)]
        return _holding(named, weights) if len(named) == 1 else None
    main = [refs[MAIN]] if MAIN in refs else []
    if main and not main[0].is_dir():  # the local snapshots are older
        return None
    pulls = sorted((name for name in refs if re.search(r"(^|/)pr/\d+$", name)), key=_number)
    found = _holding(main, weights) or _holding([refs[name] for name in pulls], weights)
    if found is None and not main:
        snapshots.sort(key=_modified, reverse=True)
        found = _holding(snapshots, weights)
    return found


def _holding(snapshots: Sequence[Path], weights: Sequence[str]) -> Path | None:
    """The first snapshot with the best kind of weights that any of them has."""
    there = [path for path in snapshots if path.is_dir()]
    if not weights:
        return next(iter(there), None)
    for name in weights:
        for snapshot in there:
            file = snapshot / name
            if file.exists():
                return snapshot
            if file.is_symlink():
                raise UserError(
                    f"{file} is a link to {file.readlink()}, which no longer exists: fetch the "
                    "model again while the hub can be reached"
                )
    return None


def _number(ref: str) -> int:
    return int(ref.rpartition("/")[2])


def _modified(snapshot: Path) -> float:
    """When the newest file of a snapshot was fetched, in seconds."""
    return max((path.stat().st_mtime for path in snapshot.iterdir() if path.exists()), default=0)
