/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "scratch.h"
#include "venv/manifest.h"

static char told[4096];
static struct seal seal;

static void on_difference(void *data, const char *what) {
        size_t len = strlen(told);

        (void)data;
        (void)snprintf(told + len, sizeof(told) - len, "%s|", what);
}

/* What differs; "" for nothing. */
static const char *check(bool quick) {
        CLEANUP_FREE char *error = NULL;
        int n, lines = 0;

        told[0] = 0;
        n = manifest_check(scratch_path("v"), &seal, quick, on_difference, NULL, &error);
        for (const char *at = told; (at = strchr(at, '|')); at++)
                lines++;
        assert_int_equal(n, lines);
        return told;
}

static int setup(void **state) {
        CLEANUP_FREE char *error = NULL;

        if (scratch_setup(state))
                return 1;
        (void)scratch_write("v/lib/one.py", "x = 1\n");
        (void)scratch_write("v/lib/a name with\nall % in it.py", "x = 2\n");
        (void)scratch_write("v/lib-x", "");
        (void)symlink("one.py", scratch_path("v/lib/link"));
        (void)chmod(scratch_path("v/lib/one.py"), 0755);
        if (manifest_write(scratch_path("v"), &seal, &error) < 0)
                return 1;
        (void)usleep(20000); /* what is changed now is changed later, as the clock of files goes */
        return 0;
}

static void test_as_it_was(void **state) {
        struct stat st;

        (void)state;
        assert_string_equal(check(true), "");
        assert_string_equal(check(false), "");
        assert_int_equal(stat(scratch_path("v/lib/one.py"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0555);
        assert_int_equal(stat(scratch_path("v/lib-x"), &st), 0);
        assert_int_equal(st.st_mode & 0222, 0);
}

/* Same size, and the time of change set back. */
static void test_content(void **state) {
        const char *path = scratch_path("v/lib/one.py");
        struct stat st;
        int fd;

        (void)state;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(chmod(path, 0755), 0);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "y", 1, 0), 1);
        assert_int_equal(futimens(fd, (struct timespec[]){st.st_atim, st.st_mtim}), 0);
        assert_int_equal(fchmod(fd, 0555), 0);
        close(fd);
        assert_string_equal(check(true), "lib/one.py: has another content|");
        assert_string_equal(check(false), "lib/one.py: has another content|");
        assert_int_equal(chmod(path, 0755), 0);
        assert_string_equal(check(true), "lib/one.py: has another mode|");
        assert_int_equal(truncate(path, 1), 0);
        assert_int_equal(chmod(path, 0555), 0);
        assert_string_equal(check(true), "lib/one.py: has another size|");
}

static void test_names(void **state) {
        (void)state;
        (void)scratch_write("v/new", "");
        assert_string_equal(check(true), "new: was not there|");
        assert_int_equal(unlink(scratch_path("v/new")), 0);
        assert_int_equal(unlink(scratch_path("v/lib/link")), 0);
        assert_string_equal(check(true), "lib/link: is missing|");
        assert_int_equal(symlink("two.py", scratch_path("v/lib/link")), 0);
        assert_string_equal(check(true), "lib/link: leads elsewhere|");
        assert_int_equal(unlink(scratch_path("v/lib/link")), 0);
        assert_int_equal(mkfifo(scratch_path("v/lib/link"), 0600), 0);
        assert_string_equal(check(true), "lib/link: is a file of another kind|");
        assert_int_equal(unlink(scratch_path("v/lib/a name with\nall % in it.py")), 0);
        assert_string_equal(check(true), "lib/a name with\nall % in it.py: is missing|lib/link: is a file of another kind|");
}

/* A copy is new, and yet the same. */
static void test_a_copy(void **state) {
        char command[1024];

        (void)state;
        (void)snprintf(command, sizeof(command), "cd %s && cp -a v w && rm -rf v && mv w v", scratch_path("."));
        assert_int_equal(system(command), 0);
        assert_string_equal(check(true), "");
}

static void test_the_list_itself(void **state) {
        CLEANUP_FREE char *error = NULL;

        (void)state;
        assert_int_equal(chmod(scratch_path("v/" MANIFEST), 0644), 0);
        (void)scratch_write("v/" MANIFEST, "");
        assert_string_equal(check(true), MANIFEST ": has another content|");
        assert_int_equal(unlink(scratch_path("v/" MANIFEST)), 0);
        assert_true(manifest_check(scratch_path("v"), &seal, true, on_difference, NULL, &error) < 0);
        assert_non_null(strstr(error, "No such file"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_as_it_was, setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(test_content, setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(test_names, setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(test_a_copy, setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(test_the_list_itself, setup, scratch_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
