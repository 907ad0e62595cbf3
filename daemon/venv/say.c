/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A line goes out in one write, so that it stays whole beside those of other processes. The reader of a line takes control
 * characters for what they do; they are replaced. Whatever is said goes through here, and loses the passwords in its URLs.
 */

#include "venv/say.h"

#include <stdarg.h>
#include <stdio.h>

#include "venv/mask.h"

static char *format_line(const char *format, va_list args) PRINTF_LIKE(1, 0);
static char *format_line(const char *format, va_list args) {
        CLEANUP_FREE char *plain = NULL;
        char *text;

        if (vasprintf(&plain, format, args) < 0) {
                plain = NULL;
                return NULL;
        }
        text = mask_credentials(plain);
        for (char *c = text; c && *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        *c = ' ';
        return text;
}

void say(const char *format, ...) {
        CLEANUP_FREE char *text = NULL;
        va_list args;
        size_t len;

        va_start(args, format);
        text = format_line(format, args);
        va_end(args);
        if (!text)
                return;
        len = strlen(text);
        text[len] = '\n'; /* in place of the NUL */
        (void)!write(STDERR_FILENO, text, len + 1);
}

int fail(char **ret_error, const char *format, ...) {
        va_list args;

        va_start(args, format);
        *ret_error = format_line(format, args);
        va_end(args);
        return -EIO;
}
