/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Expanding is done on the text and not on the values of the tree, because a variable may hold more than a scalar, and because
 * upstream does so. The price is that a position found by the YAML parser belongs to a text that nobody has seen. So the expander
 * notes, for each stretch of output, where it begins on both sides; a stretch of literal text runs in step with the file, and all
 * of an expanded value lies at its opening braces. The same notes say which part of the text is the value of a variable, and so must
 * not be told to anybody.
 *
 * What is accepted is what surely means the same to Jinja. Whatever differs in a detail (a sign for white space, an escape, a name that is a
 * method of env, a second filter) is not decided here: the file goes to Jinja.
 */

#include "config/template.h"

#include <ctype.h>

#include "base/utf8.h"
#include "config/tree.h"

#define LINE_BYTES 1024 /* looked at before a value, for whether it stands in a comment */

struct stretch {
        struct place out, in;
        bool in_step; /* position by position; else all of it comes from `in` */
        bool secret;  /* it is, or may hold, the value of a variable */
        bool unset;   /* empty, as the variable is not set */
};

struct template {
        struct buf text;
        struct place out;
        struct stretch *stretches;
        size_t n, cap;
        struct strlist unset; /* variables, each of which was said */
};

/* The file while it is read. */
struct source {
        const char *begin, *at, *end;
        struct place place; /* of `at` */
};

/* A value between braces. */
struct value {
        struct buf text, name; /* name: of the variable */
        bool defined, variable, safe;
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
                } else if (!utf8_continues(c))
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

static int emit(struct template *template, struct stretch stretch, const char *data, size_t len) {
        struct buf *text = &template->text;

        if (len > 0 && *data == '\n' && text->len > 0 && text->data[text->len - 1] == '\r') {
                buf_append(text, data, 1); /* the second half of a line end that was counted with the first */
                place_advance(&stretch.in, data, 1);
                data++;
                len--;
        }
        if (len == 0 && !stretch.unset)
                return buf_error(text);
        if (template->n == template->cap) {
                size_t cap = MAX(template->cap * 2, (size_t)16);
                struct stretch *grown = realloc(template->stretches, cap * sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                template->stretches = grown;
                template->cap = cap;
        }
        stretch.out = template->out;
        template->stretches[template->n++] = stretch;
        buf_append(text, data, len);
        place_advance(&template->out, data, len);
        return buf_error(text);
}

/* ---- Between {{ and }} ---- */

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

static bool is_word(const char *name, size_t len, const char *word) {
        return strlen(word) == len && memcmp(name, word, len) == 0;
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
                size_t i = 0;

                if (*at == '\\') {
                        if (++at == source->end)
                                return false;
                        while (i + 1 < sizeof(escapes) && escapes[i] != *at)
                                i += 2;
                        if (i + 1 >= sizeof(escapes))
                                return false;
                        buf_append(ret, &escapes[i + 1], 1);
                } else if (*at == '\r')
                        return false;
                else
                        buf_append(ret, at, 1);
        }
        if (at == source->end)
                return false;
        source_skip(source, (size_t)(at - source->at) + 1);
        return true;
}

/* Return: false where Jinja may find something else under the name than a variable: env is Python's os.environ. */
static bool look_up(struct value *value, const char *name, size_t len) {
        static const char *const methods[] = {"clear", "copy", "decodekey", "decodevalue", "encodekey",  "encodevalue", "get",
                                              "items", "keys", "pop",       "popitem",     "setdefault", "update",      "values"};
        CLEANUP_BUF struct buf terminated = {0};
        const char *found;

        if (len == 0 || !isalpha((unsigned char)*name))
                return false;
        for (size_t i = 0; i < len; i++)
                if (!isalnum((unsigned char)name[i]) && name[i] != '_')
                        return false;
        for (size_t i = 0; i < ELEMENTS(methods); i++)
                if (is_word(name, len, methods[i]))
                        return false;
        buf_append(&terminated, name, len);
        buf_append(&terminated, "", 1);
        found = buf_error(&terminated) ? NULL : getenv((const char *)terminated.data);
        if (found)
                buf_append_str(&value->text, found);
        if (buf_error(&terminated))
                value->text.error = buf_error(&terminated);
        value->name = terminated;
        terminated = (struct buf){0};
        value->defined = value->variable = found != NULL;
        return true;
}

static bool take_primary(struct source *source, struct value *value) {
        CLEANUP_BUF struct buf quoted = {0};
        const char *word;
        size_t len;

        if (take_quoted(source, &value->text)) {
                value->defined = true;
                return true;
        }
        len = take_name(source, &word);
        if (!is_word(word, len, "env"))
                return false;
        if (take_char(source, '.')) {
                len = take_name(source, &word);
                return look_up(value, word, len);
        }
        if (!take_char(source, '[') || !take_quoted(source, &quoted) || !take_char(source, ']'))
                return false;
        if (buf_error(&quoted))
                value->text.error = buf_error(&quoted);
        return look_up(value, (const char *)quoted.data, quoted.len);
}

/* 0 or 17, not 017; what Jinja writes as it stands. */
static bool take_number(struct source *source, struct buf *ret) {
        const char *word;
        size_t len = take_name(source, &word);

        if (len == 0 || len > 18 || (*word == '0' && len > 1))
                return false;
        for (size_t i = 0; i < len; i++)
                if (!isdigit((unsigned char)word[i]))
                        return false;
        buf_append(ret, word, len);
        return true;
}

/* ('text') or (30) or ('text', true). */
static bool take_default(struct source *source, struct value *value) {
        CLEANUP_BUF struct buf text = {0};
        bool empty_too = false;

        if (take_char(source, '(') && !take_char(source, ')')) {
                if (!take_quoted(source, &text) && !take_number(source, &text))
                        return false;
                if (take_char(source, ',')) {
                        const char *word;
                        size_t len = take_name(source, &word);

                        empty_too = is_word(word, len, "true") || is_word(word, len, "True");
                        if (!empty_too && !is_word(word, len, "false") && !is_word(word, len, "False"))
                                return false;
                }
                if (!take_char(source, ')'))
                        return false;
        }
        if (buf_error(&text))
                value->text.error = buf_error(&text);
        if (buf_error(&value->text) || (value->defined && !(empty_too && value->text.len == 0)))
                return true;
        buf_done(&value->text);
        value->text = text;
        value->variable = false;
        value->defined = true;
        text = (struct buf){0};
        return true;
}

/* | default(…), | safe, or one after the other. */
static bool take_filters(struct source *source, struct value *value) {
        const char *word;
        size_t len;

        if (!take_char(source, '|'))
                return true;
        len = take_name(source, &word);
        if (is_word(word, len, "default") || is_word(word, len, "d")) {
                if (!take_default(source, value))
                        return false;
                if (!take_char(source, '|'))
                        return true;
                len = take_name(source, &word);
        }
        value->safe = is_word(word, len, "safe");
        return value->safe;
}

static bool take_value(struct source *source, struct value *value) {
        source_skip(source, 2);
        if (!take_primary(source, value) || !take_filters(source, value))
                return false;
        skip_space(source);
        if (!starts(source, "}}"))
                return false;
        source_skip(source, 2);
        return true;
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
}

/* Return: whether what stands at `at` is surely, or probably, in a comment of YAML. */
static bool is_commented(const char *begin, const char *at) {
        begin = MAX(begin, at - MIN(at - begin, LINE_BYTES));
        for (; at > begin && at[-1] != '\n'; at--)
                if (at[-1] == '#' && (at - 1 == begin || isspace((unsigned char)at[-2])))
                        return true;
        return false;
}

static int warn_unset(struct template *template, struct report *report, struct place place, const char *name) {
        if (report_full(report) || strlist_has(&template->unset, name))
                return 0;
        report_add_cause(report, place,
                         "{{ env.%s }}: this variable is not set, so nothing is put in; "
                         "default('…') would say what to put in instead",
                         name);
        return report->error ? report->error : strlist_append(&template->unset, name);
}

static int expand_value(struct template *template, struct source *source, struct report *report) {
        CLEANUP_BUF struct buf escaped = {0};
        struct stretch stretch = {.in = source->place};
        bool silent = is_commented(source->begin, source->at);
        struct value value = {0};
        const struct buf *shown = &value.text;
        int r = -EOPNOTSUPP;

        if (take_value(source, &value)) {
                if (!value.safe) {
                        put_escaped(&escaped, &value.text);
                        shown = &escaped;
                }
                r = buf_error(&value.text) ? buf_error(&value.text) : buf_error(shown);
        }
        stretch.secret = value.variable;
        stretch.unset = r == 0 && !value.defined;
        if (r == 0 && !value.defined && !silent)
                r = warn_unset(template, report, stretch.in, (const char *)value.name.data);
        if (r == 0)
                r = emit(template, stretch, (const char *)shown->data, shown->len);
        buf_done(&value.text);
        buf_done(&value.name);
        return r;
}

/* ---- {% raw %} and {# #} ---- */

/* Return: 1 where `{% WORD %}` stands at the source, which steps over it; -EOPNOTSUPP where it is written with signs for white space; else 0. */
static int take_block(struct source *source, const char *word) {
        struct source ahead = *source;
        const char *name;
        bool plain = true;
        size_t len;

        source_skip(&ahead, 2);
        if (ahead.at < ahead.end && (*ahead.at == '-' || *ahead.at == '+')) {
                source_skip(&ahead, 1);
                plain = false;
        }
        len = take_name(&ahead, &name);
        if (!is_word(name, len, word))
                return 0;
        skip_space(&ahead);
        if (!plain || !starts(&ahead, "%}"))
                return -EOPNOTSUPP;
        source_skip(&ahead, 2);
        *source = ahead;
        return 1;
}

static int expand_raw(struct template *template, struct source *source) {
        struct source inside;
        int r = take_block(source, "raw");

        if (r <= 0)
                return -EOPNOTSUPP;
        inside = *source;
        for (;;) {
                const char *block = memmem(source->at, (size_t)(source->end - source->at), "{%", 2), *end;

                if (!block)
                        return -EOPNOTSUPP; /* never closed */
                source_skip(source, (size_t)(block - source->at));
                end = source->at;
                r = take_block(source, "endraw");
                if (r < 0)
                        return r;
                if (r > 0)
                        return emit(template, (struct stretch){.in = inside.place, .in_step = true}, inside.at,
                                    (size_t)(end - inside.at));
                source_skip(source, 2);
        }
}

static int skip_comment(struct source *source) {
        const char *start = source->at + 2, *close = memmem(start, (size_t)(source->end - start), "#}", 2);

        if (!close || *start == '-' || close[-1] == '-')
                return -EOPNOTSUPP;
        source_skip(source, (size_t)(close + 2 - source->at));
        return 0;
}

/* ---- The whole ---- */

/* Where it fails, the source is left at the braces that it failed at. */
static int expand(struct template *template, struct source *source, struct report *report) {
        int r = 0;

        while (r == 0 && source->at < source->end) {
                struct stretch stretch = {.in = source->place, .in_step = true};
                const char *brace = source->at;
                struct source opening;

                do
                        brace = memchr(brace, '{', (size_t)(source->end - brace));
                while (brace && !(brace + 1 < source->end && memchr("{%#", brace[1], 3)) && ++brace);
                if (!brace)
                        brace = source->end;
                r = emit(template, stretch, source->at, (size_t)(brace - source->at));
                source_skip(source, (size_t)(brace - source->at));
                opening = *source;
                if (r == 0 && starts(source, "{{"))
                        r = expand_value(template, source, report);
                else if (r == 0 && starts(source, "{%"))
                        r = expand_raw(template, source);
                else if (r == 0 && starts(source, "{#"))
                        r = skip_comment(source);
                if (r < 0)
                        *source = opening;
        }
        return r;
}

static struct template *template_new(void) {
        struct template *template = calloc(1, sizeof(*template));

        if (template) {
                template->out = (struct place){1, 1};
                template->text.limit = TREE_BYTES_MAX;
        }
        return template;
}

int template_expand(struct template **ret, const char *text, size_t len, struct report *report, struct place *ret_beyond) {
        struct source source = {.begin = text, .at = text, .end = text + len, .place = {1, 1}};
        CLEANUP_TEMPLATE struct template *template = template_new();
        int r;

        if (!template)
                return -ENOMEM;
        /* Jinja drops the last line's end, which shows in a block scalar that is the end of the file */
        if (len > 0 && text[len - 1] == '\n')
                source.end--;
        if (source.end > text && source.end[-1] == '\r')
                source.end--;
        r = expand(template, &source, report);
        if (r == -EOPNOTSUPP)
                *ret_beyond = source.place;
        else if (r == 0)
                *ret = TAKE(template);
        return r;
}

bool template_is_unclosed(const char *text, size_t len, struct place *ret) {
        const char *end = text + len, *at = text, *close, *next;

        while ((at = memmem(at, (size_t)(end - at), "{{", 2))) {
                close = memmem(at, (size_t)(end - at), "}}", 2);
                next = memmem(at + 2, (size_t)(end - at - 2), "{{", 2);
                if (!close || (next && next < close)) {
                        *ret = (struct place){1, 1};
                        place_advance(ret, text, (size_t)(at - text));
                        return true;
                }
                at = close + 2;
        }
        return false;
}

int template_of_text(struct template **ret, const char *text, size_t len, bool rendered) {
        CLEANUP_TEMPLATE struct template *template = template_new();
        struct stretch all = {.in = {1, 1}, .in_step = true, .secret = rendered};
        int r = template ? emit(template, all, text, len) : -ENOMEM;

        if (r == 0)
                *ret = TAKE(template);
        return r;
}

struct template *template_free(struct template *template) {
        if (template) {
                buf_done(&template->text);
                strlist_done(&template->unset);
                free(template->stretches);
                free(template);
        }
        return NULL;
}

void template_freep(struct template **template) {
        *template = template_free(*template);
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

/* Return: the index of the stretch that the place lies in. */
static size_t find_stretch(const struct template *template, struct place place) {
        size_t low = 0, high = template->n;

        while (high - low > 1) {
                size_t middle = low + (high - low) / 2;

                if (before_or_at(template->stretches[middle].out, place))
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

struct place template_origin(const struct template *template, struct place place) {
        const struct stretch *stretch;

        if (template->n == 0)
                return (struct place){1, 1};
        stretch = &template->stretches[find_stretch(template, place)];
        if (!stretch->in_step)
                return stretch->in;
        if (place.line == stretch->out.line)
                return (struct place){stretch->in.line, stretch->in.column + place.column - stretch->out.column};
        return (struct place){stretch->in.line + place.line - stretch->out.line, place.column};
}

bool template_is_secret(const struct template *template, struct place start, struct place end) {
        if (before_or_at(end, start))
                return false;
        for (size_t i = template->n > 0 ? find_stretch(template, start) : 0; i < template->n; i++) {
                if (i > 0 && before_or_at(end, template->stretches[i].out))
                        break;
                if (template->stretches[i].secret)
                        return true;
        }
        return false;
}

bool template_has_unset(const struct template *template, struct place start, struct place end) {
        size_t i = template->n > 0 ? find_stretch(template, start) : 0;

        while (i > 0 && before_or_at(start, template->stretches[i - 1].out)) /* empty ones, where it starts */
                i--;
        for (; i < template->n && before_or_at(template->stretches[i].out, end); i++)
                if (template->stretches[i].unset)
                        return before_or_at(start, template->stretches[i].out);
        return false;
}
