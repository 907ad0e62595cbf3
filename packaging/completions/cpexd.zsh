#compdef cpexd cpexctl
# SPDX-License-Identifier: Apache-2.0
#
# Completes cpexd and cpexctl in zsh. Commands and options are read from --help, so that they are never behind the program.

# The first column of what a cpexctl command prints.
_cpexd_ask() {
        local -a found=(${(f)"$($service --timeout 1 $1 2>/dev/null | awk 'NR > 1 && NF == 0 { exit } NR > 1 { print $1 }')"})
        compadd -a found
}

_cpexd_value() {
        case $1 in
        *FILE* | PATH) _files ;;
        JSON) compset -P @ && _files ;;
        NAME | *PLUGIN*) _cpexd_ask plugins ;;
        HOOK) _cpexd_ask hooks ;;
        *'|'*) compadd ${(s:|:)1} ;;
        esac
}

_cpexd() {
        local line part command
        local -a specs commands
        local -A arguments

        for line in ${(f)"$($service --help 2>/dev/null)"}; do
                [[ $line != (Commands:|Options:) ]] || part=$line
                if [[ $part = Commands: && "$line  " =~ '^  ([a-z]+) +(\[?[A-Z]+\]?|[a-z]+(\|[a-z]+)+)?  +(.*[^ ]) +$' ]]; then
                        commands+=("$match[1]:$match[4]")
                        arguments[$match[1]]=$match[2]
                fi
        done
        for command in ${words[2,CURRENT-1]}; do
                (( ! ${+arguments[$command]} )) || break
                command=
        done
        for line in ${(f)"$($service --help 2>/dev/null)"}; do
                [[ $line =~ '^ +(-., )?(--[a-z-]+)( ([A-Z]+))? +(.*)$' ]] || continue
                [[ -z $command || $line != *' — '* || " ${line##* — }," == *" $command,"* ]] || continue
                local text=${${${match[5]% — *}//\[/(}//\]/)} value=${match[4]:+":$match[4]: _cpexd_value $match[4]"}
                specs+=("$match[2][${text//:/\\:}]$value")
                [[ -z $match[1] ]] || specs+=("${match[1]%, }[${text//:/\\:}]$value")
        done
        if (( $#commands )); then
                specs+=('1:command:{ _describe command commands }' "2: : _cpexd_value '${arguments[$command]}'")
        fi
        _arguments $specs
}

_cpexd "$@"
