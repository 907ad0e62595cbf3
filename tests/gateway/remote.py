# SPDX-License-Identifier: Apache-2.0
"""The gateway with its plugins in cpexd: the command `mcpgateway`, and the one line that a host changes."""

import mcpgateway.plugins.gateway_plugin_manager as host
from cpexd_client.cpex import RemoteTenantPluginManager
from mcpgateway.cli import main

host.TenantPluginManager = RemoteTenantPluginManager  # was: from cpex.framework import TenantPluginManager

if __name__ == "__main__":
    main()
