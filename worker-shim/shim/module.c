/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The module `_cpexd`: names for what decode.c, encode.c, conn.c, quick.c and model.c do.
 */

#include "cpexd.h"
#include "model.h"
#include "quick.h"

#include <stdbool.h>

#include "base/memory.h"

PyObject *codec_secret, *codec_fallback, *codec_oversize, *codec_extension, *codec_make_extension, *conn_undecodable;

static PyObject *module_decode(PyObject *module, PyObject *data) {
        PyObject *value;
        Py_buffer view;

        (void)module;
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
                return NULL;
        value = codec_decode(view.buf, (size_t)view.len, NULL, 0);
        PyBuffer_Release(&view);
        return value;
}

static PyObject *module_encode(PyObject *module, PyObject *args) {
        PyObject *value;
        Py_ssize_t limit = PY_SSIZE_T_MAX;

        (void)module;
        if (!PyArg_ParseTuple(args, "O|n:encode", &value, &limit))
                return NULL;
        return codec_encode(value, limit > 0 ? (size_t)limit : 0);
}

static PyObject *module_encode_pieces(PyObject *module, PyObject *args) {
        PyObject *value;
        Py_ssize_t limit;

        (void)module;
        if (!PyArg_ParseTuple(args, "On:encode_pieces", &value, &limit))
                return NULL;
        return codec_encode_pieces(value, limit > 0 ? (size_t)limit : 0);
}

static PyObject *module_configure(PyObject *module, PyObject *args) {
        PyObject *secret, *fallback;

        (void)module;
        if (!PyArg_ParseTuple(args, "OO:configure", &secret, &fallback))
                return NULL;
        Py_XDECREF(codec_secret);
        codec_secret = secret == Py_None ? NULL : Py_NewRef(secret);
        Py_XDECREF(codec_fallback);
        codec_fallback = fallback == Py_None ? NULL : Py_NewRef(fallback);
        Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
        {"decode", module_decode, METH_O, "decode(data): the one msgpack value in data; ValueError for anything else."},
        {"encode", module_encode, METH_VARARGS,
         "encode(value, limit): msgpack as bytes, a memoryview where that is large; Oversize beyond limit bytes."},
        {"encode_pieces", module_encode_pieces, METH_VARARGS,
         "encode_pieces(value, limit): the same as a list of them; large ones in value are not copied."},
        {"configure", module_configure, METH_VARARGS,
         "configure(secret, fallback): the class of secret strings, and what turns an unknown value into a known one. Either may "
         "be None."},
        {"fork", zygote_fork, METH_O, "fork(fd): see cpexd.h."},
        {"fill", (PyCFunction)(void (*)(void))model_fill, METH_FASTCALL, "fill(model, plain, data): see cpexd.h."},
        {"dump", (PyCFunction)(void (*)(void))model_dump, METH_FASTCALL, "dump(values, names): see cpexd.h."},
        {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
        PyModuleDef_HEAD_INIT, .m_name = "_cpexd",   .m_doc = "msgpack and the worker's socket, for cpexd's worker.",
        .m_size = -1,          .m_methods = methods,
};

/* Adds an object that the caller holds; a NULL is passed through as the failure it is. */
static bool add(PyObject *module, const char *name, PyObject *object) {
        return object && PyModule_AddObjectRef(module, name, object) == 0;
}

PyMODINIT_FUNC PyInit__cpexd(void);

PyMODINIT_FUNC PyInit__cpexd(void) {
        PyObject *module = PyModule_Create(&definition), *type, *quick, *model;

        memory_keep();
        if (!module)
                return NULL;
        codec_oversize = PyErr_NewException("_cpexd.Oversize", PyExc_ValueError, NULL);
        conn_undecodable = PyErr_NewException("_cpexd.Undecodable", PyExc_ValueError, NULL);
        type = conn_type_new();
        quick = quick_type_new();
        model = model_type_new();
        if (!add(module, "Oversize", codec_oversize) || !add(module, "Undecodable", conn_undecodable) ||
            !add(module, "Connection", type) || !add(module, "Quick", quick) || !add(module, "Model", model))
                Py_CLEAR(module);
        Py_XDECREF(type);
        Py_XDECREF(quick);
        Py_XDECREF(model);
        return module;
}
