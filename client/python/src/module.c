/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The module `_cpexd_client`: pack(), document(), pieces(), unpack() and Reader of codec.py, which says what they do. A client that
 * calls once in a while finds its caches cold, and then each function of Python that a call passes costs half a microsecond or
 * more.
 *
 * Of the files beside this one reader.c and exchange.c are the client's; the others are links to those of the worker's extension:
 * msgpack in C exists once, and a source distribution gets copies.
 */

#include "reader.h"

PyObject *codec_secret, *codec_fallback, *codec_oversize, *codec_extension, *codec_make_extension;
PyObject *reader_call_timeout;

static PyObject *protocol_error; /* the class */

static PyObject *module_pack(PyObject *module, PyObject *value) {
        PyObject *packed = codec_encode(value, PY_SSIZE_T_MAX), *bytes;

        (void)module;
        if (!packed || PyBytes_Check(packed))
                return packed;
        bytes = PyBytes_FromObject(packed);
        Py_DECREF(packed);
        return bytes;
}

static PyObject *module_document(PyObject *module, PyObject *value) {
        (void)module;
        return codec_encode(value, PY_SSIZE_T_MAX);
}

static PyObject *module_pieces(PyObject *module, PyObject *message) {
        (void)module;
        return codec_encode_pieces(message, PY_SSIZE_T_MAX);
}

static PyObject *module_unpack(PyObject *module, PyObject *document) {
        PyObject *value = NULL, *type, *complaint, *trace;
        Py_buffer view;

        (void)module;
        if (PyObject_GetBuffer(document, &view, PyBUF_SIMPLE) == 0) {
                value = codec_decode(view.buf, (size_t)view.len, NULL, 0);
                PyBuffer_Release(&view);
        }
        if (!value && reader_is_complaint()) {
                PyErr_Fetch(&type, &complaint, &trace);
                PyErr_Format(protocol_error, "a document is not one msgpack value: %S", complaint ? complaint : type);
                Py_XDECREF(type);
                Py_XDECREF(complaint);
                Py_XDECREF(trace);
        }
        return value;
}

static PyObject *module_configure(PyObject *module, PyObject *args) {
        PyObject *secret, *fallback, *extension, *make_extension, *error, *timeout;

        (void)module;
        if (!PyArg_ParseTuple(args, "OOOOOO:configure", &secret, &fallback, &extension, &make_extension, &error, &timeout))
                return NULL;
        if (codec_secret) {
                PyErr_SetString(PyExc_ImportError, "the extension serves the first interpreter that imports it, once");
                return NULL;
        }
        codec_secret = Py_NewRef(secret);
        codec_fallback = Py_NewRef(fallback);
        codec_extension = Py_NewRef(extension);
        codec_make_extension = Py_NewRef(make_extension);
        codec_oversize = PyErr_NewException("_cpexd_client.TooLong", PyExc_ValueError, NULL);
        if (!codec_oversize)
                return NULL;
        protocol_error = Py_NewRef(error);
        reader_call_timeout = Py_NewRef(timeout);
        Py_RETURN_NONE;
}

PyMODINIT_FUNC PyInit__cpexd_client(void);

PyMODINIT_FUNC PyInit__cpexd_client(void) {
        static PyMethodDef methods[] = {
                {"pack", module_pack, METH_O, "pack(value): as codec.py's."},
                {"document", module_document, METH_O, "document(value): as codec.py's."},
                {"pieces", module_pieces, METH_O, "pieces(message): as codec.py's."},
                {"unpack", module_unpack, METH_O, "unpack(document): as codec.py's."},
                {"configure", module_configure, METH_VARARGS,
                 "configure(secret, fallback, extension, make_extension, error, timeout): the class of secret strings, what "
                 "turns "
                 "an unknown value into a known one, the class of extension types, what makes one of type and bytes, and the "
                 "classes of ProtocolError and CallTimeout."},
                {NULL, NULL, 0, NULL},
        };
        static struct PyModuleDef definition = {
                PyModuleDef_HEAD_INIT, .m_name = "_cpexd_client", .m_doc = "The fast half of cpexd_client.",
                .m_size = -1,          .m_methods = methods,
        };
        PyObject *module = PyModule_Create(&definition), *type = module ? reader_type_new() : NULL;

        if (module && (!type || PyModule_AddObjectRef(module, "Reader", type) < 0))
                Py_CLEAR(module);
        Py_XDECREF(type);
        return module;
}
