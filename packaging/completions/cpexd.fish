# SPDX-License-Identifier: Apache-2.0
#
# Completes cpexd and cpexctl in fish. Commands and options are read from --help, so that they are never behind the program.

# The first column of what a cpexctl command prints.
function __cpexd_ask
    cpexctl --timeout 1 $argv 2>/dev/null | awk 'NR > 1 && NF == 0 { exit } NR > 1 { print $1 }'
end

# Whether no command was given yet, or one for which an option is.
function __cpexd_takes
    set -l words (commandline -opc)
    for word in $words[2..]
        if contains -- $word $__cpexd_commands
            contains -- $word $argv
            return
        end
    end
end

function __cpexd_has_no_command
    set -l words (commandline -opc)
    not string match -q -r -- '^('(string join '|' $__cpexd_commands)')$' $words[2..]
end

set -g __cpexd_commands
for program in cpexd cpexctl
    complete -c $program -f
    set -l part
    for line in ($program --help 2>/dev/null)
        contains -- $line Commands: Options:; and set part $line
        if string match -q -r '^ +(?:-(?<short>.), )?--(?<long>[a-z-]+)(?: (?<value>[A-Z]+))? +(?<text>.*?)(?: — (?<only>.*))?$' -- $line
            set -l options -c $program -l $long -d $text
            test -z "$short"; or set -a options -s $short
            test -z "$only"; or set -a options -n "__cpexd_takes "(string replace -a , '' -- $only)
            switch "$value"
                case ''
                case FILE PATH JSON
                    set -a options -r -F
                case NAME
                    set -a options -x -a '(__cpexd_ask plugins)'
                case '*'
                    set -a options -x
            end
            complete $options
        else if test "$part" = Commands:
            and string match -q -r '^  (?<name>[a-z]+) +(?<value>\[?[A-Z]+\]?(?= )|[a-z]+(?:\|[a-z]+)+)? +(?<text>.*)$' -- $line
            set -a __cpexd_commands $name
            complete -c $program -n __cpexd_has_no_command -a $name -d $text
            set -l given "__fish_seen_subcommand_from $name"
            switch "$value"
                case '*FILE*'
                    complete -c $program -n $given -F
                case HOOK
                    complete -c $program -n $given -a '(__cpexd_ask hooks)'
                case '*PLUGIN*'
                    complete -c $program -n $given -a '(__cpexd_ask plugins)'
                case '*|*'
                    complete -c $program -n $given -a (string replace -a '|' ' ' -- $value)
            end
        end
    end
end
