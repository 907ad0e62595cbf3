/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One table a level. A row names a slot and the capabilities of which one is enough; a row without any is open to all. Two slots
 * are maps with rows of their own: `security`, always there but emptied of what is not granted, and the `subject` in it.
 */

#include "pipeline/extensions.h"

#include <strings.h>

#define ANY_OF_MAX 6

struct slot {
        const char *name;
        const char *any_of[ANY_OF_MAX]; /* NULL-terminated; none: open */
        const struct slot *inner;       /* its own rows; NULL: whole or not at all */
};

static const struct slot subject_slots[] = {
        {.name = "id"},
        {.name = "type"},
        {.name = "roles", .any_of = {"read_roles"}},
        {.name = "teams", .any_of = {"read_teams"}},
        {.name = "claims", .any_of = {"read_claims"}},
        {.name = "permissions", .any_of = {"read_permissions"}},
        {0},
};

static const struct slot security_slots[] = {
        {.name = "objects"},
        {.name = "data"},
        {.name = "classification"},
        {.name = "labels", .any_of = {"read_labels", "append_labels"}},
        {.name = "subject",
         .any_of = {"read_subject", "read_roles", "read_teams", "read_claims", "read_permissions"},
         .inner = subject_slots},
        {0},
};

static const struct slot slots[] = {
        {.name = "request"},
        {.name = "provenance"},
        {.name = "completion"},
        {.name = "llm"},
        {.name = "framework"},
        {.name = "mcp"},
        {.name = "meta"},
        {.name = "custom"},
        {.name = "http", .any_of = {"read_headers", "write_headers"}},
        {.name = "agent", .any_of = {"read_agent"}},
        {.name = "delegation", .any_of = {"read_delegation", "append_delegation"}},
        {.name = "security", .inner = security_slots},
        {0},
};

static const struct slot *find_slot(const struct slot *rows, struct mp key) {
        for (; rows->name; rows++)
                if (mp_eq_str(key, rows->name))
                        return rows;
        return NULL;
}

static bool is_open(const struct slot *slot, const struct strlist *capabilities) {
        if (!slot->any_of[0])
                return true;
        for (size_t i = 0; i < ANY_OF_MAX && slot->any_of[i]; i++)
                if (strlist_has(capabilities, slot->any_of[i]))
                        return true;
        return false;
}

/* At most three levels deep, by the tables. */
static void put_slots(struct buf *buf, struct mp value, const struct slot *rows, const struct strlist *capabilities) {
        struct mp_cur cur = mp_cur(value);
        struct mp key, inner;
        size_t map, count = 0;
        uint32_t n;

        if (!rows || !mp_read_map(&cur, &n)) {
                mp_put_raw(buf, value);
                return;
        }
        map = mp_map_begin(buf);
        for (; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &inner); n--) {
                const struct slot *slot = find_slot(rows, key);

                if (!slot || !is_open(slot, capabilities))
                        continue;
                mp_put_raw(buf, key);
                put_slots(buf, inner, slot->inner, capabilities);
                count++;
        }
        mp_map_end(buf, map, count);
}

/* ---- Headers ---- */

/* Those that CPEX takes out of what it sends to a plugin in another process, and out of what comes back. */
static bool is_sensitive(struct mp key) {
        static const char *const names[] = {"authorization", "cookie", "set-cookie", "x-api-key"};
        struct mp_cur cur = mp_cur(key);
        struct mp name;

        if (!mp_read_str(&cur, &name) && !mp_read_bin(&cur, &name)) /* pydantic makes a str of either */
                return false;
        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (name.len == strlen(names[i]) && strncasecmp((const char *)name.data, names[i], name.len) == 0)
                        return true;
        return false;
}

/* `http` is {"headers": map}; CPEX 0.2 has one map each for request and response. */
static bool is_header_map(struct mp key) {
        return mp_eq_str(key, "headers") || mp_eq_str(key, "request_headers") || mp_eq_str(key, "response_headers");
}

enum level { LEVEL_EXTENSIONS, LEVEL_HTTP, LEVEL_HEADERS };

static void put_stripped(struct buf *buf, struct mp value, enum level level) {
        struct mp_cur cur = mp_cur(value);
        struct mp key, inner;
        size_t map, count = 0;
        uint32_t n;

        if (!mp_read_map(&cur, &n)) {
                mp_put_raw(buf, value);
                return;
        }
        map = mp_map_begin(buf);
        for (; n > 0 && mp_read_any(&cur, &key) && mp_read_any(&cur, &inner); n--) {
                bool deeper =
                        (level == LEVEL_EXTENSIONS && mp_eq_str(key, "http")) || (level == LEVEL_HTTP && is_header_map(key));

                if (level == LEVEL_HEADERS && is_sensitive(key))
                        continue;
                mp_put_raw(buf, key);
                if (deeper)
                        put_stripped(buf, inner, level + 1);
                else
                        mp_put_raw(buf, inner);
                count++;
        }
        mp_map_end(buf, map, count);
}

void extensions_put_stripped(struct buf *buf, struct mp extensions) {
        put_stripped(buf, extensions, LEVEL_EXTENSIONS);
}

/* ---- Slots ---- */

void extensions_put_filtered(struct buf *buf, struct mp extensions, const struct strlist *capabilities) {
        put_slots(buf, extensions, slots, capabilities);
}
