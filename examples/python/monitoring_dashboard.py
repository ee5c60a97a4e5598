"""A live view of the clock in a terminal: state, offset and hard bound over time, and an alarm when it cannot be trusted.

    python monitoring_dashboard.py [--interval S] [--count N] [--alarm-ms MS]

Exit code 1 when the last reading raised the alarm, so that a script can use `--count 1`.
"""

import argparse
import collections
import shutil
import sys
import time

from chronotick import ChronoTickClient, ChronoTickError
from chronotick.eval import plot

HISTORY = 3000


def alarm(reading, alarm_ms):
    """What is wrong, or None."""
    if reading.status not in ("synchronized", "holdover"):
        return f"the clock is {reading.status}"
    if reading.max_error_ns > alarm_ms * 1e6:
        return f"the time is known to ±{reading.max_error_ns / 1e6:.3f} ms only"
    return None


def view(client, history, alarm_ms):
    reading, info = client.now(), client.get_daemon_info()
    offset_s = (reading.corrected_ns - reading.system_ns) / 1e9
    bound_s = None if reading.max_error_ns is None else reading.max_error_ns / 1e9
    history.append(plot.Sample(reading.system_ns / 1e9, offset_s, bound_s, reading.status))
    wrong = alarm(reading, alarm_ms)
    since_s = info["seconds_since_ntp"]
    lines = [
        f"{reading.status.upper():14} {'ALARM: ' + wrong if wrong else 'all is well'}",
        f"offset {offset_s * 1e3:+.6f} ms   bound {'none' if bound_s is None else f'±{bound_s * 1e3:.6f} ms'}   "
        f"sigma {reading.sigma_ns / 1e6:.6f} ms   rate {reading.drift_rate * 1e6:+.3f} us/s",
        f"source {info['data_source']}   confidence {info['confidence']:.0%}   measurements {info['measurement_count']}, "
        f"the last {'never' if since_s is None else f'{since_s:.1f} s ago'}   up {info['daemon_uptime']:.0f} s",
        "",
        plot.text(history, shutil.get_terminal_size().columns),
    ]
    return "\n".join(lines), wrong


def main():
    parser = argparse.ArgumentParser(description="A live view of the clock.")
    parser.add_argument("--interval", type=float, default=0.5, metavar="S")
    parser.add_argument("--count", type=int, metavar="N", help="end after so many readings")
    parser.add_argument("--alarm-ms", type=float, default=50.0, metavar="MS", help="the widest bound that is no alarm")
    options = parser.parse_args()
    history, wrong, shown = collections.deque(maxlen=HISTORY), None, 0
    with ChronoTickClient() as client:
        while options.count is None or shown < options.count:
            if shown:
                time.sleep(options.interval)
            try:
                picture, wrong = view(client, history, options.alarm_ms)
            except ChronoTickError as e:
                # No daemon, or none any more: it may come back.
                picture, wrong = f"ALARM: {e}", str(e)
            clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            print(clear + picture, flush=True)
            shown += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        pass
