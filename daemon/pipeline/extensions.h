/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which of a call's extensions a plugin may see: those open to all, and those that one of its capabilities opens (CPEX's slots).
 * A slot that is not known here stays hidden. And which headers no plugin sees or sets, where strip_sensitive_headers says so.
 */

#include "config/model.h"
#include "wire/mp.h"

/* Appends the map of the slots that a plugin with these capabilities sees; nil when the caller gave none. */
void extensions_put_filtered(struct buf *buf, struct mp extensions, const struct strlist *capabilities);

/* Appends the map of extensions without the headers that carry credentials. */
void extensions_put_stripped(struct buf *buf, struct mp extensions);
