/** A member as it is drawn everywhere: its initials on its colour, and its name. */

import { el, quoted } from "../dom.js";

export function badge(look) {
  return el("span", { class: ["badge", look.classes], "aria-hidden": "true" }, look.initials);
}

export function member(look) {
  return el("span", { class: "member" }, badge(look), quoted(look.name));
}

export function members(looks, names) {
  return el("span", { class: "members" }, names.map((name) => member(looks.of(name))));
}
