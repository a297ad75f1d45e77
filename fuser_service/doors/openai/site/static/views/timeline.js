/** All rounds at a glance: a row for each member, a column for each round. */

import { bar, count, el, milliseconds, percent, unseen } from "../dom.js";
import { Looks } from "../members.js";
import { standings } from "../trace.js";
import { member } from "./member.js";

const SAID = {
  won: "won",
  agreed: "proposed what won",
  proposed: "proposed",
  watched: "watched: it judged what others proposed",
  missed: "asked, but late or busy",
  idle: "not asked: it had left",
  lost: "lost",
};

const MEANT = {
  won: "won",
  agreed: "proposed the same",
  proposed: "proposed; its height is its share",
  watched: "watched",
  missed: "late or busy",
  idle: "not asked",
  lost: "lost",
};

export class TimelineView {
  /** `chosen` and `pointed` are told the place of a round; `pointed` null when it is over. */
  constructor(label, { chosen, pointed }) {
    const placeOf = ({ target }) => {
      const { place } = target.closest("[data-place]")?.dataset ?? {};
      return place === undefined ? null : Number(place);
    };
    this._table = el("table", {
      class: "timeline",
      onclick: (event) => placeOf(event) !== null && chosen(placeOf(event)),
      onmouseover: (event) => pointed(placeOf(event)),
      onmouseleave: () => pointed(null),
    });
    this._scrolls = el("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": label }, this._table);
    this._legend = el("ul", { class: "legend", "aria-label": "What the marks mean" });
    this.element = el("div", { class: "rounds", hidden: true }, this._scrolls, this._legend);
    this._begin(new Looks([]));
  }

  /** Shows the run: columns are added for its new rounds, or all anew if it has other members. */
  show(run, looks) {
    if (looks !== this._looks) this._begin(looks);
    const standing = standings(run);
    for (let place = this._columns.length; place < run.rounds.length; place += 1) this._add(run, place, standing[place]);
    const longest = Math.max(1, ...run.rounds.map((round) => round.milliseconds.total));
    this._table.style.setProperty("--longest", String(longest));
    this._legend.replaceChildren(...legendOf(standing));
    this.element.hidden = !run.rounds.length;
    this._follow(run.state === "asking");
  }

  /** Keeps the newest round in sight while there are new ones; in the end, begins at the first. */
  _follow(grows) {
    if (grows) this._scrolls.scrollLeft = this._scrolls.scrollWidth;
    else if (this._grew) this._scrolls.scrollLeft = 0;
    this._grew = grows;
  }

  /** Marks the round that is shown. */
  mark(shown) {
    for (const cell of this._columns[this._shown] ?? []) cell.classList.remove("shown");
    for (const cell of this._columns[shown] ?? []) cell.classList.add("shown");
    this._shown = shown;
  }

  _begin(looks) {
    this._looks = looks;
    this._columns = [];
    this._shown = null;
    this._head = el("tr", {}, el("th", { scope: "col", class: "corner" }, unseen("Member")));
    this._times = el("tr", { class: "times" }, el("th", { scope: "row" }, "time"));
    this._rows = looks.members.map((name) =>
      el("tr", { class: looks.of(name).classes }, el("th", { scope: "row" }, member(looks.of(name)))),
    );
    this._table.replaceChildren(
      el("caption", { class: "unseen" }, "Who did what in each round"),
      el("thead", {}, this._head),
      el("tbody", {}, this._rows, this._times),
    );
  }

  _add(run, place, standing) {
    const cells = this._looks.members.map((name) => cellOf(standing.get(name), place));
    const head = headOf(run, place);
    const time = timeOf(run.rounds[place], place);
    this._head.append(head);
    this._times.append(time);
    for (const [row, cell] of cells.entries()) this._rows[row].append(cell);
    this._columns.push([head, ...cells, time]);
  }
}

/** What there is to say of all rounds together. */
export function gist(run) {
  const authors = new Set(run.rounds.map((round) => round.winner)).size;
  return `${count(run.rounds.length, "round")}, written by ${count(authors, "model")}`;
}

/** What the marks mean, as far as there are any. */
function legendOf(standing) {
  const cells = standing.flatMap((round) => [...round.values()]);
  const parts = new Set(cells.map((cell) => cell.part));
  const sign = (text) => el("span", { class: "sign", "aria-hidden": "true" }, text);
  const swatch = (part) => el("span", { class: ["mark", part], "aria-hidden": "true" }, bar(0.6));
  const entries = Object.entries(MEANT)
    .filter(([part]) => parts.has(part))
    .map(([part, said]) => el("li", {}, swatch(part), said));
  if (cells.some((cell) => cell.objected)) entries.push(el("li", {}, sign("!"), "objected"));
  if (cells.some((cell) => cell.leaves)) entries.push(el("li", {}, sign("↪"), "left after it"));
  if (cells.some((cell) => cell.came)) entries.push(el("li", {}, sign("↩"), "came back for it"));
  return entries;
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

function cellOf({ part, share, came, objected, leaves }, place) {
  const said = [SAID[part]];
  if (share) said.push(percent(share));
  if (objected) said.push("objected");
  if (came) said.push("came back");
  if (leaves) said.push("left");
  return el(
    "td",
    { class: ["mark", part], "data-place": place, title: said.join(", ") },
    bar(share),
    came && el("span", { class: "came", "aria-hidden": "true" }, "↩"),
    objected && el("span", { class: "objected", "aria-hidden": "true" }, "!"),
    leaves && el("span", { class: "leaves", "aria-hidden": "true" }, "↪"),
    unseen(said.join(", ")),
  );
}

function timeOf({ milliseconds: { propose, score, total } }, place) {
  const said = `${milliseconds(total)}: proposing ${milliseconds(propose)}, scoring ${milliseconds(score)}`;
  const length = el("span", { class: "length", "aria-hidden": "true" });
  length.style.setProperty("--milliseconds", String(total));
  return el("td", { class: "time", "data-place": place, title: said }, length, unseen(said));
}
