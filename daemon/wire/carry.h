/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What cpexd carries across an upgrade (admin/upgrade.h): its memory, as far as it matters, written as msgpack by the old program and read
 * by the new one.
 *
 * Each module has a pair of functions: NAME_save() appends one value, a map, and changes nothing; NAME_adopt() makes the object anew
 * from that map. Members that go as they are stand in one table that both go by. Keys that a reader does not know are skipped, those that
 * are missing leave 0, so a member can be added without much ado; whatever else changes (a member's meaning, the number of an enum, the
 * protocol spoken with workers) needs another CARRY_FORMAT.
 *
 * An adoption that fails leaves behind what it has made: the process is to end then.
 */

#include "wire/mp.h"

#define CARRY_FORMAT "cpexd state 3"

/* What is written so far, and the descriptors that it names. */
struct carry {
        struct buf out;
        struct buf fds; /* ints */
};
void carry_done(struct carry *carry);
#define CLEANUP_CARRY CLEANUP(carry_done)

/* Has the descriptors live through exec, or not. */
void carry_keep(const struct carry *carry, bool keep);

enum carry_kind {
        CARRY_BOOL,
        CARRY_UINT,  /* of any size, also an enum */
        CARRY_INT,   /* likewise */
        CARRY_UINTS, /* an array of uint64_t */
        CARRY_FD,    /* -1: none */
        CARRY_STR,   /* char *, NULL: none; a copy */
        CARRY_BYTES, /* an array of bytes; texts in it keep their NUL */
        CARRY_BUF,   /* one with an error fails the whole */
        CARRY_SLICE, /* struct mp, content of a bin: of the state itself */
        CARRY_EVENT, /* struct event, a timer: when it expires */
        CARRY_TIMER, /* the same of a struct event * */
};

struct carried {
        const char *key;
        enum carry_kind kind;
        size_t offset, size;
};
#define CARRIED(kind, type, member) \
        { #member, CARRY_##kind, offsetof(type, member), sizeof(((type *)NULL)->member) }

/* Appends the `n` pairs of the table; the caller has begun the map. */
void carry_put(struct carry *carry, const struct carried *table, size_t n, const void *object);

/* Fills the members in; descriptors are close-on-exec then. Return: 0, -EBADMSG or -ENOMEM. */
int carry_get(struct mp map, const struct carried *table, size_t n, void *object);

/* The items of an array; none where it is none. */
struct carry_items {
        struct mp_cur cur;
        uint32_t n;
};
struct carry_items carry_items(struct mp array);
bool carry_next(struct carry_items *items, struct mp *ret);
