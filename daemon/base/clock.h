/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Time. Every point and span of time in cpexd is in microseconds on the monotonic clock, has this type and a name that ends
 * in `_usec`; only log lines show the wall clock.
 */

#include <stdint.h>
#include <sys/time.h>
#include <time.h>

typedef uint64_t usec_t;

#define USEC_PER_MSEC ((usec_t)1000)
#define USEC_PER_SEC ((usec_t)1000000)
#define USEC_INFINITY UINT64_MAX

static inline uint64_t clock_now_nsec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline usec_t clock_now_usec(void) {
        return clock_now_nsec() / 1000;
}

static inline struct timeval usec_to_timeval(usec_t usec) {
        return (struct timeval){.tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_usec = (suseconds_t)(usec % USEC_PER_SEC)};
}
