/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An upgrade: this process executes the program anew that it was started as, which is another by now, and that goes on where this one was.
 * The process stays the same, so workers stay its children, sockets stay open, and nobody who is connected notices.
 *
 *     ask ──▶ wait ──▶ rehearse ──▶ save, execute ──▶ adopt
 *              what cannot be    the new program does in a   in the same process: nothing but this stands
 *              carried ends      child what it is to do      between two turns of the loop
 *
 * The rehearsal is the real thing: the new program gets the state and a copy of every descriptor, makes everything of it, says so, and ends. A
 * program that is missing, is none of ours, hangs, does not know the state or refuses the configuration is found out then, and this one
 * goes on as if nothing had been. What may fail after that is what failed a moment ago by no rule, as memory that is short; then the process
 * ends, and whoever runs it starts it again.
 */

#include <event2/event.h>

#include "wire/carry.h"

/* What the first argument of the new program is, with a descriptor: of the state. */
#define UPGRADE_TAKE_OVER "take-over"
#define UPGRADE_REHEARSE "rehearse"

/* What it prints when its rehearsal went well, before its name and version. */
#define UPGRADE_AGREES "takes over: "

struct upgrade;

struct upgrade_handler {
        const char *(*obstacle)(void *data); /* Return: what cannot be carried; NULL: nothing */
        void (*save)(void *data, struct carry *carry);
        void (*leave_loop)(void *data); /* end the loop, so that nothing is half done, and call upgrade_execute() */
        void (*refused)(void *data, const char *why);
};

/* `argv`: that of this process. Return: 0 or -ENOMEM. */
int upgrade_new(struct upgrade **ret, struct event_base *base, char *const *argv, const struct upgrade_handler *handler,
                void *data);

/* Nothing where one is under way. */
void upgrade_start(struct upgrade *upgrade);

/* Does not return, unless the upgrade is refused or has to wait once more: then the loop goes on. All signals are to be blocked. */
void upgrade_execute(struct upgrade *upgrade);

/* Return: NULL. */
struct upgrade *upgrade_free(struct upgrade *upgrade);

/* For the new program: the state, until it is forgotten; `fd` is closed. Return: empty where there is none, or one of another form. */
struct mp upgrade_state(int fd);
void upgrade_forget(struct mp state);
