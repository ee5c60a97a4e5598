"""The conformance list that every language passes, and pages that cross between the old format and the new."""

import json

import pytest
from support import CONFORMANCE, OLD_PAGES, SECOND_NS, conformance_cases, old_page, old_reading

from chronotick import ChronoTickError, InvalidArgumentError, evaluate


def whole(text):
    return None if text is None else int(text)


@pytest.mark.parametrize("case", conformance_cases(), ids=lambda case: case["name"])
def test_conformance(case):
    page = bytes.fromhex(case["page"])
    clocks = {name: whole(text) for name, text in case["clocks"].items()}
    if "error" in case:
        with pytest.raises((ChronoTickError, InvalidArgumentError)) as raised:
            evaluate(page, **clocks)
        assert raised.value.code == case["error"]
        return
    reading, expect = evaluate(page, **clocks), case["expect"]
    assert reading.confidence == expect["confidence"]
    for name in ("status", "source"):
        assert getattr(reading, name) == expect[name], name
    for name in ("corrected_ns", "system_ns", "earliest_ns", "latest_ns", "sigma_ns"):
        assert getattr(reading, name) == whole(expect[name]), name


def test_the_list_has_readings_and_errors():
    cases = conformance_cases()
    assert sum("expect" in case for case in cases) >= 20, CONFORMANCE
    assert sum("error" in case for case in cases) >= 10, CONFORMANCE


def test_pages_that_the_old_daemon_wrote():
    if not OLD_PAGES.is_dir():
        pytest.skip(f"no old pages at {OLD_PAGES}")
    expected = json.loads((OLD_PAGES / "expected.json").read_text())
    assert len(expected) >= 5
    for name, old in expected.items():
        page = (OLD_PAGES / f"{name}.bin").read_bytes()
        fields = old["fields"]
        assert old_reading(page) == fields, name
        for system_s, corrected_s in old["corrected_time_at_system_time"].items():
            reading = evaluate(page, realtime_ns=round(float(system_s)) * SECOND_NS)
            # The old client computes in floats of Unix seconds, whose step is 238 ns.
            assert abs(reading.corrected_ns - corrected_s * 1e9) < 500, (name, system_s)
            assert reading.system_ns == round(float(system_s)) * SECOND_NS
            assert (reading.earliest_ns, reading.latest_ns, reading.max_error_ns) == (None, None, None)
            expired = float(system_s) > fields["valid_until"]
            want = "no_data" if fields["source"] == 0 else "expired" if expired else "legacy"
            assert reading.status == want, (name, system_s)
        for delta_s, sigma_s in old["time_uncertainty_at_delta"].items():
            at_ns = round((fields["prediction_time"] + float(delta_s)) * 1e9)
            assert abs(evaluate(page, realtime_ns=at_ns).sigma_ns - sigma_s * 1e9) <= 1, (name, delta_s)


def test_a_page_in_the_old_format():
    page = old_page(1_760_272_795.0)
    reading = evaluate(page, realtime_ns=1_760_272_805 * SECOND_NS)
    assert (reading.status, reading.source) == ("legacy", "fusion")
    assert reading.corrected_ns - reading.system_ns == 250_000_000 + 20_000
    assert reading.max_error_ns is None


def test_an_old_reader_on_a_new_page():
    case = conformance_cases()[0]
    page, expect = bytes.fromhex(case["page"]), case["expect"]
    assert page[84:87] == b"CT\x02", "the list begins with a page of version 2"
    fields = old_reading(page)
    # The old client's own formula, at the moment of the prediction.
    corrected_s = fields["prediction_time"] + fields["offset_correction"]
    assert abs(corrected_s * 1e9 - int(expect["corrected_ns"])) < 500
    assert fields["offset_uncertainty"] == int(expect["sigma_ns"]) / 1e9
    assert fields["confidence"] == expect["confidence"]
    assert fields["source"] in range(5), "the old client raises on any other"
    assert fields["flags"] & 1 and fields["valid_until"] > fields["prediction_time"]


def test_bytes_only():
    with pytest.raises(TypeError):
        evaluate("a page", realtime_ns=0)
    with pytest.raises(InvalidArgumentError, match="realtime_ns does not fit in 64 bits"):
        evaluate(bytes(128), realtime_ns=1 << 63)
