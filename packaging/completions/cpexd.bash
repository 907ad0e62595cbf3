# SPDX-License-Identifier: Apache-2.0
#
# Completes cpexd and cpexctl in bash. Commands and options are read from --help, so that they are never behind the program.

# The first column of what a cpexctl command prints.
_cpexd_ask() {
        "$@" --timeout 1 2>/dev/null | awk 'NR > 1 && NF == 0 { exit } NR > 1 { print $1 }'
}

_cpexd() {
        local program=$1 cur=$2 prev=$3 line part= word command= skip= words=
        local -A takes=() only=() commands=() # option: its argument, the commands it is for; command: its argument
        local option='^ +(-., )?(--[a-z-]+)( ([A-Z]+))? ' entry='^  ([a-z]+) +(\[?[A-Z]+\]?|[a-z]+(\|[a-z]+)+)?  '

        while IFS= read -r line; do
                [[ $line != Commands: && $line != Options: ]] || part=$line
                if [[ $line =~ $option ]]; then
                        takes[${BASH_REMATCH[2]}]=${BASH_REMATCH[4]}
                        [[ -z ${BASH_REMATCH[1]} ]] || takes[${BASH_REMATCH[1]%,*}]=${BASH_REMATCH[4]}
                        [[ $line != *' — '* ]] || only[${BASH_REMATCH[2]}]="${line##* — },"
                elif [[ $part = Commands: && "$line  " =~ $entry ]]; then
                        commands[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
                fi
        done < <("$program" --help 2>/dev/null)

        for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
                [[ -n $skip || $word == -* || -n $command ]] || command=$word
                skip=${takes[$word]-}
        done

        COMPREPLY=()
        if [[ -n $skip ]]; then
                case $skip in
                FILE | PATH) words=files ;;
                JSON) [[ $cur != @* ]] || mapfile -t COMPREPLY < <(compgen -P @ -f -- "${cur#@}") ;;
                NAME) words=$(_cpexd_ask "$program" plugins) ;;
                esac
        elif [[ $cur == -* ]]; then
                for word in "${!takes[@]}"; do
                        [[ -z $command || -z ${only[$word]-} || " ${only[$word]}" == *" $command,"* ]] && words+=" $word"
                done
        elif [[ -z $command ]]; then
                words=${!commands[*]}
        else
                case ${commands[$command]-} in
                *FILE*) words=files ;;
                HOOK) words=$(_cpexd_ask "$program" hooks) ;;
                *PLUGIN*) words=$(_cpexd_ask "$program" plugins) ;;
                *'|'*) words=${commands[$command]//|/ } ;;
                esac
        fi
        if [[ $words = files ]]; then
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        elif [[ -n $words ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
        fi
}

complete -F _cpexd cpexd cpexctl
