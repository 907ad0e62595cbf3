/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * CPEX's limit on what a caller sends: 1,000,000 characters of the values of `args`, else of `result`, each as Python's str()
 * would write it.
 */

#include "wire/mp.h"

#define PAYLOAD_SIZE_MAX 1000000

/* Measures a payload. Return: 0 when it is within the limit, else its size; *ret_what is then "Payload" or "Result". */
uint64_t payload_size_beyond(struct mp payload, const char **ret_what);
