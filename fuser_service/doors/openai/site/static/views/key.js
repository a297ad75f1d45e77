/** The caller's key: kept for this tab alone, and sent to nobody but the door. */

const KEPT = "specfuse.key";

export class Key {
  /** `changed` is called when there is another key. */
  constructor(details, changed) {
    this._details = details;
    this._field = details.querySelector("input");
    this._state = details.querySelector("#key-state");
    this._problem = details.querySelector("#key-problem");
    this._changed = changed;
    this._value = recalled();
    details.querySelector("form").addEventListener("submit", (event) => this._submit(event));
    details.querySelector("#forget-key").addEventListener("click", () => this._forget());
    details.addEventListener("keydown", (event) => this._escape(event));
    details.addEventListener("toggle", () => details.open || this._show());
    this._show();
  }

  get value() {
    return this._value;
  }

  /** Opens the field, for a key to be written. */
  ask() {
    this._details.open = true;
    this._field.focus();
  }

  _submit(event) {
    event.preventDefault();
    const written = this._field.value.trim();
    const plain = /^[\x21-\x7e]*$/.test(written);
    this._problem.hidden = plain;
    if (!plain) {
      this._field.focus();
      return;
    }
    this._become(written);
    this._close();
  }

  _forget() {
    this._become("");
    this._field.focus();
  }

  _become(value) {
    this._value = value;
    kept(value);
    this._show();
    this._changed();
  }

  _escape(event) {
    if (event.key === "Escape" && this._details.open) this._close();
  }

  _close() {
    this._details.open = false;
    this._details.querySelector("summary").focus();
  }

  _show() {
    this._field.value = this._value;
    this._problem.hidden = true;
    this._state.textContent = this._value ? "set" : "none";
  }
}

/** A browser may refuse to keep anything; then the key lasts as long as the page. */
function recalled() {
  try {
    return sessionStorage.getItem(KEPT) ?? "";
  } catch {
    return "";
  }
}

function kept(value) {
  try {
    if (value) sessionStorage.setItem(KEPT, value);
    else sessionStorage.removeItem(KEPT);
  } catch {
    // as above
  }
}
