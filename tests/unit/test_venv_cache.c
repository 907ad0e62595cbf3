/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <sys/file.h>
#include <sys/wait.h>

#include "scratch.h"
#include "venv/cache.h"

#define ONE "1111111111111111111111111111111111111111111111111111111111111111"
#define TWO "2222222222222222222222222222222222222222222222222222222222222222"

static struct cache cache;

static int setup(void **state) {
        CLEANUP_FREE char *error = NULL;

        return scratch_setup(state) || cache_open(&cache, scratch_path("a/b"), true, &error);
}

static int teardown(void **state) {
        cache_done(&cache);
        return scratch_teardown(state);
}

static bool exists(const char *name) {
        return faccessat(cache.fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static char *prepare(const char *fingerprint) {
        CLEANUP_FREE char *error = NULL;
        char *building = NULL;

        if (cache_prepare(&cache, fingerprint, &building, &error) < 0)
                fail_msg("%s", error);
        return building;
}

/* Puts something at `building` that looks like a venv. */
static void fill(const char *building) {
        char path[512];

        assert_int_equal(mkdir(building, 0755), 0);
        (void)snprintf(path, sizeof(path), "%s/bin", building);
        assert_int_equal(mkdir(path, 0755), 0);
        (void)snprintf(path, sizeof(path), "%s/bin/python", building);
        assert_int_equal(symlink("/bin/sh", path), 0);
}

static int commit(const char *building, const char *fingerprint) {
        CLEANUP_FREE char *error = NULL;
        struct cache_entry entry = {.fingerprint = (char *)fingerprint,
                                    .python = (char *)"3.11.2",
                                    .interpreter = (char *)"/usr/bin/python3.11",
                                    .installer = (char *)"none",
                                    .requirements = (char *)"a, b"};

        return cache_commit(&cache, building, &entry, &error);
}

static void make(const char *fingerprint) {
        CLEANUP_FREE char *building = prepare(fingerprint);

        fill(building);
        assert_int_equal(commit(building, fingerprint), 0);
}

static void test_complete_only_after_commit(void **state) {
        CLEANUP_FREE char *building = NULL;

        (void)state;
        assert_false(cache_find(&cache, ONE));
        building = prepare(ONE);
        fill(building);
        assert_false(cache_find(&cache, ONE));
        assert_int_equal(commit(building, ONE), 0);
        assert_true(cache_find(&cache, ONE));
        assert_false(cache_find(&cache, TWO));
        assert_int_not_equal(access(building, F_OK), 0);
}

/* The description of ONE, as it was written. */
static char *read_marker(void) {
        CLEANUP_FD int fd = openat(cache.fd, ONE "/cpexd-venv.json", O_RDONLY | O_CLOEXEC);
        char *text = calloc(1, 4096);

        assert_true(read(fd, text, 4095) > 0);
        return text;
}

static void test_damaged_is_not_found_and_moved_away(void **state) {
        CLEANUP_FREE char *building = NULL, *marker = NULL;

        (void)state;
        make(ONE);
        marker = read_marker();
        (void)scratch_write("a/b/venvs/" ONE "/cpexd-venv.json", "{\"format\": 2, \"finger");
        assert_false(cache_find(&cache, ONE));
        (void)scratch_write("a/b/venvs/" ONE "/cpexd-venv.json", "{\"format\": 2, \"fingerprint\": \"" TWO "\"}");
        assert_false(cache_find(&cache, ONE));
        (void)scratch_write("a/b/venvs/" ONE "/cpexd-venv.json", "{\"format\": 1, \"fingerprint\": \"" ONE "\"}");
        assert_false(cache_find(&cache, ONE));
        (void)scratch_write("a/b/venvs/" ONE "/cpexd-venv.json", marker);
        assert_true(cache_find(&cache, ONE));
        assert_int_equal(unlinkat(cache.fd, ONE "/bin/python", 0), 0);
        assert_false(cache_find(&cache, ONE));

        building = prepare(ONE);
        assert_false(exists(ONE));
        assert_int_not_equal(access(building, F_OK), 0);
}

static void test_commit_replaces_nothing(void **state) {
        CLEANUP_FREE char *building = prepare(ONE);

        (void)state;
        fill(building);
        (void)scratch_write("a/b/venvs/" ONE "/precious", "x");
        assert_true(commit(building, ONE) < 0);
        assert_true(exists(ONE "/precious"));
        cache_abandon(building);
        assert_int_not_equal(access(building, F_OK), 0);
}

static void assert_open_refuses(const char *what) {
        CLEANUP_FREE char *error = NULL;
        CLEANUP_CACHE struct cache other = {0};

        assert_true(cache_open(&other, scratch_path("a/b"), true, &error) < 0);
        if (!strstr(error, what) || !strstr(error, "cache_dir"))
                fail_msg("%s", error);
}

static void assert_opens(void) {
        CLEANUP_FREE char *error = NULL;
        CLEANUP_CACHE struct cache other = {0};

        if (cache_open(&other, scratch_path("a/b"), true, &error) < 0)
                fail_msg("%s", error);
}

static void test_folders_others_can_write_to_are_refused(void **state) {
        static const char *const folders[] = {"a/b", "a/b/venvs"};
        struct stat st;

        (void)state;
        for (size_t i = 0; i < ELEMENTS(folders); i++) {
                const char *path = scratch_path(folders[i]);

                assert_int_equal(stat(path, &st), 0);
                assert_int_equal(st.st_mode & (S_IWGRP | S_IWOTH), 0);
                assert_int_equal(chmod(path, 0775), 0);
                assert_open_refuses(path);
                assert_int_equal(chmod(path, 01757), 0);
                assert_open_refuses("can be written to by other users");
                assert_int_equal(chmod(path, 0755), 0);
        }
        assert_int_equal(chmod(scratch_path("a"), 01777), 0); /* as /tmp is */
        assert_opens();
}

static void test_folders_of_others_are_refused(void **state) {
        (void)state;
        if (geteuid() != 0)
                skip(); /* nothing can be given away */
        assert_int_equal(chown(scratch_path("a/b"), 12345, 0), 0);
        assert_open_refuses("belongs to user 12345");
        assert_int_equal(chown(scratch_path("a/b"), 0, 0), 0);
        assert_int_equal(fchown(cache.fd, 12345, 0), 0);
        assert_open_refuses("belongs to user 12345");
        assert_int_equal(fchown(cache.fd, 0, 12345), 0);
        assert_opens();
}

static void test_planted_venvs_are_not_found(void **state) {
        (void)state;
        make(ONE);
        assert_int_equal(fchmodat(cache.fd, ONE, 0775, 0), 0);
        assert_false(cache_find(&cache, ONE));
        assert_int_equal(fchmodat(cache.fd, ONE, 0755, 0), 0);
        assert_true(cache_find(&cache, ONE));
        assert_int_equal(renameat(cache.fd, ONE, cache.fd, "elsewhere"), 0);
        assert_int_equal(symlinkat("elsewhere", cache.fd, ONE), 0);
        assert_false(cache_find(&cache, ONE));
        assert_int_equal(unlinkat(cache.fd, ONE, 0), 0);
        assert_int_equal(renameat(cache.fd, "elsewhere", cache.fd, ONE), 0);
        if (geteuid() != 0)
                skip();
        assert_int_equal(fchownat(cache.fd, ONE, 12345, 0, 0), 0);
        assert_false(cache_find(&cache, ONE));
        assert_int_equal(fchownat(cache.fd, ONE, 0, 0, 0), 0);
        assert_true(cache_find(&cache, ONE));
}

#define MARKER_MAX (1 << 20)

static void test_markers_that_are_none(void **state) {
        static char text[MARKER_MAX + 2];
        CLEANUP_FREE char *written = NULL;
        const char *marker = ONE "/cpexd-venv.json";

        (void)state;
        make(ONE);
        written = read_marker();
        memset(text, ' ', MARKER_MAX + 1);
        memcpy(text, written, strlen(written));
        (void)scratch_write("a/b/venvs/" ONE "/cpexd-venv.json", text);
        assert_false(cache_find(&cache, ONE));
        text[MARKER_MAX] = 0;
        (void)scratch_write("a/b/venvs/" ONE "/cpexd-venv.json", text);
        assert_true(cache_find(&cache, ONE));

        assert_int_equal(renameat(cache.fd, marker, cache.fd, "other.json"), 0);
        assert_int_equal(symlinkat("../other.json", cache.fd, marker), 0);
        assert_false(cache_find(&cache, ONE));
        assert_int_equal(unlinkat(cache.fd, marker, 0), 0);
        assert_int_equal(mkfifoat(cache.fd, marker, 0644), 0);
        (void)alarm(10);
        assert_false(cache_find(&cache, ONE));
        (void)alarm(0);
}

/* Holds the lock of TWO in another process until `*to_end` is closed. */
static pid_t hold_lock(int *to_end) {
        int ready[2], end[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(end, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                CLEANUP_FREE char *error = NULL;
                int lock;

                (void)close(end[1]);
                if (cache_lock(&cache, TWO, USEC_PER_SEC, &lock, &error) < 0)
                        _exit(1);
                (void)!write(ready[1], "x", 1);
                (void)!read(end[0], &byte, 1);
                _exit(0);
        }
        (void)close(ready[1]);
        (void)close(end[0]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        (void)close(ready[0]);
        *to_end = end[1];
        return pid;
}

static void test_lock_is_exclusive(void **state) {
        CLEANUP_FREE char *error = NULL;
        int to_end, lock = -1;
        pid_t pid = hold_lock(&to_end);

        (void)state;
        assert_true(cache_lock(&cache, TWO, 1000, &lock, &error) < 0);
        assert_non_null(strstr(error, "for another plugin or by another cpexd"));
        assert_int_equal(cache_lock(&cache, ONE, 1000, &lock, &error), 0); /* another one is free */
        (void)close(lock);
        (void)close(to_end);
        assert_int_equal(cache_lock(&cache, TWO, 5 * USEC_PER_SEC, &lock, &error), 0);
        (void)close(lock);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_leftovers_go_and_work_stays(void **state) {
        CLEANUP_FREE char *building = NULL, *again = NULL;
        int to_end;
        pid_t pid;

        (void)state;
        (void)scratch_write("a/b/venvs/.building-" ONE "-1/bin/x", "x");
        (void)scratch_write("a/b/venvs/.building-" TWO "-1/bin/x", "x");
        (void)scratch_write("a/b/venvs/.building-short-1/x", "not ours");
        assert_int_equal(fchmodat(cache.fd, ".building-" ONE "-1/bin", 0500, 0), 0);
        pid = hold_lock(&to_end);
        building = prepare(ONE);
        assert_false(exists(".building-" ONE "-1"));
        assert_true(exists(".building-" TWO "-1"));
        (void)close(to_end);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        again = prepare(ONE);
        assert_false(exists(".building-" TWO "-1"));
        assert_true(exists(".building-short-1"));
}

static void test_list(void **state) {
        const struct timespec past[] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
        CLEANUP_FREE struct cache_entry *entries = NULL;
        CLEANUP_FREE char *error = NULL;
        size_t n;

        (void)state;
        make(ONE);
        make(TWO);
        (void)scratch_write("a/b/venvs/3333333333333333333333333333333333333333333333333333333333333333/x", "no venv");
        assert_int_equal(utimensat(cache.fd, ONE "/cpexd-venv.json", past, 0), 0);
        assert_int_equal(cache_list(&cache, &entries, &n, &error), 0);
        assert_int_equal(n, 2);
        assert_string_equal(entries[0].fingerprint, TWO);
        assert_string_equal(entries[1].fingerprint, ONE);
        assert_string_equal(entries[1].requirements, "a, b");
        assert_string_equal(entries[1].interpreter, "/usr/bin/python3.11");
        assert_int_equal(entries[1].used_sec, 1000);
        assert_true(entries[1].created_sec > 1000);
        assert_true(entries[1].size_bytes > 0);
        for (size_t i = 0; i < n; i++)
                cache_entry_done(&entries[i]);

        assert_true(cache_find(&cache, ONE)); /* is a use */
        free(TAKE(entries));
        assert_int_equal(cache_list(&cache, &entries, &n, &error), 0);
        assert_true(entries[0].used_sec > 1000 && entries[1].used_sec > 1000);
        for (size_t i = 0; i < n; i++)
                cache_entry_done(&entries[i]);
}

static void test_open_says_what_is_wrong(void **state) {
        CLEANUP_FREE char *error = NULL, *missing = NULL;
        struct cache other;

        (void)state;
        assert_true(cache_open(&other, scratch_path("nowhere"), false, &missing) < 0);
        assert_non_null(strstr(missing, "cannot be opened"));
        (void)scratch_write("file", "x");
        assert_true(cache_open(&other, scratch_path("file/in"), true, &error) < 0);
        assert_non_null(strstr(error, "cache_dir"));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_complete_only_after_commit),    TEST(test_damaged_is_not_found_and_moved_away),
                TEST(test_commit_replaces_nothing),       TEST(test_lock_is_exclusive),
                TEST(test_leftovers_go_and_work_stays),   TEST(test_list),
                TEST(test_open_says_what_is_wrong),       TEST(test_folders_others_can_write_to_are_refused),
                TEST(test_folders_of_others_are_refused), TEST(test_planted_venvs_are_not_found),
                TEST(test_markers_that_are_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
