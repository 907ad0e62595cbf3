/* SPDX-License-Identifier: Apache-2.0 */

#include "unit.h"

#include <math.h>
#include <stdio.h>

#include "config/template.h"
#include "config/tree.h"
#include "wire/mp.h"

/* One text read as a file "f". */
struct fixture {
        struct diags diags;
        struct tree *tree;
        struct place beyond; /* what Jinja2 is needed for */
        int result;
};

static void fixture_done(struct fixture *fixture) {
        tree_free(fixture->tree);
        diags_done(&fixture->diags);
}

static struct fixture parse(const char *text) {
        struct fixture fixture = {0};
        struct report report = {.diags = &fixture.diags, .file = "f"};
        CLEANUP_TEMPLATE struct template *template = NULL;

        fixture.result = template_expand(&template, text, strlen(text), &report, &fixture.beyond);
        if (fixture.result == 0)
                fixture.result = tree_parse(&fixture.tree, template, &report);
        return fixture;
}

#define PARSE(name, text) CLEANUP(fixture_done) struct fixture name = parse(text)

static void assert_refused(const char *text, const char *message) {
        PARSE(f, text);

        assert_true(f.diags.errors > 0);
        assert_string_equal(f.diags.items[0].text, message);
}

static const struct node *get(const struct fixture *fixture, const char *key) {
        const struct node *node;

        assert_int_equal(fixture->result, 0);
        assert_int_equal(fixture->diags.errors, 0);
        node = node_get(tree_root(fixture->tree), key);
        assert_non_null(node);
        return node;
}

static void assert_int(const char *text, bool negative, uint64_t magnitude) {
        PARSE(f, text);

        assert_int_equal(f.result, 0);
        assert_int_equal(tree_root(f.tree)->type, NODE_INT);
        assert_int_equal(tree_root(f.tree)->negative, negative);
        assert_int_equal(tree_root(f.tree)->magnitude, magnitude);
}

static void assert_type(const char *text, enum node_type type) {
        PARSE(f, text);

        assert_int_equal(f.result, 0);
        assert_int_equal(tree_root(f.tree)->type, type);
}

static void test_integers_as_pyyaml(void **state) {
        (void)state;
        assert_int("7", false, 7);
        assert_int("-0", false, 0);
        assert_int("+11", false, 11);
        assert_int("010", false, 8);
        assert_int("0x1F", false, 31);
        assert_int("-0b101", true, 5);
        assert_int("1_0", false, 10);
        assert_int("1:30", false, 90);
        assert_int("190:20:30", false, 685230);
        assert_int("18446744073709551615", false, UINT64_MAX);
        assert_int("-9223372036854775808", true, UINT64_C(1) << 63);
        assert_int("!!int \"7\"", false, 7);
        assert_type("18446744073709551616", NODE_BIGINT);
        assert_type("-9223372036854775809", NODE_BIGINT);
}

static void test_other_scalars_as_pyyaml(void **state) {
        static const char *const texts[] = {"08",   "0o10", "1e3",    "1:60",    "y",       "nULL",
                                            "0:30", "'7'",  "\"no\"", "!!str 7", "2001-1-1"};
        static const char *const floats[] = {"1.", ".5", "1.5e+3", "-.inf", ".NaN", "1:30.5", "!!float 1", "!!float 1e3"};
        static const char *const bools[] = {"yes", "No", "ON", "off", "true", "False"};
        static const char *const nulls[] = {"~", "null", "Null", "NULL", "!!null ''"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(texts); i++)
                assert_type(texts[i], NODE_STR);
        for (size_t i = 0; i < ELEMENTS(floats); i++)
                assert_type(floats[i], NODE_FLOAT);
        for (size_t i = 0; i < ELEMENTS(bools); i++)
                assert_type(bools[i], NODE_BOOL);
        for (size_t i = 0; i < ELEMENTS(nulls); i++)
                assert_type(nulls[i], NODE_NULL);
        PARSE(sixty, "1:30.5");
        assert_true(tree_root(sixty.tree)->number == 90.5);
        PARSE(infinite, "-.inf");
        assert_true(tree_root(infinite.tree)->number == -INFINITY);
        assert_refused("0x_", "f:1:1: not a whole number, though YAML takes it for one; put it in quotes");
        assert_refused("a: !!python/none x", "f:1:4: the tag tag:yaml.org,2002:python/none is not supported; remove it");
}

static void assert_date(const char *text, const char *iso) {
        PARSE(f, text);

        assert_int_equal(tree_root(f.tree)->type, NODE_DATE);
        assert_int_equal(tree_root(f.tree)->n_bytes, strlen(iso));
        assert_memory_equal(tree_root(f.tree)->bytes, iso, strlen(iso));
}

static void test_dates_as_pyyaml(void **state) {
        static const char *const wrong[] = {"2001-13-01",
                                            "2001-02-29",
                                            "0000-01-01",
                                            "2001-12-14 24:00:00",
                                            "2001-12-14 1:60:00",
                                            "2001-12-14 1:00:60",
                                            "2001-12-14 1:00:00+24",
                                            "!!timestamp x"};

        (void)state;
        assert_date("2001-12-14", "2001-12-14");
        assert_date("2000-02-29", "2000-02-29");
        assert_date("!!timestamp 2001-1-2", "2001-01-02");
        assert_date("2001-1-2 3:04:05", "2001-01-02T03:04:05.000000");
        assert_date("2001-12-14t21:59:43.1Z", "2001-12-14T21:59:43.100000+00:00");
        assert_date("2001-12-14  21:59:43.1234567 -5:30", "2001-12-14T21:59:43.123456-05:30");
        assert_date("2001-12-14T21:59:43.+23:59", "2001-12-14T21:59:43.000000+23:59");
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_refused(wrong[i], "f:1:1: not a date that there is, though YAML takes it for one; put it in quotes");
        assert_type("2001-12-14 21:59", NODE_STR);
        assert_type("2001-12-14 21:59:43 ", NODE_DATE);
        assert_type("2001-12-14 21:59:43 +1:2", NODE_STR);
}

static void assert_msgpack(const char *text, const void *bytes, size_t len) {
        CLEANUP_BUF struct buf buf = {0};
        PARSE(f, text);

        assert_int_equal(f.result, 0);
        node_put(&buf, tree_root(f.tree), "skipped");
        assert_int_equal(buf_error(&buf), 0);
        assert_int_equal(buf.len, len);
        assert_memory_equal(buf.data, bytes, len);
}

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static void test_msgpack_keeps_the_types(void **state) {
        (void)state;
        assert_msgpack("[1, '1', true, ~, -1]", BYTES(0x95, 1, 0xa1, '1', 0xc3, 0xc0, 0xff));
        assert_msgpack("{1: x, skipped: y, z: 0}", BYTES(0xdf, 0, 0, 0, 2, 1, 0xa1, 'x', 0xa1, 'z', 0));
        assert_msgpack("!!binary aGk=", BYTES(0xc4, 2, 'h', 'i'));
        assert_msgpack("\"a\\0b\"", BYTES(0xa3, 'a', 0, 'b'));
        assert_msgpack("2001-12-14", BYTES(0xc9, 0, 0, 0, 10, 3, '2', '0', '0', '1', '-', '1', '2', '-', '1', '4'));
        assert_msgpack("18446744073709551616", BYTES(0xc9, 0, 0, 0, 9, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0));
        assert_msgpack("-18446744073709551616", BYTES(0xc9, 0, 0, 0, 9, 2, 0xff, 0, 0, 0, 0, 0, 0, 0, 0));
        assert_msgpack("-9223372036854775809", BYTES(0xc9, 0, 0, 0, 9, 2, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff));
        assert_refused("!!binary aGk", "f:1:1: !!binary takes base64, and this ends too early");
}

static void test_positions(void **state) {
        const struct node *node;
        PARSE(f, "a: 1\r\nü: {x: 2,\n  y: [3,  4]}\n");

        (void)state;
        node = node_get(get(&f, "ü"), "y")->items[1];
        assert_int_equal(node->place.line, 3);
        assert_int_equal(node->place.column, 11);
        assert_int_equal(node_get(get(&f, "ü"), "x")->place.column, 8);
}

static void test_positions_after_templates(void **state) {
        const struct node *node;

        (void)state;
        setenv("CONFIG_TEST", "one\n# two\n# three", 1);
        PARSE(f, "a: {{ env.CONFIG_TEST }}\nb: {x: '{{ env.CONFIG_TEST }}', y: 5}\n{# gone\n#}c: 6\n");
        node = node_get(get(&f, "b"), "y");
        assert_int_equal(node->place.line, 2);
        assert_int_equal(node->place.column, 36);
        assert_int_equal(get(&f, "a")->place.line, 1);
        assert_int_equal(get(&f, "a")->place.column, 4);
        assert_int_equal(get(&f, "c")->place.line, 4);
        assert_int_equal(get(&f, "c")->place.column, 6);
}

static void assert_expands(const char *text, const char *expected) {
        PARSE(f, text);

        assert_true(node_is(get(&f, "x"), expected));
}

static void test_templates(void **state) {
        (void)state;
        setenv("CONFIG_TEST", "<&>\"'", 1);
        setenv("CONFIG_EMPTY", "", 1);
        unsetenv("CONFIG_MISSING");
        assert_expands("x: a {{ env.CONFIG_TEST }}", "a &lt;&amp;&gt;&#34;&#39;");
        assert_expands("x: a {{ env['CONFIG_TEST']|safe }}", "a <&>\"'");
        assert_expands("x: '{{ env.CONFIG_MISSING }}'", "");
        assert_expands("x: {{ env.CONFIG_MISSING | default('y') }}", "y");
        assert_expands("x: a{{ env.CONFIG_MISSING | default(30) }}", "a30");
        assert_expands("x: '{{ env.CONFIG_EMPTY | default('y') }}'", "");
        assert_expands("x: {{ env.CONFIG_EMPTY | default('<', true) | safe }}", "<");
        assert_expands("x: a{{ env.CONFIG_EMPTY | default('<', True) }}", "a&lt;");
        assert_expands("x: '{{ '{{ z }}' }}'", "{{ z }}");
        assert_expands("x: {{ 'it\\'s' | safe }}", "it's");
        assert_expands("x: '{% raw %}{{ user }} {% if %}{% endraw %}'", "{{ user }} {% if %}");
        assert_expands("x: a{# b #}c", "ac");
        assert_expands("x: |\n  end\n", "end");
        assert_expands("x: |\n  end\r\n", "end");
        assert_expands("x: '{a} }} %} #} { {'", "{a} }} %} #} { {");
}

static void test_unset_variables_are_said_once(void **state) {
        static const char text[] = "# {{ env.CONFIG_A }}\n"
                                   "a: '{{ env.CONFIG_A }}{{ env.CONFIG_TEST }}' # {{ env.CONFIG_C }}\n"
                                   "b: '#{{ env[\"CONFIG_B\"] | safe }}'\n"
                                   "c: '{{ env.CONFIG_A }}{{ env.CONFIG_C | default(\"\") }}'\n";

        (void)state;
        setenv("CONFIG_TEST", "x", 1);
        PARSE(f, text);
        assert_int_equal(f.result, 0);
        assert_int_equal(f.diags.errors, 0);
        assert_int_equal(f.diags.n, 2);
        assert_string_equal(f.diags.items[0].text, "f:2:5: {{ env.CONFIG_A }}: this variable is not set, so nothing is put in; "
                                                   "default('…') would say what to put in instead");
        assert_int_equal(strncmp(f.diags.items[1].text, "f:3:6: {{ env.CONFIG_B }}: ", 27), 0);
        assert_int_equal(f.diags.items[1].severity, DIAG_WARNING);
}

/* What is not surely the same to Jinja is left to it; the place is that of the braces. */
static void test_what_needs_jinja(void **state) {
        static const char *const inside[] = {
                "{{ user }}",
                "{{ env }}",
                "{{ env.copy }}",
                "{{ env['get'] }}",
                "{{ env._data }}",
                "{{ env['A-B'] }}",
                "{{ env[''] }}",
                "{{ env.X.lower() }}",
                "{{ env.X | upper }}",
                "{{ env.X | safe | default('y') }}",
                "{{ env.X | default('y') | }}",
                "{{ env.X | default(0) | default(5, true) }}",
                "{{ env.X | default('y', TRUE) }}",
                "{{ env.X | default(007) }}",
                "{{ env.X | default(1.5) }}",
                "{{ env.X | default('a' 'b') }}",
                "{{ env.X + 1 }}",
                "{{ env.X",
                "{{ 'a",
                "{{ 'a' 'b' }}",
                "{{ '\\x41' }}",
                "{{ 'a\\",
                "{{- env.X }}",
                "{{ env.X -}}",
                "{{}}",
                "{#",
                "{#- a #}",
                "{# a -#}",
                "{% if x %}",
                "{%- raw %}a{% endraw %}",
                "{% raw -%}a{% endraw %}",
                "{% raw %}a",
                "{% raw %}a{%- endraw %} {% raw %}b{% endraw %}",
                "{% raw %}a{% endraw -%} {% raw %}b{% endraw %}",
                "{% endraw %}",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(inside); i++) {
                char text[256];

                (void)snprintf(text, sizeof(text), "a: {{ env.HOME }}{%% raw %%}\n{%% endraw %%}\nb: {# 1 #} %s", inside[i]);
                PARSE(f, text);
                assert_int_equal(f.result, -EOPNOTSUPP);
                assert_int_equal(f.beyond.line, 3);
                assert_int_equal(f.beyond.column, 12);
        }
}

static void test_merge_keys(void **state) {
        const struct node *node;
        PARSE(f, "base: &b {a: 1, b: 2}\nmore: &m {b: 3, c: 4}\none: {<<: *b, b: 9}\ntwo: {<<: [*m, *b], d: 5}\n'<<': 7\n");

        (void)state;
        node = get(&f, "one");
        assert_int_equal(node->n_pairs, 2);
        assert_int_equal(node_get(node, "b")->magnitude, 9);
        node = get(&f, "two");
        assert_int_equal(node->n_pairs, 4);
        assert_int_equal(node_get(node, "b")->magnitude, 3);
        assert_true(node_is(node->pairs[0].key, "a"));
        assert_int_equal(get(&f, "<<")->magnitude, 7);
        assert_int_equal(f.diags.n, 0);
        assert_refused("a: <<", "f:1:4: << has a meaning of its own in YAML; put it in quotes");
        assert_refused("[=]", "f:1:2: = has a meaning of its own in YAML; put it in quotes");
        assert_type("{=: 1}", NODE_MAP);
        assert_refused("{<<: 1}", "f:1:6: << merges a map or a list of maps, and this is none");
}

static void test_duplicate_keys(void **state) {
        PARSE(f, "a: 1\nb: 2\na: 3\na: 4\n");

        (void)state;
        assert_int_equal(get(&f, "a")->magnitude, 4);
        assert_int_equal(tree_root(f.tree)->n_pairs, 2);
        assert_true(node_is(tree_root(f.tree)->pairs[0].key, "a"));
        assert_int_equal(f.diags.n, 2);
        assert_int_equal(f.diags.items[0].severity, DIAG_WARNING);
        assert_string_equal(f.diags.items[0].text,
                            "f:3:1: the key \"a\" stands here once more; what it has in line 1 does not count");
        assert_string_equal(f.diags.items[1].text,
                            "f:4:1: the key \"a\" stands here once more; what it has in line 3 does not count");
        PARSE(merged, "x: &x {a: 1}\ny: {<<: *x, a: 2, <<: *x}");
        assert_int_equal(node_get(get(&merged, "y"), "a")->magnitude, 2);
        assert_int_equal(merged.diags.n, 0);
}

static void test_depth_is_exact(void **state) {
        char text[2 * TREE_DEPTH_MAX + 8];

        (void)state;
        memset(text, '[', TREE_DEPTH_MAX);
        memset(text + TREE_DEPTH_MAX, ']', TREE_DEPTH_MAX);
        text[2 * TREE_DEPTH_MAX] = '\0';
        assert_type(text, NODE_LIST);
        memset(text, '[', TREE_DEPTH_MAX + 1);
        assert_refused(text, "f:1:33: nested deeper than 32 levels");
        /* through an alias */
        assert_refused("- &a [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]\n- [[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]\n- "
                       "[[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]\n",
                       "f:3:19: nested deeper than 32 levels");
}

static void test_aliases_are_counted(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        char *text;

        (void)state;
        buf_append_str(&buf, "- &a x\n- [");
        for (unsigned i = 0; i < TREE_ALIAS_NODES_MAX; i++)
                buf_append_str(&buf, "*a,");
        buf_append_str(&buf, "]\n");
        text = buf_take_str(&buf);
        assert_type(text, NODE_LIST);
        text[strlen(text) - 2] = ' ';
        text[strlen(text) - 1] = '\0';
        buf_append_str(&buf, text);
        buf_append_str(&buf, "*a]");
        free(text);
        text = buf_take_str(&buf);
        assert_refused(text,
                       "f:2:30005: the aliases of this file stand for more than 10000 values or 1048576 bytes; write it without");
        free(text);
        assert_refused("&a [1, *a]", "f:1:8: the alias *a lies inside what it names");
        assert_refused("[*a]", "f:1:2: the alias *a names an anchor that does not stand before it");
        assert_refused("- &a x\n- &a y\n", "f:2:3: the anchor &a stands in the file twice");
}

static void test_tag_directives_are_counted(void **state) {
        CLEANUP_BUF struct buf buf = {0};
        CLEANUP_FREE char *text = NULL, *longer = NULL;

        (void)state;
        for (unsigned i = 0; i < TREE_TAG_DIRECTIVES_MAX; i++)
                buf_printf(&buf, "%%TAG !%u! x\n", i);
        buf_append_str(&buf, "--- |\n ");
        for (unsigned i = 0; i <= TREE_TAG_DIRECTIVES_MAX; i++)
                buf_append_str(&buf, "%TAG");
        text = buf_take_str(&buf);
        assert_type(text, NODE_STR);
        buf_append_str(&buf, "%TAG !x! x\n");
        buf_append_str(&buf, text);
        longer = buf_take_str(&buf);
        assert_refused(longer, "f:101:1: more than 100 %TAG directives");
}

static void test_files_that_are_none(void **state) {
        (void)state;
        assert_refused("a:\n\tb: 1\n",
                       "f:2:1: not YAML: while scanning for the next token: found character that cannot start any token "
                       "(a tab; YAML is indented with spaces)");
        assert_refused("a: 1\nb: 'c\nd: 2\n", "f:3:5: not YAML: while scanning a quoted scalar that begins in line 2: found "
                                              "unexpected end of stream");
        assert_refused("a: [", "f:2:1: not YAML: while parsing a flow node: did not find expected node content");
        assert_refused("a: 1\nb: ü\x01", "f:2:5: not YAML: control characters are not allowed");
        assert_refused("--- a\n--- b\n", "f:2:1: a second document begins here; the file may hold one");
        assert_refused("{[a]: b}", "f:1:2: a list or a map cannot be a key");
        assert_refused("a: \xff", "f:1:4: not YAML: invalid leading UTF-8 octet");
        PARSE(empty, "# nothing\n");
        assert_int_equal(empty.result, 0);
        assert_null(tree_root(empty.tree));
}

static void test_secrets(void **state) {
        static const char *const secret[] = {"{{ env.S }}",
                                             "'a {{ env.S }}'",
                                             "x{{ env.S }}y",
                                             "!!str {{ env.S }}",
                                             "&{{ env.S }} x",
                                             "|\n  one\n  {{ env.S }}\n",
                                             "{{ env.S | default('y') }}"};
        static const char *const open[] = {"x",
                                           "{{ 'x' }}",
                                           "{{ env.MISSING | default('y') }}",
                                           "{% raw %}x{% endraw %}",
                                           "x # {{ env.S }}",
                                           "x  {# {{ env.S }} #}",
                                           "'{{ env.EMPTY }}'"};

        (void)state;
        setenv("S", "hunter2", 1);
        setenv("EMPTY", "", 1);
        for (size_t i = 0; i < ELEMENTS(secret); i++) {
                PARSE(f, secret[i]);
                assert_true(tree_root(f.tree)->secret);
        }
        for (size_t i = 0; i < ELEMENTS(open); i++) {
                PARSE(f, open[i]);
                assert_false(tree_root(f.tree)->secret);
        }
        setenv("S", "x: {y: 1}\nz", 1);
        PARSE(f, "a: 1\n{{ env.S }}: 2\nb: 3\n");
        assert_false(get(&f, "a")->secret);
        assert_false(get(&f, "b")->secret);
        assert_false(get(&f, "z")->secret);
        assert_true(node_get(get(&f, "x"), "y")->secret);
        assert_true(tree_root(f.tree)->pairs[2].key->secret);
}

static void test_size_is_exact(void **state) {
        CLEANUP_FREE char *text = malloc(TREE_BYTES_MAX + 2);

        (void)state;
        memset(text, ' ', TREE_BYTES_MAX + 1);
        text[TREE_BYTES_MAX] = '\0';
        PARSE(fits, text);
        assert_int_equal(fits.result, 0);
        text[TREE_BYTES_MAX] = ' ';
        text[TREE_BYTES_MAX + 1] = '\0';
        PARSE(longer, text);
        assert_int_equal(longer.result, -EMSGSIZE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_integers_as_pyyaml),
                cmocka_unit_test(test_other_scalars_as_pyyaml),
                cmocka_unit_test(test_dates_as_pyyaml),
                cmocka_unit_test(test_msgpack_keeps_the_types),
                cmocka_unit_test(test_positions),
                cmocka_unit_test(test_positions_after_templates),
                cmocka_unit_test(test_templates),
                cmocka_unit_test(test_unset_variables_are_said_once),
                cmocka_unit_test(test_what_needs_jinja),
                cmocka_unit_test(test_merge_keys),
                cmocka_unit_test(test_duplicate_keys),
                cmocka_unit_test(test_depth_is_exact),
                cmocka_unit_test(test_aliases_are_counted),
                cmocka_unit_test(test_files_that_are_none),
                cmocka_unit_test(test_secrets),
                cmocka_unit_test(test_size_is_exact),
                cmocka_unit_test(test_tag_directives_are_counted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
