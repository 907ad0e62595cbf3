/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the control method `status` says of the daemon; what it says of a plugin is in pool/status.c.
 */

#include "admin/status.h"

#include "config.h"

static void put_calls(const struct hosts *hosts, struct buf *out) {
        struct hosts_counts counts = hosts_counts(hosts);

        mp_put_str(out, "hosts");
        mp_put_uint(out, counts.connected);
        mp_put_str(out, "calls");
        mp_put_map(out, 3);
        mp_put_str(out, "active");
        mp_put_uint(out, counts.calls_active);
        mp_put_str(out, "total");
        mp_put_uint(out, counts.calls_total);
        mp_put_str(out, "failed");
        mp_put_uint(out, counts.calls_failed);
}

/* The last bucket has none. */
static void put_bucket_ends(struct buf *out) {
        mp_put_str(out, "histogram_usec");
        mp_put_array(out, STEP_BUCKETS);
        for (size_t i = 0; i + 1 < STEP_BUCKETS; i++)
                mp_put_uint(out, step_bucket_usec[i]);
        mp_put_nil(out);
}

void status_put(const struct service *service, const struct hosts *hosts, struct buf *out) {
        static const char *const states[] = {
                [SERVICE_STARTING] = "starting",
                [SERVICE_RUNNING] = "running",
                [SERVICE_RELOADING] = "reloading",
                [SERVICE_STOPPING] = "stopping",
        };
        const struct generation *generation = service_newest(service);

        mp_put_map(out, 12);
        mp_put_str(out, "version");
        mp_put_str(out, CPEXD_VERSION);
        mp_put_str(out, "pid");
        mp_put_int(out, getpid());
        mp_put_str(out, "generation");
        mp_put_uint(out, generation->number);
        mp_put_str(out, "uptime_usec");
        mp_put_uint(out, service_uptime_usec(service));
        mp_put_str(out, "state");
        mp_put_str(out, states[service_state(service)]);
        mp_put_str(out, "plugins_path");
        mp_put_str(out, generation->config->path);
        mp_put_str(out, "socket");
        mp_put_str(out, generation->daemon->socket.path);
        mp_put_str(out, "venv_sandbox");
        mp_put_bool(out, generation->daemon->venv.sandbox);
        put_calls(hosts, out);
        put_bucket_ends(out);
        mp_put_str(out, "plugins");
        mp_put_array(out, generation->n_plugins);
        for (size_t i = 0; i < generation->n_plugins; i++)
                pool_put_status(generation->plugins[i].pool, out);
}
