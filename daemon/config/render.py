# SPDX-License-Identifier: Apache-2.0
"""Renders a template with Jinja2, as the configuration loader of CPEX does, and prints what becomes of it.

    render.py FILE [SECONDS BYTES MEMORY]

Ends with 0; with 3 where there is no Jinja2; or with 4, and then the output is the line of the template (0: not known) and, in the
next line, what is wrong. That never tells a value: of a message that could hold one only the kind of mistake is left.
"""

import os
import re
import resource
import signal
import sys
import traceback

NO_JINJA, REFUSED = 3, 4
TOO_SLOW = "rendering takes too long"

# Messages that say a name. With [] and filters a name may be a value, so it is told only if it stands in the file.
NAMING = re.compile(
    r"'(\w+)' is undefined"
    r"|'[\w. ]+' has no attribute '(\w+)'"
    r"|access to attribute '(\w+)' of '\w+' object is unsafe\."
    r"|No (?:filter|test) named '(\w+)'\.?(?: found\.?)?"
)


class TooSlow(BaseException):
    """Not an Exception, so that nothing takes it for a mistake in a template and goes on."""


class Refused(Exception):
    """(line, sentence)"""


def limit(seconds, memory):
    def stop(number, frame):
        raise TooSlow

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # Where Python does not get to the signal, and the daemon is gone, which would have killed us.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds + 1, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def line_of(error, template):
    """The line of the template in which the error came up."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == "<template>"]
    return template.get_corresponding_lineno(lines[-1]) if template and lines else 0


def tellable(error, source):
    match = NAMING.fullmatch(str(error))
    name = next(filter(None, match.groups()), None) if match else None
    if name and re.search(rf"\b{name}\b", source):
        return str(error)
    return f"{type(error).__name__} (its message may hold values and is not shown)"


def render(jinja2, source, size):
    """The parts of the text. Like Template.render(), but for the bound, and for errors that keep their place."""
    environment = jinja2.sandbox.SandboxedEnvironment(loader=jinja2.BaseLoader(), autoescape=True)
    parts, template = [], None
    try:
        template = environment.from_string(source)
        for part in template.root_render_func(template.new_context({"env": os.environ})):
            size -= len(part)
            if size < 0:
                raise Refused(0, "the rendered file is longer than 1 MiB")
            parts.append(part)
    except Refused:
        raise
    except jinja2.TemplateSyntaxError as error:
        raise Refused(error.lineno, f"Jinja2: {error.message}") from None
    except TooSlow as error:
        raise Refused(line_of(error, template), TOO_SLOW) from None
    except MemoryError as error:
        del parts[:]
        raise Refused(line_of(error, template), "rendering takes too much memory") from None
    except Exception as error:
        raise Refused(line_of(error, template), f"Jinja2: {tellable(error, source)}") from None
    return parts


def main(path, seconds="5", size="1048576", memory="268435456"):
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")
    try:
        limit(int(seconds), int(memory))
        import jinja2.sandbox

        with open(path, encoding="utf-8") as file:
            parts = render(jinja2, file.read(), int(size))
        signal.alarm(0)  # from here on no refusal gets into the output
        sys.stdout.writelines(parts)
        return 0
    except ImportError:
        return NO_JINJA
    except UnicodeDecodeError:
        refusal = Refused(0, "the file is not UTF-8")
    except TooSlow:
        refusal = Refused(0, TOO_SLOW)
    except Refused as error:
        refusal = error
    print(*refusal.args, sep="\n")
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
