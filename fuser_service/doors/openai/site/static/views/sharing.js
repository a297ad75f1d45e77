/** Traces in and out of the page: saved, shared, opened, dropped, pasted. */

import { MOST_BYTES } from "../tracefile.js";

const NAME = "specfuse-trace.json";
const TYPE = "application/json";

/** Has the browser save it. */
export function save(content) {
  const url = URL.createObjectURL(new Blob([content], { type: TYPE }));
  const link = document.createElement("a");
  link.href = url;
  link.download = NAME;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Whether there is any way to share from here; browsers have none where there is no TLS. */
export function canShare() {
  return Boolean(navigator.canShare?.({ files: [fileOf("{}")] }) || navigator.clipboard);
}

/** Hands it to another program, or to the clipboard. Returns what to say of it, if anything. */
export async function share(content) {
  const files = [fileOf(content)];
  try {
    if (navigator.canShare?.({ files })) {
      await navigator.share({ files });
      return "";
    }
    await navigator.clipboard.writeText(content);
    return "The trace is copied. Whoever pastes it onto this page sees what you see.";
  } catch (error) {
    return error.name === "AbortError" ? "" : "The browser did not let it be shared. Save it instead.";
  }
}

/** Tells `opened` the content of every trace that is dropped on the page, pasted, or chosen. */
export function receive(chooser, opened, failed) {
  const take = (file) => {
    if (file.size > MOST_BYTES) failed(`The file has ${file.size} bytes; a trace has at most ${MOST_BYTES}.`);
    else file.text().then(opened, () => failed("The file cannot be read."));
  };
  chooser.addEventListener("change", () => {
    if (chooser.files.length) take(chooser.files[0]);
    chooser.value = "";
  });
  document.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea, select")) return;
    const content = event.clipboardData.getData("text/plain");
    if (content.trim()) opened(content);
  });
}

function fileOf(content) {
  return new File([content], NAME, { type: TYPE });
}
