/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The limit counts characters of Python text (pytext.h). Most calls never get that far: no value grows by more than a factor of ten when
 * written (`\U0001f600` for 4 bytes, `False, ` for one byte in a list), so a payload of less than a tenth of the limit passes by its
 * length alone.
 */

#include "pipeline/size.h"

#include "pipeline/pytext.h"

#define GROWTH_MAX 10

uint64_t payload_size_beyond(struct mp payload, const char **ret_what) {
        struct mp value, key;
        uint64_t total = 0;
        struct mp_cur cur;
        uint32_t n;

        if (payload.len < PAYLOAD_SIZE_MAX / GROWTH_MAX)
                return 0;
        if (mp_map_get(payload, "args", &value) && !mp_is_nil(value)) {
                *ret_what = "Payload";
                cur = mp_cur(value);
                if (mp_read_map(&cur, &n))
                        for (; n > 0 && mp_read_any(&cur, &key); n--)
                                pytext_count(&cur, &total);
        } else if (mp_map_get(payload, "result", &value)) {
                *ret_what = "Result";
                cur = mp_cur(value);
                pytext_count(&cur, &total);
        }
        return total > PAYLOAD_SIZE_MAX ? total : 0;
}
