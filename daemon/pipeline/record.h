/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * CPEX's ControlExecutionRecord: what one plugin did in one call.
 */

#include "pipeline/generation.h"

enum record_status { RECORD_COMPLETED, RECORD_TIMEOUT, RECORD_ERROR };
enum tristate { STATE_NONE = -1, STATE_NO = 0, STATE_YES = 1 };

struct record {
        const struct plugin *plugin;
        struct mp hook; /* str content */
        enum record_status status;
        enum tristate requested_allow, matched;
        bool effective_allow, applied, payload_modified, extensions_modified;
        uint64_t duration_nsec;
        struct mp reason;     /* str content; NULL data: none */
        struct mp error_code; /* likewise */
};

void record_put(const struct record *record, struct buf *buf);
