/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's environment holds what `{{ env.X }}` in plugins.yaml is made of, and so secrets, each for one plugin. If all of it were
 * passed on, every plugin would have all of them. It is thinned out here and not in the launcher, whose own environment the processes of
 * the same user can read.
 *
 * What passes unasked is what finds things (paths, locale, certificates, proxies) and tunes libraries. LD_PRELOAD and the
 * like are the choice of whoever starts the daemon; no plugin and no host can set them. What would lead Python to other code is
 * dropped by the launcher in any case.
 */

#include "pool/environment.h"

#include "base/variables.h"

static char *const harmless[] = {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LANGUAGE",
        "LC_*",
        "TZ",
        "TZDIR",
        "TMPDIR",
        "TMP",
        "TEMP",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "GLIBC_TUNABLES",
        "MALLOC_*",
        "ASAN_OPTIONS",
        "LSAN_OPTIONS",
        "UBSAN_OPTIONS",
        "OMP_*",
        "OPENBLAS_*",
        "MKL_*",
        "CUDA_VISIBLE_DEVICES",
        "PYTHON*",
        "PLUGINS_SSRF_PROTECTION_ENABLED", /* a switch of cpex.framework.validators */
};

char **environment_for_worker(const struct strlist *names) {
        size_t n = 0, kept = 0;
        char **result;

        while (environ[n])
                n++;
        result = calloc(n + 1, sizeof(*result));
        for (size_t i = 0; result && i < n; i++)
                if (variable_is_named(environ[i], harmless, ELEMENTS(harmless)) ||
                    variable_is_named(environ[i], names->items, names->n))
                        result[kept++] = environ[i];
        return result;
}
