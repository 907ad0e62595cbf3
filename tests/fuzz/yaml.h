/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What holds for a reading of either file.
 */

#include "config/load.h"
#include "fuzz.h"

/* `config`: what *ret became. Frees the complaints. */
static inline void check_reading(int r, const void *config, struct diags *diags, const uint8_t *data, size_t len) {
        size_t lines = 1;

        for (size_t i = 0; i < len; i++)
                lines += data[i] == '\n' || data[i] == '\r' || data[i] >= 0x80; /* YAML has line ends beyond ASCII */
        CHECK(r == 0 ? config && diags->errors == 0 : r == -EINVAL && !config && diags->errors > 0);
        for (size_t i = 0; i < diags->n; i++) {
                CHECK(diags->items[i].line <= lines + 1);
                for (const char *c = diags->items[i].text; *c; c++)
                        CHECK((unsigned char)*c >= ' ' && *c != 0x7f);
        }
        diags_done(diags);
}
