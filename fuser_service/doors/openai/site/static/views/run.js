/** One ensemble's way to an answer: who took part, the answer, its rounds, and the round shown. */

import { count, el, milliseconds, percent, quoted } from "../dom.js";
import { Looks } from "../members.js";
import { calls, duration, wins } from "../trace.js";
import { saidOf } from "../wishes.js";
import { AnswerView } from "./answer.js";
import { badge } from "./member.js";
import { roundDetails } from "./round.js";
import { TimelineView, gist } from "./timeline.js";

const TITLES = {
  invalid_api_key: "The key was refused",
  overloaded: "The fuser is full",
  rate_limit_exceeded: "You have had your share for now",
  unavailable: "Too few models can be reached",
  deadline_exceeded: "The time is up",
};

export class RunView {
  /** `resume` is called to go on with the run, `enterKey` to give another key. */
  constructor(run, { resume, enterKey }) {
    this._actions = { resume, enterKey };
    this._chosen = null;
    this._pointed = null;
    this._looks = new Looks(run.members);
    const heard = { chosen: (place) => this._choose(place), pointed: (place) => this._point(place) };
    this._answer = new AnswerView(`Answer of ${run.ensemble}; arrow keys go through its segments`, heard);
    this._timeline = new TimelineView(`Rounds of ${run.ensemble}`, heard);
    this._parts = {
      cast: el("ul", { class: "cast", "aria-label": "Members, and how many segments each wrote" }),
      notice: el("div", { class: "notice", hidden: true }),
      facts: el("p", { class: "facts" }),
      panel: el("div", { class: "panel" }),
    };
    this.element = el(
      "article",
      { class: "run", "aria-label": run.ensemble },
      el(
        "div",
        { class: "layout" },
        el(
          "div",
          { class: "story" },
          el("header", {}, el("h3", {}, quoted(run.ensemble)), el("p", { class: "wishes" }, saidOf(run.wishes).join(" · "))),
          this._parts.cast,
          this._answer.element,
          this._parts.notice,
          this._parts.facts,
        ),
        el("section", { class: "details", "aria-label": `A round of ${run.ensemble}` }, this._parts.panel),
        this._timeline.element,
      ),
    );
    this.show(run);
  }

  /** Shows the run as it is now. */
  show(run) {
    this._run = run;
    if (run.members.join("\n") !== this._looks.members.join("\n")) this._looks = new Looks(run.members);
    this.element.setAttribute("aria-busy", String(run.state === "asking"));
    this._answer.show(run, this._looks);
    this._parts.cast.replaceChildren(...castOf(run, this._looks));
    this._parts.facts.replaceChildren(...factsOf(run));
    this._showNotice();
    this._timeline.show(run, this._looks);
    this._showRound();
  }

  get _shown() {
    return this._pointed ?? this._chosen ?? mostTelling(this._run);
  }

  _choose(place) {
    this._chosen = place;
    this._pointed = null;
    this._showRound();
  }

  _point(place) {
    if (place === this._pointed) return;
    this._pointed = place;
    this._showRound();
  }

  _showRound() {
    const place = this._shown;
    this._answer.mark(place, this._chosen);
    this._timeline.mark(place);
    const { panel } = this._parts;
    const step = panel.contains(document.activeElement) && document.activeElement.dataset.step;
    panel.replaceChildren(...(place === null ? [] : this._detailsOf(place)));
    if (step) (panel.querySelector(`[data-step="${step}"]:enabled`) ?? panel.querySelector("[data-step]:enabled"))?.focus();
  }

  _detailsOf(place) {
    const last = this._run.rounds.length - 1;
    const step = (by, sign, said) =>
      el("button", { type: "button", class: "plain step", "data-step": by, disabled: place + by < 0 || place + by > last, "aria-label": said, onclick: () => this._choose(place + by) }, sign);
    return [
      el("header", {}, el("h4", {}, `Round ${place + 1} `, el("span", { class: "of" }, `of ${last + 1}`)), step(-1, "‹", "The round before"), step(1, "›", "The next round")),
      roundDetails(this._run, place, this._looks),
    ];
  }

  _showNotice() {
    const { state, interruption, rounds } = this._run;
    const wrong = state === "interrupted" || state === "refused";
    const { notice } = this._parts;
    const hadFocus = notice.contains(document.activeElement);
    notice.hidden = !wrong;
    notice.replaceChildren();
    if (!wrong) {
      if (hadFocus) this.element.querySelector("[role=option]")?.focus();
      return;
    }
    const { message = "It was saved before its end.", code = "unfinished" } = interruption ?? {};
    notice.append(
      el("p", {}, el("strong", {}, `${TITLES[code] ?? (rounds.length ? "Interrupted" : "No answer")}. `), quoted(message)),
      el("button", { type: "button", class: "go", onclick: () => this._actions.resume() }, rounds.length ? "Resume" : "Try again"),
    );
    if (code === "invalid_api_key") {
      notice.append(el("button", { type: "button", onclick: () => this._actions.enterKey() }, "Enter a key"));
    }
  }
}

/** The place of the round to show before one is chosen: the newest, and in the end one with a vote. */
function mostTelling({ rounds, state }) {
  const voted = state === "asking" ? -1 : rounds.findIndex((round) => round.candidates.length > 1);
  if (voted >= 0) return voted;
  return rounds.length ? rounds.length - 1 : null;
}

function castOf(run, looks) {
  return [...wins(run)].map(([name, won]) =>
    el("li", { class: [looks.of(name).classes, !won && "silent"] }, badge(looks.of(name)), quoted(name), el("span", { class: "wins" }, won ? ` ${won}` : "")),
  );
}

function factsOf(run) {
  if (!run.rounds.length) return run.state === "asking" ? [el("span", { class: "waiting" }, "The models are asked…")] : [];
  const said = [gist(run), milliseconds(run.facts && !run.resumed.length ? run.facts.milliseconds : duration(run))];
  const made = calls(run);
  if (made) {
    const all = made.made + made.avoided;
    said.push(`${count(made.made, "call")} made, ${made.avoided} avoided${all ? ` (${percent(made.avoided / all)})` : ""}`);
  }
  if (run.resumed.length) said.push(`resumed ${run.resumed.length === 1 ? "once" : `${run.resumed.length} times`}`);
  if (run.finish === "length") said.push("ended at its most tokens");
  return [said.join(" · "), degradationOf(run.facts)];
}

function degradationOf(facts) {
  if (!facts?.degraded) return "";
  const why = [];
  if (facts.lost.length) why.push(`lost ${facts.lost.map((one) => one.member).join(", ")}`);
  if (facts.absent.length) why.push(`rounds without ${facts.absent.join(", ")}`);
  return el("span", { class: "degraded" }, "⚠ degraded: ", quoted(why.join("; ") || "a member was missing"));
}
