/* SPDX-License-Identifier: Apache-2.0 */

/*
 * cpexctl, the command line of cpexd: see options.c for what it can do.
 */

#include "options.h"

int main(int argc, char **argv) {
        struct options options;
        int r = options_parse(&options, argc, argv);

        return r >= 0 ? r : options.command->run(&options);
}
