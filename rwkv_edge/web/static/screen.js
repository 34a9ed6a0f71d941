// What stands on the screen about the picture, judged by the page's own clock.

import { byPeer } from "./carrier.js";
import { SLIDERS, best, get, known, now, setText } from "./page.js";

const LATE_S = 0.3; // a live picture older than this says how old it is
const SILENCE_S = 2.5; // the program sends at least a state every second
const ICONS = ["live", "stalled", "no-signal", "reconnecting", "frozen"];

// What may be said about the picture at this moment.
function condition() {
  const { status } = known;
  const age = known.captured === null ? null : now() - known.captured;
  const silence = age === null ? "No picture yet" : `No new picture for ${seconds(age)}`;
  if (known.refused) {
    return { icon: "no-signal", name: "NO ACCESS", detail: "open the address that the program printed at its last start", silence };
  }
  if (known.heard === null) return { icon: "reconnecting", name: "CONNECTING", detail: "", silence };
  if (now() - known.heard > SILENCE_S) {
    return { icon: "reconnecting", name: "RECONNECTING", detail: `the program has not answered for ${seconds(now() - known.heard)}`, silence };
  }
  if (status.signal !== "LIVE") {
    const details = { STALLED: "pictures stopped coming", "NO SIGNAL": "nothing comes from the source", RECONNECTING: "opening the source again" };
    if (status.signal === "ENDED") return { icon: "no-signal", name: "ENDED", detail: "the file is at its end", silence };
    return { icon: status.signal.toLowerCase().replace(" ", "-"), name: status.signal, detail: details[status.signal] ?? "", silence };
  }
  if (status.view.frozen) {
    return { icon: "frozen", name: "FROZEN", detail: "this picture is held" };
  }
  if (age === null || age > status.patience) return { icon: "stalled", name: "STALLED", detail: "pictures stopped coming", silence };
  if (!status.valid) return { icon: "live", name: "LIVE", detail: "the network's output is invalid and not shown" };
  if (status.latency_ms === null) return { icon: "live", name: "LIVE", detail: "without a mask: none is fresh enough" };
  return { icon: "live", name: "LIVE", detail: known.late > LATE_S ? `${known.late.toFixed(1)} s behind` : "" };
}

const seconds = (value) => (value < 120 ? `${Math.floor(value)} s` : `${Math.floor(value / 60)} min`);

export function show() {
  const { icon, name, detail, silence } = condition();
  const view = get("view");
  const stale = silence !== undefined;
  view.classList.toggle("stale", stale);
  view.dataset.state = ICONS.includes(icon) ? icon : "stalled";
  setText("state", name);
  setText("detail", detail);
  setText("silence", silence ?? "");
  get("banner-icon").setAttribute("href", `#icon-${view.dataset.state}`);
  document.title = `${name} – rwkv-edge`;

  const status = known.status;
  const shown = stale ? null : status; // numbers of a picture that is gone are gone too
  const found = status?.findings?.length ?? 0;
  setText("confidence-now", shown && best(shown) !== null ? best(shown).toFixed(2) : "–");
  setText("age", shown && !shown.view.frozen ? (1000 * (now() - known.captured)).toFixed(0) : "–");
  setText("fps", shown ? shown.fps.toFixed(shown.fps < 10 ? 1 : 0) : "–");
  setText("dropped", status?.dropped === undefined ? "–" : String(status.dropped));
  setText("backend", status?.backend ?? "");
  get("backend").title = status?.backend ?? "";
  setText("carrier", byPeer() ? "WebRTC" : get("mjpeg").hidden ? "WebSocket" : "MJPEG");
  get("picture").hidden = byPeer() || !get("mjpeg").hidden;
  const words = found ? `${found} ${found === 1 ? "finding" : "findings"} marked` : "no finding marked";
  const label = stale ? `${name}. ${silence}` : `${name === "FROZEN" ? "Held" : "Live"} picture, ${words}`;
  for (const id of ["picture", "video"]) {
    if (get(id).getAttribute("aria-label") !== label) get(id).setAttribute("aria-label", label);
  }

  const reached = known.heard !== null && now() - known.heard <= SILENCE_S && !known.refused;
  // «asked for» and «running» are two things: the disk may be full
  const wanted = status?.view?.recording;
  get("record").firstElementChild.textContent = status?.recording
    ? "Stop" : wanted ? "Starting…" : "Record";
  get("recording").hidden = !(reached && status.recording);
  for (const id of [...SLIDERS, "contour", "frozen", "record"]) get(id).disabled = !reached;
  if (status && !status.can_record) get("record").disabled = true;
  get("record").title = status && !status.can_record ? "Start the program with --record FOLDER" : "";
  get("snapshot").disabled = !reached || status.signal !== "LIVE";
}

export function showView(view) {
  for (const id of SLIDERS) {
    if (now() - (known.touched[id] ?? -9) < 1) continue;
    get(id).value = view[id];
    setText(`${id}-value`, Number(view[id]).toFixed(2));
  }
  get("contour").setAttribute("aria-pressed", view.contour);
  get("frozen").setAttribute("aria-pressed", view.frozen);
  get("record").classList.toggle("on", view.recording); // its words change, so it is no toggle
}
