/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way of a plain call. The plugin's coroutine runs in a copy of the context that initialize() has left, up to its first
 * suspension; as nobody has imported asyncio, that is its end. Should it import asyncio meanwhile, Python makes a task of what is
 * under way (_drive.py), and gets the call handed over.
 *
 * Python has looked at the classes before their instances' dictionaries are read here instead of attributes (_hook.py, _sdk.py).
 * All that is taken out of these is held while it is in use: the plugin's code runs wherever something is encoded or collected.
 */

#include "quick.h"
#include "head.h"
#include "model.h"

#include <string.h>

#define HOOKS_MAX 16
#define CONTEXT_MAX 32 /* names in a context; there are fewer fields */

enum name {
        STATE,
        METADATA,
        N_SHARED, /* the two of the shared state */
        GLOBAL_CONTEXT = N_SHARED,
        MODIFIED_PAYLOAD,
        PAYLOAD_IS,
        RETRY_DELAY_MS,
        VIOLATION,
        CONTINUE_PROCESSING,
        MODIFIED_EXTENSIONS,
        HTTP_HEADERS,
        DENIAL_METADATA,
        COPY,
        RUN,
        N_NAMES,
};

static PyObject *names[N_NAMES];

static bool make_names(void) {
        static const char *const texts[N_NAMES] = {
                [STATE] = "state",
                [METADATA] = "metadata",
                [GLOBAL_CONTEXT] = "global_context",
                [MODIFIED_PAYLOAD] = "modified_payload",
                [PAYLOAD_IS] = "payload_is",
                [RETRY_DELAY_MS] = "retry_delay_ms",
                [VIOLATION] = "violation",
                [CONTINUE_PROCESSING] = "continue_processing",
                [MODIFIED_EXTENSIONS] = "modified_extensions",
                [HTTP_HEADERS] = "http_headers",
                [DENIAL_METADATA] = "denial_metadata",
                [COPY] = "copy",
                [RUN] = "run",
        };

        for (size_t i = 0; i < N_NAMES; i++)
                if (!names[i] && !(names[i] = PyUnicode_InternFromString(texts[i])))
                        return false;
        return true;
}

struct hook {
        PyObject *name; /* bytes */
        PyObject *owner, *method, *payload_class, *fields, *dumped, *result_class;
};

struct quick {
        PyObject_HEAD PyObject *context;                   /* each call runs in a copy */
        PyObject *shared_class, *shared_fields;            /* GlobalContext */
        PyObject *own_class, *own_fields;                  /* PluginContext */
        PyObject *step;                                    /* quick_step() of this object */
        const struct hook *hook;                           /* of the call under way */
        PyObject *payload, *own, *coroutine, *its_context; /* likewise; NULL: none */
        size_t limit;                                      /* of an answer */
        size_t n_hooks;
        struct hook hooks[HOOKS_MAX];
        bool stopped; /* for good; a call under way is handed over */
};

/* What the request says. */
struct request {
        uint32_t ident;
        const struct hook *hook;
        const uint8_t *payload;
        size_t payload_len;
        PyObject *context; /* a dict */
};

static PyTypeObject *quick_type;
/* ---- The request ---- */

struct cursor {
        const uint8_t *at, *end;
};

/* Return: whether a header was read; the cursor is behind it. */
static bool next(struct cursor *cursor, struct head *head) {
        if (!head_read(cursor->at, (size_t)(cursor->end - cursor->at), head))
                return false;
        cursor->at += head->size;
        return true;
}

/* Return: the text or binary of that kind; NULL: it is none. */
static const uint8_t *next_bytes(struct cursor *cursor, enum head_kind kind, size_t *len) {
        const uint8_t *at;
        struct head head;

        if (!next(cursor, &head) || head.kind != kind || head.n > (size_t)(cursor->end - cursor->at))
                return NULL;
        at = cursor->at;
        *len = (size_t)head.n;
        cursor->at += head.n;
        return at;
}

static bool is_text(const uint8_t *at, size_t len, const char *text) {
        return strlen(text) == len && memcmp(at, text, len) == 0;
}

static const struct hook *find_hook(const struct quick *quick, const uint8_t *name, size_t len) {
        for (size_t i = 0; name && i < quick->n_hooks; i++)
                if ((size_t)PyBytes_Size(quick->hooks[i].name) == len &&
                    memcmp(PyBytes_AsString(quick->hooks[i].name), name, len) == 0)
                        return &quick->hooks[i];
        return NULL;
}

/* What is nil counts as not given. Each time the dictionary is begun anew, so it is to be a small one. */
static bool drop_nones(PyObject *dict) {
        PyObject *key, *value;
        Py_ssize_t pos = 0;

        while (PyDict_Next(dict, &pos, &key, &value))
                if (value == Py_None) {
                        if (PyDict_DelItem(dict, key) < 0)
                                return false;
                        pos = 0;
                }
        return true;
}

/* Return: whether the parameter is as a plain request has it; it may have failed with an exception. */
static bool take_param(const struct quick *quick, struct cursor *cursor, struct request *request) {
        const uint8_t *key, *name;
        size_t len, name_len;
        struct head head;

        key = next_bytes(cursor, HEAD_STR, &len);
        if (!key)
                return false;
        if (is_text(key, len, "payload")) {
                request->payload = next_bytes(cursor, HEAD_BIN, &request->payload_len);
                return request->payload;
        }
        if (is_text(key, len, "context")) {
                if (request->context || cursor->at == cursor->end ||
                    !(request->context = codec_decode_next(&cursor->at, cursor->end)))
                        return false;
                return PyDict_Check(request->context) && PyDict_Size(request->context) <= CONTEXT_MAX &&
                       drop_nones(request->context);
        }
        if (is_text(key, len, "hook")) {
                name = next_bytes(cursor, HEAD_STR, &name_len);
                request->hook = find_hook(quick, name, name_len);
                return request->hook;
        }
        if (!next(cursor, &head))
                return false;
        if (is_text(key, len, "unchecked")) /* values that have their fields' types are what they are either way */
                return head.kind == HEAD_FALSE || head.kind == HEAD_TRUE;
        return head.kind == HEAD_NIL &&
               (is_text(key, len, "payload_type") || is_text(key, len, "contexts") || is_text(key, len, "extensions"));
}

/* Return: whether it is a plain request; if not, perhaps with an exception. */
static bool parse(const struct quick *quick, const uint8_t *data, size_t len, struct request *request) {
        struct cursor cursor = {data, data + len};
        struct head head;
        const uint8_t *method;
        size_t method_len;

        if (!next(&cursor, &head) || head.kind != HEAD_ARRAY || head.n != 4 || !next(&cursor, &head) || head.kind != HEAD_UINT ||
            head.n != 0)
                return false;
        if (!next(&cursor, &head) || head.kind != HEAD_UINT || head.n > UINT32_MAX)
                return false;
        request->ident = (uint32_t)head.n;
        method = next_bytes(&cursor, HEAD_STR, &method_len);
        if (!method || !is_text(method, method_len, "invoke") || !next(&cursor, &head) || head.kind != HEAD_ARRAY || head.n != 1)
                return false;
        if (!next(&cursor, &head) || head.kind != HEAD_MAP)
                return false;
        for (uint64_t n = head.n; n > 0; n--)
                if (!take_param(quick, &cursor, request))
                        return false;
        return request->hook && request->payload && request->context;
}

/* Return: a new instance; NULL: not plain, or with an exception. */
static PyObject *make(PyObject *class, PyObject *fields, PyObject *data) {
        PyObject *model;
        enum outcome outcome;

        if (!data || !PyDict_Check(data))
                return NULL;
        model = PyType_GenericAlloc((PyTypeObject *)class, 0);
        if (!model)
                return NULL;
        outcome = model_fill_from(model, fields, data, true);
        if (outcome != PLAIN)
                Py_CLEAR(model);
        return model;
}

static PyObject *make_payload(const struct request *request) {
        PyObject *data = codec_decode(request->payload, request->payload_len, NULL, 0), *payload;

        payload = make(request->hook->payload_class, request->hook->fields, data);
        Py_XDECREF(data);
        return payload;
}

static PyObject *make_own(const struct quick *quick, const struct request *request) {
        PyObject *shared = make(quick->shared_class, quick->shared_fields, request->context), *data = NULL, *own = NULL;

        if (shared)
                data = PyDict_New();
        if (data && PyDict_SetItem(data, names[GLOBAL_CONTEXT], shared) == 0)
                own = make(quick->own_class, quick->own_fields, data);
        Py_XDECREF(shared);
        Py_XDECREF(data);
        return own;
}

/* Return: a new reference to the value, which is of just that type; NULL: it is not, perhaps with an exception. */
static PyObject *value_in(PyObject *values, PyObject *name, PyTypeObject *type) {
        PyObject *value = values ? PyDict_GetItemWithError(values, name) : NULL;

        return value && Py_IS_TYPE(value, type) ? Py_NewRef(value) : NULL;
}

/* The same of an instance. */
static PyObject *value_of(PyObject *model, PyObject *name, PyTypeObject *type) {
        PyObject *values = PyObject_GenericGetDict(model, NULL), *value = value_in(values, name, type);

        Py_XDECREF(values);
        return value;
}

static PyObject *shared_value(const struct quick *quick, PyObject *own, enum name which) {
        PyObject *shared = value_of(own, names[GLOBAL_CONTEXT], (PyTypeObject *)quick->shared_class);
        PyObject *value = shared ? value_of(shared, names[which], &PyDict_Type) : NULL;

        Py_XDECREF(shared);
        return value;
}

/* The shared state as the hook finds it, encoded. */
static bool remember(const struct quick *quick, PyObject *own, PyObject *before[N_SHARED]) {
        for (enum name i = 0; i < N_SHARED; i++) {
                PyObject *value = shared_value(quick, own, i);

                before[i] = value ? codec_encode(value, PY_SSIZE_T_MAX) : NULL;
                Py_XDECREF(value);
                if (!before[i])
                        return false;
        }
        return true;
}

/* ---- The answer ---- */

/* Return: whether the changes of the shared state are in the answer; if not, perhaps with an exception. */
static bool put_changed(PyObject *answer, const char *key, PyObject *before, PyObject *after) {
        PyObject *now = NULL;
        int same;

        if (PyDict_Size(after) == 0 && PyBytes_Check(before) && PyBytes_Size(before) == 1)
                return true; /* empty, as it was */
        now = codec_encode(after, PY_SSIZE_T_MAX);
        same = now ? PyObject_RichCompareBool(now, before, Py_EQ) : -1;
        Py_XDECREF(now);
        return same > 0 || (same == 0 && PyDict_SetItemString(answer, key, after) == 0);
}

static bool put_changes(const struct quick *quick, PyObject *before[N_SHARED], PyObject *answer) {
        static const char *const keys[N_SHARED] = {[STATE] = "state", [METADATA] = "global_metadata"};
        bool ok = true;

        for (enum name i = 0; ok && i < N_SHARED; i++) {
                PyObject *after = shared_value(quick, quick->own, i);

                ok = after && put_changed(answer, keys[i], before[i], after);
                Py_XDECREF(after);
        }
        return ok;
}

/* Whether the plugin keeps nothing of its own. */
static bool keeps_nothing(const struct quick *quick) {
        PyObject *state = value_of(quick->own, names[STATE], &PyDict_Type);
        PyObject *metadata = value_of(quick->own, names[METADATA], &PyDict_Type);
        bool nothing = state && metadata && PyDict_Size(state) + PyDict_Size(metadata) == 0;

        Py_XDECREF(state);
        Py_XDECREF(metadata);
        return nothing;
}

/* Whether the values of a result say neither yes nor no nor anything that is rare. */
static bool is_silent(PyObject *values) {
        for (enum name i = VIOLATION; i <= DENIAL_METADATA; i++)
                if (PyDict_GetItemWithError(values, names[i]) != (i == CONTINUE_PROCESSING ? Py_True : Py_None))
                        return false;
        return true;
}

static bool put(PyObject *answer, PyObject *name, PyObject *value) {
        bool ok = value && PyDict_SetItem(answer, name, value) == 0;

        Py_XDECREF(value);
        return ok;
}

static bool put_payload(const struct quick *quick, PyObject *payload, PyObject *answer) {
        PyObject *values = PyObject_GenericGetDict(payload, NULL);
        bool ok = values && put(answer, names[MODIFIED_PAYLOAD], codec_encode_plain(values, quick->hook->dumped));

        Py_XDECREF(values);
        return ok && (payload != quick->payload || put(answer, names[PAYLOAD_IS], PyUnicode_FromString("given")));
}

static bool put_result(const struct quick *quick, PyObject *values, PyObject *answer) {
        PyObject *metadata = value_in(values, names[METADATA], &PyDict_Type);
        PyObject *delay = value_in(values, names[RETRY_DELAY_MS], &PyLong_Type);
        PyObject *payload = value_in(values, names[MODIFIED_PAYLOAD], (PyTypeObject *)quick->hook->payload_class);
        bool ok = is_silent(values) && metadata && delay;

        if (ok && PyDict_Size(metadata) > 0)
                ok = PyDict_SetItem(answer, names[METADATA], metadata) == 0;
        if (ok && PyObject_IsTrue(delay))
                ok = PyDict_SetItem(answer, names[RETRY_DELAY_MS], delay) == 0;
        if (ok)
                ok = payload ? put_payload(quick, payload, answer)
                             : PyDict_GetItemWithError(values, names[MODIFIED_PAYLOAD]) == Py_None;
        Py_XDECREF(metadata);
        Py_XDECREF(delay);
        Py_XDECREF(payload);
        return ok;
}

/* Return: a new list of pieces; NULL where it is not plain. Python tells of what cannot be encoded, so no exception is left. */
static PyObject *make_answer(const struct quick *quick, uint32_t ident, PyObject *before[N_SHARED], PyObject *result) {
        PyObject *values = NULL, *answer = NULL, *message = NULL, *pieces = NULL;

        if (Py_IS_TYPE(result, (PyTypeObject *)quick->hook->result_class) && keeps_nothing(quick))
                values = PyObject_GenericGetDict(result, NULL);
        if (values)
                answer = PyDict_New();
        if (answer && put_result(quick, values, answer) && put_changes(quick, before, answer))
                message = Py_BuildValue("[iIOO]", 1, (unsigned)ident, Py_None, answer);
        if (message)
                pieces = codec_encode_pieces(message, quick->limit);
        Py_XDECREF(values);
        Py_XDECREF(answer);
        Py_XDECREF(message);
        PyErr_Clear();
        return pieces;
}

/* ---- The call ---- */

/* Runs in the call's context. */
static PyObject *quick_step(PyObject *self, PyObject *unused) {
        struct quick *quick = (struct quick *)self;
        PyObject *value = NULL;
        PySendResult sent;

        (void)unused;
        quick->coroutine = PyObject_CallFunctionObjArgs(quick->hook->method, quick->payload, quick->own, NULL);
        if (!quick->coroutine)
                return NULL;
        sent = PyIter_Send(quick->coroutine, Py_None, &value);
        if (sent == PYGEN_NEXT)
                return Py_BuildValue("(ON)", Py_True, value);
        Py_CLEAR(quick->coroutine); /* whoever imports asyncio from here on is not in it */
        return sent == PYGEN_RETURN ? Py_BuildValue("(ON)", Py_False, value) : NULL;
}

/* Return: the exception that is set, which then is not any more. */
static PyObject *caught(void) {
        PyObject *type, *value, *trace;

        PyErr_Fetch(&type, &value, &trace);
        PyErr_NormalizeException(&type, &value, &trace);
        if (trace)
                (void)PyException_SetTraceback(value, trace);
        Py_XDECREF(type);
        Py_XDECREF(trace);
        return value;
}

static void forget(struct quick *quick) {
        Py_CLEAR(quick->payload);
        Py_CLEAR(quick->own);
        Py_CLEAR(quick->coroutine);
        Py_CLEAR(quick->its_context);
}

/* Return: the call for Python to go on with, as _go_on_with() of _worker.py takes it. */
static PyObject *hand_over(const struct quick *quick, PyObject *before[N_SHARED], PyObject *message, bool waits, PyObject *value,
                           PyObject *error) {
        return Py_BuildValue("(OO(OO)(OO)OOOOO)", quick->hook->owner, message, quick->payload, quick->own, before[STATE],
                             before[METADATA], quick->coroutine ? quick->coroutine : Py_None, quick->its_context,
                             waits ? Py_True : Py_False, value, error);
}

static enum quick_outcome run(struct quick *quick, uint32_t ident, PyObject *before[N_SHARED], const uint8_t *data, size_t len,
                              PyObject **ret) {
        PyObject *stepped, *message, *error, *value = Py_None;
        bool waits = false;

        quick->its_context = PyObject_CallMethodObjArgs(quick->context, names[COPY], NULL);
        if (!quick->its_context)
                return QUICK_FAILED;
        stepped = PyObject_CallMethodObjArgs(quick->its_context, names[RUN], quick->step, NULL);
        error = stepped ? NULL : caught();
        if (stepped) {
                waits = PyTuple_GetItem(stepped, 0) == Py_True;
                value = PyTuple_GetItem(stepped, 1);
        }
        if (stepped && !waits && !quick->stopped && (*ret = make_answer(quick, ident, before, value))) {
                Py_DECREF(stepped);
                return QUICK_ANSWERED;
        }
        message = codec_decode(data, len, NULL, 0);
        *ret = message ? hand_over(quick, before, message, waits, value, error ? error : Py_None) : NULL;
        Py_XDECREF(stepped);
        Py_XDECREF(message);
        Py_XDECREF(error);
        return *ret ? QUICK_BEGUN : QUICK_FAILED;
}

/* Return: whether the call can begin. */
static bool prepare(struct quick *quick, const struct request *request, PyObject *before[N_SHARED]) {
        quick->hook = request->hook;
        quick->payload = make_payload(request);
        if (quick->payload)
                quick->own = make_own(quick, request);
        return quick->own && remember(quick, quick->own, before);
}

static bool is_asyncio_here(void) {
        static PyObject *name;

        if (!name)
                name = PyUnicode_InternFromString("asyncio");
        return !name || PyDict_GetItemWithError(PyImport_GetModuleDict(), name);
}

enum quick_outcome quick_serve(PyObject *self, const uint8_t *data, size_t len, PyObject **ret) {
        struct quick *quick = (struct quick *)self;
        PyObject *before[N_SHARED] = {NULL};
        struct request request = {0};
        enum quick_outcome outcome = QUICK_NOT;

        if (quick->n_hooks > 0 && !is_asyncio_here() && parse(quick, data, len, &request) && prepare(quick, &request, before) &&
            !quick->stopped)
                outcome = run(quick, request.ident, before, data, len, ret);
        else
                PyErr_Clear(); /* Python meets it again, and can tell */
        Py_XDECREF(request.context);
        Py_XDECREF(before[STATE]);
        Py_XDECREF(before[METADATA]);
        forget(quick);
        return outcome;
}

/* ---- The type ---- */

static PyObject *quick_add(PyObject *self, PyObject *args) {
        struct quick *quick = (struct quick *)self;
        struct hook hook, *slot = &quick->hooks[quick->n_hooks];

        if (quick->n_hooks == HOOKS_MAX)
                Py_RETURN_NONE;
        if (!PyArg_ParseTuple(args, "SOOO!O!O!O!:add", &hook.name, &hook.owner, &hook.method, &PyType_Type, &hook.payload_class,
                              &PyTuple_Type, &hook.fields, &PyTuple_Type, &hook.dumped, &PyType_Type, &hook.result_class))
                return NULL;
        *slot = hook;
        for (PyObject **part = &slot->name; part <= &slot->result_class; part++)
                Py_INCREF(*part);
        quick->n_hooks++;
        Py_RETURN_NONE;
}

static PyObject *quick_running(PyObject *self, PyObject *unused) {
        struct quick *quick = (struct quick *)self;

        (void)unused;
        if (!quick->coroutine)
                Py_RETURN_NONE;
        return Py_BuildValue("(OO)", quick->coroutine, quick->its_context);
}

static PyObject *quick_stop(PyObject *self, PyObject *unused) {
        (void)unused;
        ((struct quick *)self)->stopped = true;
        ((struct quick *)self)->n_hooks = 0;
        Py_RETURN_NONE;
}

static PyObject *quick_new(PyTypeObject *type, PyObject *args, PyObject *options) {
        static char *keys[] = {"context", "limit", "shared", "own", NULL};
        allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
        struct quick *quick, given = {0};
        Py_ssize_t limit;

        if (!PyArg_ParseTupleAndKeywords(args, options, "On(O!O!)(O!O!):Quick", keys, &given.context, &limit, &PyType_Type,
                                         &given.shared_class, &PyTuple_Type, &given.shared_fields, &PyType_Type, &given.own_class,
                                         &PyTuple_Type, &given.own_fields) ||
            !make_names())
                return NULL;
        quick = (struct quick *)alloc(type, 0);
        if (!quick)
                return NULL;
        quick->limit = limit > 0 ? (size_t)limit : 0;
        quick->context = Py_NewRef(given.context);
        quick->shared_class = Py_NewRef(given.shared_class);
        quick->shared_fields = Py_NewRef(given.shared_fields);
        quick->own_class = Py_NewRef(given.own_class);
        quick->own_fields = Py_NewRef(given.own_fields);
        quick->step = PyObject_GetAttrString((PyObject *)quick, "_step");
        return quick->step ? (PyObject *)quick : NULL;
}

bool quick_check(PyObject *object) {
        if (Py_IS_TYPE(object, quick_type))
                return true;
        PyErr_SetString(PyExc_TypeError, "a Quick is needed");
        return false;
}

PyObject *quick_type_new(void) {
        static PyMethodDef methods[] = {
                {"add", quick_add, METH_VARARGS,
                 "add(name, owner, method, payload_class, fields, dumped, result_class): serves that hook (its name as bytes) "
                 "from now on."},
                {"running", quick_running, METH_NOARGS,
                 "running(): (coroutine, context) of the call under way, None where there is none."},
                {"stop", quick_stop, METH_NOARGS,
                 "stop(): serves none any more, and leaves the end of the call under way to Python."},
                {"_step", quick_step, METH_NOARGS, NULL},
                {NULL, NULL, 0, NULL},
        };
        static PyType_Slot slots[] = {
                {Py_tp_new, (void *)quick_new},
                {Py_tp_methods, methods},
                {Py_tp_doc, "Quick(context, limit, (GlobalContext, fields), (PluginContext, fields)): plain calls, see quick.h. "
                            "It is never freed."},
                {0, NULL},
        };
        static PyType_Spec spec = {
                .name = "_cpexd.Quick",
                .basicsize = sizeof(struct quick),
                .flags = Py_TPFLAGS_DEFAULT,
                .slots = slots,
        };

        quick_type = (PyTypeObject *)PyType_FromSpec(&spec);
        return Py_XNewRef((PyObject *)quick_type);
}
