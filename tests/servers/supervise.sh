#!/bin/sh
# Keeps one server for a test binary: supervise.sh FOLDER PROGRAM ARGUMENTS...
#
# Each line on standard input is an order: `start`, or the name of a signal for the server. A line on standard output says that
# it is carried out, with the server's process id; it is empty after KILL, when the server is gone. What the server says goes to
# FOLDER/log.
#
# The end of the input is the end of the server and of FOLDER. The system closes that pipe in whatever way the test binary
# ends, its statics never dropped or itself killed: so nothing outlives it.
set -u
folder=$1
shift
server=

# A terminal sends these to the whole group. They are for the test binary, and its end is noticed.
trap '' HUP INT TERM

end() {
    [ -z "$server" ] || kill -KILL "$server"
    wait
    server=
}

while read -r order; do
    case $order in
    start)
        "$@" </dev/null >>"$folder/log" 2>&1 &
        server=$!
        ;;
    KILL) end ;;
    *) kill -"$order" "$server" ;;
    esac
    echo "$server"
done
end
rm -rf "$folder"
