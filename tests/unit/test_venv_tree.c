/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "scratch.h"
#include "venv/tree.h"

static void assert_content(const char *path, const char *text) {
        FILE *file = fopen(path, "r");
        char got[256] = "";

        assert_non_null(file);
        (void)!fread(got, 1, sizeof(got) - 1, file);
        (void)fclose(file);
        assert_string_equal(got, text);
}

static void test_replace(void **state) {
        const char *path = scratch_write("script", "#!/old/python\n/old/ and old\n");
        struct stat st;

        (void)state;
        assert_int_equal(chmod(path, 0754), 0);
        assert_int_equal(file_replace(path, "old", "newer"), 0);
        assert_content(path, "#!/newer/python\n/newer/ and newer\n");
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0754);
        assert_int_equal(file_replace(path, "newer", ""), 0);
        assert_content(path, "#!//python\n// and \n");
        assert_int_equal(file_replace(scratch_path("missing"), "a", "b"), -ENOENT);
        assert_int_equal(file_replace(scratch, "a", "b"), 0);
}

static void test_replace_leaves_alone(void **state) {
        const char *shared = scratch_write("shared", "old"), *path = scratch_path("linked"), *binary = scratch_path("binary");
        struct stat before, after;
        int fd;

        (void)state;
        assert_int_equal(link(shared, path), 0);
        assert_int_equal(file_replace(path, "old", "new"), 0);
        assert_content(path, "new");
        assert_content(shared, "old"); /* somebody else's */

        assert_int_equal(stat(shared, &before), 0);
        assert_int_equal(file_replace(shared, "none", "x"), 0);
        assert_int_equal(stat(shared, &after), 0);
        assert_int_equal(before.st_ino, after.st_ino);

        assert_int_equal(symlink(shared, scratch_path("symbolic")), 0);
        assert_int_equal(file_replace(scratch_path("symbolic"), "old", "new"), 0);
        assert_content(shared, "old");

        fd = open(binary, O_WRONLY | O_CREAT, 0755);
        assert_int_equal(write(fd, "old\0old", 7), 7);
        (void)close(fd);
        assert_int_equal(file_replace(binary, "old", "new"), 0);
        assert_content(binary, "old");
}

static void test_remove(void **state) {
        (void)state;
        (void)scratch_write("keep", "x");
        (void)scratch_write("tree/a/b/file", "x");
        assert_int_equal(symlink(scratch_path("keep"), scratch_path("tree/a/link")), 0);
        assert_int_equal(symlink(scratch, scratch_path("tree/up")), 0);
        assert_int_equal(chmod(scratch_path("tree/a/b"), 0), 0);
        assert_true(tree_size(scratch_path("tree")) > 0);
        assert_int_equal(tree_remove(scratch_path("tree")), 0);
        assert_int_not_equal(access(scratch_path("tree"), F_OK), 0);
        assert_content(scratch_path("keep"), "x");
        assert_int_equal(tree_remove(scratch_path("tree")), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {TEST(test_replace), TEST(test_replace_leaves_alone), TEST(test_remove)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
