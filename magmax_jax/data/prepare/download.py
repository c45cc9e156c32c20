"""Downloads archives and writes them as array_record: the only step that may need TensorFlow."""

import contextlib
import fcntl
import importlib.util
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tensorflow_datasets as tfds

from magmax_jax.data import tfds_internals
from magmax_jax.data.prepare import archives, fingerprint
from magmax_jax.data.prepare.display import Display
from magmax_jax.data.prepare.errors import INSTALL, as_user_error
from magmax_jax.data.prepare.unpacked import unpacked_size
from magmax_jax.data.readers.tfds_builder import prepare_command
from magmax_jax.errors import UserError
from magmax_jax.io.removal import remove

_NOTES = ".config"
"""Folder beside a builder's configurations, in which TFDS notes the default one."""


@dataclass(frozen=True)
class Options:
    """Where data sets are, and how to prepare them."""

    data_dir: str | None = None
    """None: TFDS's own."""
    manual_dir: Path | None = None
    """Archives that the user downloaded; None: downloads/manual in the data directory."""
    verify: bool = False
    """Check only: nothing is prepared, written or removed."""
    repacked: bool = False
    """Accept archives in `manual_dir` whose checksums are not the publishers'."""
    keep_archives: bool = True


def make(builder: tfds.core.DatasetBuilder, name: str, options: Options, display: Display) -> None:
    """Downloads what a builder needs and writes it atomically as array_record.

    Args:
      name: of the data set, and of the folder in `manual_dir` that may hold its archives.

    Raises:
      UserError: something must be installed or downloaded by hand, or there is too little space.
    """
    title = fingerprint.title(builder)
    if options.verify:
        raise UserError(
            f"{title} is not prepared in {builder.data_dir}; prepare it first",
            command=prepare_command(title, options.data_dir),
        )
    _require_modules(builder)
    root = Path(builder.data_dir_root)
    folder = archives.by_hand_folder(options.manual_dir or root / "downloads" / "manual", name)
    if options.manual_dir and not folder.is_dir():
        raise UserError(
            f"manual_dir {folder}: there is no such folder: name the one that holds the archives"
        )
    archives.require_by_hand(builder, folder)
    extracted = _extracted(builder)
    with _alone(builder):
        _clean(builder, extracted)
        local = archives.local_files(builder, folder, options.repacked)
        if hasattr(builder, "any_archive"):  # ours, which knows the checksums itself
            builder.any_archive = options.repacked
        display.say(f"{title}: preparing in {builder.data_dir}")
        try:
            _require_room(builder, folder, set(local.values()))
            with (
                display.preparing(title),
                contextlib.redirect_stdout(io.StringIO()),  # TFDS prints what it does
                tfds_internals.trusting(builder, local),
                tfds_internals.downloading(builder),
            ):
                builder.download_and_prepare(
                    download_dir=root / "downloads",
                    download_config=tfds.download.DownloadConfig(
                        manual_dir=folder, extract_dir=extracted, try_download_gcs=False
                    ),
                    file_format="array_record",
                )
        except Exception as error:
            raise as_user_error(error, builder, folder) or error from None
        finally:
            _clean(builder, extracted)


def remove_unfinished(builder: tfds.core.DatasetBuilder) -> None:
    """Removes what is left of a preparation that was killed after the data was in place.

    Nothing is removed while another process prepares the builder.
    """
    extracted = _extracted(builder)
    if extracted.is_dir():
        with contextlib.suppress(UserError), _alone(builder):
            _clean(builder, extracted)


def remove_archives(builder: tfds.core.DatasetBuilder) -> None:
    """Removes a builder's downloads.

    Raises:
      UserError: another process is preparing it, and may need them.
    """
    folder = downloads(builder)
    if not folder.is_dir():
        return
    with _alone(builder):
        for path in folder.iterdir():
            remove(path)


def _require_modules(builder: tfds.core.DatasetBuilder) -> None:
    facts = archives.facts_of(builder)
    # All of TFDS's own builders unpack with TensorFlow; TFDS needs importlib_resources for its
    # checksum lists, but does not install it.
    common = ("tensorflow", "importlib_resources") if facts.needs_tensorflow else ()
    needed = (*common, *facts.packages)
    missing = [module for module in needed if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(
            f"{builder.name} needs {archives.listed(missing)} to be prepared (not to be read): "
            f"{INSTALL}"
        )


def _require_room(builder: tfds.core.DatasetBuilder, folder: Path, unknown: set[Path]) -> None:
    """Checks for a lower bound: archives plus their unpacked copies.

    The size of the prepared data is unknown.

    Args:
      unknown: files of `folder` whose checksums are not the publishers': they are read through.

    Raises:
      UserError: there is less, or an archive must not be unpacked (see `unpacked_size`).
    """
    there = archives.downloaded(downloads(builder))
    facts = archives.facts_of(builder)
    copies = int(facts.unpacks)
    free = shutil.disk_usage(downloads(builder)).free
    sizes: dict[str, int] = {}
    for name in facts.by_hand:
        if (folder / name).is_file():
            unpacked_size(folder / name)
    for archive in archives.archives(builder):
        file = folder / archive.name
        if file in unknown:
            sizes[archive.name] = copies * unpacked_size(file, free if copies else None)
        elif file.is_file():
            sizes[archive.name] = copies * file.stat().st_size
        else:
            sizes[archive.name] = (copies + (archive.url not in there)) * int(archive.size or 0)
    needed = sum(sizes.values())
    if needed > free:
        raise UserError(
            f"{builder.name} takes at least {needed / 1e9:.1f} GB to prepare and "
            f"{builder.data_dir_root} has {free / 1e9:.1f} GB free: make room, or pass another "
            "data_dir"
        )


@contextlib.contextmanager
def _alone(builder: tfds.core.DatasetBuilder) -> Iterator[None]:
    """Keeps other processes from preparing the same builder, which would use the same files."""
    handle = _lock(builder)
    try:
        yield
    finally:
        _tidy(builder)
        os.close(handle)


def _lock(builder: tfds.core.DatasetBuilder) -> int:
    """A handle of the folder of archives, which no other process has locked."""
    folder = downloads(builder)
    for _ in range(10):  # the last holder may be removing the folder right now
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as closing:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
            closing.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                break
            if os.path.samestat(os.fstat(handle), folder.stat()):
                closing.pop_all()
                return handle
    raise UserError(
        f"another process is preparing {builder.name} in {builder.data_dir_root}: wait for it"
    )


def _clean(builder: tfds.core.DatasetBuilder, extracted: Path) -> None:
    """Removes unfinished files of an interruption; keeps finished archives."""
    remove(extracted)
    unfinished = [
        *Path(builder.data_dir).parent.glob("incomplete.*"),
        *Path(builder.data_dir_root, builder.name, _NOTES).glob("incomplete.*"),
        *(path for path in downloads(builder).rglob("*.tmp.*") if path.is_dir()),
    ]
    for path in unfinished:
        remove(path)


def _tidy(builder: tfds.core.DatasetBuilder) -> None:
    """Removes folders that were left empty; that of the lock comes last."""
    root = Path(builder.data_dir_root)
    prepared = root / builder.name
    with contextlib.suppress(OSError):
        Path(builder.data_dir).parent.rmdir()
    if [path.name for path in prepared.glob("*")] == [_NOTES]:
        remove(prepared)
    with contextlib.suppress(OSError):
        downloads(builder).rmdir()
        (root / "downloads").rmdir()


def _extracted(builder: tfds.core.DatasetBuilder) -> Path:
    """Where its archives are unpacked."""
    return downloads(builder) / "extracted"


def downloads(builder: tfds.core.DatasetBuilder) -> Path:
    """Where a builder's archives are kept."""
    return Path(builder.data_dir_root) / "downloads" / builder.name
