"""Pretend machines: a directory with the files of a machine's hardware."""

from pathlib import Path

from magmax_jax.devices.machine import Machine

VERSION = "NVRM version: NVIDIA UNIX {}x86_64 Kernel Module  {}  Release Build\n"
SMI = '#!/bin/sh\ncase "$1" in *driver_version*) echo {driver};; *) echo "{memory}";; esac\n'


def machine(root: Path, files: dict[str, str] | None = None, **environ: str) -> Machine:
    """A machine with these files and variables, and no program on PATH."""
    for name, text in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Machine(root, {"PATH": str(root / "bin")} | environ)


def nvidia(root: Path, gpus: int, driver: str, opened: bool = False, **environ: str) -> Machine:
    """A machine with NVIDIA's driver, in its closed or open form."""
    files = {f"proc/driver/nvidia/gpus/0000:0{gpu}:00.0/information": "" for gpu in range(gpus)}
    text = VERSION.format("Open Kernel Module for " if opened else "", driver)
    if opened:
        text = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build\n"
    return machine(root, files | {"proc/driver/nvidia/version": text}, **environ)


def smi(root: Path, driver: str = "550.54.15", memory: str = "") -> Machine:
    """A machine that shows GPUs only through nvidia-smi, as WSL does."""
    found = machine(root, {"bin/nvidia-smi": SMI.format(driver=driver, memory=memory)})
    (root / "bin" / "nvidia-smi").chmod(0o755)
    return found
