/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * JSON to msgpack and back.
 *
 * Written JSON has for what JSON lacks: bytes as a base64 string, a secret as "**********", nan and the infinities as the
 * strings "NaN", "Infinity" and "-Infinity", an integer beyond 64 bits as a number with all its digits, one beyond 4096 bits
 * and any other ext type as {"$ext": [type, base64]}. Text that is no UTF-8 gets U+FFFD in the places where it is not. The output is plain to a terminal:
 * no control character is in it.
 */

#include "wire/mp.h"

/* Appends the JSON value `text` as msgpack. `source` names it in messages; `example`: what would be right.
 * Return: 0; -EINVAL with the sentence, which the caller frees, in *ret_problem (NULL: out of memory). */
int json_read(struct buf *buf, const char *text, size_t len, const char *source, const char *example, char **ret_problem);

/* Appends a value that a scan has accepted as JSON: on one line where `indent` is 0, else indented by so many spaces a level. */
void json_write(struct buf *buf, struct mp value, unsigned indent);

/* Appends a JSON string. */
void json_write_str(struct buf *buf, const void *text, size_t len);
