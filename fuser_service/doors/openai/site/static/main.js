/** The page, put together: the only module that knows all the others. */

import { carryOut } from "./asking.js";
import { Refused, ensembles } from "./door.js";
import { count, el, quoted } from "./dom.js";
import { Misshapen } from "./shapes.js";
import { answerOf, begun, wins } from "./trace.js";
import { read, written } from "./tracefile.js";
import { Composer } from "./views/composer.js";
import { Key } from "./views/key.js";
import { RunView } from "./views/run.js";
import { canShare, receive, save, share } from "./views/sharing.js";

const at = (id) => document.getElementById(id);

class Page {
  constructor() {
    this._question = "";
    this._runs = [];
    this._views = [];
    this._stops = new Set();
    this._key = new Key(at("key"), () => this._list());
    this._composer = new Composer(at("composer"), {
      asked: (question, wanted) => this._ask(question, wanted),
      stopped: () => this._stop(),
      edited: () => this._title(),
    });
    at("save").addEventListener("click", () => save(this._trace()));
    at("share").addEventListener("click", async () => this._say(await share(this._trace()), { seen: true }));
    at("share").hidden = !canShare();
    at("open").addEventListener("click", () => at("trace-file").click());
    receive(at("trace-file"), (content) => this._open(content), (problem) => this._complain(problem));
  }

  /** Asks the door what there is, and prepares the question that the address may have. */
  async begin() {
    await this._list();
    const linked = new URLSearchParams(location.hash.slice(1));
    this._composer.prepare(linked.get("question") ?? "", linked.getAll("ensemble"));
  }

  async _list() {
    const key = this._key.value;
    try {
      const offered = await ensembles(key);
      if (key !== this._key.value) return;
      this._composer.offer(offered);
      this._complain("");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (key !== this._key.value) return;
      const refused = error.code === "invalid_api_key";
      this._complain(error.message, refused && { said: "Enter a key", action: () => this._key.ask() });
    }
  }

  _ask(question, wanted) {
    const runs = wanted.map(({ ensemble, members, wishes }) => begun(ensemble, members, wishes));
    this._present({ question, runs });
    this._complain("");
    this._say(`Asking ${runs.map((run) => run.ensemble).join(", ")}.`);
    for (const place of runs.keys()) this._carryOut(place);
  }

  async _carryOut(place) {
    const views = this._views;
    const stop = new AbortController();
    this._stops.add(stop);
    this._composer.busy = true;
    try {
      await carryOut(this._runs[place], {
        question: this._question,
        key: this._key.value,
        signal: stop.signal,
        changed: (run) => views === this._views && this._show(place, run),
      });
    } finally {
      this._stops.delete(stop);
      this._composer.busy = this._stops.size > 0;
    }
    if (views === this._views) this._say(outcome(this._runs[place]));
  }

  _show(place, run) {
    this._runs[place] = run;
    this._views[place].show(run);
  }

  _stop() {
    for (const stop of this._stops) stop.abort();
  }

  /** Shows runs in place of those before. */
  _present({ question, runs, saved = "" }) {
    this._stop();
    this._question = question;
    this._runs = runs;
    this._views = runs.map((run, place) => new RunView(run, { resume: () => this._carryOut(place), enterKey: () => this._key.ask() }));
    at("asked-question").replaceChildren(quoted(question));
    if (!this._composer.question) this._composer.prepare(question);
    this._title();
    at("origin").textContent = saved;
    at("origin").hidden = !saved;
    at("runs").replaceChildren(...this._views.map((view) => view.element));
    at("runs").classList.toggle("several", runs.length > 1);
    at("results").hidden = false;
    at("welcome").hidden = true;
  }

  /** The question stands above the answers only if it is not in the form, too. */
  _title() {
    at("asked-question").classList.toggle("unseen", this._composer.question === this._question.trim());
  }

  _trace() {
    return written({ question: this._question, runs: this._runs });
  }

  _open(content) {
    try {
      const trace = read(content);
      this._present({ ...trace, saved: `From a file${savedOn(trace.saved)}.` });
      this._complain("");
      this._say(`A trace was opened: ${count(trace.runs.length, "answer")} to “${trace.question}”.`);
      at("results").focus();
    } catch (error) {
      if (!(error instanceof Misshapen)) throw error;
      this._complain(`This trace cannot be opened: ${error.message}.`);
    }
  }

  /** Tells those who listen; and those who look, if it cannot be seen otherwise. */
  _say(message, { seen = false } = {}) {
    if (!message) return;
    at("status").textContent = message;
    at("status").classList.toggle("unseen", !seen);
  }

  _complain(problem, remedy = null) {
    at("complaint").hidden = !problem;
    at("complaint").replaceChildren(
      ...(problem ? [el("p", {}, quoted(problem))] : []),
      ...(problem && remedy ? [el("button", { type: "button", onclick: remedy.action }, remedy.said)] : []),
    );
  }
}

function outcome(run) {
  if (run.state === "complete") {
    const authors = [...wins(run)].filter(([, won]) => won).map(([name]) => name);
    return `${run.ensemble} answered: ${answerOf(run)} Written by ${authors.join(", ")}.`;
  }
  const { message } = run.interruption;
  if (run.state === "refused") return `${run.ensemble} gave no answer: ${message}`;
  return `${run.ensemble} was interrupted after ${count(run.rounds.length, "segment")}: ${message} The button Resume goes on.`;
}

/** When a file says that it was saved; what is no time is not repeated. */
function savedOn(saved) {
  const time = new Date(saved);
  return Number.isNaN(time.getTime()) ? "" : `, saved on ${time.toLocaleString()}`;
}

new Page().begin();
