/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A line hangs in two lists: that of its ring, by which it goes, and that of all lines, by which whoever wants all reads them in order. It is
 * counted in both, without a gap. So the number of lines that a reader has missed is a difference, and nobody has to keep it.
 *
 * Names of plugins come from configurations, of which there may be many over time: the ring that was written to longest ago goes when
 * there are too many.
 */

#include "admin/logs.h"

#define RINGS_MAX 1024
#define ANSWER_BYTES ((size_t)256 << 10)
#define REQUEST_ID_BYTES ((size_t)256)

struct line {
        TAILQ_ENTRY(line) in_all, in_ring;
        struct ring *ring;
        uint64_t number, own_number; /* among all, and in its ring; from 1 */
        uint64_t time_usec;          /* since 1970 */
        enum log_level level;
        pid_t worker;        /* 0: none */
        uint64_t generation; /* 0: none yet */
        size_t text_len, id_len;
        char bytes[]; /* the text, the request's id */
};
TAILQ_HEAD(line_list, line);

struct ring {
        TAILQ_ENTRY(ring) link;
        struct line_list lines;
        size_t bytes;
        uint64_t n;    /* lines so far */
        char plugin[]; /* "": none, the daemon itself */
};
TAILQ_HEAD(ring_list, ring);

struct logs {
        const struct service *service;
        struct line_list all;
        uint64_t n;
        struct ring_list rings; /* the one written to last comes first */
        unsigned n_rings;
        size_t keep_bytes; /* of each ring */
        struct event *news;
        void (*on_news)(void *data);
        void *data;
};

/* ---- Keeping ---- */

static size_t cost(const struct line *line) {
        return sizeof(*line) + line->text_len + line->id_len;
}

static void drop_first(struct logs *logs, struct ring *ring) {
        struct line *line = TAILQ_FIRST(&ring->lines);

        ring->bytes -= cost(line);
        TAILQ_REMOVE(&ring->lines, line, in_ring);
        TAILQ_REMOVE(&logs->all, line, in_all);
        free(line);
}

static void ring_free(struct logs *logs, struct ring *ring) {
        while (!TAILQ_EMPTY(&ring->lines))
                drop_first(logs, ring);
        TAILQ_REMOVE(&logs->rings, ring, link);
        logs->n_rings--;
        free(ring);
}

static struct ring *find_ring(const struct logs *logs, const char *plugin) {
        struct ring *ring;

        TAILQ_FOREACH(ring, &logs->rings, link)
                if (str_eq(ring->plugin, plugin))
                        break;
        return ring;
}

/* Return: the plugin's ring, a new one where it has none, which is now the one written to last; NULL: no memory. */
static struct ring *use_ring(struct logs *logs, const char *plugin) {
        struct ring *ring = find_ring(logs, plugin);

        if (ring) {
                TAILQ_REMOVE(&logs->rings, ring, link);
        } else {
                size_t len = strlen(plugin) + 1;

                ring = calloc(1, sizeof(*ring) + len);
                if (!ring)
                        return NULL;
                memcpy(ring->plugin, plugin, len);
                TAILQ_INIT(&ring->lines);
                if (logs->n_rings++ == RINGS_MAX)
                        ring_free(logs, TAILQ_LAST(&logs->rings, ring_list));
        }
        TAILQ_INSERT_HEAD(&logs->rings, ring, link);
        return ring;
}

static struct line *line_new(struct mp text, struct mp id) {
        struct line *line = calloc(1, sizeof(*line) + text.len + id.len);

        if (!line)
                return NULL;
        line->text_len = text.len;
        line->id_len = id.len;
        memcpy(line->bytes, text.data, text.len);
        if (id.len > 0)
                memcpy(line->bytes + text.len, id.data, id.len);
        return line;
}

static void keep(struct logs *logs, struct ring *ring, struct line *line) {
        line->ring = ring;
        ring->bytes += cost(line);
        TAILQ_INSERT_TAIL(&logs->all, line, in_all);
        TAILQ_INSERT_TAIL(&ring->lines, line, in_ring);
}

/* What there is no memory for counts as lost. */
static void on_line(void *data, enum log_level level, const struct log_scope *scope, const char *text) {
        struct logs *logs = data;
        const struct generation *generation = service_newest(logs->service); /* at the very end there is none */
        struct ring *ring = use_ring(logs, scope->plugin ? scope->plugin : "");
        struct mp id = {(const uint8_t *)scope->request_id, scope->request_id ? MIN(scope->request_id_len, REQUEST_ID_BYTES) : 0};
        struct line *line = ring ? line_new((struct mp){(const uint8_t *)text, strlen(text)}, id) : NULL;
        struct timespec now;

        if (generation)
                logs->keep_bytes = generation->daemon->log_keep_bytes;
        logs->n++;
        if (ring)
                ring->n++;
        if (line) {
                (void)clock_gettime(CLOCK_REALTIME, &now);
                line->time_usec = (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
                line->level = level;
                line->worker = scope->worker;
                line->generation = scope->generation;
                line->number = logs->n;
                line->own_number = ring->n;
                keep(logs, ring, line);
        }
        while (ring && ring->bytes > logs->keep_bytes)
                drop_first(logs, ring);
        event_active(logs->news, EV_TIMEOUT, 0);
}

/* ---- What is asked for ---- */

const char *logs_query_read(struct mp params, struct logs_query *ret) {
        struct logs_query query = {.lines = LOGS_LINES_MAX};
        struct mp plugin, value;
        struct mp_cur cur;

        if (mp_map_get(params, "lines", &value)) {
                cur = mp_cur(value);
                if (!mp_read_uint(&cur, &query.lines))
                        return "lines: must be an integer that is not negative";
                query.lines = MIN(query.lines, (uint64_t)LOGS_LINES_MAX);
        }
        query.has_after = mp_map_get(params, "after", &value);
        if (query.has_after) {
                cur = mp_cur(value);
                if (!mp_read_uint(&cur, &query.after))
                        return "after: must be what `next` was in an answer";
        }
        if (mp_map_get(params, "follow", &value)) {
                cur = mp_cur(value);
                if (!mp_read_bool(&cur, &query.follow))
                        return "follow: must be a boolean";
        }
        if (query.follow && (!query.has_after || query.lines == 0))
                return "follow: needs `after`, and `lines` above 0";
        if (mp_map_get(params, "plugin", &plugin) && !mp_is_nil(plugin) && !(query.plugin = mp_dup_str(plugin)))
                return "plugin: must be a string";
        *ret = query;
        return NULL;
}

void logs_query_done(struct logs_query *query) {
        free(query->plugin);
}

/* ---- Reading: with `ring` its lines, without all ---- */

static struct line *last_line(const struct logs *logs, const struct ring *ring) {
        return ring ? TAILQ_LAST(&ring->lines, line_list) : TAILQ_LAST(&logs->all, line_list);
}

static struct line *line_before(const struct line *line, const struct ring *ring) {
        return ring ? TAILQ_PREV(line, line_list, in_ring) : TAILQ_PREV(line, line_list, in_all);
}

static struct line *line_after(const struct line *line, const struct ring *ring) {
        return ring ? TAILQ_NEXT(line, in_ring) : TAILQ_NEXT(line, in_all);
}

static uint64_t number_of(const struct line *line, const struct ring *ring) {
        return ring ? line->own_number : line->number;
}

static uint64_t newest(const struct logs *logs, const struct logs_query *query) {
        const struct ring *ring = query->plugin ? find_ring(logs, query->plugin) : NULL;

        return ring ? ring->n : query->plugin ? 0 : logs->n;
}

/* Return: the line to begin with; NULL: there is none. */
static const struct line *first_wanted(const struct logs *logs, const struct ring *ring, const struct logs_query *query,
                                       uint64_t after) {
        const struct line *first = NULL;
        uint64_t n = 0;
        size_t bytes = 0;

        for (const struct line *line = last_line(logs, ring); line && number_of(line, ring) > after;
             line = line_before(line, ring)) {
                bytes += cost(line);
                if (!query->has_after && (n++ == query->lines || bytes > ANSWER_BYTES))
                        break;
                first = line;
        }
        return first;
}

static void put_optional(struct buf *buf, const char *key, const char *text, size_t len) {
        mp_put_str(buf, key);
        if (len > 0)
                mp_put_text(buf, text, len);
        else
                mp_put_nil(buf);
}

static void put_line(const struct line *line, struct buf *buf) {
        mp_put_map(buf, 7);
        mp_put_str(buf, "time_usec");
        mp_put_uint(buf, line->time_usec);
        mp_put_str(buf, "level");
        mp_put_str(buf, log_level_name(line->level));
        put_optional(buf, "plugin", line->ring->plugin, strlen(line->ring->plugin));
        mp_put_str(buf, "worker");
        if (line->worker)
                mp_put_int(buf, line->worker);
        else
                mp_put_nil(buf);
        mp_put_str(buf, "generation");
        mp_put_uint(buf, line->generation);
        put_optional(buf, "request_id", line->bytes + line->text_len, line->id_len);
        mp_put_str(buf, "message");
        mp_put_text(buf, line->bytes, line->text_len);
}

bool logs_know(const struct logs *logs, const char *plugin) {
        return find_ring(logs, plugin) != NULL;
}

bool logs_has_news(const struct logs *logs, const struct logs_query *query) {
        return newest(logs, query) != query->after;
}

void logs_put(const struct logs *logs, const struct logs_query *query, struct buf *buf) {
        const struct ring *ring = query->plugin ? find_ring(logs, query->plugin) : NULL;
        uint64_t next = newest(logs, query), after = query->has_after && query->after <= next ? query->after : 0;
        const struct line *line = query->plugin && !ring ? NULL : first_wanted(logs, ring, query, after);
        size_t array, n = 0, begin = buf->len;

        mp_put_map(buf, 3);
        mp_put_str(buf, "lines");
        array = mp_array_begin(buf);
        for (; line && n < query->lines && buf->len - begin < ANSWER_BYTES; line = line_after(line, ring), n++)
                put_line(line, buf);
        mp_array_end(buf, array, n);
        if (line) /* there is more */
                next = number_of(line, ring) - 1;
        mp_put_str(buf, "next");
        mp_put_uint(buf, next);
        mp_put_str(buf, "lost");
        mp_put_uint(buf, query->has_after ? next - after - n : 0);
}

/* ---- Life ---- */

static void on_news_event(evutil_socket_t fd, short what, void *data) {
        struct logs *logs = data;

        (void)fd;
        (void)what;
        logs->on_news(logs->data);
}

int logs_new(struct logs **ret, struct event_base *base, const struct service *service, void (*on_news)(void *data), void *data) {
        struct logs *logs = calloc(1, sizeof(*logs));

        if (!logs || !(logs->news = event_new(base, -1, 0, on_news_event, logs))) {
                free(logs);
                return -ENOMEM;
        }
        logs->service = service;
        logs->on_news = on_news;
        logs->data = data;
        TAILQ_INIT(&logs->all);
        TAILQ_INIT(&logs->rings);
        log_set_tap(on_line, logs);
        *ret = logs;
        return 0;
}

struct logs *logs_free(struct logs *logs) {
        if (!logs)
                return NULL;
        log_set_tap(NULL, NULL);
        while (!TAILQ_EMPTY(&logs->rings))
                ring_free(logs, TAILQ_FIRST(&logs->rings));
        event_free(logs->news);
        free(logs);
        return NULL;
}

/* ---- An upgrade ---- */

static const struct carried ring_members[] = {CARRIED(UINT, struct ring, n)};
static const struct carried line_members[] = {
        CARRIED(UINT, struct line, number), CARRIED(UINT, struct line, own_number), CARRIED(UINT, struct line, time_usec),
        CARRIED(UINT, struct line, level),  CARRIED(INT, struct line, worker),      CARRIED(UINT, struct line, generation),
};

static void save_line(const struct line *line, struct carry *carry) {
        mp_put_map(&carry->out, ELEMENTS(line_members) + 3);
        carry_put(carry, line_members, ELEMENTS(line_members), line);
        mp_put_str(&carry->out, "plugin");
        mp_put_str(&carry->out, line->ring->plugin);
        mp_put_str(&carry->out, "text");
        mp_put_strn(&carry->out, line->bytes, line->text_len);
        mp_put_str(&carry->out, "id");
        mp_put_strn(&carry->out, line->bytes + line->text_len, line->id_len);
}

void logs_save(const struct logs *logs, struct carry *carry) {
        const struct line *line;
        const struct ring *ring;
        size_t array, n = 0;

        mp_put_map(&carry->out, 3);
        mp_put_str(&carry->out, "n");
        mp_put_uint(&carry->out, logs->n);
        mp_put_str(&carry->out, "rings");
        mp_put_array(&carry->out, logs->n_rings);
        TAILQ_FOREACH_REVERSE(ring, &logs->rings, ring_list, link) {
                mp_put_map(&carry->out, ELEMENTS(ring_members) + 1);
                carry_put(carry, ring_members, ELEMENTS(ring_members), ring);
                mp_put_str(&carry->out, "plugin");
                mp_put_str(&carry->out, ring->plugin);
        }
        mp_put_str(&carry->out, "lines");
        array = mp_array_begin(&carry->out);
        TAILQ_FOREACH(line, &logs->all, in_all) {
                save_line(line, carry);
                n++;
        }
        mp_array_end(&carry->out, array, n);
}

static int adopt_line(struct logs *logs, struct mp saved) {
        CLEANUP_FREE char *plugin = mp_dup_str(mp_map_value(saved, "plugin"));
        struct ring *ring = plugin ? find_ring(logs, plugin) : NULL;
        struct line *line = line_new(mp_map_text(saved, "text"), mp_map_text(saved, "id"));
        int r = !line ? -ENOMEM : ring ? carry_get(saved, line_members, ELEMENTS(line_members), line) : -EBADMSG;

        if (r == 0)
                keep(logs, ring, line);
        return r;
}

int logs_adopt(struct logs *logs, struct mp saved) {
        struct carry_items rings = carry_items(mp_map_value(saved, "rings")), lines = carry_items(mp_map_value(saved, "lines"));
        struct mp_cur n = mp_cur(mp_map_value(saved, "n"));
        struct mp item;
        int r = 0;

        (void)mp_read_uint(&n, &logs->n);
        while (r == 0 && carry_next(&rings, &item)) {
                CLEANUP_FREE char *plugin = mp_dup_str(mp_map_value(item, "plugin"));
                struct ring *ring = plugin ? use_ring(logs, plugin) : NULL;

                r = ring ? carry_get(item, ring_members, ELEMENTS(ring_members), ring) : -ENOMEM;
        }
        while (r == 0 && carry_next(&lines, &item))
                r = adopt_line(logs, item);
        return r;
}
