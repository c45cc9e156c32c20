"""The Dockerfile names files that exist and are sent to the builder; no image is built."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
INSTRUCTIONS = [line.split(maxsplit=1) for line in TEXT.splitlines() if line.strip()]
INSTRUCTIONS = [(word, rest) for word, rest in INSTRUCTIONS if word != "#"]
DEVICES = sorted((ROOT / "magmax_jax" / "packages" / "devices").glob("cuda*.txt"))


def test_every_copied_file_exists_and_is_not_ignored():
    sent = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [shlex.split(rest)[:-1] for word, rest in INSTRUCTIONS if word == "COPY"]
    names = {name for names in copied for name in names}
    assert {"magmax_jax", "pyproject.toml", "requirements.txt"} <= names
    for name in names:
        assert (ROOT / name).exists() and name.partition("/")[0] in sent, name
    assert sent <= names


def test_pip_reads_files_that_were_copied_before_for_every_kind_of_cuda():
    assert [path.stem for path in DEVICES] == ["cuda12", "cuda13"]
    for device in DEVICES:
        copied: list[str] = []
        read: list[str] = []
        for word, rest in INSTRUCTIONS:
            if word == "COPY":
                copied += shlex.split(rest)[:-1]
            for file in re.findall(r"-r (\S+)", rest) if word == "RUN" else ():
                file = file.replace("${CUDA}", device.stem)
                assert any(Path(file).is_relative_to(name) for name in copied), file
                read.append(file)
        assert read == ["requirements.txt", f"magmax_jax/packages/devices/{device.stem}.txt"]
        assert all((ROOT / file).is_file() for file in read)


def test_the_program_is_the_command_that_the_package_installs():
    said = dict(INSTRUCTIONS)
    assert said["ENTRYPOINT"] == '["magmax"]' and said["CMD"] == '["doctor"]'
    assert 'magmax = "magmax_jax.cli.main:launch"' in (ROOT / "pyproject.toml").read_text()
    assert said["FROM"].startswith("python:3.") and said["ARG"] == "CUDA=cuda12"
