/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Expanding is done on the text and not on the values of the tree, because a variable may hold more than a scalar, and because
 * upstream does so. The price is that a position found by the YAML parser belongs to a text that nobody has seen. So the expander
 * notes, for each stretch of output, where it begins on both sides; a stretch of literal text runs in step with the file, and all
 * of an expanded value lies at its opening braces.
 */

#include "config/template.h"

#include <ctype.h>

#define EXPANDED_MAX (1u << 20)

struct stretch {
        struct place out, in;
        bool literal;
};

struct template {
        struct buf text;
        struct place out;
        struct stretch *stretches;
        size_t n, cap;
};

/* The file while it is read. */
struct source {
        const char *at, *end;
        struct place place; /* of `at` */
        struct report *report;
        bool bad;
};

/* A value between braces. */
struct value {
        struct buf text;
        bool defined, safe;
};

/* Moves `place` over `data` as the YAML parser counts: characters, and its five kinds of line ends. */
static void place_advance(struct place *place, const char *data, size_t len) {
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)data[i];
                bool wide = (c == 0xc2 && i + 1 < len && (unsigned char)data[i + 1] == 0x85) ||
                            (c == 0xe2 && i + 2 < len && (unsigned char)data[i + 1] == 0x80 &&
                             ((unsigned char)data[i + 2] & 0xfe) == 0xa8);

                if (c == '\r' && i + 1 < len && data[i + 1] == '\n')
                        continue;
                if (c == '\n' || c == '\r' || wide) {
                        place->line++;
                        place->column = 1;
                        if (wide)
                                i += c == 0xc2 ? 1 : 2;
                } else if ((c & 0xc0) != 0x80)
                        place->column++;
        }
}

static void source_skip(struct source *source, size_t len) {
        place_advance(&source->place, source->at, len);
        source->at += len;
}

static bool starts(const struct source *source, const char *what) {
        size_t len = strlen(what);

        return (size_t)(source->end - source->at) >= len && memcmp(source->at, what, len) == 0;
}

static void skip_space(struct source *source) {
        while (source->at < source->end && isspace((unsigned char)*source->at))
                source_skip(source, 1);
}

static bool refuse(struct source *source, struct place place, const char *message) {
        report_add(source->report, DIAG_ERROR, NULL, place, "%s", message);
        source->bad = true;
        return false;
}

static int emit(struct template *template, const struct source *source, const char *data, size_t len, bool literal) {
        if (len == 0)
                return 0;
        if (template->n == template->cap) {
                size_t cap = MAX(template->cap * 2, (size_t)16);
                struct stretch *grown = realloc(template->stretches, cap * sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                template->stretches = grown;
                template->cap = cap;
        }
        template->stretches[template->n++] = (struct stretch){template->out, source->place, literal};
        buf_append(&template->text, data, len);
        place_advance(&template->out, data, len);
        return 0;
}

/* Steps over the name at the source. Return: its length. */
static size_t take_name(struct source *source, const char **ret) {
        size_t len = 0;

        skip_space(source);
        while (source->at + len < source->end && (isalnum((unsigned char)source->at[len]) || source->at[len] == '_'))
                len++;
        *ret = source->at;
        source_skip(source, len);
        return len;
}

static bool take_char(struct source *source, char c) {
        skip_space(source);
        if (source->at == source->end || *source->at != c)
                return false;
        source_skip(source, 1);
        return true;
}

/* A text in quotes. Return: false where none stands; want of memory shows in `ret`. */
static bool take_quoted(struct source *source, struct buf *ret) {
        static const char escapes[] = "n\nt\tr\r\\\\''\"\"";
        const char *at;
        char quote;

        skip_space(source);
        at = source->at;
        if (at == source->end || (*at != '\'' && *at != '"'))
                return false;
        quote = *at++;
        for (; at < source->end && *at != quote; at++) {
                const char *escape = NULL;

                for (size_t i = 0; *at == '\\' && at + 1 < source->end && i + 1 < sizeof(escapes); i += 2)
                        if (escapes[i] == at[1])
                                escape = &escapes[i + 1];
                buf_append(ret, escape ? escape : at, 1);
                if (escape)
                        at++;
        }
        if (at == source->end)
                return false;
        source_skip(source, (size_t)(at - source->at) + 1);
        return true;
}

static void look_up(struct value *value, struct buf *name) {
        const char *found;

        buf_append(name, "", 1);
        found = buf_error(name) ? NULL : getenv((const char *)name->data);
        if (found)
                buf_append_str(&value->text, found);
        if (buf_error(name))
                value->text.error = buf_error(name);
        value->defined = found != NULL;
}

static bool take_primary(struct source *source, struct value *value) {
        CLEANUP_BUF struct buf name = {0};
        struct place place;
        const char *word;
        size_t len;

        skip_space(source);
        place = source->place;
        if (take_quoted(source, &value->text)) {
                value->defined = true;
                return true;
        }
        len = take_name(source, &word);
        if (len == 3 && memcmp(word, "env", 3) == 0) {
                if (take_char(source, '.') && (len = take_name(source, &word)) > 0) {
                        buf_append(&name, word, len);
                        look_up(value, &name);
                        return true;
                }
                if (take_char(source, '[') && take_quoted(source, &name) && take_char(source, ']')) {
                        look_up(value, &name);
                        return true;
                }
        }
        return refuse(source, place, "only env.NAME, env['NAME'] and 'text' can stand between {{ and }}");
}

/* ('text') or (30) or ('text', true). */
static bool take_default(struct source *source, struct value *value) {
        CLEANUP_BUF struct buf text = {0};
        struct place place = source->place;
        const char *word;
        bool empty_too = false, number = true;

        if (take_char(source, '(') && !take_char(source, ')')) {
                if (!take_quoted(source, &text)) {
                        size_t len = take_name(source, &word);

                        for (size_t i = 0; i < len; i++)
                                number = number && isdigit((unsigned char)word[i]);
                        if (len == 0 || !number)
                                return refuse(source, place, "default() takes a text in quotes or a whole number");
                        buf_append(&text, word, len);
                }
                if (take_char(source, ',')) {
                        size_t len = take_name(source, &word);

                        empty_too = len == 4 && strncasecmp(word, "true", 4) == 0;
                }
                if (!take_char(source, ')'))
                        return refuse(source, place, "default() takes a text and, if wanted, true: default('x', true)");
        }
        if (buf_error(&text))
                value->text.error = buf_error(&text);
        if (buf_error(&value->text) || (value->defined && !(empty_too && value->text.len == 0)))
                return true;
        buf_done(&value->text);
        value->text = text;
        text = (struct buf){0};
        value->defined = true;
        return true;
}

static bool take_filter(struct source *source, struct value *value) {
        struct place place;
        const char *word;
        size_t len;

        skip_space(source);
        place = source->place;
        len = take_name(source, &word);
        if (len == 4 && memcmp(word, "safe", 4) == 0) {
                value->safe = value->defined = true;
                return true;
        }
        if ((len == 7 && memcmp(word, "default", 7) == 0) || (len == 1 && *word == 'd'))
                return take_default(source, value);
        return refuse(source, place, "the only filters here are default('text') and safe");
}

static void put_escaped(struct buf *buf, const struct buf *text) {
        for (size_t i = 0; i < text->len; i++) {
                switch (text->data[i]) {
                case '&':
                        buf_append_str(buf, "&amp;");
                        break;
                case '<':
                        buf_append_str(buf, "&lt;");
                        break;
                case '>':
                        buf_append_str(buf, "&gt;");
                        break;
                case '"':
                        buf_append_str(buf, "&#34;");
                        break;
                case '\'':
                        buf_append_str(buf, "&#39;");
                        break;
                default:
                        buf_append(buf, &text->data[i], 1);
                }
        }
        if (buf_error(text))
                buf->error = buf_error(text);
}

/* Between {{ and }}; the source stands behind the opening braces. */
static int expand_value(struct template *template, struct source *source, const struct source *opening) {
        CLEANUP_BUF struct buf shown = {0};
        struct value value = {0};
        bool ok = take_primary(source, &value);
        int r = 0;

        while (ok && take_char(source, '|'))
                ok = take_filter(source, &value);
        skip_space(source);
        if (ok && !starts(source, "}}"))
                ok = refuse(source, source->place, "expected a filter (| default('text'), | safe) or the closing }}");
        if (ok) {
                source_skip(source, 2);
                if (value.safe)
                        buf_append(&shown, value.text.data, value.text.len);
                else
                        put_escaped(&shown, &value.text);
                r = buf_error(&value.text) ? buf_error(&value.text) : buf_error(&shown);
                if (r == 0)
                        r = emit(template, opening, (const char *)shown.data, shown.len, false);
        } else {
                /* go on behind it, for the next mistake */
                const char *close = memmem(source->at, (size_t)(source->end - source->at), "}}", 2);

                source_skip(source, (size_t)((close ? close + 2 : source->end) - source->at));
        }
        buf_done(&value.text);
        return r;
}

/* Return: whether `{% WORD %}` stands at `at`; then its length too. */
static bool is_block(const char *at, const char *end, const char *word, size_t *ret_len) {
        struct source source = {.at = at, .end = end};
        const char *found;
        size_t len;

        source_skip(&source, 2);
        len = take_name(&source, &found);
        skip_space(&source);
        if (len != strlen(word) || memcmp(found, word, len) != 0 || !starts(&source, "%}"))
                return false;
        *ret_len = (size_t)(source.at - at) + 2;
        return true;
}

static int expand_block(struct template *template, struct source *source) {
        struct place opening = source->place;
        const char *close;
        size_t len;

        if (!is_block(source->at, source->end, "raw", &len)) {
                refuse(source, opening, "{% … %} is not supported here, except {% raw %} … {% endraw %}; write the file out");
                source_skip(source, 2);
                return 0;
        }
        source_skip(source, len);
        for (close = source->at; (close = memmem(close, (size_t)(source->end - close), "{%", 2)); close += 2)
                if (is_block(close, source->end, "endraw", &len)) {
                        size_t inside = (size_t)(close - source->at);
                        int r = emit(template, source, source->at, inside, true);

                        source_skip(source, inside + len);
                        return r;
                }
        refuse(source, opening, "{% raw %} is never closed with {% endraw %}");
        source->at = source->end;
        return 0;
}

static void skip_comment(struct source *source) {
        const char *close = memmem(source->at + 2, (size_t)(source->end - source->at) - 2, "#}", 2);

        if (!close)
                refuse(source, source->place, "{# is never closed with #}");
        source_skip(source, (size_t)((close ? close + 2 : source->end) - source->at));
}

static int expand(struct template *template, struct source *source) {
        while (source->at < source->end) {
                const char *brace = source->at;
                int r;

                do
                        brace = memchr(brace, '{', (size_t)(source->end - brace));
                while (brace && !(brace + 1 < source->end && memchr("{%#", brace[1], 3)) && ++brace);
                if (!brace)
                        brace = source->end;
                r = emit(template, source, source->at, (size_t)(brace - source->at), true);
                if (r < 0)
                        return r;
                source_skip(source, (size_t)(brace - source->at));
                if (starts(source, "{{")) {
                        struct source opening = *source;

                        source_skip(source, 2);
                        r = expand_value(template, source, &opening);
                } else if (starts(source, "{%"))
                        r = expand_block(template, source);
                else if (starts(source, "{#"))
                        skip_comment(source);
                if (r < 0)
                        return r;
        }
        return 0;
}

int template_expand(struct template **ret, const char *text, size_t len, struct report *report) {
        struct source source = {.at = text, .end = text + len, .place = {1, 1}, .report = report};
        struct template *template = calloc(1, sizeof(*template));
        int r;

        if (!template)
                return -ENOMEM;
        template->out = (struct place){1, 1};
        template->text.limit = EXPANDED_MAX;
        /* Jinja drops the last line's end, which shows in a block scalar that is the end of the file */
        if (len > 0 && text[len - 1] == '\n')
                source.end -= len > 1 && text[len - 2] == '\r' ? 2 : 1;
        r = expand(template, &source);
        if (r == 0)
                r = buf_error(&template->text);
        if (r == -EMSGSIZE) {
                refuse(&source, (struct place){0}, "the file is longer than 1 MiB once its variables are put in");
                r = 0;
        }
        if (r == 0 && source.bad)
                r = -EINVAL;
        if (r < 0) {
                template_free(template);
                return r;
        }
        *ret = template;
        return 0;
}

struct template *template_free(struct template *template) {
        if (template) {
                buf_done(&template->text);
                free(template->stretches);
                free(template);
        }
        return NULL;
}

const char *template_text(const struct template *template, size_t *ret_len) {
        *ret_len = template->text.len;
        return template->text.data ? (const char *)template->text.data : "";
}

struct place template_place(const struct template *template, size_t offset) {
        struct place place = {1, 1};

        place_advance(&place, (const char *)template->text.data, MIN(offset, template->text.len));
        return place;
}

static bool before_or_at(struct place a, struct place b) {
        return a.line < b.line || (a.line == b.line && a.column <= b.column);
}

struct place template_origin(const struct template *template, struct place expanded) {
        size_t low = 0, high = template->n;
        const struct stretch *stretch;

        if (high == 0)
                return (struct place){1, 1};
        while (high - low > 1) {
                size_t middle = low + (high - low) / 2;

                if (before_or_at(template->stretches[middle].out, expanded))
                        low = middle;
                else
                        high = middle;
        }
        stretch = &template->stretches[low];
        if (!stretch->literal)
                return stretch->in;
        if (expanded.line == stretch->out.line)
                return (struct place){stretch->in.line, stretch->in.column + expanded.column - stretch->out.column};
        return (struct place){stretch->in.line + expanded.line - stretch->out.line, expanded.column};
}
