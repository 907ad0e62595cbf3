/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The extension `_cpexd`: msgpack to and from Python objects, the worker's end of the socket, and the SDK's models where they are plain.
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

/* What the runner sets with configure(); NULL until then. */
extern PyObject *codec_secret; /* the class of secret strings, which has get_secret_value() */
extern PyObject
        *codec_fallback; /* called with a value the encoder does not know; returns one that it does, or raises TypeError */

/* ValueError's child for an encoding beyond its limit. */
extern PyObject *codec_oversize;

/* ValueError's child for a well-formed message that cannot be decoded; args: the sentence, the id of the request or -1. */
extern PyObject *conn_undecodable;

/* Return: a new reference to the one value in `data`; NULL with ValueError, or with what the class of secrets raised. */
PyObject *codec_decode(const uint8_t *data, size_t len);

/* Return: a new bytes object of at most `limit` bytes; NULL with codec_oversize, ValueError (depth), TypeError, or whatever the
 * fallback raised. */
PyObject *codec_encode(PyObject *value, size_t limit);

/* For the SDK's models. Both look only at what is plain, and leave the rest to the SDK:
 *
 *     fill(model, fields, data)    makes a new model of a dict. `fields` is a tuple of (name, types) and (name, types, default): values of just
 *                                  these types are taken as they are, but dicts (with keys of text only) and lists as copies, and `object`
 *                                  takes all. Return: whether that was possible; if not nothing has happened.
 *     dump(values, names)          a deep copy of the values that have these names, or None where one is not plain.
 */
PyObject *model_fill(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *model_dump(PyObject *module, PyObject *const *args, Py_ssize_t n);

/* Return: a new reference to the type Connection, NULL with an exception. */
PyObject *conn_type_new(void);
