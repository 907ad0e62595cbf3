/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reader of codec.py, which says what it does; exchange() is in exchange.c.
 */

#include "reader.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define READ_BYTES ((size_t)16 * 1024) /* the least room for a read */
#define SMALL_BYTES ((size_t)16 * 1024 - 1)
#define RESULT_DEPTH 2 /* of the values of the result in a response */

bool reader_is_complaint(void) {
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

bool reader_set_failure(struct reader *reader) {
        PyObject *type, *value, *trace;

        if (!reader_is_complaint())
                return false;
        PyErr_Fetch(&type, &value, &trace);
        reader->failure = PyObject_Str(value ? value : type);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
        return reader->failure != NULL;
}

PyObject *reader_next(struct reader *reader) {
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

PyObject *reader_take_messages(struct reader *reader, PyObject *first) {
        PyObject *messages = PyList_New(0), *message;
        int r = messages && first ? PyList_Append(messages, first) : 0;

        while (messages && r == 0 && (message = reader_next(reader))) {
                inbox_drop(&reader->inbox);
                r = PyList_Append(messages, message);
                Py_DECREF(message);
        }
        if (messages && PyErr_Occurred() && !reader_set_failure(reader))
                Py_CLEAR(messages);
        return messages;
}

/* Return: whether the reader can be used; else an exception is set. */
static bool is_usable(const struct reader *reader) {
        if (!reader->failure && !reader->inside)
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
        reader->inside = true;
        ok = inbox_make_room(&reader->inbox, (size_t)view.len);
        if (ok && view.len > 0) {
                memcpy(inbox_end(&reader->inbox), view.buf, (size_t)view.len);
                reader->inbox.len += (size_t)view.len;
        }
        PyBuffer_Release(&view);
        if (ok)
                messages = reader_take_messages(reader, NULL);
        reader->inside = false;
        return messages;
}

int64_t reader_now_usec(void) {
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Waits until there is something to read, `deadline_usec` at most, and reads. Return: as recv(); -1 with EAGAIN: time is over. */
static ssize_t wait_and_read(struct reader *reader, int64_t deadline_usec) {
        struct pollfd poll_fd = {.fd = reader->fd, .events = POLLIN};
        uint8_t *at = inbox_end(&reader->inbox);
        size_t room = inbox_room(&reader->inbox);
        int64_t left_usec;
        struct timespec left;
        int r;

        if (deadline_usec < 0)
                return recv(reader->fd, at, room, 0);
        left_usec = deadline_usec - reader_now_usec();
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
        return reader_now_usec() + (int64_t)((wait < 1e9 ? wait : 1e9) * 1e6);
}

int reader_read(struct reader *reader, int64_t deadline_usec) {
        struct stay_hold hold;
        ssize_t n;
        int error;

        if (!inbox_make_room(&reader->inbox, READ_BYTES) || PyErr_CheckSignals() < 0)
                return -1;
        do {
                stay_begin(&reader->stay, &hold);
                Py_BEGIN_ALLOW_THREADS n = wait_and_read(reader, deadline_usec);
                error = errno;
                Py_END_ALLOW_THREADS stay_end(&reader->stay, &hold);
        } while (n < 0 && error == EINTR && PyErr_CheckSignals() == 0);
        if (n > 0) {
                reader->inbox.len += (size_t)n;
                return 1;
        }
        if (n < 0 && error == EAGAIN)
                return 0;
        if (n == 0) {
                PyErr_SetString(PyExc_EOFError, "the daemon closed the connection");
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
        int r;

        if (deadline_usec == -2 || !is_usable(reader))
                return NULL;
        reader->inside = true;
        r = reader_read(reader, deadline_usec);
        if (r >= 0)
                messages = r > 0 ? reader_take_messages(reader, NULL) : PyList_New(0);
        reader->inside = false;
        return messages;
}

static PyObject *reader_wait_on(PyObject *self, PyObject *core) {
        long number = core == Py_None ? -1 : PyLong_AsLong(core);

        if (number == -1 && PyErr_Occurred())
                return NULL;
        stay_on(&((struct reader *)self)->stay, number);
        Py_RETURN_NONE;
}

static PyObject *reader_hold(PyObject *self, PyObject *unused) {
        struct reader *reader = (struct reader *)self;

        (void)unused;
        stay_begin(&reader->stay, &reader->hold);
        Py_RETURN_NONE;
}

static PyObject *reader_release(PyObject *self, PyObject *unused) {
        struct reader *reader = (struct reader *)self;

        (void)unused;
        stay_end(&reader->stay, &reader->hold);
        Py_RETURN_NONE;
}

static PyObject *reader_take(PyObject *self, PyObject *unused) {
        struct reader *reader = (struct reader *)self;
        bool free = !reader->taken;

        (void)unused;
        reader->taken = true;
        return PyBool_FromLong(free);
}

static PyObject *reader_give_back(PyObject *self, PyObject *unused) {
        (void)unused;
        ((struct reader *)self)->taken = false;
        Py_RETURN_NONE;
}

static PyObject *reader_taken(PyObject *self, void *unused) {
        (void)unused;
        return PyBool_FromLong(((struct reader *)self)->taken);
}

static PyObject *reader_close(PyObject *self, PyObject *unused) {
        (void)unused;
        ((struct reader *)self)->closed = true;
        Py_RETURN_NONE;
}

/* ---- The type */

static PyObject *reader_failure(PyObject *self, void *unused) {
        struct reader *reader = (struct reader *)self;

        (void)unused;
        return Py_NewRef(reader->failure ? reader->failure : Py_None);
}

/* The kernel cuts what is longer than half of its buffer, and the encoder makes no bytes objects of what is large. */
static size_t request_max(int fd) {
        int buffer = 0;
        socklen_t len = sizeof(buffer);

        if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, &len) < 0 || buffer < 512)
                return 0;
        return (size_t)buffer / 2 - 256 < SMALL_BYTES ? (size_t)buffer / 2 - 256 : SMALL_BYTES;
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *options) {
        allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
        struct reader *reader;
        Py_ssize_t limit;
        PyObject *sock = Py_None, *calls = NULL, *numbers = NULL, *lock = NULL, *is_locked = NULL;
        int fd = -1;

        (void)options;
        if (!PyArg_ParseTuple(args, "n|OO!OO:Reader", &limit, &sock, &PyDict_Type, &calls, &numbers, &lock))
                return NULL;
        if (sock != Py_None && (fd = PyObject_AsFileDescriptor(sock)) < 0)
                return NULL;
        if (lock && (!PyIter_Check(numbers) || !(is_locked = PyObject_GetAttrString(lock, "locked"))))
                return NULL;
        reader = (struct reader *)alloc(type, 0);
        if (!reader) {
                Py_XDECREF(is_locked);
                return NULL;
        }
        reader->inbox.limit = limit > 0 ? (size_t)limit : 0;
        reader->fd = fd;
        if (is_locked) {
                reader->request_max = request_max(fd);
                reader->calls = Py_NewRef(calls);
                reader->numbers = Py_NewRef(numbers);
                reader->is_locked = is_locked;
        }
        return (PyObject *)reader;
}

static void reader_dealloc(PyObject *self) {
        struct reader *reader = (struct reader *)self;
        PyTypeObject *type = Py_TYPE(self);
        freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

        inbox_free(&reader->inbox);
        Py_XDECREF(reader->failure);
        Py_XDECREF(reader->calls);
        Py_XDECREF(reader->numbers);
        Py_XDECREF(reader->is_locked);
        release(self);
        Py_DECREF(type);
}

PyObject *reader_type_new(void) {
        static PyMethodDef methods[] = {
                {"feed", reader_feed, METH_O, "feed(data): as codec.py's."},
                {"receive", reader_receive, METH_O, "receive(seconds): as codec.py's."},
                {"wait_on", reader_wait_on, METH_O, "wait_on(core): as codec.py's."},
                {"hold", reader_hold, METH_NOARGS, "hold(): as codec.py's."},
                {"release", reader_release, METH_NOARGS, "release(): as codec.py's."},
                {"take", reader_take, METH_NOARGS, "take(): as codec.py's."},
                {"give_back", reader_give_back, METH_NOARGS, "give_back(): as codec.py's."},
                {"close", reader_close, METH_NOARGS, "close(): as codec.py's."},
                {"exchange", (PyCFunction)(void (*)(void))reader_exchange, METH_FASTCALL,
                 "exchange(connection, method, params, deadline): as codec.py's."},
                {NULL, NULL, 0, NULL},
        };
        static PyGetSetDef attributes[] = {
                {"failure", reader_failure, NULL, "As codec.py's.", NULL},
                {"taken", reader_taken, NULL, "As codec.py's.", NULL},
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
