/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A configuration file's text as the YAML parser gets it, and where its parts come from.
 *
 * A file is a template, as CPEX's Jinja expands it before the YAML is read. The part of Jinja that most files have is done here:
 *
 *     {{ env.NAME }}  {{ env['NAME'] }}  {{ 'text' }}      the value, with & < > " ' written as in HTML
 *     … | default('x')    where the variable is not set; default('x', true) also where it is empty
 *     … | safe            (last) the value as it is
 *     {# … #}             nothing
 *     {% raw %} … {% endraw %}     as it is
 *
 * Where there is anything else, all of the file is for Jinja2 itself (config/render.h).
 */

#include "config/diag.h"

struct template;

#define TEMPLATE_TOO_LONG "the file is longer than 1 MiB once its variables are put in"

/* Warns of variables that are not set, once each. Return: 0; -EOPNOTSUPP where the file has more in it than the above, with the place of
 * that; -EMSGSIZE where the text would be longer than 1 MiB; -ENOMEM. */
int template_expand(struct template **ret, const char *text, size_t len, struct report *report, struct place *ret_beyond);

/* Return: whether there is a {{ that is not closed before the next, or at all; *ret: the first of these. */
bool template_is_unclosed(const char *text, size_t len, struct place *ret);

/* A text that is no template, or none any more. `rendered`: Jinja2 made it, so all of it may come from the environment.
 * Return: 0, -EMSGSIZE or -ENOMEM. */
int template_of_text(struct template **ret, const char *text, size_t len, bool rendered);

struct template *template_free(struct template *template);
void template_freep(struct template **template);
#define CLEANUP_TEMPLATE CLEANUP(template_freep)

const char *template_text(const struct template *template, size_t *ret_len);

/* Return: where the byte at `offset` stands in the text. */
struct place template_place(const struct template *template, size_t offset);

/* Return: where in the file the place in the text comes from. */
struct place template_origin(const struct template *template, struct place place);

/* Return: whether something between the two places in the text may be the value of a variable. */
bool template_is_secret(const struct template *template, struct place start, struct place end);

/* Return: whether nothing was put in between the two places, or at one of them, since a variable is not set. */
bool template_has_unset(const struct template *template, struct place start, struct place end);
