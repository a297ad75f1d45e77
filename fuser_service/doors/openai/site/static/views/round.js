/** One round in full: every proposal, every verdict, who left and who came back, how long it took. */

import { bar, el, milliseconds, percent, quoted, unseen } from "../dom.js";
import { standings } from "../trace.js";
import { badge, members } from "./member.js";

const WHY = { exit: "it kept losing", failed: "it failed", straggler: "it was late too often" };

export function roundDetails(run, place, looks) {
  const round = run.rounds[place];
  const standing = standings(run)[place];
  return el(
    "div",
    { class: "round" },
    timesOf(round.milliseconds),
    round.candidates.length
      ? el("ol", { class: "candidates" }, round.candidates.map((one) => candidateOf(one, round, looks)))
      : el("p", { class: "aside" }, "Its proposals were not told."),
    movesOf(round, standing, looks),
  );
}

function timesOf({ propose, score, total }) {
  const said = score
    ? `proposing ${milliseconds(propose)}, scoring ${milliseconds(score)}`
    : `proposing ${milliseconds(propose)}, nothing to score`;
  return el("p", { class: "times" }, el("b", {}, milliseconds(total)), ` ${said}`, split(propose, score));
}

function split(propose, score) {
  const parts = bar(propose + score ? propose / (propose + score) : 1, "split");
  return score ? parts : null;
}

function candidateOf(candidate, round, looks) {
  const won = candidate.proposers.includes(round.winner);
  const look = looks.of(won ? round.winner : candidate.proposers[0] ?? "");
  return el(
    "li",
    { class: ["candidate", look.classes, won && "won"] },
    el(
      "div",
      { class: "who" },
      members(looks, candidate.proposers),
      won && el("span", { class: "verdict" }, "✓ taken"),
      el("span", { class: "share" }, unseen("share of the vote: "), percent(candidate.share)),
    ),
    el("p", { class: "proposal", dir: "auto" }, quoted(visible(candidate.text)), candidate.finished && ending()),
    bar(candidate.share, "fused"),
    judgementsOf(candidate, looks),
  );
}

/** Without the space that most begin with; other space at the beginning shows what it is. */
function visible(text) {
  const [, gap, words] = /^(\s*)([^]*)$/.exec(text);
  return gap.replace(/^ /, "").replaceAll("\n", "⏎").replaceAll("\t", "⇥") + words;
}

function ending() {
  return el("span", { class: "ending", title: "It held this to be the end." }, " ∎", unseen(" end of the answer"));
}

function judgementsOf({ judgements }, looks) {
  if (!judgements.size) return el("p", { class: "aside" }, "Taken without a vote.");
  return el(
    "dl",
    { class: "judgements", "aria-label": "What each verifier made of it" },
    [...judgements].map(([name, share]) =>
      el(
        "div",
        { class: looks.of(name).classes, title: name },
        el("dt", {}, badge(looks.of(name)), unseen(name)),
        el("dd", {}, bar(share), el("span", { class: "number" }, percent(share))),
      ),
    ),
  );
}

function movesOf(round, standing, looks) {
  const those = (wanted) => [...standing].filter(([, one]) => wanted(one)).map(([name]) => name);
  const came = those((one) => one.came);
  const watched = those((one) => one.part === "watched" && !one.objected);
  const objected = those((one) => one.objected);
  const idle = those((one) => one.part === "idle");
  const missed = those((one) => one.part === "missed");
  const lost = those((one) => one.part === "lost");
  const line = (said, mark, names) => names.length > 0 && el("li", {}, sign(mark), said, " ", members(looks, names));
  const lines = [
    line("watched:", "◦", watched),
    line("objected:", "!", objected),
    line("came back:", "↩", came),
    alike(round.left).map(({ reason, detail, names }) =>
      el("li", {}, sign("↪"), `left, as ${WHY[reason]}`, detail && [" (", quoted(detail), ")"], ": ", members(looks, names)),
    ),
    line("late or busy:", "…", missed),
    line("not asked:", "–", idle),
    line("lost before:", "×", lost),
  ].flat().filter(Boolean);
  return lines.length > 0 && el("ul", { class: "moves" }, lines);
}

/** Departures with the same reason together. */
function alike(departures) {
  const groups = new Map();
  for (const { member, reason, detail } of departures) {
    const key = JSON.stringify([reason, detail]);
    if (!groups.has(key)) groups.set(key, { reason, detail, names: [] });
    groups.get(key).names.push(member);
  }
  return [...groups.values()];
}

function sign(mark) {
  return el("span", { class: "sign", "aria-hidden": "true" }, mark);
}
