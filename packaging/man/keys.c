/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Makes cpexd.yaml(5): copies the text from standard input to standard output and puts, where a line says @KEYS@, an item for each key of the
 * table that the daemon itself reads by. So the manual knows every key, its default and its range.
 */

#include <inttypes.h>
#include <stdio.h>

#include "config/schema.h"

/* Text in which nothing is an instruction to roff, each sentence on a line of its own. */
static void put_text(const char *text) {
        (void)fputs("\\&", stdout);
        for (; *text; text++) {
                if (*text == '\\')
                        (void)fputs("\\e", stdout);
                else
                        (void)putchar(*text);
                if (text[0] == '.' && text[1] == ' ') {
                        (void)fputs("\n\\&", stdout);
                        text++;
                }
        }
}

static void put_amount(const struct config_key *key, uint64_t amount) {
        CLEANUP_BUF struct buf buf = {0};

        if (key->type == KEY_BYTES)
                put_bytes(&buf, amount);
        else if (key->type == KEY_DURATION)
                put_duration(&buf, amount);
        else
                buf_printf(&buf, "%" PRIu64, amount);
        (void)printf("%.*s", (int)buf.len, (const char *)buf.data);
}

/* "Default: 30s; 1ms to 24h." Words and the like are in the sentence. */
static void put_values(const struct config_key *key) {
        if (key->type == KEY_ENTRY_PATH || key->type == KEY_ENTRY_NAME) {
                (void)printf("Only in a plugin's entry.\n");
                return;
        }
        (void)printf("Default:\n.Li %s", key->initial);
        if (key->type == KEY_COUNT || key->type == KEY_BYTES || key->type == KEY_DURATION) {
                (void)printf(" ;\n");
                put_amount(key, key->min);
                (void)printf(" to ");
                put_amount(key, key->max);
                (void)printf(".\n");
        } else {
                (void)printf(" .\n");
        }
}

static void put_key(const struct config_key *key) {
        (void)printf(".It Li %s\n", key->name);
        put_text(key->sentence);
        (void)printf("\n.br\n");
        put_values(key);
        if (!key->reloadable)
                (void)printf("A change takes effect at a restart.\n");
}

int main(void) {
        char line[1024];

        while (fgets(line, sizeof(line), stdin)) {
                if (!str_eq(line, "@KEYS@\n")) {
                        (void)fputs(line, stdout);
                        continue;
                }
                for (size_t i = 0; i < n_config_keys; i++)
                        put_key(&config_keys[i]);
        }
        return fflush(stdout) == 0 && !ferror(stdin) ? 0 : 1;
}
