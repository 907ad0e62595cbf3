/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Figures for Prometheus and whoever else reads OpenMetrics: GET /metrics over HTTP, on a Unix socket (metrics.path) and, where that is
 * asked for, on a port of the loopback interface (metrics.port). GET /healthz says 200 while the daemon serves, else 503.
 *
 * What is counted of a plugin goes on over a reload that keeps its workers, and begins anew where they are started anew.
 */

#include "admin/service.h"
#include "host/session.h"

struct metrics;

/* Return: 0, also where neither socket is configured (*ret is then NULL), or a negative errno with the reason logged. */
int metrics_new(struct metrics **ret, struct event_base *base, const struct service *service, struct hosts *hosts,
                const struct daemon_config *config);

/* wire/carry.h: nil where there are none. Who is connected is not carried: what he asks is answered at once, or he asks again. */
void metrics_save(const struct metrics *metrics, struct carry *carry);
int metrics_adopt(struct metrics **ret, struct event_base *base, const struct service *service, struct hosts *hosts,
                  struct mp saved);

struct metrics *metrics_free(struct metrics *metrics);
