/**
 * An answer, and how it came about. Pure: a run and what came of it in, the next run out.
 *
 * A run is one ensemble's way to an answer. `resumed` has, for each time it was gone on with, how
 * many rounds it had; the door numbers rounds anew from there, so here their place is their number.
 */

import * as shapes from "./shapes.js";

/** A run that nothing has come of. `wishes` is what it is asked with, beyond the question. */
export function begun(ensemble, members, wishes) {
  return {
    ensemble,
    members,
    wishes,
    rounds: [],
    tail: "",
    facts: null,
    finish: null,
    interruption: null,
    resumed: [],
    state: "asking",
  };
}

/** The run with a chunk of the door's stream. Throws Misshapen if it is none. */
export function withChunk(run, chunk) {
  const choice = chunk.choices?.[0];
  if (!choice) return run;
  const shown = typeof choice.delta?.content === "string" ? choice.delta.content : "";
  const ours = chunk.specfuse;
  if (ours?.segment !== undefined) {
    const round = { ...shapes.round(ours), shown };
    return { ...run, rounds: [...run.rounds, round], members: joined(run.members, [...round.shares.keys(), ...round.watched]) };
  }
  const facts = ours ? shapes.facts(ours) : run.facts;
  return {
    ...run,
    facts,
    members: joined(run.members, facts?.members ?? []),
    tail: run.tail + shown,
    finish: choice.finish_reason ?? run.finish,
  };
}

/** The run at the end of its stream: complete, unless the end was never said. */
export function ended(run) {
  if (run.finish) return { ...run, state: "complete" };
  return interrupted(run, { message: "The connection was lost.", code: "connection_lost" });
}

/** The run after something went wrong, or was stopped. Its last round may have been the end. */
export function interrupted(run, { message, code }) {
  if (run.rounds.at(-1)?.finished) return { ...run, state: "complete", finish: "stop" };
  const state = run.rounds.length ? "interrupted" : "refused";
  return { ...run, state, interruption: { message, code } };
}

/** The run as it is gone on with. */
export function goneOn(run) {
  const { length } = run.rounds;
  const resumed = length && run.resumed.at(-1) !== length ? [...run.resumed, length] : run.resumed;
  return { ...run, resumed, state: "asking", interruption: null, finish: null };
}

/** What the door needs to go on with a run; null if it would begin. */
export function resumption(run) {
  if (!run.rounds.length) return null;
  return {
    committed_segments: run.rounds.map((round) => round.segment),
    committed_tokens: run.rounds.reduce((sum, round) => sum + round.tokens, 0),
  };
}

/** All that may be seen of the answer. */
export function answerOf(run) {
  return run.rounds.map((round) => round.shown).join("") + run.tail;
}

/** How many rounds each member won, by name, in the members' order. */
export function wins(run) {
  const counts = new Map(run.members.map((member) => [member, 0]));
  for (const { winner } of run.rounds) counts.set(winner, (counts.get(winner) ?? 0) + 1);
  return counts;
}

/** Milliseconds of all rounds. */
export function duration(run) {
  return run.rounds.reduce((sum, round) => sum + round.milliseconds.total, 0);
}

/** Calls made, and avoided, of both kinds; null before the end, and of resumed runs. */
export function calls(run) {
  if (!run.facts || run.resumed.length) return null;
  const { propose, score } = run.facts.calls;
  return { made: propose.made + score.made, avoided: propose.avoided + score.avoided };
}

/**
 * By round, then by member: what it did.
 *
 * `part` is "won", "agreed" (it proposed what won), "proposed", "watched" (it only judged), "missed"
 * (asked, but late or busy), "idle" (it had left) or "lost" (to failure or lateness). `came` and
 * `leaves` say that it came back for this round, or left after it, `objected` that it objected.
 */
export function standings(run) {
  let gone = new Map();
  return run.rounds.map((round, index) => {
    if (run.resumed.includes(index)) gone = new Map();
    const standing = new Map(run.members.map((member) => [member, standingIn(round, member, gone)]));
    for (const [member, { came }] of standing) if (came) gone.delete(member);
    for (const departure of round.left) gone.set(departure.member, departure.reason);
    return standing;
  });
}

function standingIn(round, member, gone) {
  const proposed = round.shares.has(member);
  const there = proposed || round.watched.includes(member);
  const came = round.recalled.includes(member) || (there && gone.has(member));
  return {
    part: partOf(round, member, came ? undefined : gone.get(member)),
    share: round.shares.get(member) ?? 0,
    came,
    objected: round.objected.includes(member),
    leaves: round.left.find((departure) => departure.member === member) ?? null,
  };
}

function partOf(round, member, reason) {
  if (member === round.winner) return "won";
  if (round.shares.has(member)) {
    const own = round.candidates.find((candidate) => candidate.proposers.includes(member));
    return own?.proposers.includes(round.winner) ? "agreed" : "proposed";
  }
  if (round.watched.includes(member)) return "watched";
  if (!reason) return "missed";
  return reason === "exit" ? "idle" : "lost";
}

function joined(members, others) {
  return [...new Set([...members, ...others])];
}
