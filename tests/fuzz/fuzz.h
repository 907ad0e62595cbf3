/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the fuzz targets share. A target is one file with one function, which libFuzzer calls with bytes of its making, and
 * seeds.c with the files in seeds/. It says what must hold by CHECK(); the sanitizers see to the rest.
 */

#include <stdio.h>

#include "base/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define CHECK(condition)                                                                                     \
        do {                                                                                                 \
                if (!(condition)) {                                                                          \
                        (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                                             \
                }                                                                                            \
        } while (0)
