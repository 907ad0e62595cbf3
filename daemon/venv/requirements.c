/* SPDX-License-Identifier: Apache-2.0 */

/*
 * This reads as pip's own reader does as far as the meaning depends on it: which lines are one, what is a comment, which files
 * a line names. What a line asks for is left to the installer, so a form unknown here counts as text, and a file that is named
 * and missing is the installer's to complain about.
 *
 * A file that is included with -r counts as if its lines stood in place of the -r, so a file that only includes another means
 * the same as that one. Constraints stand in brackets, for they mean something else.
 *
 * What is looked at in place, and not copied into the venv, counts with its absolute path: an editable package and a local
 * --find-links folder. Two plugins that both say "-e ." do not share a venv.
 */

#include "venv/requirements.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "venv/mask.h"
#include "venv/say.h"

#define DEPTH_MAX 16
#define FILES_MAX 256
#define FILE_BYTES_MAX (1 << 20)
#define SUMMARY_BYTES_MAX 200

struct reader {
        struct digest *digest;
        struct buf summary;
        unsigned n_lines, n_files, depth;
        struct {
                dev_t device;
                ino_t inode;
        } open[DEPTH_MAX];  /* the files being read, to find circles */
        const char *folder; /* of the outermost file, in which the installer runs */
        struct words files, folders;
        char **ret_error;
};

void requirements_done(struct requirements *requirements) {
        free(requirements->summary);
        words_done(&requirements->files);
        words_done(&requirements->folders);
        *requirements = (struct requirements){0};
}

/* ---- Names of files ---- */

static bool has_scheme(const char *text) {
        const char *colon = strstr(text, "://");

        return colon && colon > text &&
               strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-") == (size_t)(colon - text);
}

static int hex_value(char c) {
        return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* Takes what follows "file:" apart, in place. Return: the path in it. */
static char *path_of_url(char *url) {
        char *path = url, *to;

        if (strncmp(path, "//", 2) == 0)
                path = strchr(path + 2, '/') ?: path + 2; /* an authority: none, or localhost */
        path[strcspn(path, "#?")] = 0;
        to = path;
        for (const char *from = path; *from; from++)
                if (from[0] == '%' && hex_value(from[1]) >= 0 && hex_value(from[2]) >= 0) {
                        *to++ = (char)(hex_value(from[1]) * 16 + hex_value(from[2]));
                        from += 2;
                } else {
                        *to++ = *from;
                }
        *to = 0;
        return path;
}

static bool join(char ret[PATH_MAX], const char *folder, const char *name) {
        return snprintf(ret, PATH_MAX, "%s%s%s", name[0] == '/' ? "" : folder, name[0] == '/' ? "" : "/", name) < PATH_MAX;
}

/* As pip sees it: relative to where it runs; uv: relative to the file it stands in. */
static bool is_there(const struct reader *reader, const char *folder, const char *name, char ret[PATH_MAX]) {
        return (join(ret, reader->folder, name) && access(ret, F_OK) == 0) || (join(ret, folder, name) && access(ret, F_OK) == 0);
}

/* The file or folder that a requirement names. Extras ("./package[extra]") are cut off. Return: whether there is one. */
static bool find_local(const struct reader *reader, const char *folder, const char *text, char ret[PATH_MAX]) {
        CLEANUP_FREE char *copy = strdup(text);
        const char *name = copy;
        char *bracket;

        if (!copy || strlen(copy) >= PATH_MAX)
                return false;
        if (strncmp(copy, "file:", 5) == 0)
                name = path_of_url(copy + 5);
        else if (has_scheme(copy))
                return false;
        if (is_there(reader, folder, name, ret))
                return true;
        bracket = strrchr(name, '[');
        if (!bracket || name[strlen(name) - 1] != ']')
                return false;
        *bracket = 0;
        return is_there(reader, folder, name, ret);
}

/* "requests" is a name even where a folder of that name happens to be. */
static bool looks_like_path(const char *text) {
        static const char *const archives[] = {".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar"};
        size_t len = strlen(text);

        if (text[0] == '.' || strchr(text, '/') || strncmp(text, "file:", 5) == 0)
                return true;
        for (size_t i = 0; i < ELEMENTS(archives); i++)
                if (len > strlen(archives[i]) && str_eq(text + len - strlen(archives[i]), archives[i]))
                        return true;
        return false;
}

/* ---- A line ---- */

static int read_file(struct reader *reader, const char *path);

/* Appends `line` without passwords, and in plain ASCII. Of an option's URL only the host is shown: there are indexes with a token in their
 * path. */
static void summarize(struct reader *reader, const char *line) {
        CLEANUP_FREE char *masked = mask_credentials(line);
        const char *at = masked ? masked : "", *path = NULL;
        bool is_option = *at == '-';

        if (reader->summary.len >= SUMMARY_BYTES_MAX)
                return;
        if (reader->summary.len > 0)
                buf_append_str(&reader->summary, ", ");
        while (*at && reader->summary.len < SUMMARY_BYTES_MAX) {
                if (is_option && strncmp(at, "://", 3) == 0)
                        path = at + 3 + strcspn(at + 3, "/?# ");
                if (at == path && *at != ' ') {
                        at += strcspn(at, " ");
                        continue;
                }
                buf_append(&reader->summary, *at >= ' ' && *at < 0x7f ? at : "?", 1);
                at++;
        }
        if (*at)
                buf_append_str(&reader->summary, "…");
}

/* Notes what the installer has to read, and, where that is a package's folder, to change. */
static int note(struct reader *reader, const char *path, bool package) {
        struct stat st;
        struct words *words = package && stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? &reader->folders : &reader->files;

        return words_add(words, path) < 0 ? fail(reader->ret_error, "out of memory") : 0;
}

static int add_include(struct reader *reader, const char *folder, const char *value, bool constraint) {
        char path[PATH_MAX];
        int r;

        if (has_scheme(value) || !join(path, folder, value)) {
                digest_add(reader->digest, constraint ? "constraint-url" : "include-url", value);
                return 0;
        }
        if (constraint)
                digest_add(reader->digest, "constraints", "");
        r = read_file(reader, path);
        if (constraint)
                digest_add(reader->digest, "end", "");
        return r;
}

static int add_in_place(struct reader *reader, const char *name, const char *path, bool with_content) {
        CLEANUP_FREE char *real = realpath(path, NULL);
        int r;

        if (!real)
                return fail(reader->ret_error, "%s cannot be read: %m", path);
        r = note(reader, path, with_content);
        if (r < 0)
                return r;
        digest_add(reader->digest, name, real);
        return with_content ? digest_add_path(reader->digest, "content", real, reader->ret_error) : 0;
}

enum option { OPTION_NONE, OPTION_REQUIREMENT, OPTION_CONSTRAINT, OPTION_EDITABLE, OPTION_FIND_LINKS };

/* Recognizes an option that names a file: "-r x", "-rx", "--requirement x", "--requirement=x".
 * `*ret_value` is the value that stands in the word, NULL when it is the next one. */
static enum option option_of(const char *word, const char **ret_value) {
        static const struct {
                const char *brief, *name;
        } options[] = {
                [OPTION_REQUIREMENT] = {"-r", "--requirement"},
                [OPTION_CONSTRAINT] = {"-c", "--constraint"},
                [OPTION_EDITABLE] = {"-e", "--editable"},
                [OPTION_FIND_LINKS] = {"-f", "--find-links"},
        };

        for (size_t i = OPTION_REQUIREMENT; i < ELEMENTS(options); i++) {
                size_t len = strlen(options[i].name);
                bool brief = strncmp(word, "--", 2) != 0 && strncmp(word, options[i].brief, 2) == 0;

                if (!brief && (strncmp(word, options[i].name, len) != 0 || (word[len] && word[len] != '=')))
                        continue;
                word += brief ? 2 : len;
                if (*word == '=')
                        word++;
                *ret_value = *word ? word : NULL;
                return (enum option)i;
        }
        return OPTION_NONE;
}

/* Cuts the next word off, without its quotes. Return: NULL at the end. */
static char *next_word(char **rest) {
        char *word, *to, quote = 0;
        char *from = *rest + strspn(*rest, " \t");

        if (!*from)
                return NULL;
        for (word = to = from; *from && (quote || (*from != ' ' && *from != '\t')); from++) {
                if (quote ? *from == quote : *from == '"' || *from == '\'')
                        quote = quote ? 0 : *from;
                else
                        *to++ = *from;
        }
        *rest = *from ? from + 1 : from;
        *to = 0;
        return word;
}

static int add_word(struct reader *reader, const char *folder, char *word, char **rest) {
        const char *value = NULL;
        enum option option = option_of(word, &value);
        char path[PATH_MAX];
        int r;

        if (option != OPTION_NONE && !value && !(value = next_word(rest)))
                return 0; /* the installer will say so */
        switch (option) {
        case OPTION_REQUIREMENT:
        case OPTION_CONSTRAINT:
                return add_include(reader, folder, value, option == OPTION_CONSTRAINT);
        case OPTION_EDITABLE:
                return find_local(reader, folder, value, path) ? add_in_place(reader, "editable", path, true) : 0;
        case OPTION_FIND_LINKS:
                return find_local(reader, folder, value, path) ? add_in_place(reader, "find-links", path, false) : 0;
        default:
                if (!looks_like_path(word) || !find_local(reader, folder, word, path))
                        return 0;
                r = note(reader, path, true);
                return r ? r : digest_add_path(reader->digest, "content", path, reader->ret_error);
        }
}

/* Whether the line is "-r FILE" or "-c FILE" and nothing else: it says nothing by itself. */
static bool only_includes(const char *line) {
        CLEANUP_FREE char *copy = strdup(line);
        char *rest = copy, *word = copy ? next_word(&rest) : NULL;
        const char *value = NULL;
        enum option option = word ? option_of(word, &value) : OPTION_NONE;

        return (option == OPTION_REQUIREMENT || option == OPTION_CONSTRAINT) && (value || next_word(&rest)) && !next_word(&rest);
}

static int add_line(struct reader *reader, const char *folder, char *line) {
        char *word;
        int r = 0;

        if (!only_includes(line)) {
                digest_add(reader->digest, "line", line);
                summarize(reader, line);
                reader->n_lines++;
        }
        while (r == 0 && (word = next_word(&line)))
                r = add_word(reader, folder, word, &line);
        return r;
}

/* ---- A file ---- */

/* Where a comment begins: at a # at the line's start or after a space. Return: the line's length without it. */
static size_t comment_start(const char *line, size_t len) {
        for (size_t i = 0; i < len; i++)
                if (line[i] == '#' && (i == 0 || isspace((unsigned char)line[i - 1])))
                        return i;
        return len;
}

static bool is_comment(const char *line, size_t len) {
        size_t blank = strspn(line, " \t\r");

        return blank < len && line[blank] == '#';
}

/* A logical line: `joined` holds its parts without the backslashes between them. */
static int end_line(struct reader *reader, const char *folder, struct buf *joined) {
        CLEANUP_FREE char *line = NULL;
        char *start, *end;

        joined->len = comment_start((char *)joined->data, joined->len);
        line = buf_take_str(joined);
        if (!line)
                return fail(reader->ret_error, "out of memory");
        start = line + strspn(line, " \t\r\f\v");
        end = start + strlen(start);
        while (end > start && isspace((unsigned char)end[-1]))
                end--;
        *end = 0;
        return *start ? add_line(reader, folder, start) : 0;
}

/* `text` ends with a newline. */
static int read_lines(struct reader *reader, const char *folder, const char *text) {
        CLEANUP_BUF struct buf joined = {0};
        int r = 0;

        if (strncmp(text, "\xef\xbb\xbf", 3) == 0) /* byte order mark */
                text += 3;
        while (r == 0 && *text) {
                size_t len = strcspn(text, "\n"), body = len;
                bool comment;

                while (body > 0 && text[body - 1] == '\r')
                        body--;
                comment = is_comment(text, body);
                if (comment)
                        buf_append_str(&joined, " "); /* so that it is one there, too */
                if (body > 0 && text[body - 1] == '\\' && !comment) {
                        buf_append(&joined, text, body - 1);
                } else {
                        buf_append(&joined, text, body);
                        r = end_line(reader, folder, &joined);
                }
                text += len + (text[len] == '\n');
        }
        if (r == 0 && joined.len > 0)
                r = end_line(reader, folder, &joined);
        return r;
}

/* An installer reads UTF-16, and goes on after a NUL; this does not. */
static bool is_text(const struct buf *buf) {
        return buf->len == 0 ||
               !(memchr(buf->data, 0, buf->len) ||
                 (buf->len >= 2 && (memcmp(buf->data, "\xff\xfe", 2) == 0 || memcmp(buf->data, "\xfe\xff", 2) == 0)));
}

/* Return: the file's text, NULL with the reason on failure. */
static char *load(struct reader *reader, const char *path, struct stat *ret_stat) {
        CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        CLEANUP_BUF struct buf buf = {.limit = FILE_BYTES_MAX + 1};
        uint8_t *end;
        ssize_t n;

        if (fd < 0 || fstat(fd, ret_stat) < 0) {
                (void)fail(reader->ret_error, "the requirements file %s cannot be read: %m", path);
                return NULL;
        }
        if (!S_ISREG(ret_stat->st_mode) || ret_stat->st_size > FILE_BYTES_MAX) {
                (void)fail(reader->ret_error, "the requirements file %s is no file of at most %d bytes", path, FILE_BYTES_MAX);
                return NULL;
        }
        do {
                end = buf_reserve(&buf, (size_t)FILE_BYTES_MAX - buf.len);
                n = end ? read(fd, end, (size_t)FILE_BYTES_MAX - buf.len) : -1;
                buf.len += (size_t)MAX(n, 0);
        } while (n > 0);
        if (n < 0) {
                (void)fail(reader->ret_error, "the requirements file %s cannot be read: %m", path);
                return NULL;
        }
        if (!is_text(&buf)) {
                (void)fail(reader->ret_error, "the requirements file %s is not plain text; save it as UTF-8", path);
                return NULL;
        }
        return buf_take_str(&buf);
}

static int enter(struct reader *reader, const char *path, const struct stat *st) {
        for (unsigned i = 0; i < reader->depth; i++)
                if (reader->open[i].device == st->st_dev && reader->open[i].inode == st->st_ino)
                        return fail(reader->ret_error, "the requirements file %s includes itself", path);
        if (reader->depth == DEPTH_MAX)
                return fail(reader->ret_error, "the requirements file %s is included more than %d levels deep", path, DEPTH_MAX);
        if (++reader->n_files > FILES_MAX)
                return fail(reader->ret_error, "the requirements are spread over more than %d files, at %s", FILES_MAX, path);
        reader->open[reader->depth].device = st->st_dev;
        reader->open[reader->depth].inode = st->st_ino;
        reader->depth++;
        return 0;
}

static char *folder_of(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash == path ? strdup("/") : slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
}

static int read_file(struct reader *reader, const char *path) {
        CLEANUP_FREE char *folder = folder_of(path), *text = NULL;
        struct stat st;
        int r;

        text = load(reader, path, &st);
        if (!text || !folder)
                return *reader->ret_error ? -EIO : fail(reader->ret_error, "out of memory");
        r = enter(reader, path, &st);
        r = r ? r : note(reader, path, false);
        if (r < 0)
                return r;
        r = read_lines(reader, folder, text);
        reader->depth--;
        return r;
}

int requirements_read(struct requirements *ret, const char *path, struct digest *digest, char **ret_error) {
        CLEANUP_FREE char *folder = folder_of(path);
        struct reader reader = {.digest = digest, .folder = folder, .ret_error = ret_error};
        char *summary;
        int r;

        r = folder ? read_file(&reader, path) : -ENOMEM;
        summary = buf_take_str(&reader.summary);
        if (r == 0 && !summary)
                r = fail(ret_error, "out of memory");
        if (r < 0) {
                free(summary);
                words_done(&reader.files);
                words_done(&reader.folders);
                return r;
        }
        *ret = (struct requirements){
                .n_lines = reader.n_lines, .summary = summary, .files = reader.files, .folders = reader.folders};
        return 0;
}
