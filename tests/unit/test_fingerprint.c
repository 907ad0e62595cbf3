/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <time.h>

#include "scratch.h"
#include "venv/fingerprint.h"

static const struct interpreter python = {
        .path = (char *)"/usr/bin/python3.11", .version = (char *)"3.11.2", .build = (char *)"cpython-311"};

struct result {
        char hex[DIGEST_HEX_BYTES], summary[256];
        unsigned n_lines;
};

static struct result compute_with(const struct interpreter *interpreter, const char *path) {
        CLEANUP_REQUIREMENTS struct requirements requirements = {0};
        CLEANUP_FREE char *error = NULL;
        struct result result = {0};

        if (fingerprint_compute(result.hex, &requirements, interpreter, &(struct rules){0}, path, &error) < 0)
                fail_msg("%s", error);
        assert_null(error);
        (void)snprintf(result.summary, sizeof(result.summary), "%s", requirements.summary);
        result.n_lines = requirements.n_lines;
        return result;
}

/* Of a requirements.txt with this text. */
static struct result of(const char *text) {
        return compute_with(&python, scratch_write("requirements.txt", text));
}

static void assert_same(struct result a, struct result b) {
        assert_string_equal(a.hex, b.hex);
}

static void assert_differ(struct result a, struct result b) {
        assert_string_not_equal(a.hex, b.hex);
}

static void assert_refused(const char *path, const char *with) {
        CLEANUP_REQUIREMENTS struct requirements requirements = {0};
        CLEANUP_FREE char *error = NULL;
        char hex[DIGEST_HEX_BYTES];

        assert_true(fingerprint_compute(hex, &requirements, &python, &(struct rules){0}, path, &error) < 0);
        assert_non_null(error);
        if (!strstr(error, with))
                fail_msg("\"%s\" does not say \"%s\"", error, with);
}

static void test_form_does_not_count(void **state) {
        struct result plain = of("a==1\nb>=2,<3\n");

        (void)state;
        assert_int_equal(strlen(plain.hex), 64);
        assert_int_equal(plain.n_lines, 2);
        assert_string_equal(plain.summary, "a==1, b>=2,<3");
        assert_same(plain, of("# what we need\n\n  a==1   # the first\n\n\tb>=2,<3\n"));
        assert_same(plain, of("a==1\r\nb>=2,<3\r\n"));
        assert_same(plain, of("\xef\xbb\xbf"
                              "a==1\nb>=2,<3"));
        assert_same(plain, of("a=\\\n=1\nb>=2,\\\n<3\n"));
        assert_same(plain, of("a==1\n# a comment does not go on \\\nb>=2,<3\n"));
}

static void test_meaning_counts(void **state) {
        struct result plain = of("a==1\nb\n");

        (void)state;
        assert_differ(plain, of("a==2\nb\n"));
        assert_differ(plain, of("a==1b\n"));
        assert_differ(plain, of("b\na==1\n"));
        assert_differ(plain, of("--index-url https://index.example/\na==1\nb\n"));
        /* No space before the #: a part of a URL. */
        assert_differ(of("git+https://x.example/y#egg=a\n"), of("git+https://x.example/y#egg=b\n"));
}

static void test_nothing_to_install(void **state) {
        struct result none = compute_with(&python, NULL);

        (void)state;
        assert_same(none, of(""));
        assert_same(none, of("\n  # nothing\n\\\n\n"));
        assert_int_equal(of("# nothing\n").n_lines, 0);
        assert_string_equal(none.summary, "");
}

static void test_interpreter_counts(void **state) {
        struct interpreter other = python;
        struct result plain = of("a\n");
        const char *path = scratch_path("requirements.txt");

        (void)state;
        other.version = (char *)"3.11.3";
        assert_differ(plain, compute_with(&other, path));
        other = python;
        other.path = (char *)"/opt/python/bin/python3.11";
        assert_differ(plain, compute_with(&other, path));
        other = python;
        other.build = (char *)"cpython-311d";
        assert_differ(plain, compute_with(&other, path));
}

static void test_includes_stand_for_their_lines(void **state) {
        struct result plain = of("a==1\nb\n");

        (void)state;
        (void)scratch_write("sub/base.txt", "a==1\n");
        assert_same(plain, of("-r sub/base.txt\nb\n"));
        assert_same(plain, of("-rsub/base.txt\nb\n"));
        assert_same(plain, of("--requirement sub/base.txt\nb\n"));
        assert_same(plain, of("--requirement='sub/base.txt'\nb\n"));
        (void)scratch_write("sub/more.txt", "-r base.txt\nb\n"); /* relative to where it stands */
        assert_same(plain, of("-r sub/more.txt"));
        assert_int_equal(of("-r sub/more.txt").n_lines, 2);
        (void)scratch_write("sub/base.txt", "a==2\n");
        assert_differ(plain, of("-r sub/more.txt"));
        assert_differ(of("-r https://x.example/a.txt\n"), of("-r https://x.example/b.txt\n"));
}

static void test_constraints_are_no_requirements(void **state) {
        struct result first;

        (void)state;
        (void)scratch_write("c.txt", "a==1\n");
        first = of("-c c.txt\na\n");
        assert_differ(first, of("-r c.txt\na\n"));
        assert_differ(first, of("a\n-c c.txt\n"));
        assert_same(first, of("--constraint=c.txt\na\n"));
        (void)scratch_write("c.txt", "a==2\n");
        assert_differ(first, of("-c c.txt\na\n"));
}

static void test_circles_are_refused(void **state) {
        (void)state;
        assert_refused(scratch_write("self.txt", "a\n-r self.txt\n"), "includes itself");
        (void)scratch_write("one.txt", "-c two.txt\n");
        assert_refused(scratch_write("two.txt", "-r ./one.txt\n"), "includes itself");
        /* Twice, but not in itself. */
        (void)scratch_write("leaf.txt", "a\n");
        (void)of("-r leaf.txt\n-r leaf.txt\n");
}

/* Files 1.txt … n.txt, each including the next. */
static const char *chain(int n) {
        char name[16], text[32];

        for (int i = 1; i <= n; i++) {
                (void)snprintf(name, sizeof(name), "%d.txt", i);
                (void)snprintf(text, sizeof(text), i < n ? "-r %d.txt\n" : "a\n", i + 1);
                (void)scratch_write(name, text);
        }
        return scratch_path("1.txt");
}

static void test_bounds_are_exact(void **state) {
        CLEANUP_FREE char *big = malloc((1 << 20) + 2);

        (void)state;
        assert_int_equal(compute_with(&python, chain(16)).n_lines, 1);
        assert_refused(chain(17), "16 levels");

        memset(big, '#', (1 << 20) + 1);
        big[(1 << 20) + 1] = 0;
        assert_refused(scratch_write("big.txt", big), "1048576 bytes");
        big[1 << 20] = 0;
        assert_int_equal(compute_with(&python, scratch_write("big.txt", big)).n_lines, 0);

        big[0] = 0;
        (void)scratch_write("leaf.txt", "");
        for (int i = 0; i < 255; i++)
                strcat(big, "-r leaf.txt\n");
        assert_int_equal(compute_with(&python, scratch_write("many.txt", big)).n_lines, 0);
        strcat(big, "-r leaf.txt\n");
        assert_refused(scratch_write("many.txt", big), "256 files");
}

static void test_files_that_cannot_be_read(void **state) {
        (void)state;
        assert_refused(scratch_write("r.txt", "-r missing.txt\n"), "missing.txt cannot be read");
        assert_refused(scratch_write("r.txt", "-c /dev/null\n"), "/dev/null is no file");
        /* What the installer is to complain about. */
        (void)of("-r\n");
        (void)of("./missing.whl\n-e ./missing\n\"unfinished\n");
}

/* Writes bytes, NULs included. */
static const char *write_bytes(const char *bytes, size_t n) {
        const char *path = scratch_write("bytes.txt", "");
        FILE *file = fopen(path, "w");

        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, n, file), n);
        assert_int_equal(fclose(file), 0);
        return path;
}

static void test_what_is_no_text_is_refused(void **state) {
        (void)state;
        assert_refused(write_bytes("#\0\na\n", 5), "save it as UTF-8");
        assert_refused(write_bytes("a\n\0", 3), "save it as UTF-8");
        assert_refused(write_bytes("\xff\xfe"
                                   "a\0\n\0",
                                   6),
                       "bytes.txt is not plain text");
        assert_refused(write_bytes("\xfe\xff\x61\x61", 4), "save it as UTF-8");
        assert_refused(write_bytes("\xff\xfe", 2), "save it as UTF-8");
        (void)compute_with(&python, write_bytes("\xff", 1));
        (void)compute_with(&python, write_bytes("", 0));
        assert_refused(scratch_write("r.txt", "-r bytes2.txt\n-r missing.txt\n"), "bytes2.txt cannot be read");
        (void)write_bytes("a\0", 2);
        assert_refused(scratch_write("r.txt", "-r bytes.txt\n"), "bytes.txt is not plain text");
}

static void test_extras_are_cut_off_once(void **state) {
        static char many[1 << 20];
        struct result one, two;
        clock_t start;

        (void)state;
        (void)scratch_write("pkg/a.py", "1");
        one = of("./pkg[x]\n");
        two = of("./pkg[x][y]\n");
        (void)scratch_write("pkg/a.py", "2");
        assert_differ(one, of("./pkg[x]\n"));
        assert_same(two, of("./pkg[x][y]\n"));
        memset(many, '[', sizeof(many) - 2);
        memcpy(many, "./", 2);
        many[sizeof(many) - 2] = ']';
        start = clock();
        (void)of(many);
        for (size_t i = 4000; i < sizeof(many) - 2; i += 4000)
                memcpy(many + i, "] ./", 4); /* many words, each short enough to be a path */
        (void)of(many);
        assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
}

static void test_local_files_count_by_content(void **state) {
        struct result first;

        (void)state;
        (void)scratch_write("wheels/a-1.whl", "one");
        first = of("./wheels/a-1.whl\n");
        assert_same(first, of("./wheels/a-1.whl\n"));
        (void)scratch_write("wheels/a-1.whl", "two");
        assert_differ(first, of("./wheels/a-1.whl\n"));

        (void)scratch_write("a b-1.whl", "one");
        first = of("a @ file:a%20b-1.whl#sha256=0\n");
        (void)scratch_write("a b-1.whl", "two");
        assert_differ(first, of("a @ file:a%20b-1.whl#sha256=0\n"));

        (void)scratch_write("pkg/setup.py", "one");
        first = of("./pkg[extra] ; python_version > '3'\n");
        (void)scratch_write("pkg/setup.py", "two");
        assert_differ(first, of("./pkg[extra] ; python_version > '3'\n"));

        /* A name is no path, whatever lies beside the file. */
        first = of("pkg\n");
        (void)scratch_write("pkg/setup.py", "three");
        assert_same(first, of("pkg\n"));
}

static void test_folders_without_what_builds_leave(void **state) {
        struct result first;

        (void)state;
        (void)scratch_write("pkg/src/m.py", "x = 1");
        first = of("./pkg\n");
        (void)scratch_write("pkg/build/lib/m.py", "x");
        (void)scratch_write("pkg/dist/m.whl", "x");
        (void)scratch_write("pkg/src/m.egg-info/PKG-INFO", "x");
        (void)scratch_write("pkg/src/__pycache__/m.pyc", "x");
        (void)scratch_write("pkg/.git/HEAD", "x");
        assert_same(first, of("./pkg\n"));
        (void)scratch_write("pkg/src/build/m.py", "x");
        assert_differ(first, of("./pkg\n"));
        first = of("./pkg\n");
        assert_int_equal(rename(scratch_path("pkg/src/m.py"), scratch_path("pkg/src/n.py")), 0);
        assert_differ(first, of("./pkg\n"));
        first = of("./pkg\n");
        assert_int_equal(symlink("n.py", scratch_path("pkg/src/link.py")), 0);
        assert_differ(first, of("./pkg\n"));
}

/* The same text in two folders means the same, unless the venv would point into one of them. */
static void test_what_is_used_in_place_counts_by_path(void **state) {
        const char *folders[] = {"one", "two"};
        struct result copied[2], editable[2], links[2];
        char name[64];

        (void)state;
        for (int i = 0; i < 2; i++) {
                (void)snprintf(name, sizeof(name), "%s/pkg/setup.py", folders[i]);
                (void)scratch_write(name, "same");
                (void)snprintf(name, sizeof(name), "%s/r.txt", folders[i]);
                copied[i] = compute_with(&python, scratch_write(name, "./pkg\n"));
                editable[i] = compute_with(&python, scratch_write(name, "-e ./pkg\n"));
                links[i] = compute_with(&python, scratch_write(name, "--no-index --find-links ./pkg\na\n"));
        }
        assert_same(copied[0], copied[1]);
        assert_differ(editable[0], editable[1]);
        assert_differ(links[0], links[1]);
        (void)scratch_write("two/pkg/setup.py", "changed");
        assert_same(links[1], compute_with(&python, scratch_write("two/r.txt", "--no-index --find-links ./pkg\na\n")));
        assert_differ(editable[1], compute_with(&python, scratch_write("two/r.txt", "-e ./pkg\n")));
}

static void test_summary(void **state) {
        char text[512];
        struct result result;

        (void)state;
        result = of("--index-url https://user:p@ss@index.example/simple\na @ https://token@x.example/a.whl\n");
        assert_string_equal(result.summary, "--index-url https://****@index.example, a @ https://****@x.example/a.whl");
        result = of("--extra-index-url https://x.example/token/simple --pre\n--index-url=https://y.example:1?t=token\n-f "
                    "file:///a/b\n");
        assert_string_equal(result.summary,
                            "--extra-index-url https://x.example --pre, --index-url=https://y.example:1, -f file://");
        assert_string_equal(of("caf\xc3\xa9\n").summary, "caf??");
        memset(text, 'x', sizeof(text));
        text[300] = 0;
        assert_int_equal(strlen(of(text).summary), 200 + strlen("…"));
        text[200] = 0;
        assert_string_equal(of(text).summary, text);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_form_does_not_count),
                TEST(test_meaning_counts),
                TEST(test_nothing_to_install),
                TEST(test_interpreter_counts),
                TEST(test_includes_stand_for_their_lines),
                TEST(test_constraints_are_no_requirements),
                TEST(test_circles_are_refused),
                TEST(test_bounds_are_exact),
                TEST(test_files_that_cannot_be_read),
                TEST(test_what_is_no_text_is_refused),
                TEST(test_extras_are_cut_off_once),
                TEST(test_local_files_count_by_content),
                TEST(test_folders_without_what_builds_leave),
                TEST(test_what_is_used_in_place_counts_by_path),
                TEST(test_summary),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
