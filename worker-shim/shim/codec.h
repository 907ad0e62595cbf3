/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * msgpack to and from Python objects, for the worker's extension and for that of the Python client, which is built from the same
 * files.
 *
 * It uses only the stable ABI of Python 3.11 (the build defines Py_LIMITED_API), so one file serves every later Python. It keeps
 * its state in static variables and belongs in the main interpreter.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

#ifndef Py_LIMITED_API
#error "the extension is built for the stable ABI: define Py_LIMITED_API"
#endif

/* What the module sets; NULL until then. */
extern PyObject *codec_secret; /* the class of secret strings, which has get_secret_value() */
extern PyObject
        *codec_fallback; /* called with a value the encoder does not know; returns one that it does, or raises TypeError */
extern PyObject *codec_extension; /* the class of values of other extension types, a tuple of type and bytes */
extern PyObject
        *codec_make_extension; /* called with type and bytes, which it makes one of; without it they are dates or refused */

/* ValueError, or its child, for an encoding beyond its limit. */
extern PyObject *codec_oversize;

/* Return: a new reference to the one value in `data`; NULL with ValueError, or with what the class of secrets raised. `memory`: the bytes
 * object that `data` lies in. A binary inside of `views_depth` arrays and maps that is half of it or more is a view of it. NULL: everything
 * is copied. */
PyObject *codec_decode(const uint8_t *data, size_t len, PyObject *memory, unsigned views_depth);

/* Return: a new reference to the first value in front of `end`, which `*at` is behind then; NULL with ValueError, or as above. */
PyObject *codec_decode_next(const uint8_t **at, const uint8_t *end);

/* Return: a new bytes object, or a memoryview where that is large, of at most `limit` bytes; NULL with codec_oversize, ValueError (depth), TypeError, or whatever the
 * fallback raised. */
PyObject *codec_encode(PyObject *value, size_t limit);

/* The same as a list of such objects. Large ones that the value holds are in it as they are. */
PyObject *codec_encode_pieces(PyObject *value, size_t limit);

/* The dictionary of those of `values` that have these names. Return: as codec_encode(); NULL without an exception where a value in it is
 * none of text, numbers, bool, None, dicts and lists. */
PyObject *codec_encode_plain(PyObject *values, PyObject *names);
