// SPDX-License-Identifier: Apache-2.0
//
// A plugin server for cpexd (docs/protocol.md): node redact_server.mjs SOCKET
//
// On tool_pre_invoke it takes the word "secret" out of the arguments, refuses the tool "forbidden", and counts the calls of one request in
// its context. In plugins.yaml:
//
//     - {name: redact, kind: external, hooks: [tool_pre_invoke], isolation: {socket: SOCKET}}

import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { decode, decodeMultiStream, encode } from "@msgpack/msgpack";

function redact(value) {
  if (typeof value === "string") return value.replaceAll("secret", "[redacted]");
  if (Array.isArray(value)) return value.map(redact);
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, redact(item)]));
}

const hooks = {
  // `signal` is aborted when cpexd gives the call up.
  async tool_pre_invoke({ payload, context, own }, signal) {
    if (payload.name === "forbidden") {
      return { continue_processing: false, violation: { reason: "Forbidden tool", description: "It may not be called.", code: "FORBIDDEN", details: {} } };
    }
    if (payload.name === "slow") await sleep(payload.args.ms, null, { signal });
    if (payload.name === "fail") throw new Error("it was asked to fail");
    own.state.calls = (own.state.calls ?? 0) + 1;
    const args = redact(payload.args);
    return {
      modified_payload: JSON.stringify(args) === JSON.stringify(payload.args) ? null : encode({ ...payload, args }),
      metadata: { calls: own.state.calls },
      state: { ...context.state, redacted: true },
      contexts: encode(own),
    };
  },
};

async function invoke(params, signal) {
  const hook = hooks[params.hook];
  if (!hook) throw new Error(`there is no hook ${params.hook}`);
  const own = params.contexts ? decode(params.contexts) : { state: {}, metadata: {} };
  return hook({ ...params, payload: decode(params.payload), own }, signal);
}

const methods = {
  hello: async () => ({ version: 1, server: "redact_server" }),
  ping: async () => ({}),
  invoke,
};

async function serve(socket) {
  const underWay = new Map();

  async function answer(id, method, params) {
    const abort = new AbortController();
    underWay.set(id, abort);
    let error = null;
    let result = null;
    try {
      if (!methods[method]) throw new Error(`there is no method ${method}`);
      result = await methods[method](params ?? {}, abort.signal);
    } catch (exception) {
      error = { code: "", type: exception.name, message: exception.message, details: {} };
    }
    underWay.delete(id);
    socket.write(encode([1, id, error, result]));
  }

  for await (const [kind, ...rest] of decodeMultiStream(socket)) {
    if (kind === 0) answer(rest[0], rest[1], rest[2][0]);
    else if (kind === 2 && rest[0] === "cancel") underWay.get(rest[1][0].msgid)?.abort();
  }
}

createServer((socket) => serve(socket).catch(() => socket.destroy())).listen(process.argv[2]);
