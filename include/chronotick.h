/*
 * chronotick: corrected time with a hard bound, read from the clock page in shared memory.
 *
 * The contract of these functions, and a complete program, are in ffi-c/README.md.
 * Written by `cargo xtask gen`; change the Rust sources, not this file.
 */

#ifndef CHRONOTICK_H
#define CHRONOTICK_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define CHRONOTICK_ALIGN(n) __attribute__((aligned(n)))
#else
#error "chronotick.h needs a compiler with __attribute__((aligned))"
#endif

/**
 * The object is exactly this long.
 */
#define CHRONOTICK_PAGE_SIZE 128

/**
 * The record may be used.
 */
#define CHRONOTICK_FLAG_VALID 1

/**
 * At least one NTP measurement was accepted.
 */
#define CHRONOTICK_FLAG_NTP_READY 2

/**
 * The drift models have been fitted.
 */
#define CHRONOTICK_FLAG_MODELS_READY 4

/**
 * Enough was measured for the correction to be trusted.
 */
#define CHRONOTICK_FLAG_WARMUP_COMPLETE 8

/**
 * No fresh measurement: coasting on the model.
 */
#define CHRONOTICK_FLAG_HOLDOVER 16

/**
 * The clock jumped, or the machine was moved or resumed: nothing may be trusted until it clears.
 */
#define CHRONOTICK_FLAG_DISRUPTED 32

/**
 * The system clock was stepped since `prediction_time`.
 */
#define CHRONOTICK_FLAG_STEPPED 64

/**
 * A leap second will be inserted at the end of the month.
 */
#define CHRONOTICK_FLAG_LEAP_INSERT 128

/**
 * A leap second will be deleted at the end of the month.
 */
#define CHRONOTICK_FLAG_LEAP_DELETE 256

/**
 * The servers smear leap seconds.
 */
#define CHRONOTICK_FLAG_SMEARED 512

/**
 * Every source in use is authenticated.
 */
#define CHRONOTICK_FLAG_AUTHENTICATED 1024

/**
 * What a function returns. Numbers are never reused.
 */
enum chronotick_error
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It worked, and the outputs are written.
     */
    CHRONOTICK_OK = 0,
    /**
     * An argument is not allowed, such as a NULL pointer.
     */
    CHRONOTICK_ERROR_INVALID_ARGUMENT = 1,
    /**
     * There is no clock page: the daemon does not run.
     */
    CHRONOTICK_ERROR_NOT_RUNNING = 2,
    /**
     * The page's name is neither one path component nor an absolute path.
     */
    CHRONOTICK_ERROR_BAD_NAME = 3,
    /**
     * The object is not a regular file.
     */
    CHRONOTICK_ERROR_NOT_A_FILE = 4,
    /**
     * The object, or the bytes given, are not 128 bytes long.
     */
    CHRONOTICK_ERROR_WRONG_SIZE = 5,
    /**
     * The object belongs to neither root nor this user.
     */
    CHRONOTICK_ERROR_WRONG_OWNER = 6,
    /**
     * The operating system refused.
     */
    CHRONOTICK_ERROR_IO = 7,
    /**
     * The page holds something that is no clock page.
     */
    CHRONOTICK_ERROR_PAGE_CORRUPT = 8,
    /**
     * The page is newer than this library.
     */
    CHRONOTICK_ERROR_PAGE_VERSION = 9,
    /**
     * The page's anchor clock cannot be read here.
     */
    CHRONOTICK_ERROR_ANCHOR_UNAVAILABLE = 10,
    /**
     * The page is half written and nobody finishes it.
     */
    CHRONOTICK_ERROR_WRITER_DIED = 11,
    /**
     * The target of a wait has passed.
     */
    CHRONOTICK_ERROR_ALREADY_PAST = 12,
    /**
     * The clock is not to be trusted now.
     */
    CHRONOTICK_ERROR_UNTRUSTED = 13,
    /**
     * A defect of this library.
     */
    CHRONOTICK_ERROR_INTERNAL = 14,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum chronotick_error chronotick_error;
#else
typedef uint32_t chronotick_error;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How far a reading can be trusted. Separate from the value; nobody may hide it.
 */
enum chronotick_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Measured, and within its time of validity.
     */
    CHRONOTICK_STATUS_SYNCHRONIZED = 0,
    /**
     * Measured, but not often enough yet.
     */
    CHRONOTICK_STATUS_WARMING_UP = 1,
    /**
     * No fresh measurement: coasting on the model, with a growing bound.
     */
    CHRONOTICK_STATUS_HOLDOVER = 2,
    /**
     * The clock jumped, or the machine was moved or resumed. Do not use the value.
     */
    CHRONOTICK_STATUS_DISRUPTED = 3,
    /**
     * Past its time of validity, or withdrawn by a daemon that stopped.
     */
    CHRONOTICK_STATUS_EXPIRED = 4,
    /**
     * An old page: a correction with a sigma but no hard bound.
     */
    CHRONOTICK_STATUS_LEGACY = 5,
    /**
     * A daemon is there but has measured nothing.
     */
    CHRONOTICK_STATUS_NO_DATA = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum chronotick_status chronotick_status;
#else
typedef uint32_t chronotick_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What the correction was computed from. The numbers are fixed: old readers raise on any other.
 */
enum chronotick_source
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Nothing measured yet.
     */
    CHRONOTICK_SOURCE_NO_DATA = 0,
    /**
     * NTP measurements alone.
     */
    CHRONOTICK_SOURCE_NTP = 1,
    /**
     * The short-term model.
     */
    CHRONOTICK_SOURCE_CPU_MODEL = 2,
    /**
     * The long-term model.
     */
    CHRONOTICK_SOURCE_GPU_MODEL = 3,
    /**
     * Both models, fused.
     */
    CHRONOTICK_SOURCE_FUSION = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum chronotick_source chronotick_source;
#else
typedef uint32_t chronotick_source;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What two readings tell of the order of their moments.
 */
enum chronotick_order
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * The bounds touch: nobody can tell.
     */
    CHRONOTICK_ORDER_UNKNOWN = 0,
    /**
     * The first is certainly earlier.
     */
    CHRONOTICK_ORDER_BEFORE = 1,
    /**
     * The first is certainly later.
     */
    CHRONOTICK_ORDER_AFTER = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum chronotick_order chronotick_order;
#else
typedef uint32_t chronotick_order;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * An attached clock page. One client may be used by any number of threads at once.
 */
struct chronotick_client;

/**
 * The time, as a clock page tells it. Look at the status before using the value.
 */
struct chronotick_reading {
    /**
     * The best estimate of the true time, Unix ns.
     */
    int64_t corrected_ns;
    /**
     * The true time is not before this, Unix ns; INT64_MIN when there is no bound.
     */
    int64_t earliest_ns;
    /**
     * The true time is not after this, Unix ns; INT64_MAX when there is no bound.
     */
    int64_t latest_ns;
    /**
     * The system clock at the reading, Unix ns, as the page's anchor tells it.
     */
    int64_t system_ns;
    /**
     * How old the correction is, ns: time since its prediction_time.
     */
    int64_t age_ns;
    /**
     * The rate of the correction, s/s.
     */
    double drift_rate;
    /**
     * One standard deviation of the correction when it was made, s; chronotick_sigma_ns gives that of the reading.
     */
    double offset_uncertainty;
    /**
     * One standard deviation of the rate, s/s.
     */
    double drift_uncertainty;
    /**
     * The daemon's confidence, 0 to 1.
     */
    float confidence;
    /**
     * How far to trust it.
     */
    chronotick_status status;
    /**
     * What the correction was computed from.
     */
    chronotick_source source;
    /**
     * Zero.
     */
    uint32_t reserved;
};

/**
 * How a wait ended.
 */
struct chronotick_waited {
    /**
     * The reading that found the target reached.
     */
    struct chronotick_reading reading;
    /**
     * Corrected time at the wake-up minus the target, ns; never negative.
     */
    int64_t late_by_ns;
};

/**
 * Clock readings to evaluate a page at.
 */
struct chronotick_clocks {
    /**
     * CLOCK_REALTIME, Unix ns.
     */
    int64_t realtime_ns;
    /**
     * CLOCK_BOOTTIME, ns.
     */
    int64_t boottime_ns;
    /**
     * CLOCK_MONOTONIC_RAW, ns.
     */
    int64_t monotonic_raw_ns;
    /**
     * The hardware counter, ticks; looked at only when has_counter is not 0.
     */
    int64_t counter;
    /**
     * Not 0 when counter was read.
     */
    uint32_t has_counter;
    /**
     * Set to zero.
     */
    uint32_t reserved;
};

/**
 * The page, field by field, as C lays it out. Only its offsets are used: memory is accessed by atomic words.
 */
struct CHRONOTICK_ALIGN(64) chronotick_page {
    /**
     * Unix s; corrected time at the write.
     */
    double corrected_timestamp;
    /**
     * Unix s; CLOCK_REALTIME at the write.
     */
    double system_timestamp;
    /**
     * s; corrected minus system at `prediction_time`.
     */
    double offset_correction;
    /**
     * s/s; rate of that offset.
     */
    double drift_rate;
    /**
     * s; one standard deviation of the offset.
     */
    double offset_uncertainty;
    /**
     * s/s; one standard deviation of the rate.
     */
    double drift_uncertainty;
    /**
     * Unix s on CLOCK_REALTIME; a whole second in version 2.
     */
    double prediction_time;
    /**
     * Unix s.
     */
    double valid_until;
    /**
     * 0 to 1.
     */
    float confidence;
    /**
     * The seqlock counter.
     */
    uint32_t sequence;
    /**
     * CHRONOTICK_FLAG_..., ored; bits 16-23 disruption count, 24-31 TAI minus UTC.
     */
    uint32_t flags;
    /**
     * A number of enum chronotick_source.
     */
    uint32_t source;
    /**
     * Accepted measurements.
     */
    uint32_t measurement_count;
    /**
     * 'C', 'T', 2; anything else is an old page.
     */
    uint8_t magic[3];
    /**
     * Low nibble: 0 none, 1 BOOTTIME, 2 MONOTONIC_RAW, 3 counter; high nibble: counter shift.
     */
    uint8_t anchor_clock;
    /**
     * Unix s.
     */
    double last_ntp_sync;
    /**
     * s.
     */
    double daemon_uptime;
    /**
     * Pages published.
     */
    uint32_t total_corrections;
    /**
     * s; hard bound on the error at `prediction_time`.
     */
    float max_error;
    /**
     * ms; mean time from due to published.
     */
    float average_latency_ms;
    /**
     * Meaning depends on the anchor clock.
     */
    uint32_t anchor_rate;
    /**
     * Reading of the anchor clock at `prediction_time`.
     */
    int64_t anchor;
};

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The message of this thread's last failed call: what happened and what to do. Empty before the first failure. The
 * string belongs to the library and is valid until this thread calls a function of the library again, or ends.
 */
const char *chronotick_last_error_message(void);

/**
 * Attaches the clock page with this name or absolute path. NULL means $CHRONOTICK_SHM, or chronotick_shm without it.
 * The client in *out must be given to chronotick_client_close.
 *
 * # Safety
 * `name_or_null` is NULL or a string that ends with a NUL; `out` is NULL or writable.
 */
chronotick_error chronotick_client_open(const char *name_or_null,
                                        struct chronotick_client **out);

/**
 * Detaches the page and frees the client. No other thread may use the client any more. NULL is allowed and does
 * nothing.
 *
 * # Safety
 * `client` is NULL or came from chronotick_client_open and was not closed before.
 */
chronotick_error chronotick_client_close(struct chronotick_client *client);

/**
 * Reads the time now, with its bound, sigma and status. Waits for no lock, and makes no system call
 * while the clock is trusted.
 *
 * # Safety
 * `client` is NULL or an open client; `out` is NULL or writable.
 */
chronotick_error chronotick_now(const struct chronotick_client *client, struct chronotick_reading *out);

/**
 * Reads the time now as Unix ns alone. Returns CHRONOTICK_ERROR_UNTRUSTED where the status is disrupted, expired or
 * no_data, since a bare number cannot carry a status.
 *
 * # Safety
 * `client` is NULL or an open client; `out` is NULL or writable.
 */
chronotick_error chronotick_now_ns(const struct chronotick_client *client,
                                   int64_t *out);

/**
 * Reads the time now if it is known to within max_error_ns on each side, else returns CHRONOTICK_ERROR_UNTRUSTED.
 *
 * # Safety
 * `client` is NULL or an open client; `out` is NULL or writable.
 */
chronotick_error chronotick_now_within(const struct chronotick_client *client,
                                       int64_t max_error_ns,
                                       struct chronotick_reading *out);

/**
 * The reading for the moment from_now_ns away, past (negative) or future. Its bound grows with the distance from the
 * correction; its status is the one that holds then if nothing is published until then.
 *
 * # Safety
 * `client` is NULL or an open client; `out` is NULL or writable.
 */
chronotick_error chronotick_at(const struct chronotick_client *client,
                               int64_t from_now_ns,
                               struct chronotick_reading *out);

/**
 * The reading for the moment at which the system clock showed, or will show, system_unix_ns. It holds where the system
 * clock was not stepped between that moment and the page's prediction_time.
 *
 * # Safety
 * `client` is NULL or an open client; `out` is NULL or writable.
 */
chronotick_error chronotick_at_system_time(const struct chronotick_client *client,
                                           int64_t system_unix_ns,
                                           struct chronotick_reading *out);

/**
 * Reads how far the clock can be trusted now.
 *
 * # Safety
 * `client` is NULL or an open client; `out` is NULL or writable.
 */
chronotick_error chronotick_client_status(const struct chronotick_client *client, chronotick_status *out);

/**
 * Blocks the calling thread until corrected time reaches target_unix_ns. With a tolerance below a millisecond the last
 * 200 us are spun, otherwise they are slept. Returns CHRONOTICK_ERROR_ALREADY_PAST when the target has passed before
 * the call, and CHRONOTICK_ERROR_UNTRUSTED when the clock can no longer be trusted; a wait survives holdover.
 *
 * # Safety
 * `client` is NULL or a client that stays open during the call; `out` is NULL or writable.
 */
chronotick_error chronotick_wait_until(const struct chronotick_client *client,
                                       int64_t target_unix_ns,
                                       int64_t tolerance_ns,
                                       struct chronotick_waited *out);

/**
 * As chronotick_wait_until, and asks cancelled(context) at the start and every 50 ms or sooner, on the calling thread.
 * When it returns not 0, the wait ends with CHRONOTICK_OK, *reached is 0 and *out is not written; when the target is
 * reached, *reached is 1.
 *
 * # Safety
 * `client` is NULL or a client that stays open during the call; `cancelled` is NULL or may be called with `context`, and
 * returns normally; `out` and `reached` are NULL or writable.
 */
chronotick_error chronotick_wait_until_or(const struct chronotick_client *client,
                                          int64_t target_unix_ns,
                                          int64_t tolerance_ns,
                                          int32_t (*cancelled)(void *context),
                                          void *context,
                                          struct chronotick_waited *out,
                                          uint32_t *reached);

/**
 * Blocks until the clock is synchronized or in holdover, and writes the first such reading. Returns
 * CHRONOTICK_ERROR_UNTRUSTED when there is none within timeout_ns.
 *
 * # Safety
 * `client` is NULL or a client that stays open during the call; `out` is NULL or writable.
 */
chronotick_error chronotick_wait_synchronized(const struct chronotick_client *client,
                                              int64_t timeout_ns,
                                              struct chronotick_reading *out);

/**
 * Computes the reading that a client would make of a page with these bytes at these clock readings. Reads no clock.
 *
 * # Safety
 * `page` is NULL or points to `length` readable bytes; `clocks` is NULL or readable; `out` is NULL or writable.
 */
chronotick_error chronotick_evaluate(const uint8_t *page,
                                     size_t length,
                                     const struct chronotick_clocks *clocks,
                                     struct chronotick_reading *out);

/**
 * One standard deviation of a reading, ns; -1 when `reading` is NULL. Worked out here and not with every reading, since
 * its square root takes as long as reading a clock.
 *
 * # Safety
 * `reading` is NULL or readable.
 */
int64_t chronotick_sigma_ns(const struct chronotick_reading *reading);

/**
 * Tells which of two readings was certainly taken first, if that is certain: their bounds must not touch.
 *
 * # Safety
 * `first` and `second` are NULL or readable; `out` is NULL or writable.
 */
chronotick_error chronotick_compare(const struct chronotick_reading *first,
                                    const struct chronotick_reading *second,
                                    chronotick_order *out);

/**
 * The word for an error number, the same in every language, such as "not_running"; "ok" for 0 and "unknown" for a number
 * that is not in the list. The string is static.
 */
const char *chronotick_error_name(uint32_t code);

/**
 * The word for a status, such as "synchronized"; "unknown" for a number that is not in the list. The string is static.
 */
const char *chronotick_status_name(uint32_t status);

/**
 * The word for a source, such as "ntp"; "unknown" for a number that is not in the list. The string is static.
 */
const char *chronotick_source_name(uint32_t source);

/**
 * The version of the library, such as "0.1.0". The string is static.
 */
const char *chronotick_version(void);

/**
 * Tells whether an ed25519 key made this signature over these bytes: 1 when it did, 0 when it did not, -1 when a pointer
 * is NULL. `key` has 32 bytes, `signature` 64. docs/signing.md says which bytes are signed.
 *
 * # Safety
 * `key` is NULL or has 32 readable bytes, `signature` is NULL or has 64; `message` has `length` of them, or is NULL with
 * a `length` of 0.
 */
int32_t chronotick_verify_signature(const uint8_t *key,
                                    const uint8_t *message,
                                    size_t length,
                                    const uint8_t *signature);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CHRONOTICK_H */
