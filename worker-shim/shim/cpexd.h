/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The extension `_cpexd`: msgpack to and from Python objects, the worker's end of the socket, and the SDK's models where they are plain.
 */

#include "codec.h"

/* ValueError's child for a well-formed message that cannot be decoded; args: the sentence, the id of the request or -1. */
extern PyObject *conn_undecodable;

/* For the SDK's models. Both look only at what is plain, and leave the rest to the SDK:
 *
 *     fill(model, plain, data)     makes a new model of a dict. `plain` is a tuple of four (cpex/framework/_plan.py): the values of a
 *                                  model of which nothing is given; a dict of name and tuple of types: values of just these are taken
 *                                  as they are, but dicts (with keys of text only) and lists as copies, and `object` takes all; pairs
 *                                  of name and `dict` or `list`, for fields that get a new one; names that have to be given. Return:
 *                                  whether that was possible; if not nothing has happened.
 *     dump(values, names)          a deep copy of the values that have these names, or None where one is not plain.
 */
PyObject *model_fill(PyObject *module, PyObject *const *args, Py_ssize_t n);
PyObject *model_dump(PyObject *module, PyObject *const *args, Py_ssize_t n);

/* fork(fd): forks a worker each time that cpexd asks for one over the socket `fd`. Return: True in the worker, whose socket is descriptor 3;
 * False in the zygote, when it is of no more use. */
PyObject *zygote_fork(PyObject *module, PyObject *fd);

/* Return: a new reference to the type Connection, NULL with an exception. */
PyObject *conn_type_new(void);
