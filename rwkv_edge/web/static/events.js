// The list of events: the program's, and what this page has to say itself.

import { get } from "./page.js";

const KEPT_EVENTS = 200;

let last = 0; // number of the program's newest event in the list
let loading = false;

export async function loadEvents(newest) {
  if (loading || newest === last) return;
  loading = true;
  try {
    if (newest < last) { // the program was started anew
      last = 0;
      get("events").replaceChildren();
    }
    const answer = await fetch(`/events?after=${last}`);
    if (answer.ok) {
      const events = await answer.json();
      addEvents(events);
      if (events.length) last = events[events.length - 1].id;
    }
  } catch {
    // the next state brings another try
  } finally {
    loading = false;
  }
}

export const addError = (text) => addEvents([{ time: Date.now() / 1000, kind: "error", text }]);

function addEvents(events) {
  const list = get("events");
  for (const event of events) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    const text = document.createElement("span");
    item.className = event.kind;
    time.textContent = new Date(event.time * 1000).toLocaleTimeString([], { hour12: false });
    text.textContent = event.text;
    item.append(time, text);
    list.prepend(item);
  }
  while (list.children.length > KEPT_EVENTS) list.lastChild.remove();
}
