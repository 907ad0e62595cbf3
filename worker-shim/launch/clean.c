/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a worker does not get whatever `isolation.env` says. PYTHON variables that tune the interpreter rather than choose its code
 * (PYTHONHASHSEED, PYTHONMALLOC, …) stay.
 */

#include <stddef.h>
#include <stdlib.h>

#include "launch.h"

static const char *const dropped[] = {
        /* They would make Python find other code than the venv's, or run more than the worker. */
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONSTARTUP",
        "PYTHONUSERBASE",
        "PYTHONINSPECT",
        "PYTHONEXECUTABLE",
        "PYTHONPLATLIBDIR",
        "PYTHONCASEOK",
        "__PYVENV_LAUNCHER__",
        /* The venv that the daemon was started from is not the plugin's. */
        "VIRTUAL_ENV",
        "VIRTUAL_ENV_PROMPT",
        /* What systemd told the daemon, and nobody else. */
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "LISTEN_FDNAMES",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "JOURNAL_STREAM",
        "FDSTORE",
        "MAINPID",
        "MANAGERPID",
        "CREDENTIALS_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "CACHE_DIRECTORY",
        "LOGS_DIRECTORY",
        "CONFIGURATION_DIRECTORY",
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
};

void clean_environment(void) {
        for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
                (void)unsetenv(dropped[i]);
}
