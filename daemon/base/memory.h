/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How malloc() treats large blocks, in the daemon and in its workers.
 */

#include <malloc.h>

#define MEMORY_KEPT_BYTES (8 * 1024 * 1024)

/* Has blocks up to that size stay with the process when they are freed. A large message would else get its pages from the kernel, and give
 * them back, for each buffer that it passes through: half of its cost. */
static inline void memory_keep(void) {
#ifdef __GLIBC__
        (void)mallopt(M_MMAP_THRESHOLD, MEMORY_KEPT_BYTES);
        (void)mallopt(M_TRIM_THRESHOLD, MEMORY_KEPT_BYTES);
#endif
}
