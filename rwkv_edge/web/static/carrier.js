// The picture by WebRTC, where the program offers it. The state still comes by the WebSocket, and
// the picture, too, whenever this does not bring it.

import { get, known, now, takePicture } from "./page.js";
import { Peer } from "./webrtc.js";

const RETRY_S = [30, 300]; // when it is tried again, at first and at most

let peer = null;
let rest = 0; // how long to wait before the next try
let after = 0;

export const byPeer = () => peer !== null && peer.carries && !peer.ended;

// onFrame() is called when a frame is on the screen
export function keepPeer(socket, onFrame) {
  if (peer?.ended) endPeer(Math.min(Math.max(2 * rest, RETRY_S[0]), RETRY_S[1]));
  if (peer || !known.status?.webrtc || !Peer.supported) return;
  if (document.hidden || now() < after) return;
  const canvas = get("picture");
  peer = new Peer(get("video"), (captured) => {
    if (!canvas.hidden) canvas.width = canvas.width; // empty, lest an old picture come back with it
    if (captured !== null) takePicture(captured);
    onFrame();
  });
  peer.offer().then((sdp) => socket.send(sdp)).catch(() => { if (peer) peer.failed = true; });
}

export function endPeer(wait) {
  peer?.close();
  peer = null;
  rest = wait;
  after = now() + wait;
}

export const answerPeer = (sdp) => peer?.answer(sdp);

// the program has sent a frame with this stamp
export const notePeer = (stamp, captured) => peer?.note(stamp, captured);

// a hidden page gets no frames of a video, and costs the program no encoder
document.addEventListener("visibilitychange", () => endPeer(0));
