/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Landlock denies what a rule does not allow, by the file itself and not by its name, so links and mounts lead nowhere. A rule is for a folder
 * and all below; there is none that takes something out again. So the list is of small pieces: not /etc but the files in it that C libraries
 * and Python read, not /proc but the process's own part, not the interpreter's whole prefix, which may be somebody's home.
 *
 * What a worker may write it may not execute, and the other way round, unless a setting names a folder in both.
 *
 * The kernel's header may be older than the kernel: what this needs of later versions is defined here.
 */

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launch.h"

#define FS_REFER (UINT64_C(1) << 13)     /* ABI 2 */
#define FS_TRUNCATE (UINT64_C(1) << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define NET_BIND_TCP (UINT64_C(1) << 0)  /* ABI 4 */
#define NET_CONNECT_TCP (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT_UNIX (UINT64_C(1) << 0) /* ABI 6 */
#define SCOPE_SIGNAL (UINT64_C(1) << 1)
#define RULE_NET_PORT 2
#define LOG_SAME_EXEC_OFF 1u /* ABI 7: what is denied to this program is nothing for the audit log */

#define FS_READ (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_FILES \
        (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define FS_FIRST_ABI ((UINT64_C(1) << 13) - 1)
#define FS_DEVICES (LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK)

struct ruleset_attr {
        uint64_t fs, net, scoped;
};

struct port_attr {
        uint64_t access, port;
};

struct box {
        int fd;
        uint64_t handled;
};

/* Read by the dynamic linker, libc (names, time, locale), TLS libraries and Python. */
static const char *const system_read[] = {
        "/usr",
        "/lib",
        "/lib32",
        "/lib64",
        "/bin",
        "/sbin",
        "/nix/store",
        "/gnu/store",
        "/etc/alternatives",
        "/etc/ca-certificates",
        "/etc/crypto-policies",
        "/etc/debian_version",
        "/etc/fonts",
        "/etc/gai.conf",
        "/etc/group",
        "/etc/host.conf",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/ld.so.cache",
        "/etc/ld.so.conf",
        "/etc/ld.so.conf.d",
        "/etc/ld.so.preload",
        "/etc/localtime",
        "/etc/locale.alias",
        "/etc/lsb-release",
        "/etc/mime.types",
        "/etc/nsswitch.conf",
        "/etc/os-release",
        "/etc/passwd",
        "/etc/pki/ca-trust",
        "/etc/pki/tls/cert.pem",
        "/etc/pki/tls/certs",
        "/etc/pki/tls/openssl.cnf",
        "/etc/protocols",
        "/etc/resolv.conf",
        "/etc/services",
        "/etc/ssl/certs",
        "/etc/ssl/openssl.cnf",
        "/etc/timezone",
        "/proc/self",
        "/proc/cpuinfo",
        "/proc/filesystems",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/uptime",
        "/proc/version",
        "/proc/sys/kernel/osrelease",
        "/proc/sys/kernel/pid_max",
        "/proc/sys/net/core/somaxconn",
        "/proc/sys/vm/overcommit_memory",
        "/sys/devices/system/cpu",
        "/sys/devices/system/node",
        "/sys/fs/cgroup/cpu.max",
        "/sys/kernel/mm/transparent_hugepage/enabled",
};

static const char *const system_write[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};

/* Return: whether there is such a file. */
static bool allow(const struct box *box, const char *path, uint64_t access) {
        struct landlock_path_beneath_attr rule = {.parent_fd = open(path, O_PATH | O_CLOEXEC)};
        struct stat st;

        if (rule.parent_fd < 0)
                return false;
        if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
                access &= FS_FILES;
        rule.allowed_access = access & box->handled;
        if (syscall(SYS_landlock_add_rule, box->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "Landlock has refused the rule for %s: %m", path);
        (void)close(rule.parent_fd);
        return true;
}

static void allow_in(const struct box *box, const char *folder, const char *name) {
        char path[PATH_MAX];

        if (snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path))
                (void)allow(box, path, FS_READ);
}

static void allow_prefix(const struct box *box, const char *prefix) {
        static const char *const parts[] = {"bin", "lib", "lib64", "include", "share", "pyvenv.cfg", "pip.conf"};

        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
                allow_in(box, prefix, parts[i]);
}

/* The folder above that of `program`. */
static void prefix_of(char path[PATH_MAX]) {
        (void)dirname(path); /* glibc's cuts its argument and returns it, but for "/" and "." */
        (void)dirname(path);
}

/* "home = /usr/bin" of pyvenv.cfg: where the interpreter looks for its library. */
static void allow_home(const struct box *box, const char *venv) {
        char path[PATH_MAX], line[PATH_MAX + 16], home[PATH_MAX];
        FILE *file;

        if (snprintf(path, sizeof(path), "%s/pyvenv.cfg", venv) >= (int)sizeof(path))
                return;
        file = fopen(path, "re");
        while (file && fgets(line, sizeof(line), file))
                if (sscanf(line, "home = %4095[^\n]", home) == 1 && *home == '/')
                        allow_prefix(box, dirname(home));
        if (file)
                (void)fclose(file);
}

static void allow_interpreter(const struct box *box, const char *python) {
        char real[PATH_MAX];

        if (!realpath(python, real))
                return; /* exec will say why */
        (void)allow(box, real, FS_READ);
        prefix_of(real);
        allow_prefix(box, real);
}

static void allow_venv(const struct box *box, const char *python) {
        char venv[PATH_MAX];

        if (snprintf(venv, sizeof(venv), "%s", python) >= (int)sizeof(venv))
                return;
        prefix_of(venv);
        (void)allow(box, venv, FS_READ);
        allow_home(box, venv);
}

/* What an installer needs of cpexd-venv it is told; its interpreter is no venv's. */
static void allow_parts(const struct box *box, const struct launch *launch) {
        allow_interpreter(box, launch->python);
        if (launch->program)
                return;
        allow_venv(box, launch->python);
        (void)allow(box, launch->shim, FS_READ);
        (void)allow(box, launch->ext, FS_READ);
        (void)allow(box, launch->sdk, FS_READ);
}

static void allow_setting(const struct box *box, const struct texts *paths, const char *name, uint64_t access) {
        for (size_t i = 0; i < paths->n; i++)
                if (!allow(box, paths->items[i], access))
                        (void)fprintf(stderr, "cpexd-launch: %s of the sandbox names %s: %s\n", name, paths->items[i],
                                      strerror(errno));
}

static void allow_files(const struct box *box, const struct launch *launch) {
        const uint64_t writing = box->handled & ~(FS_DEVICES | LANDLOCK_ACCESS_FS_EXECUTE);

        for (size_t i = 0; i < sizeof(system_read) / sizeof(system_read[0]); i++)
                (void)allow(box, system_read[i], FS_READ);
        for (size_t i = 0; i < sizeof(system_write) / sizeof(system_write[0]); i++)
                (void)allow(box, system_write[i], FS_FILES & ~LANDLOCK_ACCESS_FS_EXECUTE);
        allow_parts(box, launch);
        allow_setting(box, &launch->read, "read", FS_READ);
        allow_setting(box, &launch->write, "write", writing);
        if (launch->tmp && !allow(box, launch->tmp, writing))
                launch_fail(LAUNCH_EXIT_SETUP, "cannot use the temporary folder %s: %m", launch->tmp);
}

static void allow_ports(const struct box *box, const struct launch *launch) {
        for (size_t i = 0; i < launch->ports.n; i++) {
                const struct port_attr rule = {NET_CONNECT_TCP, strtoul(launch->ports.items[i], NULL, 10)};

                if (syscall(SYS_landlock_add_rule, box->fd, RULE_NET_PORT, &rule, 0) < 0)
                        launch_fail(LAUNCH_EXIT_SETUP, "Landlock has refused the rule for port %s: %m", launch->ports.items[i]);
        }
}

static long abi(void) {
        return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static uint64_t rights_of(long version) {
        return FS_FIRST_ABI | (version >= 2 ? FS_REFER : 0) | (version >= 3 ? FS_TRUNCATE : 0) |
               (version >= 5 ? FS_IOCTL_DEV : 0);
}

static int make_ruleset(const struct ruleset_attr *attr, long version) {
        /* An older kernel refuses a longer structure unless the rest is zero; the first had only the first member. */
        size_t size = version >= 6 ? sizeof(*attr) : version >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
        int fd = (int)syscall(SYS_landlock_create_ruleset, attr, size, 0);

        if (fd < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "Landlock makes no ruleset: %m");
        return fd;
}

static void enforce(const struct box *box) {
        if (syscall(SYS_landlock_restrict_self, box->fd, 0) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "Landlock cannot be enforced: %m");
        (void)close(box->fd);
}

static void tell_lacks(const struct launch *launch, long version) {
        if (version < 3)
                launch_lacks(launch, "keep a plugin from truncating files that it may only read (Linux 6.2)");
        if (version < 4 && launch->ports.n > 0)
                launch_lacks(launch, "limit TCP to the ports that are allowed (Linux 6.7)");
        if (version < 6)
                launch_lacks(launch, "keep a plugin from sending signals to other processes of its user (Linux 6.12)");
}

void landlock_enter(const struct launch *launch) {
        long version = abi();
        struct ruleset_attr attr = {.fs = rights_of(version)};
        struct box box = {.handled = attr.fs};

        if (version < 1) {
                launch_lacks(launch,
                             "limit which files a plugin reads and writes (Landlock; Linux 5.13, and not disabled at boot)");
                return;
        }
        tell_lacks(launch, version);
        if (version >= 4 && !launch->network_all)
                attr.net = NET_BIND_TCP | NET_CONNECT_TCP;
        if (version >= 6)
                attr.scoped = SCOPE_SIGNAL | (launch->unix_all ? 0 : SCOPE_ABSTRACT_UNIX);
        box.fd = make_ruleset(&attr, version);
        allow_files(&box, launch);
        if (attr.net)
                allow_ports(&box, launch);
        enforce(&box);
}

/* A domain that does not allow it, also one that says nothing of files, forbids to move a file to another folder. */
bool landlock_scope_signals(void) {
        const struct ruleset_attr attr = {.fs = FS_REFER, .scoped = SCOPE_SIGNAL};
        struct box box = {.handled = attr.fs};
        long version = abi();

        if (version < 6 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return false;
        box.fd = make_ruleset(&attr, version);
        (void)allow(&box, "/", FS_REFER);
        if (syscall(SYS_landlock_restrict_self, box.fd, version >= 7 ? LOG_SAME_EXEC_OFF : 0) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "Landlock cannot be enforced: %m");
        (void)close(box.fd);
        return kill(getppid(), 0) < 0 && errno == EPERM;
}

void landlock_only(const char *folder) {
        long version = abi();
        const struct ruleset_attr attr = {.fs = rights_of(version)};
        struct box box = {.handled = attr.fs};

        if (version < 1)
                return;
        box.fd = make_ruleset(&attr, version);
        (void)allow(&box, folder, box.handled);
        enforce(&box);
}
