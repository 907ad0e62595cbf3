/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Control groups (version 2) of workers and builds, where whoever runs cpexd has delegated its own to it: a unit with Delegate=yes.
 *
 *     ours/supervisor     cpexd, the guards of its workers, and what builds venvs
 *     ours/PLUGIN.N       one worker and all that it starts, or what one build of a venv runs
 *
 * Each is known by its folder.
 */

#include <stdbool.h>
#include <stdint.h>

struct cgroup_limits {
        uint64_t memory_bytes; /* 0: none */
        unsigned tasks;        /* 0: none */
        unsigned cpu_percent;  /* of one processor; 0: none */
};

/* Moves this process into `supervisor`, if there is a group of our own. Otherwise, and before, nobody gets one. */
void cgroups_enter(void);

/* What can be limited. */
enum cgroup_controller { CGROUP_MEMORY, CGROUP_TASKS, CGROUP_CPU, CGROUP_CONTROLLER_MAX_ };
bool cgroups_control(enum cgroup_controller controller);

/* Makes an empty one, for `plugin`. *ret is NULL where there are none. Return: 0 or a negative errno. */
int cgroup_new(char **ret, const char *plugin, const struct cgroup_limits *limits);

/* After an upgrade: that one is no leftover, though it may still be empty. NULL does nothing. */
void cgroup_adopted(const char *path);

/* Return: whether something in it was killed because it had no memory left. NULL: no. */
bool cgroup_ran_out_of_memory(const char *path);

/* Kills what is in it, and removes it, now or later. NULL does nothing. Return: NULL. */
char *cgroup_free(char *path);
