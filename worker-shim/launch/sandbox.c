/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The order of the steps. Privileges go first: without capabilities, and with no way to get any, what comes after works for root as it does
 * for everybody, and the kernel accepts rules from an unprivileged process. System calls go last, for the steps before need some.
 *
 * Nothing here needs a privilege, so that the sandbox is the same in a terminal, in a container and under systemd. A kernel that lacks a piece
 * gives a weaker sandbox, and says so; sandbox.require makes that an error.
 */

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launch.h"

/* Under systemd there are none, and the unit does not let capset() be called. */
static bool has_capabilities(struct __user_cap_header_struct *header) {
        struct __user_cap_data_struct held[_LINUX_CAPABILITY_U32S_3] = {0};

        if (syscall(SYS_capget, header, held) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot tell which capabilities there are: %m");
        return held[0].permitted || held[1].permitted;
}

/* Root without capabilities stays so: with no_new_privs exec gives back none. */
static void drop_privileges(void) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot give up new privileges: %m");
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if (has_capabilities(&header) && syscall(SYS_capset, &header, none) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot drop capabilities: %m");
}

static void set_variable(const char *name, const char *value) {
        if (setenv(name, value, 1) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "out of memory");
}

static void choose_tmp(const char *tmp) {
        set_variable("TMPDIR", tmp);
        set_variable("TMP", tmp);
        set_variable("TEMP", tmp);
}

/* Which tells what a PermissionError may come from. */
static void tell_runner(const struct launch *launch, bool logs) {
        const char *network = launch->network_all   ? ", network"
                              : launch->ports.n > 0 ? ", ports"
                              : launch->unix_all    ? ", unix"
                                                    : "";
        char text[64];

        (void)snprintf(text, sizeof(text), "on%s%s", logs ? ", calls are logged" : "", network);
        set_variable("CPEXD_SANDBOX", text);
}

void sandbox_enter(const struct launch *launch) {
        bool logs;

        if (launch->profile == PROFILE_OFF)
                return;
        if (launch->tmp)
                choose_tmp(launch->tmp);
        drop_privileges();
        landlock_enter(launch);
        logs = seccomp_enter(launch);
        if (!launch->program)
                tell_runner(launch, logs);
}
