// What the viewer does: sliders, buttons and keys.

import { addError } from "./events.js";
import { SLIDERS, get, known, now, setText } from "./page.js";
import { showView } from "./screen.js";

const STEP = 0.05;

let waiting = null; // changes that wait for the request under way
let busy = false;

async function change(changes) {
  waiting = { ...waiting, ...changes };
  if (busy) return;
  busy = true;
  try {
    while (waiting) {
      const body = JSON.stringify(waiting);
      waiting = null;
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch("/controls", { method: "POST", headers, body });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      const view = await answer.json();
      if (known.status) known.status.view = view;
      showView(view);
    }
  } catch (error) {
    waiting = null;
    note(`not changed: ${error.message}`);
    addError(`a setting was not changed: ${error.message}`);
  } finally {
    busy = false;
  }
}

function slide(id, value) {
  const input = get(id);
  if (input.disabled) return;
  known.touched[id] = now();
  input.value = value; // the element keeps it within its limits
  setText(`${id}-value`, Number(input.value).toFixed(2));
  change({ [id]: Number(input.value) });
}

const toggle = (name) => known.status && change({ [name]: !known.status.view[name] });

async function saveSnapshot() {
  try {
    const answer = await fetch("/snapshot.jpg");
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))[1];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await answer.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    note(`saved ${name}`);
  } catch (error) {
    note(`no snapshot: ${error.message}`);
  }
}

let noteTimer = 0;

function note(words) {
  get("note").textContent = words;
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => { get("note").textContent = ""; }, 6000);
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else get("view").requestFullscreen?.();
}

for (const id of SLIDERS) get(id).addEventListener("input", () => slide(id, get(id).value));
get("contour").addEventListener("click", () => toggle("contour"));
get("frozen").addEventListener("click", () => toggle("frozen"));
get("record").addEventListener("click", () => toggle("recording"));
get("snapshot").addEventListener("click", saveSnapshot);
get("help-close").addEventListener("click", () => get("help").close());
get("help-open").addEventListener("click", () => get("help").showModal());

const KEYS = {
  f: () => get("frozen").click(),
  s: () => get("snapshot").click(),
  r: () => get("record").click(),
  c: () => get("contour").click(),
  "+": () => slide("confidence", Number(get("confidence").value) + STEP),
  "=": () => slide("confidence", Number(get("confidence").value) + STEP),
  "-": () => slide("confidence", Number(get("confidence").value) - STEP),
  ".": () => slide("fill", Number(get("fill").value) + STEP),
  ",": () => slide("fill", Number(get("fill").value) - STEP),
  v: toggleFullScreen,
  "?": () => get("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && "fsrcv?".includes(event.key)) return;
  if (get("help").open) return;
  const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
