"""The list of what the first ChronoTick's users depend on: names, fields, keys, exceptions, messages, numbers."""

import importlib
import inspect
import json
import math
import struct

import pytest
from support import OLD_FIELDS, OLD_FORMAT, OLD_PAGES, live_page, old_page

import chronotick
import chronotick.shm.config as config
from chronotick import ChronoTickClient, ChronoTickData, CorrectionSource, StatusFlags
from chronotick.eval import benchmark

PUBLIC = (
    "ChronoTickClient CorrectedTime get_current_time ChronoTickData CorrectionSource StatusFlags SHARED_MEMORY_NAME "
    "SHARED_MEMORY_SIZE write_data read_data read_data_with_retry __version__"
).split()
CONFIG = (
    "SHARED_MEMORY_NAME SHARED_MEMORY_SIZE CACHE_LINE_SIZE LAYOUT_FORMAT LAYOUT_SIZE CorrectionSource StatusFlags "
    "ChronoTickData write_data read_data read_data_with_retry create_default_data benchmark_read_latency"
).split()
NAMES = [
    *[(module, name) for module in ("chronotick", "chronotick_shm") for name in PUBLIC],
    *[(module, name) for module in ("chronotick.shm.config", "chronotick_shm.shm_config", "chronotick.shm") for name in CONFIG],
    *[
        (module, name)
        for module in ("chronotick.client", "chronotick_shm.client")
        for name in ("ChronoTickClient", "CorrectedTime", "get_current_time")
    ],
    *[
        (module, name)
        for module in ("chronotick.eval.benchmark", "chronotick_shm.chronotick_client_eval")
        for name in ("ChronoTickClient", "main")
    ],
    ("chronotick.daemon.server", "main"),
    ("chronotick_shm.chronotick_daemon_server", "main"),
    ("chronotick.shm.reader", "PageReader"),
    ("chronotick.mcp", "create_chronotick_sdk_server"),
    ("chronotick.mcp.stdio_server", "main"),
    ("chronotick_shm.chronotick_sdk_mcp", "create_chronotick_sdk_server"),
    ("chronotick_shm.chronotick_stdio_mcp", "main"),
    *[
        ("chronotick_shm.tools.sdk_tools", name)
        for name in (
            "get_time get_daemon_status get_time_with_future_uncertainty get_shared_memory read_chronotick_data".split()
        )
    ],
    *[
        ("chronotick_shm.tools.agents", name)
        for name in (
            "create_chronotick_agent create_minimal_agent create_monitoring_agent create_multi_service_agent".split()
        )
    ],
]


def module_of(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as e:
        # The tools for agents import packages of the extras.
        if e.name and ("mcp" in e.name or "tools" in e.name or e.name == "claude_agent_sdk"):
            pytest.skip(f"{name} needs {e.name}")
        raise


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda part: part)
def test_name(module, name):
    assert getattr(module_of(module), name) is not None


def test_the_old_module_has_the_same_objects():
    old = importlib.import_module("chronotick_shm")
    for name in PUBLIC:
        assert getattr(old, name) is getattr(chronotick, name), name


VALUES = {
    "SHARED_MEMORY_NAME": "chronotick_shm",
    "SHARED_MEMORY_SIZE": 128,
    "CACHE_LINE_SIZE": 64,
    "LAYOUT_FORMAT": "ddddddddfIIIIddIIf12s",
    "LAYOUT_SIZE": 128,
}


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_constant(name, value):
    assert getattr(config, name) == value
    assert struct.calcsize(config.LAYOUT_FORMAT) == config.LAYOUT_SIZE


def test_enumerations():
    sources = {"NO_DATA": 0, "NTP": 1, "CPU_MODEL": 2, "GPU_MODEL": 3, "FUSION": 4}
    assert {s.name: s.value for s in CorrectionSource} == sources
    flags = {"VALID": 1, "NTP_READY": 2, "MODELS_READY": 4, "WARMUP_COMPLETE": 8}
    assert {f.name: f.value for f in StatusFlags} == flags
    assert isinstance(CorrectionSource.NTP, int) and isinstance(StatusFlags.VALID, int)


def test_fields_in_order():
    assert list(ChronoTickData._fields) == OLD_FIELDS
    assert chronotick.CorrectedTime._fields == (
        *("corrected_timestamp", "system_timestamp", "uncertainty_seconds", "confidence", "source"),
        *("offset_correction", "drift_rate"),
    )


INFO_KEYS = (
    "status warmup_complete measurement_count total_corrections daemon_uptime last_ntp_sync seconds_since_ntp ntp_ready "
    "models_ready data_source confidence average_latency_ms"
).split()


def test_daemon_info(page_file):
    info = ChronoTickClient(page_file.path).get_daemon_info()
    assert list(info) == INFO_KEYS
    assert (info["status"], info["warmup_complete"], info["ntp_ready"], info["models_ready"]) == ("ready", True, True, False)
    assert (info["measurement_count"], info["total_corrections"], info["daemon_uptime"]) == (100, 1000, 12.5)
    assert (info["data_source"], info["average_latency_ms"]) == ("ntp", 0.5)
    assert 0 <= info["seconds_since_ntp"] < 60
    assert json.loads(json.dumps(info)) == info
    warming = ChronoTickClient(page_file(live_page(flags=3))).get_daemon_info()
    assert (warming["status"], warming["warmup_complete"]) == ("warming_up", False)
    never = bytearray(live_page(flags=0))
    never[88:96] = bytes(8)
    assert ChronoTickClient(page_file(bytes(never))).get_daemon_info()["seconds_since_ntp"] is None


def test_signatures():
    def parameters(function):
        return {name: p.default for name, p in inspect.signature(function).parameters.items() if name != "self"}

    empty = inspect.Parameter.empty
    assert parameters(ChronoTickClient.wait_until) == {"target_corrected_time": empty, "tolerance_ms": 1.0}
    assert parameters(ChronoTickClient.wait_until_async) == {"target_corrected_time": empty, "tolerance_ms": 1.0}
    assert parameters(ChronoTickClient.get_future_time) == {"future_seconds": empty}
    assert parameters(config.read_data_with_retry) == {"buffer": empty, "max_retries": 3}
    assert parameters(config.benchmark_read_latency) == {"buffer": empty, "iterations": 10000}
    assert parameters(benchmark.ChronoTickClient.benchmark_read_performance) == {"iterations": 10000}
    assert parameters(ChronoTickData.get_time_uncertainty) == {"time_delta": empty}
    assert parameters(ChronoTickData.get_corrected_time_at) == {"system_time": empty}


def test_future_time(page_file):
    clock = ChronoTickClient(page_file(live_page(offset_s=0.25)))
    now, later, last = clock.get_time(), clock.get_future_time(300), clock.get_future_time(3600)
    assert type(later) is chronotick.CorrectedTime
    assert abs(later.corrected_timestamp - now.corrected_timestamp - 300) < 1
    assert abs(later.corrected_timestamp - later.system_timestamp - 0.25) < 1e-6
    assert now.uncertainty_seconds < later.uncertainty_seconds < last.uncertainty_seconds
    assert (later.source, later.offset_correction) == ("ntp", 0.25)
    for bad in (-1, 3600.001, math.inf, -math.inf, 10**30, -(10**30)):
        with pytest.raises(ValueError, match="between 0 and 3600"):
            clock.get_future_time(bad)
    for bad in (math.nan, "soon", None):
        with pytest.raises(ValueError, match="must be a number"):
            clock.get_future_time(bad)


@pytest.mark.parametrize(
    "call",
    [
        lambda name: ChronoTickClient(name).get_time(),
        lambda name: ChronoTickClient(name).get_future_time(1),
        lambda name: ChronoTickClient(name).get_daemon_info(),
        lambda name: ChronoTickClient(name).wait_until(4e9),
        lambda name: benchmark.ChronoTickClient(name),
    ],
)
def test_no_daemon_is_the_old_error(call, tmp_path):
    with pytest.raises(RuntimeError, match=r"^ChronoTick daemon not running\.") as raised:
        call(str(tmp_path / "absent"))
    assert "chronotick-daemon" in str(raised.value)


def test_a_record_is_written_and_read():
    default = config.create_default_data()
    assert (default.source, default.flags, default.sequence_number) == (CorrectionSource.NO_DATA, 0, 0)
    assert default.valid_until > default.prediction_time > 0
    data = default._replace(offset_correction=0.25, source=CorrectionSource.FUSION, flags=15, sequence_number=43)
    for buffer in (bytearray(128), bytearray(200), memoryview(bytearray(128)), memoryview(bytearray(128)).cast("Q")):
        config.write_data(buffer, data)
        assert config.read_data(buffer) == config.read_data_with_retry(buffer) == data
        assert config.read_data(buffer).source is CorrectionSource.FUSION
    assert config.benchmark_read_latency(bytearray(old_page(1.7e9)), iterations=10) > 0


def test_what_is_no_record():
    for call in (config.read_data, config.read_data_with_retry, lambda b: config.write_data(b, config.create_default_data())):
        with pytest.raises(ValueError, match="127 bytes long, a clock page is 128"):
            call(bytearray(127))
    with pytest.raises(RuntimeError, match="source is 9"):
        config.read_data(old_page(1.7e9, source=9))
    with pytest.raises(TypeError):
        config.write_data(bytes(128), config.create_default_data())
    with pytest.raises(ValueError, match="cannot be written"):
        config.write_data(bytearray(128), config.create_default_data()._replace(measurement_count=-1))
    with pytest.raises(ValueError, match="iterations is 0"):
        config.benchmark_read_latency(bytearray(128), 0)
    with pytest.raises(RuntimeError, match="half written"):
        config.read_data_with_retry(live_page(sequence=3))


def test_a_record_without_data_is_still_read():
    buffer = bytearray(128)
    config.write_data(buffer, config.create_default_data())
    assert config.read_data_with_retry(buffer).source is CorrectionSource.NO_DATA
    assert config.read_data_with_retry(bytearray(128)).prediction_time == 0


def test_recorded_pages():
    if not OLD_PAGES.is_dir():
        pytest.skip(f"no old pages at {OLD_PAGES}")
    expected = json.loads((OLD_PAGES / "expected.json").read_text())
    for name, old in expected.items():
        page = (OLD_PAGES / f"{name}.bin").read_bytes()
        for data in (config.read_data(page), config.read_data_with_retry(page)):
            assert data._asdict() == old["fields"], name
            for prop, value in old["properties"].items():
                assert getattr(data, prop) is value, (name, prop)
            for delta_s, sigma_s in old["time_uncertainty_at_delta"].items():
                assert math.isclose(data.get_time_uncertainty(float(delta_s)), sigma_s, rel_tol=1e-12), (name, delta_s)
            for at_s, corrected_s in old["corrected_time_at_system_time"].items():
                assert data.get_corrected_time_at(float(at_s)) == corrected_s, (name, at_s)
        again = bytearray(128)
        config.write_data(again, data)
        assert bytes(again) == page, name


def test_the_old_format_is_ours():
    page = old_page(1.7e9)
    assert tuple(config.read_data(page)) == OLD_FORMAT.unpack(page)[:18]


STATUS_KEYS = (
    "daemon_running daemon_uptime warmup_complete ntp_ready models_ready data_valid measurement_count total_corrections "
    "last_ntp_sync seconds_since_ntp source confidence offset_correction drift_rate"
).split()
BENCHMARK_KEYS = (
    "iterations total_time_seconds average_latency_ns average_latency_us average_latency_ms reads_per_second "
    "reads_per_second_millions"
).split()


def test_the_lower_level_client(default_page):
    with benchmark.ChronoTickClient() as client:
        assert isinstance(client.read_data(), ChronoTickData)
        assert abs(client.get_corrected_time() - ChronoTickClient().get_time().corrected_timestamp) < 60
        corrected, sigma = client.get_time_with_uncertainty()
        assert isinstance(corrected, float) and 0 < sigma < 1
        status = client.get_status()
        assert set(STATUS_KEYS) <= set(status) and (status["source"], status["daemon_running"]) == ("NTP", True)
        assert list(client.benchmark_read_performance(iterations=10)) == BENCHMARK_KEYS
    with pytest.raises(RuntimeError, match="closed"):
        client.read_data()
