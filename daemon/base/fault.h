/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Faults on purpose, in a build with -Dfaults=true: what hardly ever fails, fails when a test says so. Any other build has nothing of it.
 *
 * The environment variable CPEXD_FAULTS says what fails, and when: POINT=WHEN[,POINT=WHEN…]. With @FILE that stands in the file, which is
 * read at the start and, whenever it has changed, at SIGRTMIN; then the log tells how often each point was passed since the last time.
 *
 *     alloc        an allocation, also one that libevent, libyaml or libc make for us: there is no memory
 *     read         a message or an output is read: one byte comes
 *     write        a message is sent: one byte is taken, then the socket is full
 *     spawn        a process is started: EAGAIN
 *     accept       a connection is accepted: EMFILE
 *     clock-ahead  the time is asked for: from then on all clocks are one hour ahead
 *     clock-back   the wall clock goes back by one hour
 *
 *     N            the N-th time
 *     N+           the N-th time and each time after
 *     /N           one time in N on average, by chance; `seed=N` says by which
 *
 * The log tells the first time of each fault but those by chance.
 */

#include "base/util.h"

/* As the environment variable; NULL: nothing fails. All counts begin anew. Return: false where `text` makes no sense. */
bool faults_set(const char *text);

/* Return: whether anything has failed on purpose since faults_set(). */
bool faults_happened(void);
