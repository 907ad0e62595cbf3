/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Python objects to msgpack. The types that plugins' data mostly consists of are told apart by one comparison of type pointers;
 * subclasses come after, and what is left goes through the runner's fallback, in Python, which turns a model into its
 * dictionary or refuses it. The fallback runs foreign code, which may change a container in the middle of its encoding: sizes
 * are checked again at every step and items are held while they are written.
 */

#include "codec.h"
#include "head.h"

#include <string.h>

/* Substitutes of substitutes at the deepest level; a fallback that answers with what it was asked about ends there. */
#define FALLBACK_MAX 8

#define SMALL_BYTES 1024
#define LARGE_BYTES 16384 /* from here on nothing is copied that need not be */

struct writer {
        PyObject *array; /* a bytearray; NULL: it all is in `small` */
        uint8_t *data;   /* what is written, and room for more */
        size_t len, cap;
        size_t limit;     /* for all */
        PyObject *pieces; /* list: what comes before; NULL: all is to be one piece */
        size_t before;    /* its bytes */
        bool plain;       /* whether other types than JSON's make it fail, without an exception */
        uint8_t small[SMALL_BYTES];
};

static bool write_value(struct writer *writer, PyObject *value, unsigned depth);

/* Return: whether `len` bytes more may be written; if not, with an exception. */
static bool is_within_limit(const struct writer *writer, size_t len) {
        if (len <= writer->limit - writer->before - writer->len)
                return true;
        PyErr_Format(codec_oversize, "the encoding has more than %zu bytes", writer->limit);
        return false;
}

/* Return: whether there is room for `len` bytes more; if not, with an exception. */
static bool grow(struct writer *writer, size_t len) {
        size_t cap = 2 * writer->cap;

        while (cap - writer->len < len)
                cap *= 2;
        if (!writer->array) {
                writer->array = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)cap);
                if (!writer->array)
                        return false;
                memcpy(PyByteArray_AsString(writer->array), writer->small, writer->len);
        } else if (PyByteArray_Resize(writer->array, (Py_ssize_t)cap) < 0) {
                return false;
        }
        writer->data = (uint8_t *)PyByteArray_AsString(writer->array);
        writer->cap = cap;
        return true;
}

/* Return: what is written, as a new bytes object or, where it is large, a memoryview; NULL with an exception. */
static PyObject *take_written(struct writer *writer) {
        PyObject *written = NULL;

        if (!writer->array || writer->len < LARGE_BYTES)
                written = PyBytes_FromStringAndSize((const char *)writer->data, (Py_ssize_t)writer->len);
        else if (PyByteArray_Resize(writer->array, (Py_ssize_t)writer->len) == 0)
                written = PyMemoryView_FromObject(writer->array);
        writer->before += writer->len;
        Py_CLEAR(writer->array);
        writer->data = writer->small;
        writer->len = 0;
        writer->cap = SMALL_BYTES;
        return written;
}

/* Return: where `len` bytes go, NULL with an exception. */
static uint8_t *reserve(struct writer *writer, size_t len) {
        if (!is_within_limit(writer, len) || (writer->cap - writer->len < len && !grow(writer, len)))
                return NULL;
        writer->len += len;
        return writer->data + writer->len - len;
}

static void put_number(uint8_t *at, uint64_t n, unsigned width) {
        while (width-- > 0) {
                at[width] = (uint8_t)n;
                n >>= 8;
        }
}

static bool write_head(struct writer *writer, uint8_t first, uint64_t n, unsigned width) {
        uint8_t *at = reserve(writer, 1 + width);

        if (!at)
                return false;
        at[0] = first;
        put_number(at + 1, n, width);
        return true;
}

static bool write_bytes(struct writer *writer, const void *data, size_t len) {
        uint8_t *at = reserve(writer, len);

        if (!at)
                return false;
        if (len > 0)
                memcpy(at, data, len);
        return true;
}

static bool write_uint(struct writer *writer, uint64_t n) {
        if (n < 0x80)
                return write_head(writer, (uint8_t)n, 0, 0);
        if (n <= UINT8_MAX)
                return write_head(writer, 0xcc, n, 1);
        if (n <= UINT16_MAX)
                return write_head(writer, 0xcd, n, 2);
        if (n <= UINT32_MAX)
                return write_head(writer, 0xce, n, 4);
        return write_head(writer, 0xcf, n, 8);
}

static bool write_int(struct writer *writer, int64_t n) {
        if (n >= 0)
                return write_uint(writer, (uint64_t)n);
        if (n >= -32)
                return write_head(writer, (uint8_t)n, 0, 0);
        if (n >= INT8_MIN)
                return write_head(writer, 0xd0, (uint64_t)n, 1);
        if (n >= INT16_MIN)
                return write_head(writer, 0xd1, (uint64_t)n, 2);
        if (n >= INT32_MIN)
                return write_head(writer, 0xd2, (uint64_t)n, 4);
        return write_head(writer, 0xd3, (uint64_t)n, 8);
}

/* The first bytes of the forms that a kind has for its size; 0: it lacks the form. That of 32 bits follows that of 16. */
struct forms {
        uint8_t small, small_max, bits8, bits16;
};

static const struct forms str_forms = {0xa0, 31, 0xd9, 0xda}, bin_forms = {0, 0, 0xc4, 0xc5}, ext_forms = {0, 0, 0xc7, 0xc8},
                          array_forms = {0x90, 15, 0, 0xdc}, map_forms = {0x80, 15, 0, 0xde};

static bool write_sized(struct writer *writer, size_t n, struct forms forms) {
        if (forms.small && n <= forms.small_max)
                return write_head(writer, forms.small | (uint8_t)n, 0, 0);
        if (forms.bits8 && n <= UINT8_MAX)
                return write_head(writer, forms.bits8, n, 1);
        if (n <= UINT16_MAX)
                return write_head(writer, forms.bits16, n, 2);
        if (n <= UINT32_MAX)
                return write_head(writer, forms.bits16 + 1, n, 4);
        PyErr_SetString(codec_oversize, "a value has more than 4294967295 bytes or elements");
        return false;
}

static bool write_ext_head(struct writer *writer, int8_t type, size_t n) {
        uint8_t kind = (uint8_t)type;

        switch (n) {
        case 1:
        case 2:
        case 4:
        case 8:
        case 16:
                if (!write_head(writer, (uint8_t)(0xd4 + __builtin_ctzl(n)), 0, 0))
                        return false;
                break;
        default:
                if (!write_sized(writer, n, ext_forms))
                        return false;
        }
        return write_bytes(writer, &kind, 1);
}

/* `ext`: write the text as that extension type, 0: as a str. */
static bool write_text(struct writer *writer, PyObject *text, int8_t ext) {
        PyObject *encoded = NULL;
        const char *data;
        Py_ssize_t len;
        bool ok;

        data = PyUnicode_AsUTF8AndSize(text, &len);
        if (!data) { /* lone surrogates */
                PyErr_Clear();
                encoded = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
                if (!encoded || PyBytes_AsStringAndSize(encoded, (char **)&data, &len) < 0)
                        goto fail;
        }
        ok = ext ? write_ext_head(writer, ext, (size_t)len) : write_sized(writer, (size_t)len, str_forms);
        ok = ok && write_bytes(writer, data, (size_t)len);
        Py_XDECREF(encoded);
        return ok;

fail:
        Py_XDECREF(encoded);
        return false;
}

static bool add_piece(struct writer *writer, PyObject *piece) {
        return piece && PyList_Append(writer->pieces, piece) == 0;
}

/* Whether the bytes are to be a piece of their own: large, and of a size that stays. */
static bool is_piece(const struct writer *writer, PyObject *value, size_t len) {
        return writer->pieces && len >= LARGE_BYTES &&
               (Py_IS_TYPE(value, &PyBytes_Type) || Py_IS_TYPE(value, &PyMemoryView_Type));
}

static bool write_piece(struct writer *writer, PyObject *value, size_t len) {
        PyObject *written, *piece;
        bool ok;

        if (!is_within_limit(writer, len))
                return false;
        written = take_written(writer);
        /* A view may have several dimensions. */
        piece = PyBytes_Check(value) ? Py_NewRef(value) : PyObject_CallMethod(value, "cast", "s", "B");
        ok = add_piece(writer, written) && add_piece(writer, piece);
        Py_XDECREF(written);
        Py_XDECREF(piece);
        writer->before += len;
        return ok;
}

static bool write_bin(struct writer *writer, PyObject *value) {
        Py_buffer view;
        bool ok;

        if (PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) < 0)
                return false;
        ok = write_sized(writer, (size_t)view.len, bin_forms);
        if (is_piece(writer, value, (size_t)view.len))
                ok = ok && write_piece(writer, value, (size_t)view.len);
        else
                ok = ok && write_bytes(writer, view.buf, (size_t)view.len);
        PyBuffer_Release(&view);
        return ok;
}

/* A method of int itself: that of a subclass may do anything. */
static PyObject *call_int(const char *method, PyObject *args, PyObject *options) {
        PyObject *function = PyObject_GetAttrString((PyObject *)&PyLong_Type, method);
        PyObject *result = function && args ? PyObject_Call(function, args, options) : NULL;

        Py_XDECREF(function);
        Py_XDECREF(args);
        return result;
}

/* Bytes of two's complement that hold `value`: those of the bits of value, or of ~value where it is negative, and of a sign. */
static Py_ssize_t bigint_size(PyObject *value, int sign) {
        PyObject *magnitude, *bits = NULL;
        Py_ssize_t n = -1;

        magnitude = sign < 0 ? call_int("__invert__", Py_BuildValue("(O)", value), NULL) : Py_NewRef(value);
        if (magnitude)
                bits = call_int("bit_length", Py_BuildValue("(O)", magnitude), NULL);
        if (bits)
                n = PyLong_AsSsize_t(bits);
        Py_XDECREF(magnitude);
        Py_XDECREF(bits);
        return n < 0 ? -1 : n / 8 + 1;
}

static bool write_bigint(struct writer *writer, PyObject *value, int sign) {
        Py_ssize_t size = bigint_size(value, sign);
        PyObject *options = NULL, *data = NULL;
        bool ok = false;

        if (size < 0)
                return false;
        options = Py_BuildValue("{s:O}", "signed", Py_True);
        if (options)
                data = call_int("to_bytes", Py_BuildValue("(Ons)", value, size, "big"), options);
        if (data)
                ok = write_ext_head(writer, EXT_BIGINT, (size_t)size) &&
                     write_bytes(writer, PyBytes_AsString(data), (size_t)size);
        Py_XDECREF(options);
        Py_XDECREF(data);
        return ok;
}

static bool write_long(struct writer *writer, PyObject *value) {
        unsigned long long wide;
        long long n;
        int sign;

        n = PyLong_AsLongLongAndOverflow(value, &sign);
        if (sign == 0)
                return (n != -1 || !PyErr_Occurred()) && write_int(writer, n);
        if (sign > 0) {
                wide = PyLong_AsUnsignedLongLong(value);
                if (wide != (unsigned long long)-1 || !PyErr_Occurred())
                        return write_uint(writer, wide);
                PyErr_Clear();
        }
        return write_bigint(writer, value, sign);
}

static bool write_float(struct writer *writer, PyObject *value) {
        double wide = PyFloat_AsDouble(value);
        uint64_t bits;

        if (wide == -1.0 && PyErr_Occurred())
                return false;
        memcpy(&bits, &wide, sizeof(bits));
        return write_head(writer, 0xcb, bits, 8);
}

static bool fail_deep(void) {
        PyErr_SetString(PyExc_ValueError, "the value is nested deeper than 128 levels");
        return false;
}

static bool fail_resized(void) {
        PyErr_SetString(PyExc_RuntimeError, "a container changed its size while it was encoded");
        return false;
}

static bool write_list(struct writer *writer, PyObject *list, unsigned depth) {
        Py_ssize_t n = PyList_Size(list);
        PyObject *item;
        bool ok;

        ok = write_sized(writer, (size_t)n, array_forms);
        for (Py_ssize_t i = 0; ok && i < n; i++) {
                if (PyList_Size(list) != n)
                        return fail_resized();
                item = Py_NewRef(PyList_GetItem(list, i));
                ok = write_value(writer, item, depth);
                Py_DECREF(item);
        }
        return ok;
}

static bool write_tuple(struct writer *writer, PyObject *tuple, unsigned depth) {
        Py_ssize_t n = PyTuple_Size(tuple);
        bool ok;

        ok = write_sized(writer, (size_t)n, array_forms);
        for (Py_ssize_t i = 0; ok && i < n; i++)
                ok = write_value(writer, PyTuple_GetItem(tuple, i), depth);
        return ok;
}

static bool is_container(PyObject *value) {
        return PyDict_Check(value) || PyList_Check(value) || PyTuple_Check(value) || PyAnySet_Check(value);
}

/* A container is no key for whoever decodes it. */
static bool write_key(struct writer *writer, PyObject *key) {
        if (Py_IS_TYPE(key, &PyUnicode_Type))
                return write_text(writer, key, 0);
        if (is_container(key)) {
                PyErr_SetString(PyExc_TypeError, "a tuple or frozenset as a dictionary's key cannot be sent");
                return false;
        }
        return write_value(writer, key, DEPTH_MAX);
}

static bool write_dict(struct writer *writer, PyObject *dict, unsigned depth) {
        Py_ssize_t n = PyDict_Size(dict), pos = 0;
        PyObject *key, *value;
        bool ok;

        ok = write_sized(writer, (size_t)n, map_forms);
        for (Py_ssize_t i = 0; ok && i < n; i++) {
                if (PyDict_Size(dict) != n || !PyDict_Next(dict, &pos, &key, &value))
                        return fail_resized();
                Py_INCREF(key);
                Py_INCREF(value);
                ok = write_key(writer, key) && write_value(writer, value, depth);
                Py_DECREF(key);
                Py_DECREF(value);
        }
        return ok;
}

/* A subclass of dict may present other items than it stores: what it presents is asked for. */
static bool write_mapping(struct writer *writer, PyObject *mapping, unsigned depth) {
        PyObject *items = PyMapping_Items(mapping), *pair, *key, *value;
        Py_ssize_t n;
        bool ok;

        if (!items)
                return false;
        n = PyList_Size(items);
        ok = write_sized(writer, (size_t)n, map_forms);
        for (Py_ssize_t i = 0; ok && i < n; i++) {
                pair = PyList_GetItem(items, i);
                ok = pair && PyArg_ParseTuple(pair, "OO", &key, &value) && write_key(writer, key) &&
                     write_value(writer, value, depth);
        }
        Py_DECREF(items);
        return ok;
}

/* Sets have no order of their own: sorted, so that equal sets are equal bytes, unless their members cannot be compared. */
static bool write_set(struct writer *writer, PyObject *set, unsigned depth) {
        PyObject *list = PySequence_List(set);
        bool ok;

        if (!list)
                return false;
        if (PyList_Sort(list) < 0) {
                if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
                        Py_DECREF(list);
                        return false;
                }
                PyErr_Clear();
        }
        ok = write_list(writer, list, depth);
        Py_DECREF(list);
        return ok;
}

static bool write_secret(struct writer *writer, PyObject *secret) {
        PyObject *text = PyObject_CallMethod(secret, "get_secret_value", NULL);
        bool ok;

        if (!text)
                return false;
        ok = PyUnicode_Check(text);
        if (!ok)
                PyErr_Format(PyExc_TypeError, "a secret that is no text cannot be sent");
        ok = ok && write_text(writer, text, EXT_SECRET);
        Py_DECREF(text);
        return ok;
}

static bool write_fallback(struct writer *writer, PyObject *value, unsigned depth) {
        PyObject *substitute, *name;
        int secret;
        bool ok;

        secret = codec_secret ? PyObject_IsInstance(value, codec_secret) : 0;
        if (secret != 0)
                return secret > 0 && write_secret(writer, value);
        if (!codec_fallback) {
                name = PyType_GetName(Py_TYPE(value));
                if (name)
                        PyErr_Format(PyExc_TypeError, "a value of type %U cannot be sent", name);
                Py_XDECREF(name);
                return false;
        }
        if (depth > DEPTH_MAX + FALLBACK_MAX)
                return fail_deep();
        substitute = PyObject_CallFunctionObjArgs(codec_fallback, value, NULL);
        if (!substitute)
                return false;
        ok = write_value(writer, substitute, depth + 1);
        Py_DECREF(substitute);
        return ok;
}

/* A tuple of type and bytes, by its class. */
static bool write_extension(struct writer *writer, PyObject *value) {
        const char *data;
        Py_ssize_t len;
        int type;

        if (!PyArg_ParseTuple(value, "iy#", &type, &data, &len))
                return false;
        return write_ext_head(writer, (int8_t)type, (size_t)len) && write_bytes(writer, data, (size_t)len);
}

static bool write_container(struct writer *writer, PyObject *value, unsigned depth) {
        if (depth >= DEPTH_MAX && PyObject_Size(value) != 0)
                return fail_deep();
        depth++;
        if (Py_IS_TYPE(value, &PyDict_Type))
                return write_dict(writer, value, depth);
        if (PyList_Check(value))
                return write_list(writer, value, depth);
        if (PyTuple_Check(value))
                return write_tuple(writer, value, depth);
        if (PyDict_Check(value))
                return write_mapping(writer, value, depth);
        return write_set(writer, value, depth);
}

static bool write_subclass(struct writer *writer, PyObject *value, unsigned depth) {
        if (PyUnicode_Check(value))
                return write_text(writer, value, 0);
        if (PyLong_Check(value))
                return write_long(writer, value);
        if (PyFloat_Check(value))
                return write_float(writer, value);
        if (codec_extension && Py_IS_TYPE(value, (PyTypeObject *)codec_extension))
                return write_extension(writer, value);
        if (is_container(value))
                return write_container(writer, value, depth);
        if (PyBytes_Check(value) || PyByteArray_Check(value) || Py_IS_TYPE(value, &PyMemoryView_Type))
                return write_bin(writer, value);
        return write_fallback(writer, value, depth);
}

static bool write_value(struct writer *writer, PyObject *value, unsigned depth) {
        PyTypeObject *type = Py_TYPE(value);

        if (type == &PyUnicode_Type)
                return write_text(writer, value, 0);
        if (value == Py_None)
                return write_head(writer, 0xc0, 0, 0);
        if (type == &PyBool_Type)
                return write_head(writer, value == Py_True ? 0xc3 : 0xc2, 0, 0);
        if (type == &PyLong_Type)
                return write_long(writer, value);
        if (type == &PyDict_Type || type == &PyList_Type)
                return write_container(writer, value, depth);
        if (type == &PyFloat_Type)
                return write_float(writer, value);
        if (writer->plain)
                return false;
        if (type == &PyBytes_Type)
                return write_bin(writer, value);
        return write_subclass(writer, value, depth);
}

static void writer_init(struct writer *writer, size_t limit) {
        writer->array = writer->pieces = NULL;
        writer->plain = false;
        writer->data = writer->small;
        writer->len = writer->before = 0;
        writer->cap = SMALL_BYTES;
        writer->limit = limit;
}

PyObject *codec_encode(PyObject *value, size_t limit) {
        struct writer writer;
        PyObject *written = NULL;

        writer_init(&writer, limit);
        if (write_value(&writer, value, 0))
                written = take_written(&writer);
        Py_XDECREF(writer.array);
        return written;
}

/* Return: whether it was possible; if not, perhaps with an exception. */
static bool write_named(struct writer *writer, PyObject *values, PyObject *names) {
        Py_ssize_t n = PyTuple_Size(names), n_found = 0;
        PyObject *value;
        bool ok;

        for (Py_ssize_t i = 0; i < n; i++)
                n_found += PyDict_GetItemWithError(values, PyTuple_GetItem(names, i)) != NULL;
        ok = write_sized(writer, (size_t)n_found, map_forms);
        for (Py_ssize_t i = 0; ok && i < n; i++) {
                value = Py_XNewRef(PyDict_GetItemWithError(values, PyTuple_GetItem(names, i)));
                n_found -= value != NULL;
                ok = !value || (write_text(writer, PyTuple_GetItem(names, i), 0) && write_value(writer, value, 1));
                Py_XDECREF(value);
        }
        return ok && n_found == 0;
}

PyObject *codec_encode_plain(PyObject *values, PyObject *names) {
        struct writer writer;
        PyObject *written = NULL;

        writer_init(&writer, PY_SSIZE_T_MAX);
        writer.plain = true;
        if (write_named(&writer, values, names))
                written = take_written(&writer);
        Py_XDECREF(writer.array);
        return written;
}

PyObject *codec_encode_pieces(PyObject *value, size_t limit) {
        struct writer writer;
        PyObject *written = NULL;

        writer_init(&writer, limit);
        writer.pieces = PyList_New(0);
        if (writer.pieces && write_value(&writer, value, 0))
                written = take_written(&writer);
        if (!writer.pieces || !add_piece(&writer, written))
                Py_CLEAR(writer.pieces);
        Py_XDECREF(written);
        Py_XDECREF(writer.array);
        return writer.pieces;
}
