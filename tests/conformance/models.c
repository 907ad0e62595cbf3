/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's own models, for tests/conformance/models: reads arrays [model, value] from standard input, "GlobalContext", "Extensions" or
 * a hook, and answers each with a map: `model`, what the model would hold, or nil; and the pairs of the ValidationError.
 */

#include <stdio.h>

#include "pipeline/models.h"

static void answer(const struct lax_type *model, struct mp value, struct buf *buf) {
        CLEANUP_INVALID struct invalid invalid = {0};
        CLEANUP_BUF struct buf held = {0};
        size_t map, n = 1;

        lax_read(model, value, &held, &invalid);
        map = mp_map_begin(buf);
        mp_put_str(buf, "model");
        if (invalid.n == 0) {
                mp_put_raw(buf, (struct mp){held.data, held.len});
        } else {
                mp_put_nil(buf);
                n += invalid_put(&invalid, model->name, buf);
        }
        mp_map_end(buf, map, n);
}

static const struct lax_type *find_model(struct mp name) {
        struct mp_cur cur = mp_cur(name);
        struct mp hook = {0};

        (void)mp_read_str(&cur, &hook);
        if (mp_eq_str(name, "GlobalContext"))
                return &model_global_context;
        return mp_eq_str(name, "Extensions") ? &model_extensions : model_payload(hook);
}

int main(void) {
        CLEANUP_BUF struct buf in = {0}, out = {0};
        struct mp name, value;
        struct mp_cur cur;
        uint32_t n;

        for (size_t got = 1; got > 0;) {
                uint8_t *to = buf_reserve(&in, 65536);

                got = to ? fread(to, 1, 65536, stdin) : 0;
                in.len += got;
        }
        cur = mp_cur((struct mp){in.data, in.len});
        while (mp_read_array(&cur, &n) && n == 2 && mp_read_any(&cur, &name) && mp_read_any(&cur, &value)) {
                const struct lax_type *model = find_model(name);

                if (!model)
                        return 1;
                answer(model, value, &out);
        }
        return fwrite(out.data, 1, out.len, stdout) == out.len && cur.at == cur.end ? 0 : 1;
}
