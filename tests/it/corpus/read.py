"""Reads streams of requests with h11, as a server does. One JSON list of hexadecimal strings in, one list of readings out."""

import json
import sys

import h11


def read(data):
    connection = h11.Connection(h11.SERVER)
    requests = []
    current = None
    fed_end = False
    try:
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if fed_end:
                    return requests, "cut" if current else "clean"
                fed_end = True
                connection.receive_data(b"")
            elif event is h11.PAUSED or type(event) is h11.EndOfMessage:
                if current is not None:
                    requests.append(current)
                    current = None
                if connection.our_state in (h11.SEND_RESPONSE, h11.MIGHT_SWITCH_PROTOCOL):
                    connection.send(h11.Response(status_code=400, headers=[("content-length", "0")]))
                    connection.send(h11.EndOfMessage())
                if connection.states[h11.SERVER] is not h11.DONE or connection.states[h11.CLIENT] is not h11.DONE:
                    return requests, "clean"
                connection.start_next_cycle()
            elif type(event) is h11.Request:
                current = {"method": event.method.decode(), "target": event.target.decode("latin-1"), "body": ""}
            elif type(event) is h11.Data:
                current["body"] += bytes(event.data).hex()
            elif type(event) is h11.ConnectionClosed:
                return requests, "clean"
    except h11.RemoteProtocolError as error:
        cut = "without sending complete message body" in str(error) or "peer unexpectedly closed" in str(error)
        return requests, "cut" if cut else f"malformed: {error}"


streams = json.load(sys.stdin)
readings = []
for stream in streams:
    requests, end = read(bytes.fromhex(stream))
    readings.append({"requests": requests, "end": end})
json.dump(readings, sys.stdout)
