/*
 * Checks the C library from C: the header's layout, the conformance list, and the contract of every function.
 *
 * Usage: conformance CASES PAGE OFFSET_NS. CASES holds one case a line, written by tests/c_programs.rs; PAGE is a
 * synchronized page whose corrected time is the system clock plus OFFSET_NS. Compiles as C11 and as C++17.
 */
#include "chronotick.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The page as docs/formats/clock-page.md draws it; the header is held to it here. */
#define AT(field, offset) \
    static_assert(offsetof(struct chronotick_page, field) == (offset), #field " is not where the format says")
AT(corrected_timestamp, 0);
AT(system_timestamp, 8);
AT(offset_correction, 16);
AT(drift_rate, 24);
AT(offset_uncertainty, 32);
AT(drift_uncertainty, 40);
AT(prediction_time, 48);
AT(valid_until, 56);
AT(confidence, 64);
AT(sequence, 68);
AT(flags, 72);
AT(source, 76);
AT(measurement_count, 80);
AT(magic, 84);
AT(anchor_clock, 87);
AT(last_ntp_sync, 88);
AT(daemon_uptime, 96);
AT(total_corrections, 104);
AT(max_error, 108);
AT(average_latency_ms, 112);
AT(anchor_rate, 116);
AT(anchor, 120);
static_assert(sizeof(struct chronotick_page) == 128, "a page is 128 bytes");
static_assert(CHRONOTICK_PAGE_SIZE == 128, "a page is 128 bytes");
#ifdef __cplusplus
static_assert(alignof(struct chronotick_page) == 64, "a page is aligned to a cache line");
#else
static_assert(_Alignof(struct chronotick_page) == 64, "a page is aligned to a cache line");
#endif

static_assert(sizeof(struct chronotick_reading) == 80, "fixed layout");
static_assert(offsetof(struct chronotick_reading, corrected_ns) == 0, "fixed layout");
static_assert(offsetof(struct chronotick_reading, earliest_ns) == 8, "fixed layout");
static_assert(offsetof(struct chronotick_reading, latest_ns) == 16, "fixed layout");
static_assert(offsetof(struct chronotick_reading, system_ns) == 24, "fixed layout");
static_assert(offsetof(struct chronotick_reading, age_ns) == 32, "fixed layout");
static_assert(offsetof(struct chronotick_reading, drift_rate) == 40, "fixed layout");
static_assert(offsetof(struct chronotick_reading, offset_uncertainty) == 48, "fixed layout");
static_assert(offsetof(struct chronotick_reading, drift_uncertainty) == 56, "fixed layout");
static_assert(offsetof(struct chronotick_reading, confidence) == 64, "fixed layout");
static_assert(offsetof(struct chronotick_reading, status) == 68, "fixed layout");
static_assert(offsetof(struct chronotick_reading, source) == 72, "fixed layout");
static_assert(offsetof(struct chronotick_reading, reserved) == 76, "fixed layout");
static_assert(sizeof(struct chronotick_waited) == 88, "fixed layout");
static_assert(offsetof(struct chronotick_waited, late_by_ns) == 80, "fixed layout");
static_assert(sizeof(struct chronotick_clocks) == 40, "fixed layout");
static_assert(offsetof(struct chronotick_clocks, has_counter) == 32, "fixed layout");
static_assert(sizeof(chronotick_error) == 4 && sizeof(chronotick_status) == 4, "fixed width");

/* Numbers that are never reused. */
static_assert(CHRONOTICK_OK == 0 && CHRONOTICK_ERROR_INVALID_ARGUMENT == 1, "errors keep their numbers");
static_assert(CHRONOTICK_ERROR_NOT_RUNNING == 2 && CHRONOTICK_ERROR_INTERNAL == 14, "errors keep their numbers");
static_assert(CHRONOTICK_STATUS_SYNCHRONIZED == 0 && CHRONOTICK_STATUS_NO_DATA == 6, "statuses keep their numbers");
static_assert(CHRONOTICK_SOURCE_NO_DATA == 0 && CHRONOTICK_SOURCE_FUSION == 4, "sources keep their numbers");
static_assert(CHRONOTICK_FLAG_VALID == 0x01 && CHRONOTICK_FLAG_AUTHENTICATED == 0x400, "flags keep their bits");

#define SECOND_NS INT64_C(1000000000)

static const char *doing = "starting";

#define CHECK(condition)                                                               \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, doing, #condition); \
            exit(1);                                                                   \
        }                                                                              \
    } while (0)

static int64_t number(const char *text)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    CHECK(errno == 0 && *text != '\0' && *end == '\0');
    return value;
}

/* "-" stands for what is absent. */
static int64_t number_or(const char *text, int64_t absent)
{
    return strcmp(text, "-") == 0 ? absent : number(text);
}

static size_t bytes(const char *hex, uint8_t *out, size_t room)
{
    size_t length = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;
    CHECK(length <= room);
    for (size_t i = 0; i < length; i++) {
        unsigned byte;
        CHECK(sscanf(hex + 2 * i, "%2x", &byte) == 1);
        out[i] = (uint8_t)byte;
    }
    return length;
}

static int near(int64_t a, int64_t b, int64_t tolerance)
{
    return a <= b + tolerance && b <= a + tolerance;
}

/* One line: name, page, four clocks, tolerance, then "error" and its word or "ok" and the reading's fields. */
static void run_case(char *line)
{
    enum { FIELDS = 16 };
    const char *field[FIELDS] = {0};
    int count = 0;
    for (char *next = line; next != NULL && *next != '\0' && count < FIELDS; count++) {
        field[count] = next;
        next = strpbrk(next, "\t\n");
        if (next != NULL)
            *next++ = '\0';
    }
    CHECK(count >= 9);
    doing = field[0];

    uint8_t page[256];
    size_t length = bytes(field[1], page, sizeof page);
    struct chronotick_clocks clocks;
    memset(&clocks, 0, sizeof clocks);
    clocks.realtime_ns = number(field[2]);
    clocks.boottime_ns = number(field[3]);
    clocks.monotonic_raw_ns = number(field[4]);
    clocks.has_counter = strcmp(field[5], "-") != 0;
    clocks.counter = number_or(field[5], 0);
    int64_t tolerance = number(field[6]);

    struct chronotick_reading got, untouched;
    memset(&got, 0x5a, sizeof got);
    memset(&untouched, 0x5a, sizeof untouched);
    chronotick_error code = chronotick_evaluate(page, length, &clocks, &got);
    if (strcmp(field[7], "error") == 0) {
        CHECK(code != CHRONOTICK_OK);
        CHECK(strcmp(chronotick_error_name(code), field[8]) == 0);
        CHECK(memcmp(&got, &untouched, sizeof got) == 0);
        return;
    }
    CHECK(code == CHRONOTICK_OK && count == FIELDS);
    CHECK(strcmp(chronotick_status_name(got.status), field[8]) == 0);
    CHECK(strcmp(chronotick_source_name(got.source), field[9]) == 0);
    CHECK(near(got.corrected_ns, number(field[10]), tolerance));
    CHECK(got.system_ns == number(field[11]));
    CHECK(got.earliest_ns == number_or(field[12], INT64_MIN));
    CHECK(got.latest_ns == number_or(field[13], INT64_MAX));
    CHECK(near(chronotick_sigma_ns(&got), number(field[14]), tolerance > 0 ? 1 : 0));
    CHECK(got.confidence == strtof(field[15], NULL));
    CHECK(got.reserved == 0);
}

static int run_cases(const char *path)
{
    static char line[4096];
    int count = 0;
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    for (; fgets(line, sizeof line, file) != NULL; count++)
        run_case(line);
    fclose(file);
    return count;
}

static void check_arguments(const char *page_path)
{
    doing = "refusing bad arguments";
    struct chronotick_client *client = NULL;
    struct chronotick_reading reading;
    struct chronotick_waited waited;
    struct chronotick_clocks clocks;
    chronotick_status status;
    uint8_t page[CHRONOTICK_PAGE_SIZE] = {0};
    memset(&clocks, 0, sizeof clocks);

    CHECK(chronotick_client_open(page_path, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(strcmp(chronotick_last_error_message(), "out is NULL: pass a valid pointer") == 0);
    CHECK(chronotick_now(NULL, &reading) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_client_status(NULL, &status) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_wait_until(NULL, 0, 0, &waited) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_evaluate(NULL, 128, &clocks, &reading) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_evaluate(page, 128, NULL, &reading) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_evaluate(page, 128, &clocks, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_evaluate(NULL, 0, &clocks, &reading) == CHRONOTICK_ERROR_WRONG_SIZE);
    CHECK(chronotick_evaluate(page, SIZE_MAX, &clocks, &reading) == CHRONOTICK_ERROR_WRONG_SIZE);
    CHECK(chronotick_client_close(NULL) == CHRONOTICK_OK);

    CHECK(chronotick_client_open("a/b", &client) == CHRONOTICK_ERROR_BAD_NAME && client == NULL);
    CHECK(chronotick_client_open("\xff\xfe", &client) == CHRONOTICK_ERROR_BAD_NAME && client == NULL);
    CHECK(chronotick_client_open("/nowhere/no_page", &client) == CHRONOTICK_ERROR_NOT_RUNNING && client == NULL);
    CHECK(strstr(chronotick_last_error_message(), "Start it with: chronotick-daemon run") != NULL);
    CHECK(chronotick_client_open("/dev/", &client) == CHRONOTICK_ERROR_NOT_A_FILE && client == NULL);

    CHECK(chronotick_client_open(page_path, &client) == CHRONOTICK_OK && client != NULL);
    CHECK(chronotick_now(client, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_now(NULL, &reading) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_now_ns(client, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_now_within(client, 0, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_now_within(client, -1, &reading) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_at(client, 0, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_at_system_time(client, 0, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_sigma_ns(NULL) == -1);
    CHECK(chronotick_compare(NULL, NULL, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_client_status(client, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_wait_until(client, 0, 0, NULL) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_wait_until(client, INT64_MAX, -1, &waited) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_client_close(client) == CHRONOTICK_OK);

    CHECK(strcmp(chronotick_error_name(CHRONOTICK_ERROR_ALREADY_PAST), "already_past") == 0);
    CHECK(strcmp(chronotick_error_name(4000000000u), "unknown") == 0);
    CHECK(chronotick_version()[0] != '\0');
}

static int64_t system_ns(void)
{
    struct timespec now;
    CHECK(timespec_get(&now, TIME_UTC) == TIME_UTC);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static int32_t cancel_after(void *context)
{
    int *calls_left = (int *)context;
    return (*calls_left)-- == 0;
}

static void check_live_page(const char *page_path, int64_t offset_ns)
{
    doing = "reading a live page";
    struct chronotick_client *client = NULL;
    struct chronotick_reading now;
    chronotick_status status;
    CHECK(chronotick_client_open(page_path, &client) == CHRONOTICK_OK);
    int64_t before = system_ns() + offset_ns;
    CHECK(chronotick_now(client, &now) == CHRONOTICK_OK);
    int64_t after = system_ns() + offset_ns;
    CHECK(now.status == CHRONOTICK_STATUS_SYNCHRONIZED && now.source == CHRONOTICK_SOURCE_NTP);
    CHECK(now.earliest_ns <= after && before <= now.latest_ns);
    CHECK(now.earliest_ns <= now.corrected_ns && now.corrected_ns <= now.latest_ns);
    CHECK(chronotick_client_status(client, &status) == CHRONOTICK_OK);
    CHECK(status == CHRONOTICK_STATUS_SYNCHRONIZED);

    doing = "asking in other ways";
    struct chronotick_reading other;
    int64_t now_ns = 0;
    chronotick_order order;
    CHECK(chronotick_now_ns(client, &now_ns) == CHRONOTICK_OK && now_ns >= now.corrected_ns);
    CHECK(chronotick_now_within(client, SECOND_NS, &other) == CHRONOTICK_OK && other.corrected_ns >= now_ns);
    CHECK(chronotick_now_within(client, 1, &other) == CHRONOTICK_ERROR_UNTRUSTED && other.corrected_ns >= now_ns);
    CHECK(chronotick_at(client, 10 * SECOND_NS, &other) == CHRONOTICK_OK);
    CHECK(other.corrected_ns >= now.corrected_ns + 10 * SECOND_NS);
    CHECK(other.latest_ns - other.corrected_ns > now.latest_ns - now.corrected_ns);
    CHECK(chronotick_compare(&now, &other, &order) == CHRONOTICK_OK && order == CHRONOTICK_ORDER_BEFORE);
    CHECK(chronotick_compare(&other, &now, &order) == CHRONOTICK_OK && order == CHRONOTICK_ORDER_AFTER);
    CHECK(chronotick_compare(&now, &now, &order) == CHRONOTICK_OK && order == CHRONOTICK_ORDER_UNKNOWN);
    CHECK(chronotick_at_system_time(client, now.system_ns, &other) == CHRONOTICK_OK);
    CHECK(other.corrected_ns == now.corrected_ns && other.age_ns == now.age_ns);

    doing = "waiting";
    struct chronotick_waited waited;
    int64_t target = now.corrected_ns + SECOND_NS / 5;
    CHECK(chronotick_wait_until(client, target, SECOND_NS, &waited) == CHRONOTICK_OK);
    CHECK(waited.late_by_ns >= 0 && waited.reading.corrected_ns - target == waited.late_by_ns);
    CHECK(chronotick_wait_until(client, target - 1, 0, &waited) == CHRONOTICK_ERROR_ALREADY_PAST);

    doing = "waiting, with a way out";
    int calls_left = 2;
    uint32_t reached = 2;
    memset(&waited, 0, sizeof waited);
    CHECK(chronotick_wait_until_or(client, INT64_MAX, 0, cancel_after, &calls_left, &waited, &reached) == CHRONOTICK_OK);
    CHECK(reached == 0 && waited.reading.corrected_ns == 0 && calls_left == -1);
    CHECK(chronotick_now_ns(client, &target) == CHRONOTICK_OK);
    target += SECOND_NS / 5;
    calls_left = -1;
    CHECK(chronotick_wait_until_or(client, target, SECOND_NS, cancel_after, &calls_left, &waited, &reached) == CHRONOTICK_OK);
    CHECK(reached == 1 && waited.reading.corrected_ns >= target);
    CHECK(chronotick_wait_until_or(client, 0, 0, NULL, NULL, &waited, &reached) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_wait_synchronized(client, 0, &other) == CHRONOTICK_OK && other.corrected_ns >= target);
    CHECK(chronotick_wait_synchronized(client, -1, &other) == CHRONOTICK_ERROR_INVALID_ARGUMENT);
    CHECK(chronotick_client_close(client) == CHRONOTICK_OK);
}

static void *read_often(void *argument)
{
    const struct chronotick_client *client = (const struct chronotick_client *)argument;
    struct chronotick_reading reading;
    int64_t last_ns = INT64_MIN;
    for (int i = 0; i < 20000; i++) {
        CHECK(chronotick_now(client, &reading) == CHRONOTICK_OK);
        CHECK(reading.status == CHRONOTICK_STATUS_SYNCHRONIZED && reading.corrected_ns >= last_ns);
        last_ns = reading.corrected_ns;
    }
    return NULL;
}

static void check_threads(const char *page_path)
{
    doing = "sharing one client among threads";
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct chronotick_client *client = NULL;
    CHECK(chronotick_client_open(page_path, &client) == CHRONOTICK_OK);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, read_often, client) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(chronotick_client_close(client) == CHRONOTICK_OK);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    check_arguments(argv[2]);
    check_live_page(argv[2], number(argv[3]));
    check_threads(argv[2]);
    printf("%d cases\n", run_cases(argv[1]));
    return 0;
}
