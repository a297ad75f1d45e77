/** Has a run answered, or gone on with. Tells `changed` of every run that becomes of it. */

import { Refused, answer } from "./door.js";
import { Misshapen } from "./shapes.js";
import * as trace from "./trace.js";
import { fieldsOf } from "./wishes.js";

export async function carryOut(run, { question, key, signal, changed }) {
  let now = trace.goneOn(run);
  const become = (next) => {
    now = next;
    changed(now);
  };
  changed(now);
  try {
    for await (const chunk of answer(requestOf(now, question), key, signal)) {
      become(trace.withChunk(now, chunk));
    }
    become(trace.ended(now));
  } catch (error) {
    become(trace.interrupted(now, reasonOf(error, signal)));
  }
}

function requestOf(run, question) {
  const { specfuse, ...beside } = fieldsOf(run.wishes);
  const resume = trace.resumption(run);
  return {
    model: run.ensemble,
    messages: [{ role: "user", content: question }],
    ...beside,
    specfuse: { ...specfuse, ...(resume && { resume }), trace: true },
  };
}

function reasonOf(error, signal) {
  if (signal.aborted) return { message: "You stopped it.", code: "stopped" };
  if (error instanceof Refused) return error;
  if (error instanceof Misshapen || error instanceof SyntaxError) {
    return { message: `The fuser sent what this page does not understand: ${error.message}`, code: "not_understood" };
  }
  throw error;
}
