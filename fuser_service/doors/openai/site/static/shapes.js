/**
 * What the door sends and trace files hold, checked and made our own. Pure.
 *
 * Whatever is not known is left behind. What callers can name freely is the key of a Map, never of
 * an object, so that no name means anything.
 */

/** Something is not what it must be. The message names where. */
export class Misshapen extends Error {
  constructor(path, problem) {
    super(`${path || "the file"} ${problem}`);
    this.name = "Misshapen";
  }
}

const LONGEST = 200_000;
const MOST = 4096;
const MOST_MEMBERS = 64;
const DEPARTURES = ["exit", "failed", "straggler"];

/** A committed round. `shown` is the part of its segment that may be seen. */
export function round(value, path = "round") {
  const at = object(value, path);
  return {
    number: at.field("round", whole),
    segment: at.field("segment", text),
    shown: at.optional("shown", text, at.field("segment", text)),
    tokens: at.field("tokens", whole),
    winner: at.field("winner", name),
    finished: at.field("finished", flag),
    shares: at.field("shares", mapOf(share)),
    left: at.field("left", listOf(departed, MOST_MEMBERS)),
    recalled: at.field("recalled", listOf(name, MOST_MEMBERS)),
    watched: at.optional("watched", listOf(name, MOST_MEMBERS), []),
    objected: at.optional("objected", listOf(name, MOST_MEMBERS), []),
    milliseconds: at.field("milliseconds", milliseconds),
    candidates: at.optional("candidates", listOf(candidate, MOST_MEMBERS), []),
  };
}

/** How an answer came about. */
export function facts(value, path = "facts") {
  const at = object(value, path);
  const calls = object(at.field("calls", anything), `${path}.calls`);
  return {
    members: at.field("members", listOf(name, MOST_MEMBERS)),
    calls: { propose: calls.field("propose", callsOfAKind), score: calls.field("score", callsOfAKind) },
    discarded_tokens: at.field("discarded_tokens", whole),
    degraded: at.field("degraded", flag),
    lost: at.field("lost", listOf(departed, MOST_MEMBERS)),
    absent: at.field("absent", listOf(name, MOST_MEMBERS)),
    milliseconds: at.field("milliseconds", amount),
  };
}

function candidate(value, path) {
  const at = object(value, path);
  return {
    text: at.field("text", text),
    finished: at.field("finished", flag),
    proposers: at.field("proposers", listOf(name, MOST_MEMBERS)),
    share: at.field("share", share),
    judgements: at.field("judgements", mapOf(share)),
  };
}

function departed(value, path) {
  const at = object(value, path);
  return {
    member: at.field("member", name),
    reason: at.field("reason", oneOf(DEPARTURES)),
    detail: at.optional("detail", text, ""),
  };
}

function milliseconds(value, path) {
  const at = object(value, path);
  return {
    propose: at.field("propose", amount),
    score: at.field("score", amount),
    total: at.field("total", amount),
  };
}

function callsOfAKind(value, path) {
  const at = object(value, path);
  return { made: at.field("made", whole), avoided: at.field("avoided", whole) };
}

// --- what things are made of -------------------------------------------------------------------

/** An object, of which fields are asked one by one. */
export function object(value, path) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new Misshapen(path, `is ${kind(value)}; it must be an object`);
  }
  const within = (field) => (path ? `${path}.${field}` : field);
  const given = (field) => Object.hasOwn(value, field) && value[field] !== null;
  return {
    field(field, shape) {
      if (!given(field)) throw new Misshapen(within(field), "is missing");
      return shape(value[field], within(field));
    },
    optional(field, shape, otherwise) {
      return given(field) ? shape(value[field], within(field)) : otherwise;
    },
  };
}

export function text(value, path) {
  if (typeof value !== "string") throw new Misshapen(path, `is ${kind(value)}; it must be a text`);
  if (value.length > LONGEST) throw new Misshapen(path, `is longer than ${LONGEST} characters`);
  return value;
}

export function name(value, path) {
  if (text(value, path).length > 256) throw new Misshapen(path, "is longer than 256 characters");
  return value;
}

export function flag(value, path) {
  if (typeof value !== "boolean") throw new Misshapen(path, `is ${kind(value)}; it must be true or false`);
  return value;
}

export function amount(value, path) {
  if (!Number.isFinite(value) || value < 0) throw new Misshapen(path, `is ${kind(value)}; it must be a number from 0`);
  return value;
}

export function whole(value, path) {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new Misshapen(path, `is ${kind(value)}; it must be a whole number from 0`);
  }
  return value;
}

/** A share of the vote; rounding may take it a little beyond 1. */
export function share(value, path) {
  if (!(amount(value, path) <= 1.001)) throw new Misshapen(path, "must be from 0 to 1");
  return value;
}

export function anything(value) {
  return value;
}

export function oneOf(options) {
  return (value, path) => {
    if (!options.includes(value)) throw new Misshapen(path, `must be one of: ${options.join(", ")}`);
    return value;
  };
}

export function listOf(item, most = MOST) {
  return (value, path) => {
    if (!Array.isArray(value)) throw new Misshapen(path, `is ${kind(value)}; it must be a list`);
    if (value.length > most) throw new Misshapen(path, `has ${value.length} entries; at most ${most} are taken`);
    return value.map((one, at) => item(one, `${path}[${at}]`));
  };
}

function mapOf(item) {
  return (value, path) => {
    object(value, path);
    const entries = Object.entries(value);
    if (entries.length > MOST_MEMBERS) throw new Misshapen(path, `has more than ${MOST_MEMBERS} entries`);
    return new Map(entries.map(([key, one]) => [name(key, path), item(one, `${path}.${key}`)]));
  };
}

function kind(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "number") return `the number ${value}`;
  return { string: "a text", boolean: "true or false", object: "an object" }[typeof value] ?? "nothing";
}
