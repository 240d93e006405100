# shellcheck shell=bash
# How far a long job is.

# Show how far "$1" is, as lines "DONE ALL" on standard input say: in one line of a terminal, elsewhere a line per quarter.
show_progress() {
    local what=$1 done all quarter=0
    while read -r done all; do
        if [ -t 1 ]; then
            printf '\r%s: %d of %d ' "$what" "$done" "$all"
        elif [ $((4 * done / all)) -gt $quarter ]; then
            quarter=$((4 * done / all))
            echo "$what: $done of $all"
        fi
    done
    if [ -t 1 ]; then echo; fi
}
