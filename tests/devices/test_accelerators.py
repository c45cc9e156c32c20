"""An accelerator that JAX cannot use is named, with the one command that fixes it."""

import pytest

from magmax_jax.devices.accelerators import unused
from tests.devices.machines import machine, nvidia, smi

CUDA12 = "pip install 'magmax_jax[cuda12]'"
NO_PLUGIN = {"jaxlib": "0.10.2"}


def found(machine, platforms=("cpu",), packages=NO_PLUGIN):
    def versions(names):
        return {name: packages[name] for name in names if name in packages}

    return unused(platforms, machine, versions)


@pytest.mark.parametrize("opened", [False, True])
def test_the_extra_follows_from_the_driver(tmp_path, opened):
    for driver, extra in (("525.60.13", "cuda12"), ("579.1", "cuda12"), ("580.65", "cuda13")):
        one = nvidia(tmp_path / driver, 2, driver, opened)
        remedy = f"pip install 'magmax_jax[{extra}]'"
        assert found(one) == [(f"2 NVIDIA GPUs (driver {driver})", remedy)]


def test_a_driver_that_is_too_old_must_be_replaced_first(tmp_path):
    [(_, remedy)] = found(nvidia(tmp_path, 1, "470.82.01"))
    assert remedy == f"install driver 525 or newer, then {CUDA12}"


def test_gpus_are_seen_by_device_files_or_by_nvidia_smi(tmp_path):
    assert found(machine(tmp_path / "a", {"dev/nvidia0": "", "dev/nvidiactl": ""})) == [
        ("1 NVIDIA GPU", CUDA12)
    ]
    assert found(smi(tmp_path / "b")) == [("1 NVIDIA GPU (driver 550.54.15)", CUDA12)]
    assert found(machine(tmp_path / "c")) == []


def test_nothing_is_said_about_devices_in_use_or_hidden_on_purpose(tmp_path):
    assert found(nvidia(tmp_path, 1, "550.54"), platforms={"cpu", "gpu"}) == []
    for variables in ({"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "-1"},
                      {"JAX_PLATFORMS": "cpu"}):  # fmt: skip
        assert found(nvidia(tmp_path, 1, "550.54", **variables)) == []
    for variables in ({"CUDA_VISIBLE_DEVICES": "0"}, {"JAX_PLATFORMS": "cuda,cpu"}):
        assert found(nvidia(tmp_path, 1, "550.54", **variables)) != []


def test_an_installed_plugin_is_upgraded_or_asked_why_it_does_not_start(tmp_path):
    one = nvidia(tmp_path, 1, "550.54")
    [(_, remedy)] = found(one, packages=NO_PLUGIN | {"jax-cuda12-plugin": "0.9.0"})
    assert remedy == "pip install --upgrade 'jax[cuda12]==0.10.2'"
    [(_, remedy)] = found(one, packages=NO_PLUGIN | {"jax-cuda12-plugin": "0.10.2"})
    assert remedy.startswith("jax-cuda12-plugin is installed but does not start; python -c ")


def test_tpus_are_seen_by_device_files_or_by_their_variables(tmp_path):
    command = "pip install 'magmax_jax[tpu]'"
    files = {f"dev/accel{chip}": "" for chip in range(4)}
    assert found(machine(tmp_path / "v4", files)) == [("4 TPUs", command)]
    v5e = machine(tmp_path / "v5e", TPU_ACCELERATOR_TYPE="v5litepod-8")
    assert found(v5e) == [("TPU (v5litepod-8)", command)]
    assert found(v5e, platforms=("tpu",)) == []
    [(_, remedy)] = found(v5e, packages=NO_PLUGIN | {"libtpu": "0.0.30"})
    assert remedy.startswith("libtpu is installed but does not start")
