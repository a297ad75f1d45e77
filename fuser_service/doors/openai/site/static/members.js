/** How members are told apart: a colour and a line by their place, and initials. Pure. */

const COLOURS = 8;
const LINES = ["solid", "dashed", "dotted", "double", "wavy"];

/** What one member looks like: CSS classes, and initials. */
export class Look {
  constructor(name, place, initials) {
    this.name = name;
    this.initials = initials;
    this.classes = place < 0 ? ["stranger"] : [`colour-${place % COLOURS}`, `line-${LINES[place % LINES.length]}`];
  }
}

/** The looks of an ensemble's members. */
export class Looks {
  constructor(members) {
    const initials = initialsOf(members);
    this.members = members;
    this._byName = new Map(members.map((name, place) => [name, new Look(name, place, initials[place])]));
  }

  /** The look of a member; of one that is no member, a plain one. */
  of(name) {
    return this._byName.get(name) ?? new Look(name, -1, "?");
  }
}

/** Two or three characters for each name, all different. */
export function initialsOf(names) {
  const taken = new Set();
  return names.map((name, place) => {
    const free = proposals(name, place).find((one) => !taken.has(one));
    taken.add(free);
    return free;
  });
}

function proposals(name, place) {
  const [first = "?", ...rest] = Array.from(name.replace(/[^\p{L}\p{N}]/gu, ""));
  const parts = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean).map((part) => Array.from(part)[0]);
  const said = [
    first + (rest[0] ?? ""),
    first + (parts[1] ?? rest[1] ?? ""),
    ...rest.map((other) => first + other),
    `${first}${place + 1}`,
    `${place + 1}`,
    `#${place + 1}`,
  ];
  return said.map((one) => one.charAt(0).toUpperCase() + one.slice(1));
}
