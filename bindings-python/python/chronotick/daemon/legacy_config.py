"""Configurations of the first ChronoTick (YAML), translated into the daemon's (TOML)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from chronotick.errors import ChronoTickError, InvalidArgumentError

_NEEDS_YAML = (
    "{path} is a YAML configuration, which needs the package PyYAML: pip install 'chronotick[yaml]', or write the "
    "configuration in TOML (`chronotick-config --list` shows samples)"
)
_ITS_OWN = "the daemon has a model and a selection of its own"
_BY_BOUND = "the daemon is warmed up when its bound says so"
_PACED = "the daemon publishes every correction at once"
_MODEL_KEYS = (
    "model_name device enabled inference_interval prediction_horizon context_length max_uncertainty model_params.*"
).split()
_SCHEDULE_KEYS = "prediction_interval prediction_horizon prediction_lead_time max_inference_time".split()

# What the daemon allows, as its own configuration says it.
_POLL_S = (1, 1024)
_BURST_MS = (50, 2000)
_DEFAULT_MIN_POLL_S = 4
# The old keys are four deep.
_DEEPEST = 16

# The old keys without an effect, each with the reason. A star stands for whatever is below.
_NO_EFFECT: dict[str, str] = {
    **{f"short_term.{key}": _ITS_OWN for key in _MODEL_KEYS},
    **{f"long_term.{key}": _ITS_OWN for key in _MODEL_KEYS},
    **{f"fusion.{key}": _ITS_OWN for key in ("enabled", "method", "uncertainty_threshold", "fallback_weights.*")},
    "preprocessing.*": _ITS_OWN,
    "covariates.*": _ITS_OWN,
    "performance.*": _ITS_OWN,
    "clock.*": _ITS_OWN,
    "logging.log_predictions": "`log_level = \"debug\"` logs each measurement",
    "logging.log_uncertainty": "`log_level = \"debug\"` logs each measurement",
    "logging.log_fusion_weights": _ITS_OWN,
    "clock_measurement.ntp.timeout_seconds": _ITS_OWN,
    "clock_measurement.ntp.max_acceptable_uncertainty": _ITS_OWN,
    "clock_measurement.ntp.min_stratum": _ITS_OWN,
    "clock_measurement.ntp.max_stratum": _ITS_OWN,
    "clock_measurement.timing.warm_up.duration_seconds": _BY_BOUND,
    "prediction_scheduling.dataset.*": _PACED,
    **{f"prediction_scheduling.cpu_model.{key}": _PACED for key in _SCHEDULE_KEYS},
    **{f"prediction_scheduling.gpu_model.{key}": _PACED for key in _SCHEDULE_KEYS},
}

_LOG_LEVELS = {
    "debug": "debug",
    "info": "info",
    "warning": "warn",
    "warn": "warn",
    "error": "error",
    "critical": "error",
}


class Translation(NamedTuple):
    """A configuration in TOML, and what to tell the user of its making."""

    toml: str
    warnings: list[str]


def is_legacy(path: str | os.PathLike[str]) -> bool:
    """True for a file that is to be translated."""
    return Path(path).suffix.lower() in (".yaml", ".yml")


def log_level(word: str) -> str:
    """The daemon's word for a level of Python's logging."""
    level = _LOG_LEVELS.get(str(word).lower())
    if level is None:
        raise InvalidArgumentError(f"log level {word!r}: give one of {', '.join(_LOG_LEVELS)}")
    return level


def translate_file(path: str | os.PathLike[str]) -> Translation:
    """Reads the file and translates it. Every error says what to do, every key that is not honoured is named."""
    try:
        import yaml
    except ImportError as e:
        raise ChronoTickError(_NEEDS_YAML.format(path=path), "invalid_argument") from e
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise ChronoTickError(
            f"cannot read the configuration {path}: {e.strerror}; check the path after --config", "io"
        ) from e
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise InvalidArgumentError(f"configuration {path}: {e}") from e
    return translate(content, str(path))


def translate(content: object, name: str = "the configuration") -> Translation:
    """Translates what the YAML file says. `name` is the file's, for the messages."""
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise InvalidArgumentError(f"{name} holds {type(content).__name__}, not keys with values: is it the right file?")
    settings: dict[str, object] = {}
    unused: dict[str, list[str]] = {}
    unknown: list[str] = []
    for key, value in _leaves(content):
        honour = _HONOURED.get(key)
        reason = _without_effect(key)
        if honour is not None:
            try:
                honour(settings, value)
            except (TypeError, ValueError) as e:
                raise InvalidArgumentError(f"{name}: `{key}` is {value!r}: {e}") from e
        elif reason is not None:
            unused.setdefault(reason, []).append(key)
        else:
            unknown.append(key)
    warnings = [f"{name}: unknown key `{key}` is ignored" for key in unknown]
    warnings += [f"{name}: without effect, since {reason}: {', '.join(keys)}" for reason, keys in unused.items()]
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    return Translation("\n".join([f"# Made from {name!r}.", *lines, ""]), warnings)


def _leaves(node: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if prefix.count(".") > _DEEPEST:
        # An anchor of YAML may even lead back to what it is in.
        raise InvalidArgumentError(f"the configuration is nested too deeply at {prefix[:60]}...")
    if isinstance(node, dict) and (node or not prefix):
        for key, value in node.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


def _without_effect(key: str) -> str | None:
    if key in _NO_EFFECT:
        return _NO_EFFECT[key]
    parts = key.split(".")
    # A group that is empty or has no value at all says nothing.
    if any(known.startswith(key + ".") for known in _NO_EFFECT):
        return _ITS_OWN
    return next((reason for n in range(1, len(parts)) if (reason := _NO_EFFECT.get(".".join(parts[:n]) + ".*"))), None)


def _servers(settings: dict[str, object], value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value) or not value:
        raise ValueError("give a list of server names")
    settings["servers"] = list(dict.fromkeys(value))


def _steady_interval(settings: dict[str, object], value: object) -> None:
    seconds = _within(value, 1, _POLL_S)
    settings["min_poll_s"] = min(_DEFAULT_MIN_POLL_S, seconds)
    settings["max_poll_s"] = seconds


def _first_interval(settings: dict[str, object], value: object) -> None:
    settings["burst_interval_ms"] = _within(value, 1000, _BURST_MS)


def _level(settings: dict[str, object], value: object) -> None:
    settings["log_level"] = log_level(str(value))


def _within(value: object, factor: int, limits: tuple[int, int]) -> int:
    """The number in the daemon's unit, moved into what it allows."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError("give a number of seconds above 0")
    return int(min(max(value * factor, limits[0]), limits[1]))


_HONOURED: dict[str, Callable[[dict[str, object], object], None]] = {
    "clock_measurement.ntp.servers": _servers,
    "clock_measurement.timing.warm_up.measurement_interval": _first_interval,
    "clock_measurement.timing.normal_operation.measurement_interval": _steady_interval,
    "logging.level": _level,
}
