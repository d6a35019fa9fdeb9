"""A gRPC service and its client, by grpcio, with a proxy between them.

Prints the service's port, reads the proxy's address, and prints what the client saw as one object of JSON.
"""

import json
import sys
import threading
from concurrent import futures

import grpc

began, go_on = threading.Event(), threading.Event()
executions = 0


def create(request, context):
    global executions
    if request == b"fail":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such account")
    executions += 1
    number = executions
    if request == b"slow":
        began.set()
        go_on.wait(20)
    context.set_trailing_metadata([("x-sum", "7")])
    return str(number).encode()


def echo(requests, context):
    for request in requests:
        yield request


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("shop.Charges", {"Create": grpc.unary_unary_rpc_method_handler(create)}),
        grpc.method_handlers_generic_handler("shop.Feed", {"Echo": grpc.stream_stream_rpc_method_handler(echo)}),
    ))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def call(channel, payload, key):
    metadata = [("idempotency-key", key)] if key else []
    try:
        answer, made = channel.unary_unary("/shop.Charges/Create").with_call(payload, timeout=15, metadata=metadata)
        return {
            "answer": answer.decode(),
            "replayed": dict(made.initial_metadata()).get("idempotent-replayed"),
            "sum": dict(made.trailing_metadata()).get("x-sum"),
        }
    except grpc.RpcError as error:
        return error.code().name


server, port = serve()
print(port, flush=True)
channel = grpc.insecure_channel(sys.stdin.readline().strip(), [("grpc.enable_retries", 0)])
seen = {
    "first": call(channel, b"pay", "k"),
    "again": call(channel, b"pay", "k"),
    "other payload": call(channel, b"other", "k"),
    "no key": call(channel, b"pay", None),
    "fails": [call(channel, b"fail", "f"), call(channel, b"fail", "f")],
}
with futures.ThreadPoolExecutor() as beside:
    slow = beside.submit(call, channel, b"slow", "s")
    began.wait(20)
    seen["in flight"] = call(channel, b"slow", "s")
    go_on.set()
    seen["slow"] = slow.result()
feed = channel.stream_stream("/shop.Feed/Echo")(iter([b"a", b"b", b"c"]), timeout=15)
seen["stream"] = [message.decode() for message in feed]
server.stop(0).wait()
seen["service gone"] = call(channel, b"pay", "gone")
seen["executions"] = executions
print(json.dumps(seen), flush=True)
