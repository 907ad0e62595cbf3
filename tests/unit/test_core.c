/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/core.h"
#include "config/load.h"

#define IN_A_ROW 32

static const int host, other_host;
static cpu_set_t all;

static cpu_set_t allowed(void) {
        cpu_set_t now;

        assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
        return now;
}

static void assert_spread(void) {
        cpu_set_t now = allowed();

        assert_int_equal(core_gathered(), CORE_NONE);
        assert_true(CPU_EQUAL(&now, &all));
}

static void assert_gathered(void) {
        cpu_set_t now = allowed();

        assert_int_equal(core_gathered(), sched_getcpu());
        assert_int_equal(CPU_COUNT(&now), 1);
}

static void call(const void *whose, unsigned n) {
        while (n-- > 0)
                core_on_call(whose, true);
}

static int setup(void **state) {
        (void)state;
        all = allowed();
        core_set(true);
        core_on_call(&other_host, false);
        return 0;
}

static int teardown(void **state) {
        (void)state;
        core_set(false);
        return 0;
}

static void test_gathers_after_calls_in_a_row(void **state) {
        (void)state;
        call(&host, IN_A_ROW);
        assert_spread();
        call(&host, 1);
        assert_gathered();
        call(&host, 1000);
        assert_gathered();
}

static void test_spreads_with_what_is_parallel(void **state) {
        (void)state;
        call(&host, IN_A_ROW + 1);
        assert_gathered();
        call(&other_host, 1);
        assert_spread();

        call(&other_host, IN_A_ROW);
        assert_gathered();
        core_on_call(&other_host, false);
        assert_spread();

        for (int i = 0; i < 5 * IN_A_ROW; i++)
                call(i % 2 == 0 ? &host : &other_host, 1);
        assert_spread();
}

static void test_only_where_it_may(void **state) {
        (void)state;
        core_set(false);
        call(&host, 2 * IN_A_ROW);
        assert_spread();
        core_set(true);
        call(&host, 2 * IN_A_ROW);
        assert_gathered();
        core_set(false);
        assert_spread();
}

/* One that may run on a single processor is where it is; being told so would be of no use to hosts. */
static void test_a_single_processor(void **state) {
        cpu_set_t one;

        (void)state;
        CPU_ZERO(&one);
        CPU_SET((unsigned)sched_getcpu(), &one);
        assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
        call(&host, 2 * IN_A_ROW);
        assert_int_equal(core_gathered(), CORE_NONE);
        assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

/* taskset, say. */
static void test_where_somebody_else_holds_it(void **state) {
        int here;
        cpu_set_t one;

        (void)state;
        call(&host, IN_A_ROW + 1);
        assert_gathered();
        here = core_gathered();
        one = all;
        CPU_CLR((unsigned)here, &one);
        assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
        call(&host, 256);
        assert_int_not_equal(core_gathered(), here);
        core_spread();
        all = allowed();
        assert_true(CPU_EQUAL(&all, &one));
        CPU_SET((unsigned)here, &all);
        assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void on_exit_seen(void *data, int status) {
        *(int *)data = status;
}

static void test_children_may_run_anywhere(void **state) {
        char script[128];
        const char *const argv[] = {"/bin/sh", "-c", script, NULL};
        const struct child_spec spec = {.argv = argv, .output = STDERR_FILENO, .error = STDERR_FILENO};
        struct event_base *base = event_base_new();
        struct child *child = NULL;
        int status = -1;

        (void)state;
        (void)snprintf(script, sizeof(script), "[ $(nproc) = %d ]", CPU_COUNT(&all));
        call(&host, IN_A_ROW + 1);
        assert_gathered();
        assert_int_equal(child_spawn(&child, base, &spec, on_exit_seen, &status), 0);
        while (status == -1)
                assert_true(event_base_loop(base, EVLOOP_ONCE) >= 0);
        assert_int_equal(status, 0);
        (void)child_free(child);
        event_base_free(base);
}

static void on_loaded(void *data, int r, struct daemon_config *daemon, struct plugins_config *plugins) {
        (void)daemon;
        (void)plugins;
        *(int *)data = r;
}

/* It is read by a thread, for which a processor that others keep to is no place. */
static void test_a_configuration_is_read_anywhere(void **state) {
        const struct config_source source = {.path = "/nonexistent/cpexd.yaml"};
        struct event_base *base = event_base_new();
        struct config_load *load = NULL;
        struct diags diags = {0};
        int result = 0;

        (void)state;
        call(&host, IN_A_ROW + 1);
        assert_gathered();
        assert_int_equal(config_load_start(&load, base, &source, &diags, on_loaded, &result), 0);
        assert_spread();
        while (result == 0)
                assert_true(event_base_loop(base, EVLOOP_ONCE) >= 0);
        (void)config_load_free(load);
        diags_done(&diags);
        event_base_free(base);
}

static pid_t hog(unsigned core) {
        pid_t pid = fork();
        cpu_set_t one;

        assert_true(pid >= 0);
        if (pid > 0)
                return pid;
        CPU_ZERO(&one);
        CPU_SET(core, &one);
        (void)sched_setaffinity(0, sizeof(one), &one);
        for (;;)
                ;
}

static void busy(usec_t usec) {
        for (usec_t until = clock_now_usec() + usec; clock_now_usec() < until;)
                ;
}

/* Somebody who computes on that processor and may not go elsewhere: it is left, and not come back to at once. */
static void test_leaves_a_crowded_processor(void **state) {
        pid_t hogs[3];

        (void)state;
        call(&host, IN_A_ROW + 1);
        assert_gathered();
        for (size_t i = 0; i < ELEMENTS(hogs); i++)
                hogs[i] = hog((unsigned)core_gathered());
        for (int i = 0; i < 5000 && core_gathered() != CORE_NONE; i++) {
                busy(5 * USEC_PER_MSEC);
                call(&host, 1);
        }
        assert_spread();
        call(&host, 2 * IN_A_ROW);
        assert_spread();
        for (size_t i = 0; i < ELEMENTS(hogs); i++) {
                (void)kill(hogs[i], SIGKILL);
                (void)waitpid(hogs[i], NULL, 0);
        }
        busy(1200 * USEC_PER_MSEC);
        call(&host, 2 * IN_A_ROW);
        assert_gathered();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_gathers_after_calls_in_a_row, setup, teardown),
                cmocka_unit_test_setup_teardown(test_spreads_with_what_is_parallel, setup, teardown),
                cmocka_unit_test_setup_teardown(test_only_where_it_may, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_single_processor, setup, teardown),
                cmocka_unit_test_setup_teardown(test_where_somebody_else_holds_it, setup, teardown),
                cmocka_unit_test_setup_teardown(test_children_may_run_anywhere, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_configuration_is_read_anywhere, setup, teardown),
                cmocka_unit_test_setup_teardown(test_leaves_a_crowded_processor, setup, teardown),
        };

        all = allowed();
        if (CPU_COUNT(&all) < 2)
                return 77; /* skipped: there is nothing to choose from */
        return cmocka_run_group_tests(tests, NULL, NULL);
}
