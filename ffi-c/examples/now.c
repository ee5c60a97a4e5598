/* Prints the corrected time, how far off it can be at most, and how far the clock is to be trusted. */
#include "chronotick.h"

#include <inttypes.h>
#include <stdio.h>

static int fail(const char *what, enum chronotick_error code)
{
    fprintf(stderr, "%s: %s: %s\n", what, chronotick_error_name(code), chronotick_last_error_message());
    return 1;
}

int main(void)
{
    struct chronotick_client *client = NULL;
    struct chronotick_reading now;
    enum chronotick_error code = chronotick_client_open(NULL, &client);
    if (code != CHRONOTICK_OK)
        return fail("cannot attach the clock page", code);

    code = chronotick_now(client, &now);
    if (code != CHRONOTICK_OK) {
        chronotick_client_close(client);
        return fail("cannot read the clock page", code);
    }
    printf("%" PRId64 " ns, %s, from %s\n", now.corrected_ns, chronotick_status_name(now.status),
           chronotick_source_name(now.source));
    if (now.latest_ns == INT64_MAX)
        printf("no bound\n");
    else
        printf("at most %" PRId64 " ns off\n", now.latest_ns - now.corrected_ns);

    chronotick_client_close(client);
    return 0;
}
