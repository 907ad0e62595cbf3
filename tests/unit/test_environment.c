/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include "pool/environment.h"

/* Return: how many variables of `variables`, which takes the place of the environment, a worker gets. */
static size_t inherited(char **variables, char **names, size_t n_names) {
        const struct strlist list = {.items = names, .n = n_names};
        char **saved = environ;
        CLEANUP_FREE char **result = NULL;
        size_t n = 0;

        environ = variables;
        result = environment_for_worker(&list);
        environ = saved;
        assert_non_null(result);
        while (result[n])
                n++;
        return n;
}

#define INHERITED(variable, ...) \
        inherited((char *[]){variable, NULL}, (char *[]){__VA_ARGS__}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *))

static void test_only_harmless_ones_unasked(void **state) {
        (void)state;
        assert_int_equal(INHERITED("PATH=/bin", "X"), 1);
        assert_int_equal(INHERITED("PATH2=/bin", "X"), 0);
        assert_int_equal(INHERITED("PAT=/bin", "X"), 0);
        assert_int_equal(INHERITED("LC_ALL=C", "X"), 1);
        assert_int_equal(INHERITED("LC=C", "X"), 0);
        assert_int_equal(INHERITED("PYTHONHASHSEED=1", "X"), 1);
        assert_int_equal(INHERITED("TOKEN=PATH", "X"), 0);
        assert_int_equal(INHERITED("=PATH", "X"), 0);
        assert_int_equal(INHERITED("PATH", "X"), 1); /* no value: as it came */
}

static void test_those_that_are_named(void **state) {
        (void)state;
        assert_int_equal(INHERITED("TOKEN=1", "X", "TOKEN"), 1);
        assert_int_equal(INHERITED("TOKEN=1", "TOKENS"), 0);
        assert_int_equal(INHERITED("TOKENS=1", "TOKEN"), 0);
        assert_int_equal(INHERITED("MODEL_KEY=1", "MODEL_*"), 1);
        assert_int_equal(INHERITED("MODEL_=1", "MODEL_*"), 1);
        assert_int_equal(INHERITED("MODEL=1", "MODEL_*"), 0);
        assert_int_equal(INHERITED("TOKEN=1", "*"), 1);
        assert_int_equal(INHERITED("TOKEN=1", ""), 0);
}

static void test_the_order_stays(void **state) {
        char *variables[] = {"B=1", "PATH=1", "SECRET=1", "A=1", NULL};
        const struct strlist list = {.items = (char *[]){"A", "B"}, .n = 2};
        char **saved = environ;
        CLEANUP_FREE char **result = NULL;

        (void)state;
        environ = variables;
        result = environment_for_worker(&list);
        environ = saved;
        assert_string_equal(result[0], "B=1");
        assert_string_equal(result[1], "PATH=1");
        assert_string_equal(result[2], "A=1");
        assert_null(result[3]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_only_harmless_ones_unasked),
                cmocka_unit_test(test_those_that_are_named),
                cmocka_unit_test(test_the_order_stays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
