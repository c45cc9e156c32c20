"""Publishers' archives: their names, their addresses, and copies that a user downloaded.

TFDS uses a file from its manual folder instead of a download if it has the registered name and
checksum. Here that folder may also hold archives of several data sets under the same names, files
without a registered checksum, and repacked archives.
"""

import contextlib
import json
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

import tensorflow_datasets as tfds

from magmax_jax.data import catalogue
from magmax_jax.data.data_set import Archive, FromTfds
from magmax_jax.errors import UserError


def archives(builder: tfds.core.DatasetBuilder) -> tuple[Archive, ...]:
    """The archives that a builder downloads; () if they are not known beforehand.

    A file that has moved is listed twice, with its old and its new address.
    """
    facts = facts_of(builder)
    if facts.by_hand:
        return ()
    registered = tuple(
        Archive(url, info.filename or url.split("/")[-1], info.size)
        for url, info in sorted((builder.url_infos or {}).items())
    )
    return facts.choose_archives(builder, registered) if facts.choose_archives else registered


def facts_of(builder: tfds.core.DatasetBuilder) -> FromTfds:
    """The facts about a builder, in any /config."""
    return catalogue.facts_of(builder.name) or FromTfds(builder=builder.name)


def by_hand_folder(folder: Path, name: str) -> Path:
    """The folder of a data set's archives: DIR/NAME if it exists, else DIR.

    Those of mnist, kmnist and fashion_mnist have the same names.
    """
    return folder / name if (folder / name).is_dir() else folder


def local_files(builder: tfds.core.DatasetBuilder, folder: Path, repacked: bool) -> dict[str, Path]:
    """Address -> the file in `folder` that is used whatever its checksum.

    TFDS itself uses files whose checksum it knows. These are the others: files without a registered
    checksum, and with `repacked` all that exist.
    """
    known = builder.url_infos or {}
    files = {each.url: folder / each.name for each in archives(builder)}
    taken = {url for url, file in files.items() if file.is_file()}
    return {url: files[url] for url in taken if repacked or url not in known}


def require_by_hand(builder: tfds.core.DatasetBuilder, folder: Path) -> None:
    """Checks for files that must be downloaded by hand.

    Raises:
      UserError: one of them is not in `folder`.
    """
    facts = facts_of(builder)
    missing = [name for name in facts.by_hand if not (folder / name).exists()]
    if missing:
        raise UserError(
            f"{builder.name} must be downloaded by hand: {folder} lacks {listed(missing)}; "
            f"{facts.links}, and pass its folder as manual_dir"
        )


def how_to_fetch(builder: tfds.core.DatasetBuilder, folder: Path) -> str:
    """What to do if downloading fails: which files to get from where, and where to put them."""
    names = sorted({archive.name for archive in archives(builder)})
    links = facts_of(builder).links
    return (
        f"try again later, or put {listed(names) if names else 'its files'} into {folder} and run "
        "the same command again; manual_dir names another folder "
        f"(publisher: {builder.info.homepage}{f'; {links}' if links else ''})"
    )


def damaged(error: BaseException) -> bool:
    """Whether readers of archives, or of files in them, raise this error for damaged ones."""
    if isinstance(error, OSError):  # from Pillow, h5py and gzip; the system's have an errno
        return error.errno is None and not isinstance(error, (TimeoutError, ConnectionError))
    readers = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
    where = error.__traceback__
    while where and where.tb_next:
        where = where.tb_next
    raised_in = where.tb_frame.f_globals.get("__name__", "") if where else ""
    return isinstance(error, readers) or raised_in.startswith(("scipy.io.", "h5py."))


def downloaded(folder: Path) -> set[str]:
    """Addresses of the archives that TFDS has downloaded into a folder."""
    found: set[str] = set()
    for info in folder.rglob("*.INFO"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            found |= set(json.loads(info.read_text())["urls"])
    return found


def listed(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
