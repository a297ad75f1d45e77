/** Asks the door: the only module that uses the network. */

import { EventReader } from "./events.js";

const API = new URL("../v1/", import.meta.url);

/** The door said no, or cannot be reached. `status` is 0 if it said nothing. */
export class Refused extends Error {
  constructor(message, { status = 0, code = "unreachable", param = null } = {}) {
    super(message);
    this.name = "Refused";
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

/** The ensembles. */
export async function ensembles(key) {
  const response = await asked("models", key, {});
  const { data } = await response.json();
  return data.map(({ id, specfuse }) => ({
    name: id,
    members: specfuse.members,
    readyMembers: specfuse.ready_members,
    quorum: specfuse.quorum,
    ready: specfuse.ready,
  }));
}

/** The chunks of an answer as they come. Throws Refused; what came before stands. */
export async function* answer(request, key, signal) {
  const response = await asked("chat/completions", key, {
    method: "POST",
    body: JSON.stringify({ ...request, stream: true }),
    headers: { "content-type": "application/json" },
    signal,
  });
  const events = new EventReader();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reached(reader.read(), signal);
    if (done) return;
    for (const data of events.feed(decoder.decode(value, { stream: true }))) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw refusal(chunk.error, response.status);
      yield chunk;
    }
  }
}

async function asked(path, key, { headers = {}, ...options }) {
  const authorization = key ? { authorization: `Bearer ${key}` } : {};
  const sent = fetch(new URL(path, API), {
    ...options,
    headers: { ...headers, ...authorization },
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
  });
  const response = await reached(sent, options.signal);
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw refusal(said?.error, response.status);
}

/** What was waited for. Being stopped is no failure, and everything else is one of the network. */
async function reached(waited, signal) {
  try {
    return await waited;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused("The fuser cannot be reached, or the connection was lost.");
  }
}

function refusal(error, status) {
  const message = typeof error?.message === "string" ? error.message : `The fuser answered ${status} and no more.`;
  return new Refused(message, { status, code: String(error?.code ?? "unknown"), param: error?.param ?? null });
}
