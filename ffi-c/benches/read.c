/*
 * Measures a reading of the clock page against the plain clock call, in paired batches on one core.
 *
 *     read KIND PAGE
 *
 * KIND is vdso or counter, after the clock that the page is anchored on. Subject and baseline alternate, batch by batch,
 * and the figures are medians: on a shared machine two runs one after the other differ by a factor of two. One JSON line.
 */
#define _GNU_SOURCE
#include "chronotick.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCHES = 401, CALLS = 2000 };

static struct chronotick_client *client;
static struct chronotick_reading reading;
static struct timespec realtime;

static double monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* ns for each call. */
static double batch_of_readings(void)
{
    double start = monotonic_ns();
    for (int i = 0; i < CALLS; i++) {
        if (chronotick_now(client, &reading) != CHRONOTICK_OK) {
            fprintf(stderr, "%s\n", chronotick_last_error_message());
            exit(1);
        }
    }
    return (monotonic_ns() - start) / CALLS;
}

static double batch_of_clock_calls(void)
{
    double start = monotonic_ns();
    for (int i = 0; i < CALLS; i++)
        clock_gettime(CLOCK_REALTIME, &realtime);
    return (monotonic_ns() - start) / CALLS;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, BATCHES, sizeof *values, compare);
    return values[BATCHES / 2];
}

int main(int argc, char **argv)
{
    static double values[BATCHES], baselines[BATCHES], ratios[BATCHES];
    cpu_set_t one_core;
    if (argc != 3 || (strcmp(argv[1], "vdso") != 0 && strcmp(argv[1], "counter") != 0)) {
        fprintf(stderr, "usage: read vdso|counter PAGE\n");
        return 2;
    }
    /* Where the kernel refuses, the figures are noisier, that is all. */
    CPU_ZERO(&one_core);
    CPU_SET(sched_getcpu(), &one_core);
    sched_setaffinity(0, sizeof one_core, &one_core);

    if (chronotick_client_open(argv[2], &client) != CHRONOTICK_OK) {
        fprintf(stderr, "%s\n", chronotick_last_error_message());
        return 1;
    }
    batch_of_readings();
    batch_of_clock_calls();
    for (int i = 0; i < BATCHES; i++) {
        values[i] = batch_of_readings();
        baselines[i] = batch_of_clock_calls();
        ratios[i] = values[i] / baselines[i];
    }
    printf("{\"name\":\"read.c.%s\",\"value\":%.2f,\"unit\":\"ns\",\"baseline\":\"clock_gettime(CLOCK_REALTIME)\","
           "\"baseline_value\":%.2f,\"ratio\":%.3f}\n",
           argv[1], median(values), median(baselines), median(ratios));
    chronotick_client_close(client);
    return 0;
}
