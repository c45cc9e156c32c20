"""Each finding of `magmax doctor`, on pretend installations and machines."""

import threading
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from magmax_jax.doctor import jax_devices
from magmax_jax.doctor.check import Finding
from magmax_jax.doctor.checks import caches, cudnn, devices, disk, hub, memory, nan_in_max, versions
from tests.devices.machines import machine, nvidia, smi
from tests.devices.test_machine import HOST

LISTS = {"core": ("numpy>=2.2,<3",), "train": ("flax>=0.12,<0.13", "optax>=0.2,<0.3")}
CORE = {"numpy": "2.3.1", "jax": jax.__version__, "jaxlib": "0.0.1"}


def of(found, text) -> Finding:
    """The one finding whose text contains this."""
    [finding] = [finding for finding in found if text in finding.text]
    return finding


def test_versions_are_compared_with_the_bounds_of_their_list():
    packages = CORE | {"numpy": "3.0", "flax": "0.11.0", "optax": "0.2.8"}
    found = list(versions.look(LISTS, packages))
    assert of(found, "numpy") == ("numpy 3.0 is not supported", "broken",
                                  "pip install 'numpy>=2.2,<3'")  # fmt: skip
    assert of(found, "flax") == ("flax 0.11.0 is not supported", "warning",
                                 "pip install 'flax>=0.12,<0.13'")  # fmt: skip
    assert of(found, "optax") == ("optax 0.2.8", "ok", "")
    assert of(found, "jaxlib").severity == "broken"
    assert of(found, "jaxlib").remedy.startswith(f"pip install 'jax=={jax.__version__}' 'jaxlib")


def test_a_missing_core_package_is_broken_and_a_missing_extra_is_not():
    found = list(versions.look(LISTS, {"jaxlib": "0.0.1"}))
    assert of(found, "numpy") == ("numpy is not installed", "broken", "pip install magmax_jax")
    one = of(found, "[train]")
    assert one.severity == "ok" and "is not installed; if you need it: pip install" in one.text
    partly = of(versions.look(LISTS, CORE | {"optax": "0.2.8"}), "[train]")
    assert partly.severity == "ok" and "[train] lacks flax; if" in partly.text
    assert of(versions.look(LISTS, {}), "jaxlib").severity == "broken"


def test_a_python_that_is_newer_than_the_tested_ones_is_a_warning():
    assert of(versions.look(LISTS, CORE, (3, 99)), "Python").severity == "warning"
    assert of(versions.look(LISTS, CORE), "Python").severity == "ok"


def test_this_installation_has_supported_versions():
    assert {finding.severity for finding in versions.look()} == {"ok"}


def test_devices_are_named_and_a_gpu_that_jax_misses_is_broken(tmp_path):
    [ours, missed] = devices.look(nvidia(tmp_path, 1, "550.54"))
    assert ours == (f"JAX computes on {len(jax.devices())} device{'s' * (jax.device_count() > 1)}"
                    ": cpu", "ok", "")  # fmt: skip
    assert missed == (
        "JAX has no backend for 1 NVIDIA GPU (driver 550.54)",
        "broken",
        "pip install 'magmax_jax[cuda12]'",
    )


@pytest.mark.parametrize(("threads", "enough"), [("6", False), ("16", True), ("", False)])
def test_virtual_devices_with_few_threads_are_a_warning(monkeypatch, tmp_path, threads, enough):
    four = [SimpleNamespace(platform="cpu", device_kind="cpu")] * 4
    monkeypatch.setattr(devices, "start", lambda: four)
    monkeypatch.setattr(devices, "usable_cores", lambda: 2)
    [named, *found] = devices.look(machine(tmp_path, NPROC=threads))
    assert named.text == "JAX computes on 4 devices: cpu"
    assert bool(found) != enough
    for finding in found:
        assert finding.text.startswith(f"4 virtual devices share {threads or 4} threads")
        assert (finding.severity, finding.remedy) == ("warning", "export NPROC=32")


def test_a_backend_that_does_not_start_is_broken(monkeypatch, tmp_path):
    def fail():
        raise RuntimeError("Unable to initialize backend 'rocm'\nmore")

    monkeypatch.setattr(devices, "start", fail)
    monkeypatch.setattr(jax_devices, "start", fail)
    [finding] = devices.look(machine(tmp_path))
    assert finding.text == "JAX does not start (Unable to initialize backend 'rocm')"
    assert finding.severity == "broken" and "JAX_PLATFORMS" in finding.remedy
    for check in (memory, nan_in_max, cudnn):  # once is enough
        assert all(each.severity != "broken" for each in check.look())


def test_little_free_memory_of_host_or_device_is_a_warning(monkeypatch, tmp_path):
    [host] = memory.look(machine(tmp_path / "a", HOST))
    assert host.text == "host: 0.0 of 0.0 GB free" and host.severity == "warning"
    [_, full, empty] = memory.look(smi(tmp_path / "b", memory="0, 100, 40960\n1, 40000, 40960"))
    assert full.text == "GPU 0: 0.1 of 42.9 GB free" and full.severity == "warning"
    assert "nvidia-smi" in full.remedy and empty == ("GPU 1: 41.9 of 42.9 GB free", "ok", "")
    stats = {"bytes_limit": 16 * 10**9, "bytes_in_use": 10**9}
    tpu = SimpleNamespace(id=3, memory_stats=lambda: stats)
    monkeypatch.setattr(memory, "devices", lambda: [tpu])
    [unknown, device] = memory.look(machine(tmp_path / "c"))
    assert unknown.severity == "ok" and device.text == "device 3: 15.0 of 16.0 GB free"


def test_caches_have_a_size_and_must_be_writable(tmp_path):
    (tmp_path / "hub" / "blobs").mkdir(parents=True)
    (tmp_path / "hub" / "blobs" / "a").write_bytes(bytes(20_000_000))
    (tmp_path / "file").write_text("")
    there = caches.Cache("models", tmp_path / "hub", "HF_HOME", "broken")
    [held, later, refused] = caches.look(
        [there, there._replace(folder=tmp_path / "new"), there._replace(folder=tmp_path / "file/x")]
    )
    assert held == (f"models: {tmp_path}/hub, 0.02 GB", "ok", "")
    assert later.text.endswith("new, not created yet") and later.severity == "ok"
    assert refused.severity == "broken" and refused.remedy.startswith("set HF_HOME to a folder")
    assert {cache.variable for cache in caches.caches()} == {
        "HF_HOME", "JAX_COMPILATION_CACHE_DIR", "TFDS_DATA_DIR"
    }  # fmt: skip


def test_measuring_a_large_cache_ends_in_time(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_bytes(bytes(10))
    (tmp_path / "b").write_bytes(bytes(5))
    assert caches.size(tmp_path) == (15, True)
    assert caches.size(tmp_path, seconds=-1) == (5, False)


def test_a_folder_that_cannot_be_written_is_broken_and_a_full_one_a_warning(monkeypatch, tmp_path):
    where = {"results": (tmp_path, "go elsewhere"), "lost": (tmp_path / "gone", "set TMPDIR")}
    [good, lost] = disk.look(where)
    assert good.severity == "ok" and "GB free" in good.text
    assert lost.severity == "broken" and lost.remedy == "set TMPDIR"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(disk, "LEAST", 10**18)
    assert next(iter(disk.look(where))).severity == "warning"


@pytest.fixture
def pretend_hub(monkeypatch):
    """Lets a test set what the hub answers; the returned list has the requests."""
    from huggingface_hub import constants, utils

    asked, pretend = [], SimpleNamespace(status=200)

    def head(url, timeout):
        asked.append(url)
        if isinstance(pretend.status, Exception):
            raise pretend.status
        return SimpleNamespace(status_code=pretend.status)

    monkeypatch.setattr(utils, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://me:secret@hub.example")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pretend.asked = asked
    return pretend


def test_the_hub_is_reached_or_not_and_no_secret_is_shown(pretend_hub):
    [finding] = hub.look()
    assert finding == ("hub.example can be reached; a token is set", "ok", "")
    for status, text in ((503, "answers with status 503"), (OSError("secret"), "(OSError)")):
        pretend_hub.status = status
        [finding] = hub.look()
        assert text in finding.text and finding.severity == "warning"
        assert "secret" not in str(finding) and finding.remedy


def test_offline_mode_asks_nothing(pretend_hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    [finding] = hub.look()
    assert finding.severity == "ok" and "offline mode" in finding.text
    assert pretend_hub.asked == []


def test_a_hub_that_never_answers_is_not_waited_for():
    answered = threading.Event()
    try:
        assert hub.ask(lambda: answered.wait() and 200, seconds=0.05) == "no answer in 0.05 s"
    finally:
        answered.set()
    assert hub.ask(lambda: 200) == 200


def test_a_maximum_that_loses_nan_is_found_by_trying_it(monkeypatch):
    [finding] = nan_in_max.look()
    values = np.ones(nan_in_max.ENTRIES, np.float32)
    values[0] = np.nan
    loses = not np.isnan(jax.numpy.max(values))
    assert (finding.severity == "warning") == loses
    monkeypatch.setattr(nan_in_max, "loses_nan", lambda device: True)
    [finding] = nan_in_max.look()
    assert finding.severity == "warning" and "isfinite" in finding.remedy
    monkeypatch.setattr(nan_in_max, "loses_nan", lambda device: False)
    assert list(nan_in_max.look()) == [("jnp.max keeps NaN", "ok", "")]


def test_attention_of_cudnn_is_tried_on_gpus_that_have_it(monkeypatch):
    assert next(cudnn.look()).text == "no device uses cuDNN's attention"
    for capability, tried in (("9.0", True), ("7.5", False), ("gfx942", False)):
        gpu = SimpleNamespace(platform="gpu", compute_capability=capability)
        monkeypatch.setattr(cudnn, "devices", lambda gpu=gpu: [gpu])
        # On this CPU, JAX refuses it.
        assert next(cudnn.look()).severity == ("broken" if tried else "ok")
    gpu = SimpleNamespace(platform="gpu", compute_capability="9.0")
    monkeypatch.setattr(cudnn, "devices", lambda: [gpu])
    monkeypatch.setattr(cudnn, "padded_gradient", lambda: None)
    assert "works, also with odd" in next(cudnn.look()).text
