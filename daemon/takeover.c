/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The order in which things are adopted is that in which they need each other: the generation has its workers before calls come that are in
 * their hands. Children that are nobody's by then were on their way out, and are ended.
 */

#include <stdio.h>

#include "base/child.h"
#include "base/notify.h"
#include "config.h"
#include "cpexd.h"
#include "pool/scratch.h"

static const char *obstacle(void *data) {
        const struct cpexd *cpexd = data;
        const char *what = service_obstacle(cpexd->service);

        return what ? what : control_obstacle(cpexd->control);
}

static void put_strangers(struct carry *carry) {
        const struct strangers *strangers = child_strangers();

        mp_put_array(&carry->out, strangers->n);
        for (size_t i = 0; i < strangers->n; i++)
                mp_put_int(&carry->out, strangers->pids[i]);
}

static void save(void *data, struct carry *carry) {
        const struct cpexd *cpexd = data;

        mp_put_map(&carry->out, 10);
        mp_put_str(&carry->out, "format");
        mp_put_str(&carry->out, CARRY_FORMAT);
        mp_put_str(&carry->out, "version");
        mp_put_str(&carry->out, CPEXD_VERSION);
        mp_put_str(&carry->out, "strangers");
        put_strangers(carry);
        mp_put_str(&carry->out, "scratch");
        scratch_save(carry);
        mp_put_str(&carry->out, "service");
        service_save(cpexd->service, carry);
        mp_put_str(&carry->out, "hosts");
        hosts_save(cpexd->hosts, carry);
        mp_put_str(&carry->out, "control");
        control_save(cpexd->control, carry);
        mp_put_str(&carry->out, "metrics");
        metrics_save(cpexd->metrics, carry);
        mp_put_str(&carry->out, "host_listener");
        listener_save(cpexd->host_listener, carry);
        mp_put_str(&carry->out, "control_listener");
        listener_save(cpexd->control_listener, carry);
}

static void leave_loop(void *data) {
        struct cpexd *cpexd = data;

        cpexd->upgrading = true;
        (void)event_base_loopexit(cpexd->base, NULL);
}

static void refused(void *data, const char *why) {
        control_upgrade_refused(((struct cpexd *)data)->control, why);
}

const struct upgrade_handler cpexd_upgrade_handler = {
        .obstacle = obstacle,
        .save = save,
        .leave_loop = leave_loop,
        .refused = refused,
};

/* ---- The other side ---- */

static int take_children(struct cpexd *cpexd, struct mp state) {
        struct carry_items items = carry_items(mp_map_value(state, "strangers"));
        struct strangers strangers = {0};
        struct mp item;
        int64_t pid;

        while (strangers.n < ELEMENTS(strangers.pids) && carry_next(&items, &item)) {
                struct mp_cur cur = mp_cur(item);

                if (!mp_read_int(&cur, &pid))
                        return -EBADMSG;
                strangers.pids[strangers.n++] = (pid_t)pid;
        }
        child_adopt_again(cpexd->base, &strangers);
        return 0;
}

static int take_parts(struct cpexd *cpexd, const struct service_args *args, struct mp state) {
        struct event_base *base = cpexd->base;
        int r = scratch_adopt(base, mp_map_value(state, "scratch"));

        r = r < 0 ? r : service_adopt(&cpexd->service, base, args, &cpexd_service_handler, cpexd, mp_map_value(state, "service"));
        r = r < 0 ? r : hosts_new(&cpexd->hosts, base, service_current(cpexd->service));
        r = r < 0 ? r : hosts_adopt(cpexd->hosts, mp_map_value(state, "hosts"));
        r = r < 0 ? r : control_new(&cpexd->control, base, cpexd->service, cpexd->hosts, cpexd->upgrade);
        r = r < 0 ? r : control_adopt(cpexd->control, mp_map_value(state, "control"));
        r = r < 0 ? r : metrics_adopt(&cpexd->metrics, base, cpexd->service, cpexd->hosts, mp_map_value(state, "metrics"));
        r = r < 0 ? r : listener_adopt(&cpexd->host_listener, base, mp_map_value(state, "host_listener"), cpexd_on_host, cpexd);
        r = r < 0 ? r
                  : listener_adopt(&cpexd->control_listener, base, mp_map_value(state, "control_listener"), cpexd_on_admin,
                                   cpexd);
        return r < 0 ? r : take_children(cpexd, state);
}

int cpexd_take_over(struct cpexd *cpexd, const struct service_args *args, struct mp state) {
        int r;

        if (state.len == 0) {
                log_error("the state of the running cpexd is of another form than \"" CARRY_FORMAT "\"; it has to be restarted");
                return -EBADMSG;
        }
        r = take_parts(cpexd, args, state);
        if (r < 0 && r != -EINVAL) /* that is the configuration, which has said what is wrong */
                log_error("the state of the running cpexd cannot be taken over: %s",
                          r == -EBADMSG ? "it has gaps" : strerror(-r));
        return r;
}

static uint64_t count_workers(const struct generation *generation) {
        uint64_t n = 0;

        for (size_t i = 0; i < generation->n_plugins; i++)
                if (generation->plugins[i].member == 0) /* those of a group have the same */
                        n += pool_figures(generation->plugins[i].pool).workers;
        return n;
}

void cpexd_taken_over(struct cpexd *cpexd, struct mp state) {
        const struct hosts_counts counts = hosts_counts(cpexd->hosts);
        const struct upgrade_result result = {
                .from = mp_map_text(state, "version"),
                .workers = count_workers(*service_current(cpexd->service)),
                .hosts = counts.connected,
                .calls = counts.calls_active,
        };

        listener_start(cpexd->host_listener);
        listener_start(cpexd->control_listener);
        notify_ready();
        log_notice("upgraded: cpexd %.*s → " CPEXD_VERSION ", %llu worker%s, %u host%s and %u call%s carried",
                   (int)result.from.len, (const char *)result.from.data, (unsigned long long)result.workers,
                   plural(result.workers), counts.connected, plural(counts.connected), counts.calls_active,
                   plural(counts.calls_active));
        control_upgraded(cpexd->control, &result);
}
