/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The module `_cpexd_client`: pack(), document(), pieces(), unpack() and Reader of codec.py, which says what they do. A client that calls once in a while finds
 * its caches cold, and then each function of Python that a call passes costs half a microsecond or more.
 *
 * The files beside this one are links to those of the worker's extension: msgpack in C exists once, and a source distribution gets copies.
 */

#include "inbox.h"
#include "stay.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define READ_BYTES ((size_t)16 * 1024) /* the least room for a read */
#define RESULT_DEPTH 2                 /* of the values of the result in a response */

PyObject *codec_secret, *codec_fallback, *codec_oversize, *codec_extension, *codec_make_extension;

static PyObject *protocol_error; /* the class */

/* Whether the exception that there is says that bytes are not what they should be: TypeError for a key that Python cannot hash. */
static bool is_complaint(void) {
        return PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_TypeError);
}

/* ---- Messages */

struct cursor {
        const uint8_t *at;
        size_t left;
};

/* Reads a head and goes past it; past all of it where it is a string. */
static struct head next(struct cursor *cursor) {
        struct head head = {.kind = HEAD_BAD};
        size_t size;

        if (head_read(cursor->at, cursor->left, &head)) {
                size = head.size + (head.kind == HEAD_STR ? (size_t)head.n : 0);
                cursor->at += size;
                cursor->left -= size;
        }
        return head;
}

static bool is_uint(struct head head, uint64_t maximum) {
        return (head.kind == HEAD_UINT || head.kind == HEAD_INT) && head.n <= maximum;
}

static const char *check_call(struct cursor *cursor) {
        struct head head;

        if (next(cursor).kind != HEAD_STR)
                return "the method is not a string";
        head = next(cursor);
        if (head.kind != HEAD_ARRAY || head.n > 1 || (head.n == 1 && next(cursor).kind != HEAD_MAP))
                return "the parameters are not an array of one map";
        return NULL;
}

/* Looks at the envelope of a whole msgpack value. Return: what is wrong with it, NULL: nothing. */
static const char *check(const uint8_t *data, size_t len) {
        struct cursor cursor = {data, len};
        struct head message = next(&cursor), kind, head;

        if (message.kind != HEAD_ARRAY)
                return "a message is an array";
        kind = message.n > 0 ? next(&cursor) : message;
        if (!is_uint(kind, 2))
                return "a message begins with 0, 1 or 2";
        if (message.n != (kind.n == 2 ? 3 : 4))
                return "the message has the wrong number of elements";
        if (kind.n == 2)
                return check_call(&cursor);
        if (!is_uint(next(&cursor), UINT32_MAX))
                return "the message id is not an integer of 32 bits";
        if (kind.n == 0)
                return check_call(&cursor);
        head = next(&cursor);
        return head.kind == HEAD_NIL || head.kind == HEAD_MAP ? NULL : "the error is neither nil nor a map";
}

/* ---- Reader */

struct reader {
        PyObject_HEAD int fd;
        bool busy; /* a thread is in here, perhaps in recv() or in a constructor, without the interpreter's lock */
        struct inbox inbox;
        struct stay stay;
        PyObject *failure; /* a sentence, NULL: none */
};

/* Makes the exception that there is the reader's failure, unless it says nothing about the bytes. Return: false with an exception. */
static bool set_failure(struct reader *reader) {
        PyObject *type, *value, *trace;

        if (!is_complaint())
                return false;
        PyErr_Fetch(&type, &value, &trace);
        reader->failure = PyObject_Str(value ? value : type);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
        return reader->failure != NULL;
}

/* Return: a new reference to the first message; NULL with an exception, or without where there is none yet. */
static PyObject *next_message(struct reader *reader) {
        const char *wrong;
        const uint8_t *data;
        size_t len;

        if (inbox_walk(&reader->inbox) <= 0)
                return NULL;
        data = inbox_message(&reader->inbox, &len);
        wrong = check(data, len);
        if (!wrong)
                return codec_decode(data, len, reader->inbox.memory, RESULT_DEPTH);
        PyErr_SetString(PyExc_ValueError, wrong);
        return NULL;
}

/* Return: a list of the messages that are there; NULL with an exception. */
static PyObject *take_messages(struct reader *reader) {
        PyObject *messages = PyList_New(0), *message;
        int r = 0;

        while (messages && r == 0 && (message = next_message(reader))) {
                inbox_drop(&reader->inbox);
                r = PyList_Append(messages, message);
                Py_DECREF(message);
        }
        if (messages && PyErr_Occurred() && !set_failure(reader))
                Py_CLEAR(messages);
        return messages;
}

/* Return: whether the reader can be used; else an exception is set. */
static bool is_usable(const struct reader *reader) {
        if (!reader->failure && !reader->busy)
                return true;
        PyErr_SetString(PyExc_RuntimeError, reader->failure ? "the reader has failed" : "the reader is in use");
        return false;
}

static PyObject *reader_feed(PyObject *self, PyObject *data) {
        struct reader *reader = (struct reader *)self;
        PyObject *messages = NULL;
        Py_buffer view;
        bool ok;

        if (!is_usable(reader) || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
                return NULL;
        reader->busy = true;
        ok = inbox_make_room(&reader->inbox, (size_t)view.len);
        if (ok && view.len > 0) {
                memcpy(inbox_end(&reader->inbox), view.buf, (size_t)view.len);
                reader->inbox.len += (size_t)view.len;
        }
        PyBuffer_Release(&view);
        if (ok)
                messages = take_messages(reader);
        reader->busy = false;
        return messages;
}

static int64_t now_usec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Waits until there is something to read, `deadline_usec` at most, and reads. Return: as recv(); -1 with EAGAIN when time is over. */
static ssize_t wait_and_read(struct reader *reader, int64_t deadline_usec) {
        struct pollfd poll_fd = {.fd = reader->fd, .events = POLLIN};
        uint8_t *at = inbox_end(&reader->inbox);
        size_t room = inbox_room(&reader->inbox);
        int64_t left_usec;
        struct timespec left;
        int r;

        if (deadline_usec < 0)
                return recv(reader->fd, at, room, 0);
        left_usec = deadline_usec - now_usec();
        if (left_usec < 0)
                left_usec = 0;
        left = (struct timespec){.tv_sec = left_usec / 1000000, .tv_nsec = left_usec % 1000000 * 1000};
        r = ppoll(&poll_fd, 1, &left, NULL);
        if (r > 0)
                return recv(reader->fd, at, room, MSG_DONTWAIT);
        if (r == 0)
                errno = EAGAIN;
        return -1;
}

/* Return: -1 for None, which is for ever; -2 with an exception. */
static int64_t deadline_after(PyObject *seconds) {
        double wait;

        if (seconds == Py_None)
                return -1;
        wait = PyFloat_AsDouble(seconds);
        if (wait == -1.0 && PyErr_Occurred())
                return -2;
        wait = wait > 0 ? wait : 0;
        return now_usec() + (int64_t)((wait < 1e9 ? wait : 1e9) * 1e6);
}

/* Reads once, for another message. Return: 1 when something has come, 0 when time is over, -1 with an exception. */
static int fill(struct reader *reader, int64_t deadline_usec) {
        struct stay_hold hold;
        ssize_t n;
        int error;

        if (!inbox_make_room(&reader->inbox, READ_BYTES))
                return -1;
        do {
                Py_BEGIN_ALLOW_THREADS stay_begin(&reader->stay, &hold);
                n = wait_and_read(reader, deadline_usec);
                error = errno;
                stay_end(&reader->stay, &hold);
                Py_END_ALLOW_THREADS
        } while (n < 0 && error == EINTR && PyErr_CheckSignals() == 0);
        if (n > 0) {
                reader->inbox.len += (size_t)n;
                return 1;
        }
        if (n == 0) {
                PyErr_SetString(PyExc_EOFError, "the daemon closed the connection");
        } else if (error == EAGAIN) {
                return 0;
        } else if (error != EINTR) {
                errno = error;
                PyErr_SetFromErrno(PyExc_OSError);
        }
        return -1;
}

static PyObject *reader_receive(PyObject *self, PyObject *seconds) {
        struct reader *reader = (struct reader *)self;
        int64_t deadline_usec = deadline_after(seconds);
        PyObject *messages = NULL;

        if (deadline_usec == -2 || !is_usable(reader))
                return NULL;
        reader->busy = true;
        if (inbox_walk(&reader->inbox) != 0 || fill(reader, deadline_usec) >= 0) {
                PyErr_Clear(); /* of the walk, which is done again */
                messages = take_messages(reader);
        }
        reader->busy = false;
        return messages;
}

/* Return: whether the first message has come whole and is the response to `msgid`. An exception may be set if not. */
static bool is_answered(struct reader *reader, uint32_t msgid) {
        struct cursor cursor;

        if (inbox_walk(&reader->inbox) <= 0)
                return false;
        cursor.at = inbox_message(&reader->inbox, &cursor.left);
        if (check(cursor.at, cursor.left))
                return false;
        (void)next(&cursor);
        return next(&cursor).n == 1 && next(&cursor).n == msgid;
}

/* Return: the response to `msgid`; None where something else comes first, or what cannot be read, which receive() deals with; NULL with an
 * exception. */
static PyObject *take_answer(struct reader *reader, uint32_t msgid) {
        PyObject *answer;
        const uint8_t *data;
        size_t len;

        if (is_answered(reader, msgid)) {
                data = inbox_message(&reader->inbox, &len);
                answer = codec_decode(data, len, reader->inbox.memory, RESULT_DEPTH);
                if (answer)
                        inbox_drop(&reader->inbox);
                if (answer || !is_complaint())
                        return answer;
        }
        PyErr_Clear();
        Py_RETURN_NONE;
}

/* Return: what the method of a lock says, true or false; -1 with an exception. */
static int ask(PyObject *lock, const char *method) {
        PyObject *answer = PyObject_CallMethod(lock, method, NULL);
        int r = answer ? PyObject_IsTrue(answer) : -1;

        Py_XDECREF(answer);
        return r;
}

/* The request is sent with the interpreter's lock held, and without waiting. So no other thread takes `sending` in between, and it need not be
 * taken here, either, where a signal could come before it is given back; but for the rest of what is sent in part. */
static PyObject *reader_exchange(PyObject *self, PyObject *args) {
        struct reader *reader = (struct reader *)self;
        PyObject *request, *sending, *seconds, *answer = NULL;
        unsigned int msgid;
        int64_t deadline_usec;
        Py_buffer view;
        ssize_t n;
        int taken;

        if (!PyArg_ParseTuple(args, "OIOO:exchange", &request, &msgid, &sending, &seconds) || !is_usable(reader))
                return NULL;
        deadline_usec = deadline_after(seconds);
        if (deadline_usec == -2 || PyObject_GetBuffer(request, &view, PyBUF_SIMPLE) < 0)
                return NULL;
        taken = ask(sending, "locked");
        n = taken != 0 ? -1 : send(reader->fd, view.buf, (size_t)view.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        PyBuffer_Release(&view);
        if (taken != 0)
                return taken > 0 ? PyLong_FromLong(-1) : NULL;
        if (n < view.len)
                return ask(sending, "acquire") < 0 ? NULL : PyLong_FromSsize_t(n < 0 ? 0 : n);
        reader->busy = true;
        if (inbox_walk(&reader->inbox) != 0 || fill(reader, deadline_usec) >= 0)
                answer = take_answer(reader, msgid);
        reader->busy = false;
        return answer;
}

static PyObject *reader_wait_on(PyObject *self, PyObject *core) {
        long number = core == Py_None ? -1 : PyLong_AsLong(core);

        if (number == -1 && PyErr_Occurred())
                return NULL;
        stay_on(&((struct reader *)self)->stay, number);
        Py_RETURN_NONE;
}

static PyObject *reader_failure(PyObject *self, void *unused) {
        struct reader *reader = (struct reader *)self;

        (void)unused;
        return Py_NewRef(reader->failure ? reader->failure : Py_None);
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *options) {
        allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
        struct reader *reader;
        Py_ssize_t limit;
        PyObject *sock = Py_None;
        int fd = -1;

        (void)options;
        if (!PyArg_ParseTuple(args, "n|O:Reader", &limit, &sock))
                return NULL;
        if (sock != Py_None && (fd = PyObject_AsFileDescriptor(sock)) < 0)
                return NULL;
        reader = (struct reader *)alloc(type, 0);
        if (!reader)
                return NULL;
        reader->inbox.limit = limit > 0 ? (size_t)limit : 0;
        reader->fd = fd;
        return (PyObject *)reader;
}

static void reader_dealloc(PyObject *self) {
        struct reader *reader = (struct reader *)self;
        PyTypeObject *type = Py_TYPE(self);
        freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

        inbox_free(&reader->inbox);
        Py_XDECREF(reader->failure);
        release(self);
        Py_DECREF(type);
}

static PyObject *reader_type_new(void) {
        static PyMethodDef methods[] = {
                {"feed", reader_feed, METH_O, "feed(data): as codec.py's."},
                {"wait_on", reader_wait_on, METH_O, "wait_on(core): as codec.py's."},
                {"receive", reader_receive, METH_O, "receive(seconds): as codec.py's."},
                {"exchange", reader_exchange, METH_VARARGS,
                 "exchange(request, msgid, sending, seconds): sends the request, and returns its response if that is what comes "
                 "next, else None, and receive() goes on. Where not all of it can be sent at once it takes the lock `sending` "
                 "and "
                 "returns how many bytes were; -1 where another thread has that."},
                {NULL, NULL, 0, NULL},
        };
        static PyGetSetDef attributes[] = {
                {"failure", reader_failure, NULL, "As codec.py's.", NULL},
                {NULL, NULL, NULL, NULL, NULL},
        };
        static PyType_Slot slots[] = {
                {Py_tp_new, (void *)reader_new},
                {Py_tp_dealloc, (void *)reader_dealloc},
                {Py_tp_methods, methods},
                {Py_tp_getset, attributes},
                {0, NULL},
        };
        static PyType_Spec spec = {
                .name = "_cpexd_client.Reader",
                .basicsize = sizeof(struct reader),
                .flags = Py_TPFLAGS_DEFAULT,
                .slots = slots,
        };

        return PyType_FromSpec(&spec);
}

/* ---- The module */

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
        if (!value && is_complaint()) {
                PyErr_Fetch(&type, &complaint, &trace);
                PyErr_Format(protocol_error, "a document is not one msgpack value: %S", complaint ? complaint : type);
                Py_XDECREF(type);
                Py_XDECREF(complaint);
                Py_XDECREF(trace);
        }
        return value;
}

static PyObject *module_configure(PyObject *module, PyObject *args) {
        PyObject *secret, *fallback, *extension, *make_extension, *error;

        (void)module;
        if (!PyArg_ParseTuple(args, "OOOOO:configure", &secret, &fallback, &extension, &make_extension, &error))
                return NULL;
        if (codec_secret) {
                PyErr_SetString(PyExc_ImportError, "the extension serves the first interpreter that imports it, once");
                return NULL;
        }
        codec_secret = Py_NewRef(secret);
        codec_fallback = Py_NewRef(fallback);
        codec_extension = Py_NewRef(extension);
        codec_make_extension = Py_NewRef(make_extension);
        codec_oversize = Py_NewRef(PyExc_ValueError);
        protocol_error = Py_NewRef(error);
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
                 "configure(secret, fallback, extension, make_extension, error): the class of secret strings, what turns an "
                 "unknown value "
                 "into a known one, the class of extension types, what makes one of type and bytes, and the class of "
                 "ProtocolError."},
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
