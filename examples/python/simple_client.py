"""Prints the corrected time and how good it is.

    python simple_client.py
"""

import sys

from chronotick import ChronoTickClient


def main():
    with ChronoTickClient() as client:
        if not client.is_daemon_ready():
            print("ERROR: ChronoTick daemon not running, or not warmed up yet")
            print("Start with: chronotick-daemon start")
            return 1

        # The tuple of the first ChronoTick: float seconds, and one standard deviation.
        time_info = client.get_time()
        print(f"Corrected Time: {time_info.corrected_timestamp}")
        print(f"System Time:    {time_info.system_timestamp}")
        print(f"Uncertainty:    ±{time_info.uncertainty_seconds * 1000:.3f}ms")
        print(f"Confidence:     {time_info.confidence:.1%}")
        print(f"Source:         {time_info.source}")

        # The reading: integer nanoseconds, a hard bound, and how far to trust it.
        reading = client.now()
        print(f"Reading:        {reading.corrected_ns} ns, {reading.status}")
        if reading.max_error_ns is not None:
            print(f"Hard bound:     ±{reading.max_error_ns / 1e6:.3f}ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
