/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A whole call in one step of Python, for a thread that has the connection to itself at this moment. What is rare is left to
 * client.py: either nothing is done at all, or the connection's methods are called.
 *
 * Other threads may come at any time. What they see changes only while we hold the interpreter's lock, so each change is one step
 * for them. That lock is kept while the request is sent, too: this neither waits nor is done in parts, and nobody has to be locked
 * out.
 */

#include "reader.h"

#include <sys/socket.h>

#define REQUEST 0
#define RESPONSE 1

struct exchange {
        struct reader *reader;
        PyObject *connection; /* borrowed */
        PyObject *number;
        uint32_t id; /* the same */
        int64_t deadline_usec;
};

static bool is_free(const struct reader *reader) {
        return reader->calls && !reader->closed && !reader->failure && !reader->taken && !reader->inside;
}

/* The next number of 32 bits. Return: false with an exception. */
static bool take_number(struct exchange *exchange) {
        PyObject *next = PyIter_Next(exchange->reader->numbers);
        uint64_t n;

        if (!next)
                return false;
        n = PyLong_AsUnsignedLongLong(next);
        exchange->id = (uint32_t)n;
        exchange->number = n == exchange->id ? Py_NewRef(next) : PyLong_FromUnsignedLong(exchange->id);
        Py_DECREF(next);
        return exchange->number && !PyErr_Occurred();
}

/* Return: a new bytes object; NULL with an exception, or without: it would not be small. This may run other threads, and code that
 * calls. */
static PyObject *pack_request(const struct exchange *exchange, PyObject *method, PyObject *params) {
        PyObject *message = PyList_New(4), *list = PyList_New(1), *kind = PyLong_FromLong(REQUEST), *request = NULL;

        if (!message || !list || !kind) {
                Py_XDECREF(list);
                Py_XDECREF(kind);
        } else {
                (void)PyList_SetItem(list, 0, Py_NewRef(params));
                (void)PyList_SetItem(message, 0, kind);
                (void)PyList_SetItem(message, 1, Py_NewRef(exchange->number));
                (void)PyList_SetItem(message, 2, Py_NewRef(method));
                (void)PyList_SetItem(message, 3, list);
                request = codec_encode(message, exchange->reader->request_max);
                if (!request && PyErr_ExceptionMatches(codec_oversize))
                        PyErr_Clear();
        }
        Py_XDECREF(message);
        return request;
}

/* Return: whether another thread is in the middle of a request. */
static bool is_sending(const struct reader *reader) {
        PyObject *locked = PyObject_CallNoArgs(reader->is_locked);

        PyErr_Clear();
        Py_XDECREF(locked);
        return locked != Py_False;
}

/* Registers the call and sends its request, unless that would have to wait. Return: 1: done; 0: nothing was sent, and nothing is
 * registered; -1 with an exception. */
static int send_request(struct exchange *exchange, PyObject *request) {
        struct reader *reader = exchange->reader;
        size_t len = (size_t)PyBytes_Size(request);
        ssize_t n;

        if (!is_free(reader) || is_sending(reader) || PyDict_Contains(reader->calls, exchange->number))
                return 0;
        if (PyDict_SetItem(reader->calls, exchange->number, Py_None) < 0)
                return -1;
        n = send(reader->fd, PyBytes_AsString(request), len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n == (ssize_t)len)
                return 1;
        if (n > 0) { /* it was not to take a part; nothing may follow that */
                (void)shutdown(reader->fd, SHUT_RDWR);
                return 1;
        }
        return PyDict_DelItem(reader->calls, exchange->number) < 0 ? -1 : 0;
}

static bool is_answer(const struct exchange *exchange, PyObject *message) {
        return PyLong_AsLong(PyList_GetItem(message, 0)) == RESPONSE &&
               PyLong_AsUnsignedLong(PyList_GetItem(message, 1)) == exchange->id;
}

/* Has the connection hand out what is not only our answer. Return: our answer; NULL with an exception, or without: it is not there
 * yet. */
static PyObject *hand_out(const struct exchange *exchange, PyObject *messages) {
        PyObject *answer = PyObject_CallMethod(exchange->connection, "hand_out", "OO", exchange->number, messages);

        if (answer == Py_None) {
                Py_CLEAR(answer);
        } else if (answer && PyExceptionInstance_Check(answer)) {
                PyErr_SetObject((PyObject *)Py_TYPE(answer), answer);
                Py_CLEAR(answer);
        }
        return answer;
}

/* Return: as hand_out(), of what has been read. */
static PyObject *find_answer(const struct exchange *exchange) {
        struct reader *reader = exchange->reader;
        PyObject *first = reader_next(reader), *messages, *answer = NULL;

        if (first)
                inbox_drop(&reader->inbox);
        else if (!PyErr_Occurred() || !reader_set_failure(reader))
                return NULL;
        if (first && reader->inbox.len == 0 && is_answer(exchange, first))
                return first;
        messages = reader->failure ? PyList_New(0) : reader_take_messages(reader, first);
        Py_XDECREF(first);
        if (messages)
                answer = hand_out(exchange, messages);
        Py_XDECREF(messages);
        return answer;
}

/* Return: the response, NULL with an exception. */
static PyObject *await_answer(const struct exchange *exchange) {
        PyObject *answer = NULL;
        int r;

        do {
                if (exchange->reader->failure) {
                        PyErr_SetObject(PyExc_EOFError, exchange->reader->failure);
                        return NULL;
                }
                r = reader_read(exchange->reader, exchange->deadline_usec);
                if (r > 0)
                        answer = find_answer(exchange);
                if (r < 0 || answer || PyErr_Occurred())
                        return answer;
        } while (exchange->deadline_usec < 0 || reader_now_usec() < exchange->deadline_usec);
        PyErr_SetString(reader_call_timeout, "no answer came in time");
        return NULL;
}

/* Calls a method of the connection while an exception that there is stands aside. `argument`: NULL: that exception. Return: false:
 * it has raised another one. */
static bool call_connection(const struct exchange *exchange, const char *method, PyObject *argument) {
        PyObject *type, *value, *trace, *done;

        PyErr_Fetch(&type, &value, &trace);
        PyErr_NormalizeException(&type, &value, &trace);
        done = PyObject_CallMethod(exchange->connection, method, "O", argument ? argument : value);
        if (done) {
                PyErr_Restore(type, value, trace);
                Py_DECREF(done);
                return true;
        }
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(trace);
        return false;
}

/* Tells the connection what ended the wait: the exception that there is. */
static void tell_end(const struct exchange *exchange) {
        if (PyErr_ExceptionMatches(reader_call_timeout) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
                (void)call_connection(exchange, "cancel", exchange->number);
        else if (PyErr_ExceptionMatches(PyExc_OSError) || PyErr_ExceptionMatches(PyExc_EOFError))
                (void)call_connection(exchange, "lose", NULL);
}

/* Forgets the call. Return: false with an exception; if `answer` is NULL there was one already. */
static bool leave(const struct exchange *exchange, const PyObject *answer) {
        struct reader *reader = exchange->reader;

        if (answer && !reader->closed && PyDict_Size(reader->calls) == 1) /* nobody else is there */
                return PyDict_DelItem(reader->calls, exchange->number) == 0;
        return call_connection(exchange, "leave", exchange->number);
}

/* Return: the response; NULL with an exception, or without: nothing was sent. */
static PyObject *run_exchange(struct exchange *exchange, PyObject *request) {
        struct reader *reader = exchange->reader;
        PyObject *answer;

        if (send_request(exchange, request) <= 0)
                return NULL;
        reader->taken = reader->inside = true;
        answer = await_answer(exchange);
        reader->taken = reader->inside = false;
        if (!answer)
                tell_end(exchange);
        if (!leave(exchange, answer))
                Py_CLEAR(answer);
        return answer;
}

/* Return: the result instead of its response where that says no more. */
static PyObject *unwrap(PyObject *response) {
        PyObject *result = PyList_GetItem(response, 3);

        if (PyList_GetItem(response, 2) != Py_None || !PyDict_Check(result))
                return response;
        Py_INCREF(result);
        Py_DECREF(response);
        return result;
}

PyObject *reader_exchange(PyObject *self, PyObject *const *args, Py_ssize_t n) {
        struct exchange exchange = {.reader = (struct reader *)self, .deadline_usec = -1};
        PyObject *request, *answer;
        double deadline;

        if (n != 4) {
                PyErr_SetString(PyExc_TypeError, "exchange() takes the connection, a method, parameters and a deadline");
                return NULL;
        }
        if (!is_free(exchange.reader))
                return Py_NewRef(Py_None);
        exchange.connection = args[0];
        if (args[3] != Py_None) {
                deadline = PyFloat_AsDouble(args[3]);
                if (deadline == -1.0 && PyErr_Occurred())
                        return NULL;
                deadline = deadline > 0 ? deadline : 0;
                exchange.deadline_usec = (int64_t)((deadline < 1e12 ? deadline : 1e12) * 1e6);
        }
        request = take_number(&exchange) ? pack_request(&exchange, args[1], args[2]) : NULL;
        answer = request ? run_exchange(&exchange, request) : NULL;
        Py_XDECREF(request);
        Py_XDECREF(exchange.number);
        if (answer)
                return unwrap(answer);
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}
