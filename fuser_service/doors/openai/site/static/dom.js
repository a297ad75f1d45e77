/** Elements. Text only ever becomes text: nothing here, or anywhere, writes HTML. */

/** An element. What is null or false is left out; attributes `on…` are listeners, `class` may be a list. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = [value].flat(2).filter(Boolean).join(" ");
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Text of unknown origin, which cannot change the direction of what is around it. */
export function quoted(text, attributes = {}) {
  return el("bdi", attributes, text);
}

/** What only those who listen are told. */
export function unseen(...text) {
  return el("span", { class: "unseen" }, ...text);
}

/** A bar as long as a share. The number stands beside it. */
export function bar(share, ...classes) {
  const element = el("span", { class: ["bar", ...classes], "aria-hidden": "true" });
  element.style.setProperty("--share", String(Math.min(1, Math.max(0, share))));
  return element;
}

export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

export function milliseconds(amount) {
  if (amount >= 1000) return `${(amount / 1000).toFixed(1)} s`;
  return amount >= 10 ? `${Math.round(amount)} ms` : `${amount.toFixed(1)} ms`;
}

export function count(number, one, more = `${one}s`) {
  return `${number} ${number === 1 ? one : more}`;
}
