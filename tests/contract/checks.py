"""Checks beside those of Schemathesis, which loads this file (SCHEMATHESIS_HOOKS) and runs every check that there is."""

import re

import schemathesis
from schemathesis.specs.openapi.checks import negative_data_rejection, use_after_free

# What a JSON Schema cannot say: a request that fits the document may be refused for these, and for nothing else.
BEYOND_A_SCHEMA = {
    "time_in_past", "time_too_far",  # depends on the present
    "invalid_duration",  # a range of durations in text
    "invalid_recurrence",  # cron rules and zones, and what they go with
    "invalid_action", "unknown_action_kind",  # the connector's own parameters
    "unknown_schema", "invalid_payload",  # what is registered
    "invalid_timer",  # limits in bytes, names that occur twice
}
# The same for the codes that stand for a wrong form too, by a part of their detail.
BEYOND_BY_DETAIL = {
    "invalid_time": (":60",),  # a leap second
    "invalid_field": (
        "give one of them", "use another word for one of them",  # a label, a tag and a field contradict each other
        "Idempotency-Key",  # as do the header and the field
        "the schema ",  # not every object is a schema
        "exclude_dates",
        "unknown field",
    ),
}
# 401 to 404: who asks and what is there. 405: a name that is the word of another route. 409, 412: the state.
# 429, 503: how much is left.
BY_STATE = {401, 403, 404, 405, 409, 410, 412, 413, 429}


def is_beyond_a_schema(problem):
    code, detail = problem.get("code"), problem.get("detail", "")
    # JSON Schema takes 1.0 for an integer, and so for a number of the service, which does not.
    is_float = code == "invalid_field" and re.search(r"\d\.0\b", detail)
    return code in BEYOND_A_SCHEMA or is_float or any(part in detail for part in BEYOND_BY_DETAIL.get(code, ()))


@schemathesis.check
def what_fits_the_document_is_taken(ctx, response, case):
    """In place of `positive_data_acceptance`, which knows statuses only."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code < 400 or response.status_code in BY_STATE:
        return
    problem = response.json()
    assert is_beyond_a_schema(problem), f"a request that fits was refused: {problem}"


@schemathesis.check
def what_does_not_fit_is_refused(ctx, response, case):
    """As `negative_data_rejection`; but a batch is taken in parts, and what does not fit is told beside what does."""
    if case.operation.path.startswith("/v1/timers/batch") and response.status_code == 200:
        if case.meta is not None and case.meta.generation.mode.is_negative:
            answer = response.json()
            is_told = any("error" in result for result in answer.get("results", ()))
            assert is_told, f"taken though it does not fit: {answer}"
        return None
    return negative_data_rejection(ctx, response, case)


@schemathesis.check
def what_was_removed_is_gone(ctx, response, case):
    """As `use_after_free`; but a key is revoked and a timer cancelled, and both can still be read for the record."""
    if case.operation.path.startswith(("/v1/keys", "/v1/timers")):
        return None
    return use_after_free(ctx, response, case)
