/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a plugin left in its temporary folder may be large, deep and without permissions, and the daemon must not wait for its removal. So
 * a process of its own does that, which can touch nothing else, whatever links it meets.
 */

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch.h"

static bool remove_entry(FTS *tree, FTSENT *entry) {
        switch (entry->fts_info) {
        case FTS_D:
                (void)chmod(entry->fts_accpath, S_IRWXU); /* else it may not be entered */
                return true;
        case FTS_DP:
                return entry->fts_level == FTS_ROOTLEVEL || rmdir(entry->fts_accpath) == 0;
        case FTS_DNR:
        case FTS_ERR:
        case FTS_NS:
                (void)fts_set(tree, entry, FTS_SKIP);
                return false;
        default:
                return unlink(entry->fts_accpath) == 0;
        }
}

int remove_content(const char *folder) {
        int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC); /* a plugin may have put a link in its place */
        char *const paths[] = {".", NULL};
        bool ok = true;
        FTSENT *entry;
        FTS *tree;

        if (fd < 0 && errno == ENOENT)
                return 0; /* it lay in a zygote's, and went with that */
        if (fd < 0 || fchdir(fd) < 0)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot enter %s: %m", folder);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
                landlock_only(".");
        tree = fts_open(paths, FTS_PHYSICAL | FTS_XDEV, NULL);
        if (!tree)
                launch_fail(LAUNCH_EXIT_SETUP, "cannot read %s: %m", folder);
        while ((entry = fts_read(tree)))
                ok &= remove_entry(tree, entry);
        (void)fts_close(tree);
        return ok ? 0 : LAUNCH_EXIT_SETUP;
}
