"""The lower-level client of the first ChronoTick, which reads the record itself, and `chronotick-client`'s entry point."""

from __future__ import annotations

import time
from typing import Any

from chronotick.errors import InvalidArgumentError
from chronotick.shm.config import ChronoTickData
from chronotick.shm.reader import PageReader

_NS_PER_S = 1_000_000_000


class ChronoTickClient(PageReader):
    """A reader of the page's record, and of the time. Without a daemon making one is a DaemonNotRunningError."""

    def read_data(self) -> ChronoTickData:
        """The record now, whole."""
        return self.read()

    def get_corrected_time(self) -> float:
        """Corrected time now, Unix seconds."""
        return self._attached().get_time().corrected_timestamp

    def get_time_with_uncertainty(self) -> tuple[float, float]:
        """Corrected time now, Unix seconds, and one standard deviation of it, seconds."""
        now = self._attached().get_time()
        return now.corrected_timestamp, now.uncertainty_seconds

    def get_status(self) -> dict[str, Any]:
        """What the page tells of the daemon. `source` is in capitals here, and `status` is the reading's."""
        page = self._attached()
        data, reading = self.read_data(), page.now()
        since_s = reading.corrected_ns / _NS_PER_S - data.last_ntp_sync
        return {
            "daemon_running": reading.status not in ("expired", "no_data"),
            "daemon_uptime": data.daemon_uptime,
            "warmup_complete": data.is_warmup_complete,
            "ntp_ready": data.is_ntp_ready,
            "models_ready": data.is_models_ready,
            "data_valid": data.is_valid,
            "measurement_count": data.measurement_count,
            "total_corrections": data.total_corrections,
            "last_ntp_sync": data.last_ntp_sync,
            "seconds_since_ntp": since_s if data.last_ntp_sync > 0 else None,
            "source": data.source.name,
            "confidence": data.confidence,
            "offset_correction": data.offset_correction,
            "drift_rate": data.drift_rate,
            "status": reading.status,
            "max_error_seconds": None if reading.max_error_ns is None else reading.max_error_ns / _NS_PER_S,
        }

    def benchmark_read_performance(self, iterations: int = 10000) -> dict[str, float]:
        """How long a reading takes: the mean of that many `get_time` calls of the native client."""
        if iterations < 1:
            raise InvalidArgumentError(f"iterations is {iterations}: give 1 or more")
        get_time = self._attached().get_time
        get_time()
        begin_ns = time.perf_counter_ns()
        for _ in range(iterations):
            get_time()
        elapsed_ns = time.perf_counter_ns() - begin_ns
        each_ns = elapsed_ns / iterations
        return {
            "iterations": iterations,
            "total_time_seconds": elapsed_ns / _NS_PER_S,
            "average_latency_ns": each_ns,
            "average_latency_us": each_ns / 1e3,
            "average_latency_ms": each_ns / 1e6,
            "reads_per_second": _NS_PER_S / each_ns,
            "reads_per_second_millions": 1e3 / each_ns,
        }


def main(arguments: list[str] | None = None) -> int:
    """The program `chronotick-client`."""
    # Here, since the program is built on the class above.
    from chronotick.eval.commands import main as run

    return run(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
