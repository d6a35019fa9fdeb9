// Reads streams of requests with Node's parser, as a server does. One JSON list of hexadecimal strings in, one list of
// readings out.

import http from "node:http";
import net from "node:net";

const server = http.createServer({ keepAliveTimeout: 60_000, requestTimeout: 0, maxHeaderSize: 256 * 1024 });
server.maxHeadersCount = 0;
server.listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));

const readings = new Map();

function serve(request, response) {
  const reading = readings.get(request.socket.remotePort);
  const seen = { method: request.method, target: request.url, body: "" };
  reading.begun += 1;
  request.on("data", (piece) => (seen.body += piece.toString("hex")));
  request.on("end", () => {
    reading.requests.push(seen);
    response.end();
  });
  request.on("error", () => {});
}
// Without a listener of these, Node answers by itself, or drops what follows a request to switch protocols.
server.on("request", serve);
server.on("checkContinue", serve);
server.on("checkExpectation", serve);
server.on("upgrade", (request, socket, head) => {
  // It is refused: what follows are requests.
  const reading = readings.get(socket.remotePort);
  reading.requests.push({ method: request.method, target: request.url, body: "" });
  reading.rest = head;
  socket.end();
});
server.on("clientError", (error, socket) => {
  const reading = readings.get(socket.remotePort);
  if (reading) reading.error = error.code ?? String(error);
  socket.destroy();
});

async function read(hex) {
  const socket = net.connect(server.address().port, "127.0.0.1");
  await new Promise((resolve) => socket.once("connect", resolve));
  const reading = { requests: [], begun: 0, error: null, rest: null };
  readings.set(socket.localPort, reading);
  socket.on("data", () => {});
  socket.on("error", () => {});
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.end(Buffer.from(hex, "hex"));
  await closed;
  const { requests, begun, error, rest } = reading;
  if (rest?.length > 0) {
    const next = await read(rest.toString("hex"));
    return { requests: [...requests, ...next.requests], end: next.end };
  }
  const cut = begun > requests.length || error === "HPE_INVALID_EOF_STATE" || error === "ECONNRESET";
  return { requests, end: cut ? "cut" : error ? `malformed: ${error}` : "clean" };
}

let input = "";
for await (const piece of process.stdin) input += piece;
const results = [];
for (const stream of JSON.parse(input)) results.push(await read(stream));
process.stdout.write(JSON.stringify(results));
server.close();
server.closeAllConnections();
