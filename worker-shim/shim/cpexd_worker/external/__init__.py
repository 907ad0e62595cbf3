# SPDX-License-Identifier: Apache-2.0
"""Upstream's clients of external plugins, as the plugins of a worker.

Each module has one class `Client`, made of upstream's own for that transport. What they say on the wire is upstream's business. Here stands what a
worker asks of them beyond that: a call whose time is over leaves nothing behind that another call could take for its own; no call is made
twice that may have run; and a client that has lost its server for good ends its worker, for the pool knows best when to try again.
"""

import logging

# Upstream logs each failure with its traceback, and raises it as well; the daemon logs what was raised.
logging.getLogger("cpex.framework.external").addFilter(lambda record: record.exc_info is None)
