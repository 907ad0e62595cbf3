/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is there is told by the venv itself; pip's report adds the hash. A package that runs code while it is installed may have written
 * to both: this is a record of what an installer did, and no proof.
 */

#include "venv/audit.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "venv/say.h"

#define REPORT_BYTES_MAX (16 << 20)
#define PACKAGES_MAX 2000
#define INFO ".dist-info"

static json_t *load_report(const char *path) {
        CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > REPORT_BYTES_MAX)
                return NULL;
        return json_loadfd(fd, 0, NULL);
}

/* As packages are compared: Flask_Login and flask.login are one. */
static bool same_name(const char *a, const char *b) {
        while (*a && *b) {
                bool dash_a = strchr("-_.", *a), dash_b = strchr("-_.", *b);

                if (dash_a != dash_b || (!dash_a && tolower((unsigned char)*a) != tolower((unsigned char)*b)))
                        return false;
                a += dash_a ? strspn(a, "-_.") : 1;
                b += dash_b ? strspn(b, "-_.") : 1;
        }
        return !*a && !*b;
}

static const char *hash_of(json_t *report, const char *name) {
        json_t *each;
        size_t i;

        json_array_foreach(json_object_get(report, "install"), i, each) {
                const char *its = json_string_value(json_object_get(json_object_get(each, "metadata"), "name"));
                json_t *archive = json_object_get(json_object_get(each, "download_info"), "archive_info");
                const char *hash = json_string_value(json_object_get(json_object_get(archive, "hashes"), "sha256"));

                if (!its || !same_name(its, name))
                        continue;
                if (!hash && (hash = json_string_value(json_object_get(archive, "hash"))))
                        hash = strncmp(hash, "sha256=", 7) == 0 ? hash + 7 : NULL;
                return hash;
        }
        return NULL;
}

/* `info`: "NAME-VERSION.dist-info". */
static void add_package(json_t *packages, json_t *report, const char *info) {
        CLEANUP_FREE char *name = strndup(info, strlen(info) - strlen(INFO));
        char *dash = name ? strrchr(name, '-') : NULL;
        const char *hash;

        if (!dash || json_array_size(packages) >= PACKAGES_MAX)
                return;
        *dash = 0;
        hash = hash_of(report, name);
        say("installed %s %s, %s%s", name, dash + 1, hash ? "sha256 " : "of which no hash is known", hash ? hash : "");
        (void)json_array_append_new(packages, json_pack("{ss ss ss?}", "name", name, "version", dash + 1, "sha256", hash));
}

static int is_info(const struct dirent *entry) {
        size_t len = strlen(entry->d_name);

        return len > strlen(INFO) && str_eq(entry->d_name + len - strlen(INFO), INFO);
}

static int is_python(const struct dirent *entry) {
        return strncmp(entry->d_name, "python", 6) == 0;
}

static void add_folder(json_t *packages, json_t *report, const char *folder) {
        struct dirent **entries;
        int n = scandir(folder, &entries, is_info, alphasort);

        for (int i = 0; i < n; i++) {
                add_package(packages, report, entries[i]->d_name);
                free(entries[i]);
        }
        if (n >= 0)
                free(entries);
}

json_t *audit_packages(const char *venv, const char *report_path) {
        json_auto_t *report = load_report(report_path);
        json_t *packages = json_array();
        struct dirent **entries;
        char path[PATH_MAX];
        int n = -1;

        if (packages && snprintf(path, sizeof(path), "%s/lib", venv) < PATH_MAX)
                n = scandir(path, &entries, is_python, alphasort);
        for (int i = 0; i < n; i++) {
                if (snprintf(path, sizeof(path), "%s/lib/%s/site-packages", venv, entries[i]->d_name) < PATH_MAX)
                        add_folder(packages, report, path);
                free(entries[i]);
        }
        if (n >= 0)
                free(entries);
        return packages;
}
