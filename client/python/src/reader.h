/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The type Reader of the module, and what its calls in one step (exchange.c) use of it. */

#include "inbox.h"
#include "stay.h"

#include <stdbool.h>

struct reader {
        PyObject_HEAD int fd; /* -1: none */
        bool taken;           /* by the thread that reads for all */
        bool inside;          /* a thread is in here, perhaps in recv() or in a constructor, without the interpreter's lock */
        bool closed;          /* `fd` is about to become that of another file, when the last call has left */
        struct inbox inbox;
        struct stay stay;      /* changes only while we hold the interpreter's lock */
        struct stay_hold hold; /* between hold() and release() */
        PyObject *failure;     /* a sentence, NULL: none */
        size_t request_max;    /* bytes that the kernel takes as a whole or not at all */
        PyObject *calls;     /* dict: the calls that wait, by number; None for that of exchange(); NULL: there is no exchange() */
        PyObject *numbers;   /* iterator */
        PyObject *is_locked; /* called without arguments: whether another thread is sending */
};

extern PyObject *reader_call_timeout; /* the class CallTimeout, which the module sets */

/* Return: a new reference to the type, NULL with an exception. */
PyObject *reader_type_new(void);

/* Whether the exception that there is says that bytes are not what they should be: TypeError for a key that has no hash. */
bool reader_is_complaint(void);

/* Makes the exception that there is the failure, unless it says nothing about the bytes. Return: false with an exception. */
bool reader_set_failure(struct reader *reader);

/* Return: a new reference to the first message, which inbox_drop() takes away; NULL with an exception, or without. */
PyObject *reader_next(struct reader *reader);

/* Return: a list of the messages that are there, `first` before them unless it is NULL; NULL with an exception. */
PyObject *reader_take_messages(struct reader *reader, PyObject *first);

/* Of the clock that deadlines are of, which is that of Python's time.monotonic(). */
int64_t reader_now_usec(void);

/* Waits until there is something to read, `deadline_usec` at most (negative: for ever), and reads once. Signal handlers run
 * meanwhile. Return: 1: something came; 0: nothing did, in time; -1 with an exception. */
int reader_read(struct reader *reader, int64_t deadline_usec);

/* The method exchange(). */
PyObject *reader_exchange(PyObject *self, PyObject *const *args, Py_ssize_t n);
