/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A group is ours when it bears the mark that systemd sets with Delegate= (the attribute "delegate"). Being allowed to write there is no sign:
 * root may anywhere, and the session that a person's shell is in belongs to that person as well.
 *
 * The kernel limits only groups below one that has no processes itself. So cpexd moves down, into `supervisor`. A cpexd that was executed in
 * the place of another finds itself there.
 *
 * A group can be removed when the last process in it is gone, which takes a moment after it was killed. So what could not be removed is tried again
 * whenever a worker starts or ends. What a cpexd has left that was executed here before is among that; the kernel keeps what is in use.
 */

#include "pool/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "base/log.h"
#include "base/util.h"

#define SUPERVISOR "supervisor"
#define NAME_BYTES 80
#define NAMES_MAX 100000

struct leftover {
        LIST_ENTRY(leftover) link;
        char *path;
};

static LIST_HEAD(, leftover) leftovers = LIST_HEAD_INITIALIZER(leftovers);
static char *ours; /* NULL: none */
static bool controlled[CGROUP_CONTROLLER_MAX_];

static int write_file(const char *folder, const char *name, const char *text) {
        CLEANUP_FREE char *path = NULL;
        CLEANUP_FD int fd = -1;

        if (asprintf(&path, "%s/%s", folder, name) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                return -errno;
        return 0;
}

/* Return: whether `text`, cut to `size`, was read. */
static bool read_file(const char *folder, const char *name, char *text, size_t size) {
        CLEANUP_FREE char *path = NULL;
        CLEANUP_FD int fd = -1;
        ssize_t n;

        if (asprintf(&path, "%s/%s", folder, name) < 0) {
                path = NULL;
                return false;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, size - 1);
        text[MAX(n, (ssize_t)0)] = 0;
        return n >= 0;
}

/* ---- Ours ---- */

static bool is_delegated(const char *path) {
        static const char *const marks[] = {"user.delegate", "trusted.delegate"};
        char value[2];

        for (size_t i = 0; i < ELEMENTS(marks); i++)
                if (getxattr(path, marks[i], value, sizeof(value)) == 1 && value[0] == '1')
                        return true;
        return false;
}

/* "0::/system.slice/cpexd.service" of /proc/self/cgroup, where version 2 is mounted: alone, or beside version 1. Return: NULL, or the folder, the caller's. */
static char *find_own(void) {
        static const char *const mounts[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
        char text[8192], *path, *folder = NULL;
        struct statfs fs;

        if (!read_file("/proc/self", "cgroup", text, sizeof(text)))
                return NULL;
        path = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
        if (!path)
                return NULL;
        path = strchr(path, '/');
        path[strcspn(path, "\n")] = 0;
        for (size_t i = 0; i < ELEMENTS(mounts) && !folder; i++)
                if (statfs(mounts[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC &&
                    asprintf(&folder, "%s%s", mounts[i], path) < 0)
                        return NULL;
        return folder;
}

static void enable_controllers(void) {
        static const char *const names[CGROUP_CONTROLLER_MAX_] = {
                [CGROUP_MEMORY] = "memory", [CGROUP_TASKS] = "pids", [CGROUP_CPU] = "cpu"};
        char text[16];

        for (unsigned i = 0; i < CGROUP_CONTROLLER_MAX_; i++) {
                (void)snprintf(text, sizeof(text), "+%s", names[i]);
                controlled[i] = write_file(ours, "cgroup.subtree_control", text) == 0;
        }
}

static void forget(struct leftover *leftover) {
        LIST_REMOVE(leftover, link);
        free(leftover->path);
        free(leftover);
}

/* Removes what can be by now. */
static void tidy(void) {
        struct leftover *leftover = LIST_FIRST(&leftovers);

        while (leftover) {
                struct leftover *next = LIST_NEXT(leftover, link);

                if (rmdir(leftover->path) == 0 || errno == ENOENT)
                        forget(leftover);
                leftover = next;
        }
}

/* Without memory for that it stays until ours is removed. */
static void leave(const char *path) {
        struct leftover *leftover = calloc(1, sizeof(*leftover));

        if (!leftover || !(leftover->path = strdup(path))) {
                free(leftover);
                return;
        }
        LIST_INSERT_HEAD(&leftovers, leftover, link);
}

static void find_leftovers(void) {
        DIR *dir = opendir(ours);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                CLEANUP_FREE char *path = NULL;

                if (entry->d_type != DT_DIR || entry->d_name[0] == '.' || str_eq(entry->d_name, SUPERVISOR))
                        continue;
                if (asprintf(&path, "%s/%s", ours, entry->d_name) < 0)
                        path = NULL;
                else
                        leave(path);
        }
        if (dir)
                (void)closedir(dir);
}

void cgroups_enter(void) {
        CLEANUP_FREE char *own = find_own(), *below = NULL;
        char *slash = own ? strrchr(own, '/') : NULL;
        int r;

        if (slash && str_eq(slash + 1, SUPERVISOR))
                *slash = 0; /* from before exec */
        if (!slash || !is_delegated(own))
                return;
        if (asprintf(&below, "%s/" SUPERVISOR, own) < 0) {
                below = NULL;
                return;
        }
        r = mkdir(below, 0755) < 0 && errno != EEXIST ? -errno : write_file(below, "cgroup.procs", "0");
        if (r < 0) {
                log_warning("the control group %s is ours and cannot be used: %s", own, strerror(-r));
                return;
        }
        ours = TAKE(own);
        find_leftovers();
        enable_controllers();
        log_info("workers get control groups below %s; these limit: memory %s, tasks %s, cpu %s", ours,
                 controlled[CGROUP_MEMORY] ? "yes" : "no", controlled[CGROUP_TASKS] ? "yes" : "no",
                 controlled[CGROUP_CPU] ? "yes" : "no");
}

bool cgroups_control(enum cgroup_controller controller) {
        return controlled[controller];
}

/* ---- Those of workers ---- */

static int set_number(const char *folder, const char *name, uint64_t value) {
        char text[24];

        (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
        return write_file(folder, name, text);
}

static int set_limits(const char *folder, const struct cgroup_limits *limits) {
        char cpu[32];
        int r = 0;

        if (limits->memory_bytes && controlled[CGROUP_MEMORY]) {
                r = set_number(folder, "memory.max", limits->memory_bytes);
                (void)write_file(folder, "memory.swap.max", "0"); /* there may be no swap */
                r = r ? r : write_file(folder, "memory.oom.group", "1");
        }
        if (limits->tasks && controlled[CGROUP_TASKS])
                r = r ? r : set_number(folder, "pids.max", limits->tasks);
        if (limits->cpu_percent && controlled[CGROUP_CPU]) {
                (void)snprintf(cpu, sizeof(cpu), "%llu 100000", limits->cpu_percent * 1000ULL);
                r = r ? r : write_file(folder, "cpu.max", cpu);
        }
        return r;
}

/* Of a plugin's name what a folder's may hold. */
static int make_folder(char **ret, const char *plugin) {
        CLEANUP_FREE char *path = NULL;
        char name[NAME_BYTES];
        static unsigned n;

        (void)snprintf(name, sizeof(name), "%s", plugin);
        for (char *c = name; *c; c++)
                if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", *c))
                        *c = '_';
        for (unsigned i = 0; i < NAMES_MAX; i++) {
                free(path);
                if (asprintf(&path, "%s/%s.%u", ours, name, n++ % NAMES_MAX) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                if (mkdir(path, 0755) == 0) {
                        *ret = TAKE(path);
                        return 0;
                }
                if (errno != EEXIST)
                        return -errno;
        }
        return -EEXIST;
}

int cgroup_new(char **ret, const char *plugin, const struct cgroup_limits *limits) {
        char *path = NULL;
        int r;

        if (!ours)
                return 0;
        tidy();
        r = make_folder(&path, plugin);
        r = r ? r : set_limits(path, limits);
        if (r < 0)
                (void)cgroup_free(path);
        else
                *ret = path;
        return r;
}

void cgroup_adopted(const char *path) {
        struct leftover *leftover;

        LIST_FOREACH(leftover, &leftovers, link)
                if (path && str_eq(leftover->path, path)) {
                        forget(leftover);
                        return;
                }
}

bool cgroup_ran_out_of_memory(const char *path) {
        unsigned long long kills = 0;
        char text[512], *line;

        if (!path || !read_file(path, "memory.events", text, sizeof(text)))
                return false;
        line = strstr(text, "oom_kill ");
        return line && sscanf(line, "oom_kill %llu", &kills) == 1 && kills > 0;
}

char *cgroup_free(char *path) {
        if (!path)
                return NULL;
        if (rmdir(path) < 0) {
                (void)write_file(path, "cgroup.kill", "1");
                leave(path);
        }
        tidy();
        free(path);
        return NULL;
}
