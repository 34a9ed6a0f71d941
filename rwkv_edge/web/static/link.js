// What comes from the program: pictures and states, by a WebSocket or, without one, as MJPEG.

import { answerPeer, byPeer, endPeer, keepPeer, notePeer } from "./carrier.js";
import { addToCharts } from "./charts.js";
import { addError, loadEvents } from "./events.js";
import { get, known, now, takePicture } from "./page.js";
import { show, showView } from "./screen.js";

const decoder = new TextDecoder();
const HEAD_BYTES = 20;
let socketFailures = 0;
let asked = 0; // when, by the page's clock, the picture that comes next was asked for

export function openSocket() {
  if (!("WebSocket" in window) || socketFailures >= 3) return openMjpeg();
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/live`);
  socket.binaryType = "arraybuffer";
  let opened = false;
  socket.onopen = () => {
    opened = true;
    asked = now();
    socketFailures = 0;
  };
  socket.onmessage = async ({ data }) => {
    if (typeof data === "string") return answerPeer(data);
    try {
      await takeMessage(data);
    } catch (error) {
      addError(`a picture could not be shown: ${error.message}`);
    }
    if (socket.readyState !== WebSocket.OPEN) return;
    keepPeer(socket, show);
    asked = now();
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
  const waited = head.getFloat64(8, true);
  // of the time since it was asked for, what was no wait at the program is the way, there and back
  const age = head.getFloat64(0, true) + Math.max(0, heard - asked - waited);
  const length = head.getUint32(16, true);
  const status = JSON.parse(decoder.decode(new Uint8Array(data, HEAD_BYTES, length)));
  const jpeg = new Uint8Array(data, HEAD_BYTES + length);
  if (jpeg.length) {
    const bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
    const canvas = get("picture");
    if (canvas.width !== bitmap.width) canvas.width = bitmap.width;
    if (canvas.height !== bitmap.height) canvas.height = bitmap.height;
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }
  const captured = status.signal === "LIVE" ? heard - age : null; // else it is a notice, no picture
  if (status.stamp !== undefined) notePeer(status.stamp, captured);
  if (jpeg.length && captured !== null && !byPeer()) takePicture(captured);
  takeStatus(status, heard, status.stamp !== undefined);
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
    addToCharts(status, heard);
  }
  loadEvents(status.events);
  showView(status.view);
  show();
}
