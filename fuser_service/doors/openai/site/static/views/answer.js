/**
 * The answer, each segment in its author's colour.
 *
 * One stop of the tab key; arrows go from segment to segment. Pointing at a segment shows its round
 * for as long, and choosing one keeps it shown.
 */

import { el, percent, unseen } from "../dom.js";
import { answerOf } from "../trace.js";
import { badge } from "./member.js";

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

export class AnswerView {
  /** `chosen` and `pointed` are told the place of a round; `pointed` null when it is over. */
  constructor(label, { chosen, pointed }) {
    this._segments = [];
    this._marked = {};
    this._chosen = chosen;
    this._tail = el("span", { class: "tail" });
    this._list = el(
      "div",
      {
        class: "segments",
        role: "listbox",
        dir: "auto",
        "aria-label": label,
        "aria-orientation": "horizontal",
        onkeydown: (event) => this._step(event),
        onfocusin: (event) => this._choose(event.target),
        onclick: (event) => this._choose(event.target),
        onmouseover: (event) => pointed(this._placeOf(event.target)),
        onmouseleave: () => pointed(null),
      },
    );
    this.element = el("div", { class: "answer" }, this._list, this._tail);
  }

  /** Shows the run; only what is new is added, so that nothing moves under anyone's hands. */
  show(run, looks) {
    for (const round of run.rounds.slice(this._segments.length)) {
      const place = this._segments.length;
      const before = run.rounds[place - 1]?.winner;
      const segment = segmentOf(round, looks, { begins: round.winner !== before, resumes: run.resumed.includes(place) });
      segment.tabIndex = -1;
      this._segments.push(segment);
      this._list.append(segment);
    }
    this._tail.textContent = run.tail;
    this.element.classList.toggle("spaced", /\t|[ ]{2}|\n[ ]/.test(answerOf(run)));
    this._list.hidden = !this._segments.length;
    this.element.classList.toggle("writing", run.state === "asking");
  }

  /** Marks the round that is shown, and the one at which the tab key stops. */
  mark(shown, chosen) {
    const stop = chosen ?? 0;
    this._segments[this._marked.shown]?.classList.remove("shown");
    this._segments[this._marked.chosen]?.setAttribute("aria-selected", "false");
    if (this._segments[this._marked.stop]) this._segments[this._marked.stop].tabIndex = -1;
    this._segments[shown]?.classList.add("shown");
    this._segments[chosen]?.setAttribute("aria-selected", "true");
    if (this._segments[stop]) this._segments[stop].tabIndex = 0;
    this._marked = { shown, chosen, stop };
  }

  _placeOf(target) {
    const place = this._segments.indexOf(target.closest?.("[role=option]"));
    return place < 0 ? null : place;
  }

  _choose(target) {
    const place = this._placeOf(target);
    if (place !== null) this._chosen(place);
  }

  _step(event) {
    const place = this._placeOf(event.target);
    if (place === null) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this._chosen(place);
    }
    const step = STEPS[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const next = Math.min(this._segments.length - 1, Math.max(0, place + step));
    this._segments[next].focus();
  }
}

function segmentOf(round, looks, { begins, resumes }) {
  const look = looks.of(round.winner);
  const share = round.shares.get(round.winner) ?? 0;
  const [, gap, words] = /^(\s*)([^]*)$/.exec(round.shown);
  return el(
    "span",
    { class: ["segment", look.classes, resumes && "resumes"], role: "option", "aria-selected": "false" },
    gap,
    resumes && unseen("Resumed here. "),
    begins && badge(look),
    words ? el("span", { class: "text" }, words) : el("span", { class: "text end" }, round.finished ? "∎" : "⋯"),
    unseen(` (${round.winner}, ${percent(share)})`),
  );
}
