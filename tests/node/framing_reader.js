// A server that reads HTTP/1.1 by node's own parser, as strict as it is by default, and answers each request with what it read:
// X-Read: METHOD TARGET BYTES-OF-CONTENT. What node refuses is answered with 400. The arguments are an address and a port.
"use strict";

const http = require("node:http");

// Above all that is sent here: node would refuse a longer head, though it has one reading.
const LONGEST_HEAD = 256 * 1024;

function answer(request, response) {
  let length = 0;
  request.on("data", (data) => {
    length += data.length;
  });
  request.on("end", () => {
    response.setHeader("X-Read", `${request.method} ${shown(request.url)} ${length}`);
    response.setHeader("Content-Length", "0");
    response.end();
  });
}

// Visible ASCII as it is, other bytes by their number.
function shown(text) {
  return text.replace(/[^!-~]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

const server = http.createServer({ maxHeaderSize: LONGEST_HEAD }, answer);
// A word that only its sender knows is no reason to read the request otherwise.
server.on("checkExpectation", answer);
server.on("clientError", (error, socket) => {
  if (socket.writable) {
    socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  }
});
server.listen(Number(process.argv[3]), process.argv[2]);
