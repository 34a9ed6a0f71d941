// The page: takes pictures and states from the program, shows them, and never an old one as new.

import { Chart } from "./chart.js";
import { Peer } from "./webrtc.js";

const LATE_S = 0.3; // a live picture older than this says how old it is
const SILENCE_S = 2.5; // the program sends at least a state every second
const STEP = 0.05;
const SLIDERS = ["confidence", "fill"];
const ICONS = ["live", "stalled", "no-signal", "reconnecting", "frozen"];
const KEPT_EVENTS = 200;
const PEER_RETRY_S = [30, 300]; // when WebRTC is tried again, at first and at most

const get = (id) => document.getElementById(id);
const now = () => performance.now() / 1000;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const known = {
  status: null,
  captured: null, // when the picture on the screen was captured, by this page's clock, in seconds
  late: 0, // its age when it came on the screen
  heard: null, // when the program last said anything
  refused: false, // the token is no longer right
  lastEvent: 0,
  touched: {}, // when a control was last moved here: what comes back meanwhile is older
};

const charts = {
  latency: new Chart(get("latency-chart"), {
    lines: [{ colour: "#6cc0ff" }, { colour: "#f0b429", dash: [4, 3] }],
    top: 50,
    format: (value) => value.toFixed(0),
  }),
  confidence: new Chart(get("confidence-chart"), {
    lines: [{ colour: "#3ddbaa" }, { colour: "#9fadba", dash: [4, 3] }],
    top: 1,
    fixed: true,
    format: (value) => value.toFixed(1),
  }),
};

// ---- from the program -------------------------------------------------------------------------

const decoder = new TextDecoder();
let socketFailures = 0;

function openSocket() {
  if (!("WebSocket" in window) || socketFailures >= 3) return openMjpeg();
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  let opened = false;
  socket.onopen = () => {
    opened = true;
    socketFailures = 0;
  };
  socket.onmessage = async ({ data }) => {
    if (typeof data === "string") return peer?.answer(data);
    try {
      await takeMessage(data);
    } catch (error) {
      addEvents([localEvent(`a picture could not be shown: ${error.message}`)]);
    }
    if (socket.readyState !== WebSocket.OPEN) return;
    keepPeer(socket);
    socket.send(byPeer() ? "state" : "shown"); // now the next one may come
  };
  socket.onclose = async () => {
    endPeer(0);
    const answered = await askStatus();
    if (!opened && answered) socketFailures += 1; // the program is there, but no WebSocket gets through
    setTimeout(openSocket, 500 + 1000 * Math.random());
  };
}

async function takeMessage(data) {
  const heard = now();
  const head = new DataView(data);
  const age = head.getFloat64(0, true);
  const length = head.getUint32(8, true);
  const status = JSON.parse(decoder.decode(new Uint8Array(data, 12, length)));
  const jpeg = new Uint8Array(data, 12 + length);
  if (jpeg.length) {
    const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    const canvas = get("picture");
    if (canvas.width !== bitmap.width) canvas.width = bitmap.width;
    if (canvas.height !== bitmap.height) canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }
  const captured = status.signal === "LIVE" ? heard - age : null; // else it is a notice, no picture
  if (status.stamp !== undefined) peer?.note(status.stamp, captured);
  if (jpeg.length && captured !== null && !byPeer()) takePicture(captured);
  takeStatus(status, heard, status.stamp !== undefined);
}

// ---- by WebRTC, where the program offers it; the state still comes by the WebSocket, and the
// picture, too, whenever that does not bring it

let peer = null;
let peerRest = 0; // how long to wait before the next try
let peerAfter = 0;

const byPeer = () => peer !== null && peer.carries && !peer.ended;

function keepPeer(socket) {
  if (peer?.ended) endPeer(Math.min(Math.max(2 * peerRest, PEER_RETRY_S[0]), PEER_RETRY_S[1]));
  if (peer || !known.status?.webrtc || !Peer.supported) return;
  if (document.hidden || now() < peerAfter) return;
  const canvas = get("picture");
  peer = new Peer(get("video"), (captured) => {
    if (!canvas.hidden) canvas.width = canvas.width; // empty, lest an old picture come back with it
    if (captured !== null) takePicture(captured);
    show();
  });
  peer.offer().then((sdp) => socket.send(sdp)).catch(() => { if (peer) peer.failed = true; });
}

function endPeer(rest) {
  peer?.close();
  peer = null;
  peerRest = rest;
  peerAfter = now() + rest;
}

// a hidden page gets no frames of a video, and costs the program no encoder
document.addEventListener("visibilitychange", () => endPeer(0));

// a picture is on the screen from now on
function takePicture(captured) {
  known.captured = captured;
  known.late = now() - captured;
}

// Without WebSockets the browser plays the pictures, and the state is asked for beside them.
function openMjpeg() {
  const image = get("mjpeg");
  image.hidden = false;
  const play = () => { image.src = `/stream.mjpg?${Date.now()}`; };
  image.onerror = () => setTimeout(play, 1500);
  play();
  let last = 0;
  let silent = false;
  setInterval(async () => {
    const answered = await askStatus((status, heard) => {
      const fresh = status.frame !== last && status.signal === "LIVE";
      last = status.frame;
      if (fresh) takePicture(heard - status.age);
      return fresh;
    });
    if (answered && silent) play(); // the stream broke off with the program
    silent = !answered;
  }, 250);
}

async function askStatus(isFresh = () => false) {
  try {
    const answer = await fetch("/status", { signal: AbortSignal.timeout(3000) });
    known.refused = answer.status === 401;
    if (!answer.ok) return false;
    const heard = now();
    const status = await answer.json();
    takeStatus(status, heard, isFresh(status, heard));
    return true;
  } catch {
    return false; // the program is away; the banner says so by the page's own clock
  }
}

function takeStatus(status, heard, fresh) {
  known.status = status;
  known.heard = heard;
  known.refused = false;
  if (fresh && status.signal === "LIVE" && !status.view.frozen) {
    charts.latency.add(heard, [1000 * known.late, status.latency_ms]);
    charts.confidence.add(heard, [best(status), status.view.confidence]);
  }
  if (status.events !== known.lastEvent) loadEvents(status.events);
  showView(status.view);
  show();
}

const best = (status) => (status.findings?.length
  ? Math.max(...status.findings.map((finding) => finding.confidence)) : null);

// ---- on the screen ----------------------------------------------------------------------------

// What may be said about the picture at this moment, judged by the page's own clock.
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

function show() {
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

function setText(id, words) {
  const element = get(id);
  if (element.textContent !== words) element.textContent = words; // else it is announced again
}

function showView(view) {
  for (const id of SLIDERS) {
    if (now() - (known.touched[id] ?? -9) < 1) continue;
    get(id).value = view[id];
    setText(`${id}-value`, Number(view[id]).toFixed(2));
  }
  get("contour").setAttribute("aria-pressed", view.contour);
  get("frozen").setAttribute("aria-pressed", view.frozen);
  get("record").classList.toggle("on", view.recording); // its words change, so it is no toggle
}

let drawn = 0;
setInterval(() => {
  show();
  const interval = calm.matches ? 1 : 0.25;
  if (document.hidden || now() - drawn < interval) return;
  drawn = now();
  charts.latency.draw(drawn);
  charts.confidence.draw(drawn);
}, 125);

// for those who do not see the charts
setInterval(() => {
  const ages = charts.latency.values(0, now()).sort((a, b) => a - b);
  const confidences = charts.confidence.values(0, now());
  get("latency-chart").setAttribute("aria-label", ages.length
    ? `Age when shown over the last minute: median ${ages[ages.length >> 1].toFixed(0)}, worst ${ages[ages.length - 1].toFixed(0)} milliseconds`
    : "Latency over the last minute: no pictures");
  get("confidence-chart").setAttribute("aria-label", confidences.length
    ? `Confidence of the best finding over the last minute: ${Math.min(...confidences).toFixed(2)} to ${Math.max(...confidences).toFixed(2)}`
    : "Confidence over the last minute: no finding");
}, 5000);

// ---- events -----------------------------------------------------------------------------------

let loading = false;

async function loadEvents(newest) {
  if (loading) return;
  loading = true;
  try {
    if (newest < known.lastEvent) { // the program was started anew
      known.lastEvent = 0;
      get("events").replaceChildren();
    }
    const answer = await fetch(`/events?after=${known.lastEvent}`);
    if (answer.ok) {
      const events = await answer.json();
      addEvents(events);
      if (events.length) known.lastEvent = events[events.length - 1].id;
    }
  } catch {
    // the next state brings another try
  } finally {
    loading = false;
  }
}

const localEvent = (text) => ({ time: Date.now() / 1000, kind: "error", text });

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

// ---- controls ---------------------------------------------------------------------------------

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
    addEvents([localEvent(`a setting was not changed: ${error.message}`)]);
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

openSocket();
