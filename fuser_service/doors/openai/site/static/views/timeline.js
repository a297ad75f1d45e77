/** All rounds at a glance: a row for each member, a column for each round. */

import { bar, count, el, milliseconds, percent, unseen } from "../dom.js";
import { standings } from "../trace.js";
import { member } from "./member.js";

const SAID = {
  won: "won",
  agreed: "proposed what won",
  proposed: "proposed",
  missed: "asked, but late or busy",
  idle: "not asked: it had left",
  lost: "lost",
};

const MEANT = {
  won: "won",
  agreed: "proposed the same",
  proposed: "proposed; its height is its share",
  missed: "late or busy",
  idle: "not asked",
  lost: "lost",
};

/** The table. `chosen` is told the place of a round that was clicked. */
export function timeline(run, looks, { chosen, pointed }) {
  const standing = standings(run);
  const longest = Math.max(1, ...run.rounds.map((round) => round.milliseconds.total));
  const placeOf = (event) => event.target.closest("[data-place]")?.dataset.place;
  return el(
    "div",
    { class: "scrolls", tabindex: "0", role: "region", "aria-label": `Rounds of ${run.ensemble}` },
    el(
      "table",
      {
        class: "timeline",
        onclick: (event) => placeOf(event) && chosen(Number(placeOf(event))),
        onmouseover: (event) => pointed(placeOf(event) ? Number(placeOf(event)) : null),
        onmouseleave: () => pointed(null),
      },
      el("caption", { class: "unseen" }, "Who did what in each round"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, unseen("Member")), run.rounds.map((_, place) => headOf(run, place)))),
      el(
        "tbody",
        {},
        run.members.map((name) =>
          el(
            "tr",
            { class: looks.of(name).classes },
            el("th", { scope: "row" }, member(looks.of(name))),
            standing.map((round, place) => cellOf(round.get(name), place)),
          ),
        ),
        el(
          "tr",
          { class: "times" },
          el("th", { scope: "row" }, "time"),
          run.rounds.map((round, place) => timeOf(round, place, longest)),
        ),
      ),
    ),
  );
}

/** Marks the round that is shown. */
export function markRound(table, shown) {
  for (const cell of table.querySelectorAll("[data-place]")) {
    cell.classList.toggle("shown", Number(cell.dataset.place) === shown);
  }
}

/** What the marks of the table mean, as far as it has them. */
export function legend(run) {
  const cells = standings(run).flatMap((round) => [...round.values()]);
  const parts = Object.keys(MEANT).filter((part) => cells.some((one) => one.part === part));
  const entry = (mark, said) => el("li", {}, mark, said);
  const sign = (text) => el("span", { class: "sign", "aria-hidden": "true" }, text);
  return el(
    "ul",
    { class: "legend", "aria-label": "What the marks mean" },
    parts.map((part) => entry(el("span", { class: ["mark", part], "aria-hidden": "true" }, bar(0.6)), MEANT[part])),
    cells.some((one) => one.leaves) && entry(sign("↪"), "left after it"),
    cells.some((one) => one.came) && entry(sign("↩"), "came back for it"),
  );
}

function headOf(run, place) {
  const resumes = run.resumed.includes(place);
  return el(
    "th",
    { scope: "col", class: [resumes && "resumes"], "data-place": place },
    unseen(resumes ? "resumed, round " : "round "),
    place + 1,
  );
}

function cellOf({ part, share, came, leaves }, place) {
  const said = [SAID[part]];
  if (share) said.push(percent(share));
  if (came) said.push("came back");
  if (leaves) said.push("left");
  return el(
    "td",
    { class: ["mark", part], "data-place": place, title: said.join(", ") },
    bar(share),
    came && el("span", { class: "came", "aria-hidden": "true" }, "↩"),
    leaves && el("span", { class: "leaves", "aria-hidden": "true" }, "↪"),
    unseen(said.join(", ")),
  );
}

function timeOf(round, place, longest) {
  const { propose, score, total } = round.milliseconds;
  const said = `${milliseconds(total)}: proposing ${milliseconds(propose)}, scoring ${milliseconds(score)}`;
  return el("td", { class: "time", "data-place": place, title: said }, bar(total / longest), unseen(said));
}

/** A line on how many took part in how many rounds. */
export function gist(run) {
  const authors = new Set(run.rounds.map((round) => round.winner)).size;
  return `${count(run.rounds.length, "round")}, written by ${count(authors, "model")}`;
}
