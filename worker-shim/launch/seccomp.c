/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which system calls a worker may make: a list of those that programs in Python and the libraries below them need, in groups with a reason each.
 * What is not in it gets EPERM, so that a person sees that it was forbidden; from the guard, which logs it, where the kernel lets it (notify.c).
 * Calls that the kernel may well lack, or that came after this list, do not exist as far as the plugin can tell (ENOSYS): libc and runtimes then
 * fall back to the older ones. Nothing is killed.
 *
 * What is left out on purpose:
 *   ptrace, process_vm_*, process_madvise, pidfd_getfd, kcmp, perf_event_open    other processes: their memory and descriptors
 *   sched_set*, ioprio_set, migrate_pages, move_pages                            their pace; one's own may be lowered (below)
 *   keyctl, add_key, request_key, shm*, sem*, msg*, mq_*                         what all processes of a user share without a file
 *   bpf, userfaultfd, io_uring_*, fanotify_*                                     large parts of the kernel with a history of holes
 *   mount and its like, chroot, pivot_root, setns, unshare, *_handle_at          other views of the files, ways around paths
 *   execveat                                                                     runs a file without a name
 *   set*id, setgroups, chown and its like, *setxattr                             who one is, and whose a file is
 *   kexec_*, *_module, reboot, swap*, *settime*, sethostname, syslog, iopl, …    the machine
 *
 * A filter sees numbers and no paths. So calls that change the mode or the times of a file, which Landlock does not know either, do nothing and
 * report success: a plugin that copies a file with its mode works, and one that opens up somebody's file does not.
 *
 * An installer, and the compilers that it runs, cannot do without. For them the guard does these calls, below the folders that they may write to
 * (marks.c). Where it cannot, they work everywhere, but for modes that would let others write to a file, or run it as somebody else. Changes
 * of the owner do nothing.
 */

#include <errno.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "launch.h"

#define NOEXEC_SEAL 8u /* MFD_NOEXEC_SEAL, Linux 6.3 */

#define UNIFIED_FIRST 424 /* from here on new calls have one number on all architectures */
#define UNIFIED_LAST 550

#define CALLS(...) ((const char *const[]){__VA_ARGS__, NULL}) /* ends with NULL */

static const char *const *const allowed[] = {
        /* Memory of the process itself. */
        CALLS("brk", "get_mempolicy", "madvise", "map_shadow_stack", "mbind", "membarrier", "mincore", "mlock", "mlock2",
              "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap",
              "pkey_alloc", "pkey_free", "pkey_mprotect", "set_mempolicy"),
        /* Files: which ones is Landlock's affair. */
        CALLS("_llseek", "access", "cachestat", "chdir", "close", "close_range", "copy_file_range", "creat", "dup", "dup2",
              "dup3", "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fchdir", "fcntl", "fcntl64",
              "fdatasync", "fgetxattr", "flistxattr", "flock", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync",
              "ftruncate", "ftruncate64", "getcwd", "getdents", "getdents64", "getxattr", "inotify_add_watch", "inotify_init",
              "inotify_init1", "inotify_rm_watch", "ioctl", "lgetxattr", "link", "linkat", "listxattr", "llistxattr", "lseek",
              "lstat", "lstat64", "mkdir", "mkdirat", "mknod", "mknodat", "newfstatat", "open", "openat", "openat2", "pread64",
              "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
              "rename", "renameat", "renameat2", "rmdir", "sendfile", "sendfile64", "splice", "stat", "stat64", "statfs",
              "statfs64", "statx", "symlink", "symlinkat", "sync_file_range", "tee", "truncate", "truncate64", "umask", "unlink",
              "unlinkat", "vmsplice", "write", "writev"),
        /* Waiting, pipes and timers. */
        CALLS("_newselect", "alarm", "clock_getres", "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep",
              "clock_nanosleep_time64", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait",
              "eventfd", "eventfd2", "getitimer", "gettimeofday", "nanosleep", "pause", "pipe", "pipe2", "poll", "ppoll",
              "ppoll_time64", "pselect6", "pselect6_time64", "select", "setitimer", "signalfd", "signalfd4", "time",
              "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create",
              "timerfd_gettime", "timerfd_settime", "times"),
        /* What is done with a socket that is there; making one is looked at below. */
        CALLS("accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv", "recvfrom",
              "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown"),
        /* Threads, and the life of processes: signals go to the worker's own only, by Landlock. */
        CALLS("arch_prctl", "execve", "exit", "exit_group", "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv",
              "futex_wake", "get_robust_list", "get_thread_area", "getcpu", "kill", "pidfd_open", "pidfd_send_signal", "prctl",
              "restart_syscall", "riscv_flush_icache", "riscv_hwprobe", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
              "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64",
              "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr",
              "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_yield", "set_robust_list",
              "set_thread_area", "set_tid_address", "set_tls", "setpgid", "setsid", "sigaltstack", "sigreturn", "tgkill", "tkill",
              "wait4", "waitid", "waitpid", "cacheflush"),
        /* Who and where one is. */
        CALLS("capget", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
              "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresgid32", "getresuid",
              "getresuid32", "getrlimit", "getrusage", "getsid", "gettid", "getuid", "getuid32", "setrlimit", "sysinfo",
              "ugetrlimit", "uname"),
        /* A process may lock itself up further. */
        CALLS("capset", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self"),
};

/* Not there. */
static const char *const *const missing = CALLS("clone3", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup",
                                                "io_submit", "io_uring_enter", "io_uring_register", "io_uring_setup");

/* These say that it is done, and do nothing; for an installer they work. The number is that of the mode among the arguments. */
static const struct {
        const char *name;
        unsigned mode;
} mode_calls[] = {{"chmod", 1}, {"fchmod", 1}, {"fchmodat", 2}, {"fchmodat2", 2}};
static const unsigned bad_modes[] = {S_ISUID, S_ISGID, S_ISVTX, S_IWGRP, S_IWOTH};
static const char *const *const time_calls = CALLS("futimesat", "utime", "utimensat", "utimensat_time64", "utimes");
static const char *const *const owner_calls = CALLS("chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32");

static void add(scmp_filter_ctx filter, uint32_t action, const char *name, unsigned n, const struct scmp_arg_cmp *args) {
        int call = seccomp_syscall_resolve_name(name);
        int r;

        if (call == __NR_SCMP_ERROR)
                return; /* newer than libseccomp, or of another architecture */
        r = seccomp_rule_add_array(filter, action, call, n, args);
        if (r < 0 && r != -EDOM) /* EDOM: not on this architecture */
                launch_fail(LAUNCH_EXIT_SETUP, "the filter of system calls has no place for %s: %s", name, strerror(-r));
}

static void add_all(scmp_filter_ctx filter, uint32_t action, const char *const *names) {
        for (; *names; names++)
                add(filter, action, *names, 0, NULL);
}

#define ADD_IF(filter, action, name, ...)                                                                     \
        add(filter, action, name, sizeof((struct scmp_arg_cmp[]){__VA_ARGS__}) / sizeof(struct scmp_arg_cmp), \
            (struct scmp_arg_cmp[]){__VA_ARGS__})

#define IS(arg, value) \
        { arg, SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)(value) } /* the kernel looks at 32 bits of it */
#define HAS(arg, mask, value) \
        { arg, SCMP_CMP_MASKED_EQ, mask, value }

/* New processes, and settings of processes: one's own. */
static void add_processes(scmp_filter_ctx filter, const struct launch *launch) {
        const uint32_t all = SCMP_ACT_ALLOW;

        if (launch->profile == PROFILE_STRICT) {
                ADD_IF(filter, all, "clone", HAS(0, NEW_NAMESPACES | CLONE_THREAD, CLONE_THREAD));
        } else {
                ADD_IF(filter, all, "clone", HAS(0, NEW_NAMESPACES, 0));
                add_all(filter, all, CALLS("fork", "vfork"));
        }
        ADD_IF(filter, all, "prlimit64", IS(0, 0));
        ADD_IF(filter, all, "sched_setaffinity", IS(0, 0));
        ADD_IF(filter, all, "setpriority", IS(0, 0), IS(1, 0)); /* PRIO_PROCESS */
        ADD_IF(filter, all, "personality", IS(0, 0));
        ADD_IF(filter, all, "personality", IS(0, -1)); /* asks */
        ADD_IF(filter, all, "memfd_create", HAS(1, NOEXEC_SEAL, NOEXEC_SEAL));
}

static void add_good_modes(scmp_filter_ctx filter, const char *name, unsigned mode) {
        const unsigned all = S_ISUID | S_ISGID | S_ISVTX | S_IWGRP | S_IWOTH;

        ADD_IF(filter, SCMP_ACT_ALLOW, name, HAS(mode, all, 0));
        for (size_t i = 0; i < sizeof(bad_modes) / sizeof(bad_modes[0]); i++)
                ADD_IF(filter, SCMP_ACT_ERRNO(0), name, HAS(mode, bad_modes[i], bad_modes[i]));
}

/* Those of an installer the guard does; it is asked about all that stands in no list. */
static void add_file_marks(scmp_filter_ctx filter, const struct launch *launch, bool notifies) {
        if (launch->program)
                add_all(filter, SCMP_ACT_ERRNO(0), owner_calls);
        if (launch->program && notifies)
                return;
        add_all(filter, launch->program ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(0), time_calls);
        for (size_t i = 0; i < sizeof(mode_calls) / sizeof(mode_calls[0]); i++)
                if (launch->program)
                        add_good_modes(filter, mode_calls[i].name, mode_calls[i].mode);
                else
                        add(filter, SCMP_ACT_ERRNO(0), mode_calls[i].name, 0, NULL);
}

/* What libseccomp has no name for is newer than it. */
static void add_future(scmp_filter_ctx filter) {
        for (int call = UNIFIED_FIRST; call <= UNIFIED_LAST; call++) {
                char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);

                if (!name)
                        (void)seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), call, 0);
                free(name);
        }
}

/* A pair of stream sockets is a pipe with two ways, which event loops need. A pair of datagram sockets could send to any address. */
static void add_sockets(scmp_filter_ctx filter, const struct launch *launch) {
        static const int families[] = {AF_INET, AF_INET6};
        static const unsigned types[] = {SOCK_STREAM, SOCK_DGRAM};
        const uint32_t all = SCMP_ACT_ALLOW;
        const bool internet = launch->network_all || launch->ports.n > 0;

        ADD_IF(filter, all, "socketpair", IS(0, AF_UNIX), HAS(1, TYPE_MASK, SOCK_STREAM));
        ADD_IF(filter, all, "socketpair", IS(0, AF_UNIX), HAS(1, TYPE_MASK, SOCK_SEQPACKET));
        if (launch->unix_all)
                ADD_IF(filter, all, "socket", IS(0, AF_UNIX));
        for (size_t i = 0; internet && i < sizeof(families) / sizeof(families[0]); i++)
                for (size_t j = 0; j < sizeof(types) / sizeof(types[0]); j++)
                        ADD_IF(filter, all, "socket", IS(0, families[i]), HAS(1, TYPE_MASK, types[j]));
}

/* What is tried by libc itself, which does without: the daemons that it would ask for users, and the addresses of this machine. Nobody is to be
 * told of that. */
static void add_silent(scmp_filter_ctx filter, const struct launch *launch) {
        const uint32_t deny = SCMP_ACT_ERRNO(EPERM);

        if (!launch->unix_all)
                ADD_IF(filter, deny, "socket", IS(0, AF_UNIX), IS(1, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK), IS(2, 0));
        ADD_IF(filter, deny, "socket", IS(0, AF_NETLINK), IS(1, SOCK_RAW | SOCK_CLOEXEC), IS(2, 0));
}

/* A listener of its own would be above ours, and could let go on what ours is to deny. The kernel knows one, and takes another only when the
 * guard is no more; so this one is not asked. */
static void add_filters(scmp_filter_ctx filter) {
        ADD_IF(filter, SCMP_ACT_ALLOW, "seccomp", HAS(1, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0));
        ADD_IF(filter, SCMP_ACT_ERRNO(EBUSY), "seccomp",
               HAS(1, SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_NEW_LISTENER));
}

/* `notifies`: the guard is asked about what is not in the list. Return: as seccomp_load(), -EOPNOTSUPP
 * where there is no such action; *ret_listener is -1 without one. */
static int load(const struct launch *launch, bool notifies, int *ret_listener) {
        scmp_filter_ctx filter = seccomp_init(notifies ? SCMP_ACT_NOTIFY : SCMP_ACT_ERRNO(EPERM));
        int r;

        *ret_listener = -1;
        if (!filter)
                return -EOPNOTSUPP;
        (void)seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
        (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree: the cost does not grow with the list */
        for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
                add_all(filter, SCMP_ACT_ALLOW, allowed[i]);
        add_all(filter, SCMP_ACT_ERRNO(ENOSYS), missing);
        add_file_marks(filter, launch, notifies);
        add_processes(filter, launch);
        add_future(filter);
        add_sockets(filter, launch);
        add_filters(filter);
        if (notifies)
                add_silent(filter, launch);
        r = seccomp_load(filter);
        if (r == 0 && notifies)
                *ret_listener = seccomp_notify_fd(filter);
        seccomp_release(filter);
        return r;
}

bool seccomp_enter(const struct launch *launch) {
        int listener = -1, r = 0;

        if (notify_is_possible())
                (void)load(launch, true, &listener);
        if (listener < 0) /* an old kernel, or there is a listener above, as of a container: there is one at most */
                r = load(launch, false, &listener);
        if (r == -EINVAL || r == -ENOSYS)
                launch_lacks(launch, "filter system calls (CONFIG_SECCOMP_FILTER)");
        else if (r < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot filter system calls: %s", strerror(-r));
        if (listener >= 0)
                notify_hand_over(listener);
        return listener >= 0;
}
