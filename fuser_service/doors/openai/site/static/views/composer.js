/** Where a question is written, and who is to answer it: one ensemble, or several side by side. */

import { el } from "../dom.js";
import { Misshapen } from "../shapes.js";
import { PRESETS, WISHES, wishesOf } from "../wishes.js";

const MOST_ASKED = 4;

export class Composer {
  /** `asked` is told a question and whom it asks; `stopped` that it is enough; `edited` of edits. */
  constructor(form, { asked, stopped, edited }) {
    this._form = form;
    this._question = form.elements.question;
    this._rows = form.querySelector("#asked");
    this._more = form.querySelector("#compare");
    this._go = form.querySelector("#ask");
    this._problem = form.querySelector("#problem");
    this._ensembles = [];
    this._linked = [];
    this._busy = false;
    this._told = { asked, stopped };
    form.addEventListener("submit", (event) => this._submit(event));
    this._question.addEventListener("keydown", (event) => this._enter(event));
    this._question.addEventListener("input", edited);
    this._more.addEventListener("click", () => this._add().focus());
  }

  /** Offers these ensembles. What was chosen stays chosen, if it is still there. */
  offer(ensembles) {
    this._ensembles = ensembles;
    if (!this._rows.children.length) this._add();
    for (const select of this._rows.querySelectorAll("select[name=ensemble]")) this._fill(select);
    this._choose();
    this._limit();
  }

  /** Writes a question, and whom it asks, into the form; asks nothing. */
  prepare(question, names = []) {
    this._question.value = question;
    this._linked = names.slice(0, MOST_ASKED);
    this._choose();
  }

  /** Chooses whom a link asks, once it is known who there is: perhaps only when there is a key. */
  _choose() {
    if (!this._ensembles.length) return;
    for (const [place, name] of this._linked.entries()) {
      const select = this._rows.querySelectorAll("select[name=ensemble]")[place] ?? this._add();
      if (this._ensembles.some((one) => one.name === name)) select.value = name;
      else this._complain(`The link asks ${name.slice(0, 64)}, and there is no such ensemble for you here`);
    }
    this._linked = [];
  }

  /** While it is busy, the button stops what it began. */
  set busy(busy) {
    this._busy = busy;
    this._go.textContent = busy ? "Stop" : "Ask";
    this._go.classList.toggle("stops", busy);
  }

  /** What is written, without the space around it. */
  get question() {
    return this._question.value.trim();
  }

  _enter(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this._busy) this._form.requestSubmit();
  }

  _submit(event) {
    event.preventDefault();
    if (this._busy) {
      this._told.stopped();
      return;
    }
    this._complain("");
    try {
      this._told.asked(this._written(), [...this._rows.children].map((row) => this._wanted(row)));
    } catch (error) {
      if (!(error instanceof Misshapen)) throw error;
      this._complain(error.message);
    }
  }

  _written() {
    if (this.question) return this.question;
    this._question.focus();
    throw new Misshapen("The question", "is empty");
  }

  _wanted(row) {
    const { value } = row.querySelector("select[name=ensemble]");
    if (!value) throw new Misshapen("The ensemble", "is not known yet: the fuser has not told any");
    const fields = [...row.querySelectorAll("[data-wish]")].map((field) => [field.dataset.wish, field.value]);
    return {
      ensemble: value,
      members: this._ensembles.find((one) => one.name === value)?.members ?? [],
      wishes: wishesOf(Object.fromEntries(fields)),
    };
  }

  _complain(message) {
    this._problem.textContent = message;
    this._problem.hidden = !message;
  }

  /** Adds whom to ask: the largest ensemble that is not asked yet. Returns its choice. */
  _add() {
    const select = el("select", { name: "ensemble", "aria-label": "Ensemble" });
    const wishes = wishesFields();
    const row = el(
      "li",
      { class: "wanted" },
      select,
      el("details", { class: "settings" }, el("summary", {}, "Settings"), wishes),
      el("button", { type: "button", class: "plain remove", "aria-label": "Do not ask this one", onclick: () => this._remove(row) }, "✕"),
    );
    const taken = new Set([...this._rows.querySelectorAll("select[name=ensemble]")].map((one) => one.value));
    this._fill(select);
    const largest = this._ensembles.toSorted((one, other) => other.members.length - one.members.length);
    select.value = (largest.find((one) => !taken.has(one.name)) ?? largest[0])?.name ?? "";
    this._rows.append(row);
    this._limit();
    return select;
  }

  _remove(row) {
    row.remove();
    this._limit();
    this._more.focus();
  }

  _limit() {
    const { length } = this._rows.children;
    this._rows.classList.toggle("single", length === 1);
    this._more.disabled = length >= MOST_ASKED;
    for (const button of this._rows.querySelectorAll(".remove")) button.hidden = length === 1;
  }

  _fill(select) {
    const { value } = select;
    select.replaceChildren(
      ...this._ensembles.map(({ name, members, ready }) =>
        el("option", { value: name }, `${name} · ${members.length === 1 ? "alone" : `${members.length} models`}${ready ? "" : " · not ready"}`),
      ),
    );
    if (this._ensembles.some((one) => one.name === value)) select.value = value;
  }
}

function wishesFields() {
  const fields = el("div", { class: "fields" });
  const preset = el(
    "select",
    { onchange: (event) => setAll(fields, PRESETS[event.target.value].wishes) },
    PRESETS.map(({ name }, place) => el("option", { value: place }, name)),
  );
  fields.append(labelled("Start from", preset), ...WISHES.map((wish) => labelled(wish.label, fieldOf(wish))));
  return fields;
}

function labelled(label, field) {
  return el("label", {}, el("span", {}, label), field);
}

function fieldOf({ name, options, least, most, step }) {
  if (!options) {
    return el("input", { type: "number", "data-wish": name, min: least, max: most, step, placeholder: "as configured" });
  }
  return el(
    "select",
    { "data-wish": name },
    el("option", { value: "" }, "as configured"),
    options.map(([value, said]) => el("option", { value }, said)),
  );
}

function setAll(fields, wishes) {
  for (const field of fields.querySelectorAll("[data-wish]")) field.value = String(wishes[field.dataset.wish] ?? "");
}
