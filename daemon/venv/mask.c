/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An index with a password is named by its URL: in a requirements file, in the environment, in what installers print about either.
 * They mask most of it themselves, each in some messages and not in others, so nothing is left to them.
 *
 * A name without a password is masked as well, for tokens are given that way. A password may hold what ends the host of a URL when
 * nobody encoded it; such a URL has no number for a port, and then all up to the last @ is taken for it.
 */

#include "venv/mask.h"

#include "base/buf.h"

/* Return: how much of what follows "://" is credentials, with the @. */
static size_t credentials_len(const char *text) {
        size_t word = strcspn(text, " \t\"'<>"), host = strcspn(text, "/?# \t\"'<>");
        const char *at = memrchr(text, '@', host), *port = memchr(text, ':', host);

        if (!at && port && strspn(port + 1, "0123456789") != (size_t)(text + host - port) - 1) {
                at = memrchr(text, '@', word);
                if (!at)
                        return word; /* cut off */
        }
        return at ? (size_t)(at - text) + 1 : 0;
}

char *mask_credentials(const char *text) {
        struct buf masked = {0};

        while (*text) {
                const char *scheme = strstr(text, "://");
                size_t len;

                if (!scheme)
                        break;
                buf_append(&masked, text, (size_t)(scheme - text) + 3);
                text = scheme + 3;
                len = credentials_len(text);
                if (len > 0)
                        buf_append_str(&masked, "****@");
                text += len;
        }
        buf_append_str(&masked, text);
        return buf_take_str(&masked);
}
