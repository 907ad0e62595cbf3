# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker: one plugin, served over the socket that cpexd left as descriptor 3.

    __main__   paths, output, then the rest
    _worker    the methods of docs/protocol.md, and the loop that reads them
    _drive     runs coroutines: by hand while nobody has imported asyncio, on its loop from then on
    _load      makes a plugin of a class name and a configuration, and finds its hooks
    _hook      one hook: data to objects, the call, the answer
    _errors    exceptions as the maps that the daemon gets
    _secrets   what of a call must not be in them
    _sandbox   what would allow what the sandbox denied
    _sdk       the names of `cpex.framework`, bundled or real
    _zygote    a process that forks workers, and what is made anew in each of them
    _values    what msgpack has no type for
    external   upstream's clients of external plugins, each a plugin itself

A plugin shares this process, so the package keeps to itself: it stands last but one on sys.path, imports little, and nothing
before a plugin needs it.
"""
