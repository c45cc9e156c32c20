"""Companion files of merged weights: theta_0's, or another model's tokenizer and related files."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from magmax_jax.errors import UserError
from magmax_jax.io import companions, hub
from magmax_jax.io.inside import stays_in
from magmax_jax.io.json_files import read_object
from magmax_jax.io.safetensors.reader import TensorFiles
from magmax_jax.merge_files import configurations, tokenizers


def copy(
    pretrained: TensorFiles,
    directory: Path,
    out_dtype: str | None = None,
    labels: Sequence[str] = (),
    chosen: Path | None = None,
) -> None:
    """Copies theta_0's companion files beside the merged weights; nothing for a loose file.

    Args:
      out_dtype: of the merged tensors, None if it is theta_0's.
      labels: of the classes, which theta_0's configuration may lack.
      chosen: directory of the model whose tokenizer, chat template and generation config are used.
    """
    files = {} if pretrained.loose else companions.files(pretrained.directory)
    tokens = {}
    if chosen is not None:
        files = {n: path for n, path in files.items() if not tokenizers.is_of_text(n)}
        files |= tokenizers.files_of(chosen)
        config = read_object(chosen / configurations.CONFIG) or {}
        tokens = {name: config[name] for name in tokenizers.TOKEN_IDS if name in config}
    for name, path in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, directory / name)
    config_file = directory / configurations.CONFIG
    content = read_object(config_file)
    if content is not None:
        adapted = configurations.adapted(content, out_dtype, labels, tokens)
        if adapted != content:
            config_file.write_text(json.dumps(adapted, indent=2) + "\n")


def find_chosen(source: str) -> Path:
    """The directory of the model that `--companions-from` names.

    Raises:
      UserError: there is none, or it has none of these files.
    """
    directory = hub.locate(source, weights=False)
    if not tokenizers.files_of(directory):
        raise UserError(
            f"--companions-from: {source} has no tokenizer, chat template or generation config: "
            "name a model that has them"
        )
    return directory


def notes(pretrained: TensorFiles) -> Iterator[str]:
    """Files beside theta_0's weights that the output lacks, or has from theta_0 only."""
    if pretrained.loose:
        if configurations.belonging(pretrained):
            yield (
                f"theta_0 is named as a file, so the output has no config.json and no tokenizer: "
                f"name {pretrained.directory} to have them"
            )
        return
    sizes = companions.file_sizes(pretrained.directory)
    chosen = companions.choose(sizes)
    for name, nbytes in chosen.too_large.items():
        path = pretrained.directory / name
        yield f"{path} is not copied: its {nbytes / 1e6:.0f} MB are too large for a companion"
    for name in chosen.names:
        path = pretrained.directory / name
        if not stays_in(pretrained.directory, path):
            yield f"{path} is not copied: it is a link out of its directory, to {path.resolve()}"
    for path in sorted(pretrained.directory.iterdir()):
        if path.is_symlink() and not path.is_file() and path.name[0] != ".":
            why = "leads to a directory" if path.is_dir() else "leads nowhere"
            yield f"{path} is not copied: it is a link that {why} ({path.readlink()})"
    modules = [n for n in sizes if companions.is_module(n, sizes) and companions.is_weights(n)]
    copied = {name.partition("/")[0]: name for name in modules if name in chosen.names}
    for name in copied.values():
        yield f"{name} is theta_0's: only the first module of {pretrained.directory} is merged"
    for name in modules:
        if name.endswith(hub.PICKLES) and name.partition("/")[0] not in copied:
            yield (
                f"{pretrained.directory / name} is a pickle and not copied, so the output lacks "
                "that module's weights: save theta_0 again with sentence-transformers"
            )
