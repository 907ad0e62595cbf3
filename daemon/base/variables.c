/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who starts programs that are not trusted, workers and installers, hands them a list and not what is left over: what is new in the
 * environment of tomorrow is kept from them.
 */

#include "base/variables.h"

static bool matches(const char *variable, const char *pattern) {
        size_t name = strcspn(variable, "="), len = strcspn(pattern, "*");

        return pattern[len] == '*' ? name >= len && strncmp(variable, pattern, len) == 0
                                   : name == len && strncmp(variable, pattern, len) == 0;
}

bool variable_is_named(const char *variable, char *const *patterns, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (matches(variable, patterns[i]))
                        return true;
        return false;
}
