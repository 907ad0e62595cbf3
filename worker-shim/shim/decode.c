/* SPDX-License-Identifier: Apache-2.0 */

/*
 * msgpack to Python objects. A declared count is held against the bytes that are left before anything is allocated for it, so
 * memory is proportional to the input. Short map keys come from a small table of strings made before: the same few hundred
 * names arrive in every call, and interning them in the interpreter instead would keep every name a stranger invents for ever.
 */

#include "codec.h"
#include "head.h"

#include <string.h>

#define KEY_LEN_MAX 32
#define KEY_SLOTS 512

struct reader {
        const uint8_t *at, *end;
        PyObject *memory;     /* the bytes object they lie in; NULL: views are not wanted */
        unsigned views_depth; /* of the binaries that are to be views */
};

static PyObject *read_value(struct reader *reader, unsigned depth);

static PyObject *fail(const char *message) {
        PyErr_SetString(PyExc_ValueError, message);
        return NULL;
}

static PyObject *fail_truncated(void) {
        return fail("the msgpack value is cut off");
}

static size_t left(const struct reader *reader) {
        return (size_t)(reader->end - reader->at);
}

/* Lone surrogates, which Python strings may have and UTF-8 may not, are written by encode.c in the same way. */
static PyObject *make_str(const uint8_t *data, size_t len) {
        return PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)len, "surrogatepass");
}

static PyObject *make_key(const uint8_t *data, size_t len) {
        static PyObject *keys[KEY_SLOTS];
        uint32_t hash = 2166136261u;
        PyObject **slot, *key;
        const char *known;
        Py_ssize_t known_len;

        if (len > KEY_LEN_MAX)
                return make_str(data, len);
        for (size_t i = 0; i < len; i++)
                hash = (hash ^ data[i]) * 16777619u;
        slot = &keys[(hash ^ hash >> 15) % KEY_SLOTS];
        if (*slot) {
                known = PyUnicode_AsUTF8AndSize(*slot, &known_len);
                if (known && (size_t)known_len == len && memcmp(known, data, len) == 0)
                        return Py_NewRef(*slot);
                PyErr_Clear();
        }
        key = make_str(data, len);
        if (key) {
                Py_XDECREF(*slot);
                *slot = Py_NewRef(key);
        }
        return key;
}

static PyObject *make_float(const struct head *head) {
        uint32_t bits = (uint32_t)head->n;
        double wide;
        float narrow;

        if (head->kind == HEAD_FLOAT32) {
                memcpy(&narrow, &bits, sizeof(narrow));
                return PyFloat_FromDouble((double)narrow);
        }
        memcpy(&wide, &head->n, sizeof(wide));
        return PyFloat_FromDouble(wide);
}

static PyObject *make_bigint(const uint8_t *data, size_t len) {
        PyObject *from_bytes, *args, *options, *value = NULL;

        from_bytes = PyObject_GetAttrString((PyObject *)&PyLong_Type, "from_bytes");
        args = Py_BuildValue("(y#s)", (const char *)data, (Py_ssize_t)len, "big");
        options = Py_BuildValue("{s:O}", "signed", Py_True);
        if (from_bytes && args && options)
                value = PyObject_Call(from_bytes, args, options);
        Py_XDECREF(from_bytes);
        Py_XDECREF(args);
        Py_XDECREF(options);
        return value;
}

static PyObject *make_secret(const uint8_t *data, size_t len) {
        PyObject *text, *secret;

        if (!codec_secret)
                return fail("a secret arrived before the class of secrets was set");
        text = make_str(data, len);
        if (!text)
                return NULL;
        secret = PyObject_CallFunctionObjArgs(codec_secret, text, NULL);
        Py_DECREF(text);
        return secret;
}

static PyObject *make_date(const uint8_t *data, size_t len) {
        PyObject *module = PyImport_ImportModule("datetime"), *class = NULL, *value = NULL;

        if (module)
                class = PyObject_GetAttrString(module, len > sizeof("2001-12-14") - 1 ? "datetime" : "date");
        if (class)
                value = PyObject_CallMethod(class, "fromisoformat", "s#", (const char *)data, (Py_ssize_t)len);
        Py_XDECREF(class);
        Py_XDECREF(module);
        return value;
}

static PyObject *make_ext(int8_t type, const uint8_t *data, size_t len) {
        if (type == EXT_SECRET)
                return make_secret(data, len);
        if (type == EXT_BIGINT)
                return make_bigint(data, len);
        if (codec_make_extension)
                return PyObject_CallFunction(codec_make_extension, "iy#", (int)type, (const char *)data, (Py_ssize_t)len);
        if (type == EXT_DATE)
                return make_date(data, len);
        PyErr_Format(PyExc_ValueError, "the msgpack extension type %d is not known", (int)type);
        return NULL;
}

/* Return: a new reference to a view of the binary. */
static PyObject *make_view(PyObject *memory, const uint8_t *data, size_t len) {
        Py_ssize_t start = (const char *)data - PyBytes_AsString(memory);
        PyObject *all = PyMemoryView_FromObject(memory), *view = NULL;

        if (all)
                view = PySequence_GetSlice(all, start, start + (Py_ssize_t)len);
        Py_XDECREF(all);
        return view;
}

static PyObject *read_content(struct reader *reader, const struct head *head, unsigned depth) {
        const uint8_t *data = reader->at;
        size_t len = (size_t)head->n;

        if (head->n > left(reader))
                return fail_truncated();
        reader->at += len;
        if (head->kind == HEAD_STR)
                return make_str(data, len);
        if (head->kind == HEAD_BIN && reader->memory && depth == reader->views_depth &&
            len >= (size_t)PyBytes_Size(reader->memory) / 2)
                return make_view(reader->memory, data, len);
        if (head->kind == HEAD_BIN)
                return PyBytes_FromStringAndSize((const char *)data, (Py_ssize_t)len);
        return make_ext(head->ext, data, len);
}

static PyObject *read_array(struct reader *reader, uint64_t n, unsigned depth) {
        PyObject *list, *item;

        if (n > left(reader))
                return fail_truncated();
        list = PyList_New((Py_ssize_t)n);
        for (Py_ssize_t i = 0; list && i < (Py_ssize_t)n; i++) {
                item = read_value(reader, depth);
                if (!item || PyList_SetItem(list, i, item) < 0)
                        Py_CLEAR(list);
        }
        return list;
}

static PyObject *read_key(struct reader *reader) {
        struct head head;
        const uint8_t *data;

        if (!head_read(reader->at, left(reader), &head))
                return fail_truncated();
        if (head.kind >= HEAD_ARRAY)
                return fail("a map's key is an array or a map");
        if (head.kind != HEAD_STR)
                return read_value(reader, 0);
        data = reader->at + head.size;
        if (head.n > left(reader) - head.size)
                return fail_truncated();
        reader->at = data + head.n;
        return make_key(data, (size_t)head.n);
}

static bool read_pair(struct reader *reader, PyObject *dict, unsigned depth) {
        PyObject *key, *value = NULL;
        bool ok;

        key = read_key(reader);
        if (key)
                value = read_value(reader, depth);
        ok = value && PyDict_SetItem(dict, key, value) == 0;
        Py_XDECREF(key);
        Py_XDECREF(value);
        return ok;
}

static PyObject *read_map(struct reader *reader, uint64_t n, unsigned depth) {
        PyObject *dict;

        if (n > left(reader) / 2)
                return fail_truncated();
        dict = PyDict_New();
        for (uint64_t i = 0; dict && i < n; i++)
                if (!read_pair(reader, dict, depth))
                        Py_CLEAR(dict);
        return dict;
}

static PyObject *read_value(struct reader *reader, unsigned depth) {
        struct head head;

        if (!head_read(reader->at, left(reader), &head))
                return fail_truncated();
        reader->at += head.size;
        if (head.kind >= HEAD_ARRAY && head.n > 0 && depth == DEPTH_MAX)
                return fail("the msgpack value is nested deeper than 128 levels");

        switch (head.kind) {
        case HEAD_NIL:
                return Py_NewRef(Py_None);
        case HEAD_FALSE:
                return Py_NewRef(Py_False);
        case HEAD_TRUE:
                return Py_NewRef(Py_True);
        case HEAD_UINT:
                return PyLong_FromUnsignedLongLong(head.n);
        case HEAD_INT:
                return PyLong_FromLongLong((long long)head.n);
        case HEAD_FLOAT32:
        case HEAD_FLOAT64:
                return make_float(&head);
        case HEAD_ARRAY:
                return read_array(reader, head.n, depth + 1);
        case HEAD_MAP:
                return read_map(reader, head.n, depth + 1);
        case HEAD_BAD:
                return fail("the byte 0xc1 is not msgpack");
        default:
                return read_content(reader, &head, depth);
        }
}

PyObject *codec_decode(const uint8_t *data, size_t len, PyObject *memory, unsigned views_depth) {
        struct reader reader = {data, data + len, memory, views_depth};
        PyObject *value;

        value = read_value(&reader, 0);
        if (value && reader.at != reader.end) {
                Py_DECREF(value);
                return fail("bytes follow the msgpack value");
        }
        return value;
}

PyObject *codec_decode_next(const uint8_t **at, const uint8_t *end) {
        struct reader reader = {*at, end, NULL, 0};
        PyObject *value = read_value(&reader, 0);

        *at = reader.at;
        return value;
}
