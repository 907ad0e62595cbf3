/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The worker's end of the socket to the daemon. It reads as much as has arrived and hands out one decoded message at a time.
 *
 * The socket moves to a high descriptor at once: plugin code that writes to a small number by mistake must not find the
 * protocol there. Its blocking mode is left alone and does not matter.
 *
 * Secrets come over this socket, and the workers of other plugins run as the same user. So the process with the connection cannot be
 * looked into (ptrace(2), /proc/PID/mem, environ) and leaves no core file. The launcher cannot say so: exec forgets it.
 */

#include "cpexd.h"
#include "inbox.h"
#include "quick.h"
#include "stay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_BYTES ((size_t)16 * 1024) /* the least room for a read */
#define HIGH_FD 256
#define PARAMS_DEPTH 3   /* of the values of the parameters in a request */
#define PARTS_AT_ONCE 64 /* of one system call */

struct conn {
        PyObject_HEAD int fd; /* -1: closed */
        bool reading;         /* a thread is in recv() without the interpreter's lock */
        struct inbox inbox;
        struct stay stay;
        struct stay_hold hold; /* between hold() and release() */
};

static PyObject *fail_closed(void) {
        PyErr_SetString(PyExc_ValueError, "the connection is closed");
        return NULL;
}

/* Reads once. Return: bytes read, 0 at the end, -1 with errno set. */
static ssize_t read_some(struct conn *conn, bool wait) {
        uint8_t *at = inbox_end(&conn->inbox);
        size_t room = inbox_room(&conn->inbox);
        struct pollfd poll_fd = {.fd = conn->fd, .events = POLLIN};
        struct stay_hold hold;
        ssize_t n;

        if (!wait)
                return recv(conn->fd, at, room, MSG_DONTWAIT);
        conn->reading = true;
        Py_BEGIN_ALLOW_THREADS stay_begin(&conn->stay, &hold);
        n = recv(poll_fd.fd, at, room, 0);
        if (n < 0 && errno == EAGAIN && poll(&poll_fd, 1, -1) > 0)
                n = recv(poll_fd.fd, at, room, MSG_DONTWAIT);
        stay_end(&conn->stay, &hold);
        Py_END_ALLOW_THREADS conn->reading = false;
        return n;
}

/* Return: 1 when bytes were added, 0 when there are none for now, -1 with an exception. */
static int fill(struct conn *conn, bool wait) {
        ssize_t n;

        if (!inbox_make_room(&conn->inbox, READ_BYTES))
                return -1;
        for (;;) {
                n = read_some(conn, wait);
                if (n > 0) {
                        conn->inbox.len += (size_t)n;
                        return 1;
                }
                if (n == 0) {
                        PyErr_SetString(PyExc_EOFError, conn->inbox.len == 0
                                                                ? "the daemon closed the connection"
                                                                : "the daemon closed the connection inside a message");
                        return -1;
                }
                if (errno == EAGAIN && !wait)
                        return 0;
                if (errno != EINTR && errno != EAGAIN) {
                        PyErr_SetFromErrno(PyExc_OSError);
                        return -1;
                }
                if (PyErr_CheckSignals() < 0)
                        return -1;
        }
}

/* Return: the id of the request in `data`, -1 where it is none. */
static long long request_id(const uint8_t *data, size_t len) {
        const uint64_t expected[] = {4, 0}; /* four elements, of which the first is 0 */
        struct head head;

        for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
                if (!head_read(data, len, &head) || head.kind != (i == 0 ? HEAD_ARRAY : HEAD_UINT) || head.n != expected[i])
                        return -1;
                data += head.size;
                len -= head.size;
        }
        return head_read(data, len, &head) && head.kind == HEAD_UINT && head.n <= UINT32_MAX ? (long long)head.n : -1;
}

/* Text that is not UTF-8, an extension nobody knows: the daemon passes such things on unseen, so only their call may fail. */
static void fail_undecodable(const uint8_t *data, size_t len) {
        PyObject *type, *value, *trace, *args;

        if (!PyErr_ExceptionMatches(PyExc_ValueError) && !PyErr_ExceptionMatches(PyExc_TypeError))
                return;
        PyErr_Fetch(&type, &value, &trace);
        args = Py_BuildValue("(NL)", PyObject_Str(value ? value : type), request_id(data, len));
        if (args)
                PyErr_SetObject(conn_undecodable, args);
        Py_XDECREF(args);
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
}

/* Sends all of it, and changes `parts` on the way. Return: false with errno set. */
static bool send_all(struct conn *conn, struct iovec *parts, size_t n) {
        struct pollfd poll_fd = {.fd = conn->fd, .events = POLLOUT};

        while (n > 0) {
                struct msghdr message = {.msg_iov = parts, .msg_iovlen = n < PARTS_AT_ONCE ? n : PARTS_AT_ONCE};
                ssize_t sent = sendmsg(poll_fd.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
                struct stay_hold hold;

                if (sent < 0 && errno == EAGAIN) {
                        stay_begin(&conn->stay, &hold);
                        (void)poll(&poll_fd, 1, -1);
                        stay_end(&conn->stay, &hold);
                } else if (sent < 0 && errno != EINTR)
                        return false;
                for (; n > 0 && sent >= (ssize_t)parts->iov_len; n--)
                        sent -= (ssize_t)parts++->iov_len;
                if (n > 0 && sent > 0) {
                        parts->iov_base = (uint8_t *)parts->iov_base + sent;
                        parts->iov_len -= (size_t)sent;
                }
        }
        return true;
}

/* Return: how many pieces have a view and a part by now; fewer than `n` with an exception. */
static Py_ssize_t view_pieces(PyObject *pieces, Py_ssize_t n, Py_buffer *views, struct iovec *parts) {
        for (Py_ssize_t i = 0; i < n; i++) {
                PyObject *piece = PyList_GetItem(pieces, i);

                if (!piece || PyObject_GetBuffer(piece, &views[i], PyBUF_SIMPLE) < 0)
                        return i;
                parts[i] = (struct iovec){views[i].buf, (size_t)views[i].len};
        }
        return n;
}

static PyObject *conn_send(PyObject *self, PyObject *pieces) {
        struct conn *conn = (struct conn *)self;
        Py_ssize_t n = PyList_Check(pieces) ? PyList_Size(pieces) : -1, n_viewed = 0;
        struct iovec *parts;
        Py_buffer *views;
        bool ok = false;

        if (n < 0)
                return PyErr_Format(PyExc_TypeError, "a list of pieces is needed");
        if (conn->fd < 0)
                return fail_closed();
        parts = PyMem_Calloc((size_t)n + 1, sizeof(*parts));
        views = PyMem_Calloc((size_t)n + 1, sizeof(*views));
        if (parts && views)
                n_viewed = view_pieces(pieces, n, views, parts);
        else
                PyErr_NoMemory();
        if (parts && views && n_viewed == n) {
                Py_BEGIN_ALLOW_THREADS ok = send_all(conn, parts, (size_t)n);
                Py_END_ALLOW_THREADS if (!ok) PyErr_SetFromErrno(PyExc_OSError);
        }
        while (n_viewed > 0)
                PyBuffer_Release(&views[--n_viewed]);
        PyMem_Free(parts);
        PyMem_Free(views);
        return ok ? Py_NewRef(Py_None) : NULL;
}

static PyObject *conn_wait_on(PyObject *self, PyObject *core) {
        long number = core == Py_None ? -1 : PyLong_AsLong(core);

        if (number == -1 && PyErr_Occurred())
                return NULL;
        stay_on(&((struct conn *)self)->stay, number);
        Py_RETURN_NONE;
}

static PyObject *conn_hold(PyObject *self, PyObject *unused) {
        struct conn *conn = (struct conn *)self;

        (void)unused;
        if (!conn->stay.wanted)
                Py_RETURN_FALSE;
        stay_begin(&conn->stay, &conn->hold);
        Py_RETURN_TRUE;
}

static PyObject *conn_release(PyObject *self, PyObject *unused) {
        struct conn *conn = (struct conn *)self;

        (void)unused;
        stay_end(&conn->stay, &conn->hold);
        Py_RETURN_NONE;
}

/* Serves the first message, if it is a plain call, and drops it then. `ret`: what quick_serve() has left for Python. */
static enum quick_outcome serve(struct conn *conn, PyObject *quick, PyObject **ret) {
        enum quick_outcome outcome;
        const uint8_t *data;
        PyObject *given, *sent;
        size_t len;

        data = inbox_message(&conn->inbox, &len);
        outcome = quick_serve(quick, data, len, &given);
        if (outcome == QUICK_NOT)
                return outcome;
        inbox_drop(&conn->inbox);
        if (outcome != QUICK_ANSWERED) {
                *ret = given;
                return outcome;
        }
        sent = conn_send((PyObject *)conn, given);
        Py_DECREF(given);
        if (sent) {
                Py_DECREF(sent);
                return outcome;
        }
        /* The daemon is gone, or this is a forked child that came back from the hook. */
        PyErr_Clear();
        PyErr_SetString(PyExc_EOFError, "nobody takes the answer");
        return QUICK_FAILED;
}

static PyObject *conn_recv(PyObject *self, PyObject *args) {
        struct conn *conn = (struct conn *)self;
        const uint8_t *data;
        PyObject *message, *quick = Py_None;
        size_t len;
        int wait = 1, r;

        if (!PyArg_ParseTuple(args, "|pO:recv", &wait, &quick))
                return NULL;
        if (conn->fd < 0)
                return fail_closed();
        if (conn->reading) {
                PyErr_SetString(PyExc_RuntimeError, "another thread is reading from the connection");
                return NULL;
        }
        if (quick != Py_None && !quick_check(quick))
                return NULL;
        do {
                while ((r = inbox_walk(&conn->inbox)) == 0) {
                        r = fill(conn, wait);
                        if (r < 0)
                                return NULL;
                        if (r == 0)
                                Py_RETURN_NONE;
                }
                if (r < 0)
                        return NULL;
                r = quick == Py_None ? QUICK_NOT : serve(conn, quick, &message);
        } while (r == QUICK_ANSWERED);
        if (r != QUICK_NOT)
                return r == QUICK_BEGUN ? message : NULL;
        data = inbox_message(&conn->inbox, &len);
        message = codec_decode(data, len, conn->inbox.memory, PARAMS_DEPTH);
        if (!message)
                fail_undecodable(data, len);
        inbox_drop(&conn->inbox);
        return message;
}

static PyObject *conn_fileno(PyObject *self, PyObject *unused) {
        (void)unused;
        return PyLong_FromLong(((struct conn *)self)->fd);
}

static PyObject *conn_close(PyObject *self, PyObject *unused) {
        struct conn *conn = (struct conn *)self;

        (void)unused;
        if (conn->fd >= 0)
                (void)close(conn->fd);
        conn->fd = -1;
        Py_RETURN_NONE;
}

/* Return: `fd` under a high number, or under any where the limit on descriptors is low; -1 with errno set. */
static int move_high(int fd) {
        int moved = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);

        if (moved < 0 && errno == EINVAL)
                moved = fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);
        if (moved >= 0)
                (void)close(fd);
        return moved;
}

static PyObject *conn_new(PyTypeObject *type, PyObject *args, PyObject *options) {
        static char *names[] = {"fd", "limit", NULL};
        allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
        struct conn *conn;
        Py_ssize_t limit;
        int fd;

        if (!PyArg_ParseTupleAndKeywords(args, options, "in:Connection", names, &fd, &limit))
                return NULL;
        if (limit < 1) {
                PyErr_SetString(PyExc_ValueError, "the limit is at least 1 byte");
                return NULL;
        }
        conn = (struct conn *)alloc(type, 0);
        if (!conn)
                return NULL;
        conn->inbox.limit = (size_t)limit;
        conn->fd = move_high(fd);
        if (conn->fd < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) {
                PyErr_SetFromErrno(PyExc_OSError);
                Py_DECREF(conn);
                return NULL;
        }
        return (PyObject *)conn;
}

static void conn_dealloc(PyObject *self) {
        struct conn *conn = (struct conn *)self;
        PyTypeObject *type = Py_TYPE(self);
        freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

        if (conn->fd >= 0)
                (void)close(conn->fd);
        inbox_free(&conn->inbox);
        release(self);
        Py_DECREF(type);
}

PyObject *conn_type_new(void) {
        static PyMethodDef methods[] = {
                {"recv", conn_recv, METH_VARARGS,
                 "recv(wait=True, quick=None): the next message, decoded; None where there is none and wait is false. EOFError "
                 "at the "
                 "end, ValueError for what is no message. A Quick serves what it can, until it has begun a call that it cannot "
                 "end: "
                 "that is a tuple, see quick.c."},
                {"send", conn_send, METH_O,
                 "send(pieces): writes all of a list of bytes objects and the like, waiting while the socket is full."},
                {"wait_on", conn_wait_on, METH_O,
                 "wait_on(core): the number of the processor to wait on from now on, None: on any."},
                {"hold", conn_hold, METH_NOARGS,
                 "Before a wait other than recv()'s, if it is to be on that processor. Return: whether; release() comes after it "
                 "then."},
                {"release", conn_release, METH_NOARGS, "After such a wait, by the same thread."},
                {"fileno", conn_fileno, METH_NOARGS, "The descriptor, -1 when closed."},
                {"close", conn_close, METH_NOARGS, "Closes the socket; closing twice is fine."},
                {NULL, NULL, 0, NULL},
        };
        static PyType_Slot slots[] = {
                {Py_tp_new, (void *)conn_new},
                {Py_tp_dealloc, (void *)conn_dealloc},
                {Py_tp_methods, methods},
                {Py_tp_doc, "Connection(fd, limit): a stream of msgpack messages over the socket fd, which it takes over."},
                {0, NULL},
        };
        static PyType_Spec spec = {
                .name = "_cpexd.Connection",
                .basicsize = sizeof(struct conn),
                .flags = Py_TPFLAGS_DEFAULT,
                .slots = slots,
        };

        return PyType_FromSpec(&spec);
}
