/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the SDK's models do in every call, for values that need no thought: those that already have the type of their field. Everything else,
 * whatever has to be converted, checked further or complained about, is left to the SDK, which begins anew; so nothing here has an effect
 * until all of it has gone well. In Python 3.11 making an object may collect garbage, whose finalizers are the plugin's: what is copied may change
 * meanwhile, and each item is held while it is looked at.
 */

#include "model.h"
#include "cpexd.h"

#include <structmember.h>

/* What BaseModel is made of, besides the dictionary of its values. NULL: None. */
struct model {
        PyObject_HEAD PyObject *given; /* the names of the fields that were given */
        PyObject *extra;               /* the values of keys that are no fields */
        PyObject *private;             /* private attributes */
};

static PyTypeObject *model_type;

#define DEPTH_MAX 100 /* the SDK has its own limit, and the words for it */

static void replace(PyObject **part, PyObject *value) {
        PyObject *old = *part;

        *part = value;
        Py_XDECREF(old);
}

static PyObject *copy_of_dict(PyObject *dict, bool owned) {
        PyObject *key, *value;
        Py_ssize_t pos = 0;

        while (PyDict_Next(dict, &pos, &key, &value))
                if (!Py_IS_TYPE(key, &PyUnicode_Type))
                        return NULL;
        return owned ? Py_NewRef(dict) : PyDict_Copy(dict);
}

/* Return: a new reference to what a field holds for `value`; NULL: not plain, or with an exception. */
static PyObject *held(PyObject *types, PyObject *value, bool owned) {
        Py_ssize_t n = PyTuple_Size(types);

        for (Py_ssize_t i = 0; i < n; i++) {
                PyTypeObject *type = (PyTypeObject *)PyTuple_GetItem(types, i);

                if (type != &PyBaseObject_Type && !Py_IS_TYPE(value, type))
                        continue;
                if (type == &PyDict_Type)
                        return copy_of_dict(value, owned);
                if (type == &PyList_Type && !owned)
                        return PyList_GetSlice(value, 0, PY_SSIZE_T_MAX);
                return Py_NewRef(value);
        }
        return NULL;
}

/* `types`: {name: types}. */
static enum outcome take(PyObject *types, PyObject *name, PyObject *value, bool owned, PyObject *values, PyObject *given) {
        PyObject *allowed = Py_IS_TYPE(name, &PyUnicode_Type) ? PyDict_GetItemWithError(types, name) : NULL, *taken;
        int r;

        taken = allowed ? held(allowed, value, owned) : NULL;
        if (!taken)
                return PyErr_Occurred() ? FAILED : NOT_PLAIN;
        r = PyDict_SetItem(values, name, taken);
        Py_DECREF(taken);
        return r < 0 || PySet_Add(given, name) < 0 ? FAILED : PLAIN;
}

static enum outcome take_all(PyObject *types, PyObject *data, bool owned, PyObject *values, PyObject *given) {
        enum outcome outcome = PLAIN;
        PyObject *name, *value;
        Py_ssize_t pos = 0;

        while (outcome == PLAIN && PyDict_Next(data, &pos, &name, &value)) {
                Py_INCREF(name);
                Py_INCREF(value);
                outcome = take(types, name, value, owned, values, given);
                Py_DECREF(name);
                Py_DECREF(value);
        }
        return outcome;
}

/* `made`: pairs of a name and `dict` or `list`. */
static enum outcome make_containers(PyObject *made, PyObject *values, PyObject *given) {
        for (Py_ssize_t i = 0; i < PyTuple_Size(made); i++) {
                PyObject *pair = PyTuple_GetItem(made, i), *name = PyTuple_GetItem(pair, 0), *container;
                int r = PySet_Contains(given, name);

                if (r == 0) {
                        container = PyTuple_GetItem(pair, 1) == (PyObject *)&PyDict_Type ? PyDict_New() : PyList_New(0);
                        r = container ? PyDict_SetItem(values, name, container) : -1;
                        Py_XDECREF(container);
                }
                if (r < 0)
                        return FAILED;
        }
        return PLAIN;
}

static enum outcome fill(PyObject *plain, PyObject *data, bool owned, PyObject *values, PyObject *given) {
        PyObject *required = PyTuple_GetItem(plain, 3);
        enum outcome outcome = take_all(PyTuple_GetItem(plain, 1), data, owned, values, given);

        for (Py_ssize_t i = 0; outcome == PLAIN && i < PyTuple_Size(required); i++)
                outcome = PySet_Contains(given, PyTuple_GetItem(required, i)); /* FAILED, NOT_PLAIN, PLAIN are -1, 0, 1, too */
        return outcome == PLAIN ? make_containers(PyTuple_GetItem(plain, 2), values, given) : outcome;
}

enum outcome model_fill_from(PyObject *model, PyObject *plain, PyObject *data, bool owned) {
        PyObject *values = PyDict_Copy(PyTuple_GetItem(plain, 0)), *given = PySet_New(NULL);
        enum outcome outcome = FAILED;

        if (values && given)
                outcome = fill(plain, data, owned, values, given);
        if (outcome == PLAIN && PyObject_GenericSetDict(model, values, NULL) < 0)
                outcome = FAILED;
        if (outcome == PLAIN) {
                replace(&((struct model *)model)->given, Py_NewRef(given));
                replace(&((struct model *)model)->extra, NULL);
                replace(&((struct model *)model)->private, NULL);
        }
        Py_XDECREF(values);
        Py_XDECREF(given);
        return outcome;
}

PyObject *model_fill(PyObject *module, PyObject *const *args, Py_ssize_t n) {
        enum outcome outcome;

        (void)module;
        if (n != 3 || !PyObject_TypeCheck(args[0], model_type) || !PyTuple_Check(args[1]) || PyTuple_Size(args[1]) != 4) {
                PyErr_SetString(PyExc_TypeError, "fill(model, plain, data)");
                return NULL;
        }
        if (!Py_IS_TYPE(args[2], &PyDict_Type))
                Py_RETURN_FALSE;
        outcome = model_fill_from(args[0], args[1], args[2], false);
        return outcome == FAILED ? NULL : PyBool_FromLong(outcome == PLAIN);
}

static bool is_scalar(PyObject *value) {
        PyTypeObject *type = Py_TYPE(value);

        return type == &PyUnicode_Type || value == Py_None || type == &PyBool_Type || type == &PyLong_Type ||
               type == &PyFloat_Type;
}

static PyObject *copy_of(PyObject *value, unsigned depth);

static PyObject *deep_dict(PyObject *dict, unsigned depth) {
        PyObject *copy = PyDict_New(), *key, *value, *inner;
        Py_ssize_t pos = 0;

        while (copy && PyDict_Next(dict, &pos, &key, &value)) {
                Py_INCREF(key);
                Py_INCREF(value);
                inner = is_scalar(key) ? copy_of(value, depth) : NULL;
                if (!inner || PyDict_SetItem(copy, key, inner) < 0)
                        Py_CLEAR(copy);
                Py_XDECREF(inner);
                Py_DECREF(key);
                Py_DECREF(value);
        }
        return copy;
}

static PyObject *deep_list(PyObject *list, unsigned depth) {
        Py_ssize_t n = PyList_Size(list);
        PyObject *copy = PyList_New(n), *inner;

        for (Py_ssize_t i = 0; copy && i < n; i++) {
                PyObject *item = PyList_Size(list) == n ? Py_NewRef(PyList_GetItem(list, i)) : NULL;

                inner = item ? copy_of(item, depth) : NULL;
                if (!inner || PyList_SetItem(copy, i, inner) < 0)
                        Py_CLEAR(copy);
                Py_XDECREF(item);
        }
        return copy;
}

/* Return: a new reference; NULL: not plain, or with an exception. */
static PyObject *copy_of(PyObject *value, unsigned depth) {
        if (is_scalar(value))
                return Py_NewRef(value);
        if (depth >= DEPTH_MAX)
                return NULL;
        if (Py_IS_TYPE(value, &PyDict_Type))
                return deep_dict(value, depth + 1);
        if (Py_IS_TYPE(value, &PyList_Type))
                return deep_list(value, depth + 1);
        return NULL;
}

PyObject *model_dump(PyObject *module, PyObject *const *args, Py_ssize_t n) {
        PyObject *dump, *name, *value, *copy;
        Py_ssize_t n_names;

        (void)module;
        if (n != 2 || !PyDict_Check(args[0]) || !PyTuple_Check(args[1])) {
                PyErr_SetString(PyExc_TypeError, "dump(values, names)");
                return NULL;
        }
        n_names = PyTuple_Size(args[1]);
        dump = PyDict_New();
        for (Py_ssize_t i = 0; dump && i < n_names; i++) {
                name = PyTuple_GetItem(args[1], i);
                value = PyDict_GetItemWithError(args[0], name);
                if (!value && !PyErr_Occurred())
                        continue;
                copy = value ? copy_of(value, 0) : NULL;
                if (!copy || PyDict_SetItem(dump, name, copy) < 0)
                        Py_CLEAR(dump);
                Py_XDECREF(copy);
        }
        return dump || PyErr_Occurred() ? dump : Py_NewRef(Py_None);
}

/* ---- The type ---- */

/* Return: a new reference to what fill() takes for the model's class; NULL: its instances are more, or this is the first, or with an
 * exception. */
static PyObject *plain_of(PyObject *self) {
        static PyObject *names[2];
        PyObject *plan, *plain = NULL;

        if ((!names[0] && !(names[0] = PyUnicode_InternFromString("__plan__"))) ||
            (!names[1] && !(names[1] = PyUnicode_InternFromString("plain"))))
                return NULL;
        plan = PyObject_GenericGetAttr(self, names[0]); /* the class's */
        if (plan && plan != Py_None)
                plain = PyObject_GetAttr(plan, names[1]);
        Py_XDECREF(plan);
        if (plain && !PyTuple_Check(plain))
                Py_CLEAR(plain);
        return plain;
}

/* BaseModel's constructor. The SDK's own is called where not all is plain. */
static int model_init(PyObject *self, PyObject *args, PyObject *given) {
        PyObject *data = given ? Py_NewRef(given) : PyDict_New(), *plain = NULL, *done;
        enum outcome outcome = NOT_PLAIN;

        if (PyTuple_Size(args) != 0)
                PyErr_Format(PyExc_TypeError, "BaseModel.__init__() takes 1 positional argument but %zd were given",
                             PyTuple_Size(args) + 1);
        else if (data)
                plain = plain_of(self);
        if (plain)
                outcome = model_fill_from(self, plain, data, false);
        if (PyErr_Occurred() || (outcome == NOT_PLAIN && !PyArg_ValidateKeywordArguments(data)))
                outcome = FAILED;
        if (outcome == NOT_PLAIN) {
                done = PyObject_CallMethod(self, "__construct__", "O", data);
                outcome = done ? PLAIN : FAILED;
                Py_XDECREF(done);
        }
        Py_XDECREF(plain);
        Py_XDECREF(data);
        return outcome == PLAIN ? 0 : -1;
}

/* Return: a new reference to a copy of a dict; NULL where there is none, or with an exception. */
static PyObject *copy_of_part(PyObject *part) {
        return part && part != Py_None ? PyDict_Copy(part) : NULL;
}

static PyObject *model_copy(PyObject *self, PyObject *unused) {
        struct model *model = (struct model *)self, *parts;
        PyObject *values = PyObject_GenericGetDict(self, NULL), *copied = values ? PyDict_Copy(values) : NULL;
        PyObject *copy = copied ? PyType_GenericAlloc(Py_TYPE(self), 0) : NULL;

        (void)unused;
        if (copy) {
                parts = (struct model *)copy;
                parts->given = model->given && model->given != Py_None ? PySet_New(model->given) : NULL;
                parts->extra = copy_of_part(model->extra);
                parts->private = copy_of_part(model->private);
                if (PyErr_Occurred() || PyObject_GenericSetDict(copy, copied, NULL) < 0)
                        Py_CLEAR(copy);
        }
        Py_XDECREF(values);
        Py_XDECREF(copied);
        return copy;
}

static int model_traverse(PyObject *self, visitproc visit, void *arg) {
        struct model *model = (struct model *)self;

        Py_VISIT(Py_TYPE(self));
        Py_VISIT(model->given);
        Py_VISIT(model->extra);
        Py_VISIT(model->private);
        return 0;
}

static int model_clear(PyObject *self) {
        struct model *model = (struct model *)self;

        Py_CLEAR(model->given);
        Py_CLEAR(model->extra);
        Py_CLEAR(model->private);
        return 0;
}

static void model_dealloc(PyObject *self) {
        PyTypeObject *type = Py_TYPE(self);
        freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

        PyObject_GC_UnTrack(self);
        (void)model_clear(self);
        release(self);
        Py_DECREF(type);
}

PyObject *model_type_new(void) {
        static PyMemberDef members[] = {
                {"__model_set__", T_OBJECT, offsetof(struct model, given), 0, NULL},
                {"__model_extra__", T_OBJECT, offsetof(struct model, extra), 0, NULL},
                {"__model_private__", T_OBJECT, offsetof(struct model, private), 0, NULL},
                {NULL, 0, 0, 0, NULL},
        };
        static PyMethodDef methods[] = {
                {"__copy__", model_copy, METH_NOARGS, NULL},
                {NULL, NULL, 0, NULL},
        };
        static PyType_Slot slots[] = {
                {Py_tp_init, (void *)model_init},
                {Py_tp_dealloc, (void *)model_dealloc},
                {Py_tp_traverse, (void *)model_traverse},
                {Py_tp_clear, (void *)model_clear},
                {Py_tp_members, members},
                {Py_tp_methods, methods},
                {0, NULL},
        };
        static PyType_Spec spec = {
                .name = "_cpexd.Model",
                .basicsize = sizeof(struct model),
                .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                .slots = slots,
        };

        model_type = (PyTypeObject *)PyType_FromSpec(&spec);
        return Py_XNewRef((PyObject *)model_type);
}
