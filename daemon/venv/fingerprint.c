/* SPDX-License-Identifier: Apache-2.0 */

/*
 * BUILDER_VERSION is part of it so that a change in how venvs are built, which makes the old ones wrong, makes them unfindable
 * instead: raise it then.
 */

#include "venv/fingerprint.h"

#include "venv/say.h"

#define BUILDER_VERSION "2"

int fingerprint_compute(char ret[DIGEST_HEX_BYTES], struct requirements *ret_requirements, const struct interpreter *interpreter,
                        const struct rules *rules, const char *path, char **ret_error) {
        CLEANUP_REQUIREMENTS struct requirements requirements = {0};
        CLEANUP_DIGEST struct digest *digest = NULL;
        char hex[DIGEST_HEX_BYTES];
        int r;

        if (digest_new(&digest) < 0)
                return fail(ret_error, "out of memory");
        digest_add(digest, "builder", BUILDER_VERSION);
        digest_add(digest, "version", interpreter->version);
        digest_add(digest, "build", interpreter->build);
        digest_add(digest, "interpreter", interpreter->path);
        if (path && rules->require_hashes)
                digest_add(digest, "rule", "require-hashes");
        if (path && rules->only_binary)
                digest_add(digest, "rule", "only-binary");
        if (path && rules->wheelhouse)
                digest_add(digest, "wheelhouse", rules->wheelhouse);
        if (path) {
                r = requirements_read(&requirements, path, digest, ret_error);
                if (r < 0)
                        return r;
        }
        if (digest_hex(digest, hex) < 0)
                return fail(ret_error, "SHA-256 is not available");
        if (!requirements.summary && !(requirements.summary = strdup("")))
                return fail(ret_error, "out of memory");
        memcpy(ret, hex, sizeof(hex));
        *ret_requirements = requirements;
        requirements = (struct requirements){0};
        return 0;
}
