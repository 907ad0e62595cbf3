/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The templating of a configuration file: {{ env.NAME }}, as CPEX's Jinja expands it before the YAML is read.
 *
 *     {{ env.NAME }}  {{ env['NAME'] }}  {{ 'text' }}      the value, with & < > " ' written as in HTML
 *     … | default('x')    where the variable is not set; default('x', true) also where it is empty
 *     … | safe            the value as it is
 *     {# … #}             nothing
 *     {% raw %} … {% endraw %}     as it is
 *
 * Everything else that Jinja knows is refused with its position.
 */

#include "config/diag.h"

struct template;

/* Return: 0, -EINVAL with reasons in `report`, or -ENOMEM. */
int template_expand(struct template **ret, const char *text, size_t len, struct report *report);
struct template *template_free(struct template *template);

const char *template_text(const struct template *template, size_t *ret_len);

/* Return: where the byte at `offset` stands in the expanded text. */
struct place template_place(const struct template *template, size_t offset);

/* Return: where in the file the place in the expanded text comes from. */
struct place template_origin(const struct template *template, struct place expanded);
