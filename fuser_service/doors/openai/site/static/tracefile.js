/** Traces as files: JSON that this page writes, and reads again. Pure. */

import * as shapes from "./shapes.js";
import { WISHES, wishesOf } from "./wishes.js";

const VERSION = 1;
const MOST_RUNS = 8;

/** A file holds at most so many bytes. */
export const MOST_BYTES = 16 * 1024 * 1024;

/** The file of a question and its runs. It has no key, and nothing of the door but its answers. */
export function written({ question, runs }, now = new Date()) {
  const document = {
    specfuse_trace: VERSION,
    saved: now.toISOString(),
    question,
    runs: runs.map(({ state, ...run }) => run),
  };
  return JSON.stringify(document, inWords, 2) + "\n";
}

/** What a file holds: `{question, runs, saved}`. Throws Misshapen, which says what is wrong. */
export function read(content) {
  if (content.length > MOST_BYTES) throw new shapes.Misshapen("", "is too large to be a trace");
  const at = shapes.object(parsed(content), "");
  const version = at.optional("specfuse_trace", shapes.anything, null);
  if (version === null) throw new shapes.Misshapen("", "is no trace: it has no specfuse_trace");
  if (version !== VERSION) throw new shapes.Misshapen("specfuse_trace", `must be ${VERSION}, the version that this page reads`);
  const runs = at.field("runs", shapes.listOf(run, MOST_RUNS));
  if (!runs.length) throw new shapes.Misshapen("runs", "is empty");
  return {
    question: at.field("question", shapes.text),
    saved: at.optional("saved", shapes.name, ""),
    runs,
  };
}

function run(value, path) {
  const at = shapes.object(value, path);
  const rounds = at.field("rounds", shapes.listOf(round));
  const finish = at.optional("finish", shapes.oneOf(["stop", "length"]), null);
  const interruption = at.optional("interruption", interruptionOf, null);
  return {
    ensemble: at.field("ensemble", shapes.name),
    members: [...new Set(at.field("members", shapes.listOf(shapes.name, 64)))],
    wishes: at.optional("wishes", wishes, {}),
    rounds,
    tail: at.optional("tail", shapes.text, ""),
    facts: at.optional("facts", shapes.facts, null),
    finish,
    interruption,
    resumed: at.optional("resumed", shapes.listOf(shapes.whole), []),
    state: finish ? "complete" : rounds.length ? "interrupted" : "refused",
  };
}

/** A round as the door sends it, but that the file calls its number so too. */
function round(value, path) {
  const at = shapes.object(value, path);
  return shapes.round({ ...value, round: at.field("number", shapes.whole) }, path);
}

function interruptionOf(value, path) {
  const at = shapes.object(value, path);
  return { message: at.field("message", shapes.text), code: at.field("code", shapes.name) };
}

function wishes(value, path) {
  const at = shapes.object(value, path);
  const given = WISHES.map((wish) => [wish.name, at.optional(wish.name, shapes.anything, null)]);
  return wishesOf(Object.fromEntries(given), path);
}

function parsed(content) {
  try {
    return JSON.parse(content);
  } catch {
    throw new shapes.Misshapen("", "is not JSON");
  }
}

function inWords(_, value) {
  return value instanceof Map ? Object.fromEntries(value) : value;
}
