/** What a query can be asked with beyond its question, and sets of it that belong together. Pure. */

import { Misshapen } from "./shapes.js";

const YES_OR_NO = [
  ["true", "yes"],
  ["false", "no"],
];

/** In the order in which they are shown. `ours` ones go under `specfuse`, the others beside it. */
export const WISHES = [
  { name: "segment_tokens", ours: true, label: "Tokens a segment", least: 1, most: 512, step: 1 },
  {
    name: "statistic",
    ours: true,
    label: "A verdict is its",
    options: [
      ["geometric", "geometric mean"],
      ["mean_probability", "mean probability"],
      ["per_byte", "probability per byte"],
    ],
  },
  {
    name: "weighting",
    ours: true,
    label: "Verifiers' weights",
    options: [
      ["uniform", "all the same"],
      ["hedge", "by who wins"],
    ],
  },
  {
    name: "exit_policy",
    ours: true,
    label: "Who stops drafting",
    options: [
      ["watch", "who does not win, and watches"],
      ["entropy_softmax", "who keeps losing, and leaves"],
      ["none", "nobody"],
    ],
  },
  { name: "recall", ours: true, label: "They may come back", options: YES_OR_NO },
  { name: "self_judgement", ours: true, label: "Judge their own", options: YES_OR_NO },
  { name: "fast_finish", ours: true, label: "End without a vote", options: YES_OR_NO },
  { name: "temperature", ours: false, label: "Temperature", least: 0, most: 2, step: "any" },
  { name: "top_p", ours: false, label: "Nucleus (top p)", least: 0, most: 1, step: "any" },
  { name: "max_tokens", ours: false, label: "Most tokens", least: 1, most: 32768, step: 1 },
  { name: "seed", ours: false, label: "Seed", least: 0, most: Number.MAX_SAFE_INTEGER, step: 1 },
];

/** Sets of wishes, as far as a request can ask for what the papers say. */
export const PRESETS = [
  { name: "as configured", wishes: {} },
  {
    name: "SpecFuse, as published",
    wishes: {
      segment_tokens: 10,
      statistic: "mean_probability",
      weighting: "uniform",
      exit_policy: "entropy_softmax",
      recall: false,
      self_judgement: true,
    },
  },
  {
    name: "SpecEM, as published",
    wishes: {
      segment_tokens: 10,
      statistic: "mean_probability",
      weighting: "hedge",
      exit_policy: "none",
      self_judgement: true,
      temperature: 0.6,
      top_p: 0.9,
    },
  },
  { name: "whole segments", wishes: { statistic: "geometric", exit_policy: "entropy_softmax" } },
  { name: "nobody leaves", wishes: { exit_policy: "none" } },
];

/** The wishes among values that may be given as texts, as a form has them. Throws Misshapen. */
export function wishesOf(values, path = "") {
  const wishes = {};
  for (const wish of WISHES) {
    const value = values[wish.name];
    if (value === undefined || value === null || value === "") continue;
    wishes[wish.name] = valueOf(wish, value, path ? `${path}.${wish.name}` : wish.label);
  }
  return wishes;
}

/** The fields of a request that ask for them. */
export function fieldsOf(wishes) {
  const fields = { specfuse: {} };
  for (const { name, ours } of WISHES) {
    if (name in wishes) (ours ? fields.specfuse : fields)[name] = wishes[name];
  }
  return fields;
}

/** The wishes in words: the name of a preset, or each of them. */
export function saidOf(wishes) {
  const preset = PRESETS.find((one) => same(one.wishes, wishes));
  if (preset) return [preset.name];
  return WISHES.filter(({ name }) => name in wishes).map(({ name, label, options }) => {
    const value = String(wishes[name]);
    return `${label.toLowerCase()}: ${options?.find(([one]) => one === value)?.[1] ?? value}`;
  });
}

function valueOf(wish, value, path) {
  if (wish.options) {
    const said = String(value);
    if (!wish.options.some(([one]) => one === said)) throw new Misshapen(path, "is not among what can be chosen");
    return wish.options === YES_OR_NO ? said === "true" : said;
  }
  const number = typeof value === "number" ? value : Number(String(value).trim());
  const fits = Number.isFinite(number) && number >= wish.least && number <= wish.most;
  if (!fits || (wish.step === 1 && !Number.isInteger(number))) {
    const what = wish.step === 1 ? "a whole number" : "a number";
    throw new Misshapen(path, `must be ${what} from ${wish.least} to ${wish.most}`);
  }
  return number;
}

function same(one, other) {
  return WISHES.every(({ name }) => one[name] === other[name]);
}
