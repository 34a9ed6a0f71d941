// The picture by WebRTC. Its frames say nothing about when they were captured: the program tells
// that beside them, for the stamp of each, and only a frame whose age is known counts as shown.

import { now } from "./page.js";

const VOTES = 5;
const RECENT = 30; // frames among which the origin of the time stamps is looked for
const KEPT = 300; // stamps that are remembered: a frame that comes later than so many is too old
const CONNECT_S = 10;
const LATE_S = 3; // without a frame for so long, while the program sends some, the track is frozen

export class Peer {
  static supported = "RTCPeerConnection" in window
    && "requestVideoFrameCallback" in HTMLVideoElement.prototype;

  // onFrame(captured) is called when a frame is on the screen; captured is null for a notice
  constructor(video, onFrame) {
    Object.assign(this, { video, onFrame, failed: false, carries: false, origin: null });
    this.began = now();
    this.waiting = null; // since when the program has sent something that is not on the screen yet
    this.captured = new Map(); // stamp -> time of capture by this page's clock
    this.shown = []; // RTP time stamps of the last frames on the screen
    this.votes = new Map();
    this.connection = new RTCPeerConnection();
    const { receiver } = this.connection.addTransceiver("video", { direction: "recvonly" });
    receiver.jitterBufferTarget = 0; // rather a frame lost than a late one
    this.connection.onconnectionstatechange = () => {
      if (["failed", "closed"].includes(this.connection.connectionState)) this.failed = true;
    };
    video.srcObject = new MediaStream([receiver.track]);
    video.hidden = false;
    video.requestVideoFrameCallback((_, frame) => this.show(frame));
  }

  async offer() {
    await this.connection.setLocalDescription();
    return this.connection.localDescription.sdp;
  }

  async answer(sdp) {
    try {
      if (!sdp) throw new Error("refused");
      await this.connection.setRemoteDescription({ type: "answer", sdp });
    } catch {
      this.failed = true;
    }
  }

  // the program has sent a frame with this stamp
  note(stamp, captured) {
    this.captured.set(stamp, captured);
    if (this.captured.size > KEPT) this.captured.delete(this.captured.keys().next().value);
    for (const rtp of this.shown) this.vote(rtp, stamp);
    this.waiting ??= now();
    const last = this.shown.at(-1);
    if (this.origin !== null && (last - this.origin) >>> 0 === stamp) this.count(stamp);
  }

  show({ rtpTimestamp }) {
    if (this.failed) return;
    this.video.requestVideoFrameCallback((_, frame) => this.show(frame));
    if (rtpTimestamp === undefined) {
      this.failed = true; // a browser that does not tell: its picture's age would be unknown
      return;
    }
    this.shown.push(rtpTimestamp);
    if (this.shown.length > RECENT) this.shown.shift();
    for (const stamp of [...this.captured.keys()].slice(-RECENT)) this.vote(rtpTimestamp, stamp);
    if (this.origin !== null) this.count((rtpTimestamp - this.origin) >>> 0);
  }

  // A frame's RTP time stamp is its stamp plus a number that was drawn once. No two gaps between
  // stamps are alike, so the number is the one difference that keeps coming back.
  vote(rtp, stamp) {
    if (this.origin !== null) return;
    const difference = (rtp - stamp) >>> 0;
    const votes = (this.votes.get(difference) ?? 0) + 1;
    this.votes.set(difference, votes);
    if (votes < VOTES) return;
    this.origin = difference;
    this.votes.clear();
  }

  count(stamp) {
    if (!this.captured.has(stamp)) return; // its age is not known, or not yet
    this.carries = true;
    this.waiting = null;
    this.onFrame(this.captured.get(stamp));
  }

  get ended() {
    const late = this.carries ? this.waiting !== null && now() - this.waiting > LATE_S
      : now() - this.began > CONNECT_S;
    return this.failed || late;
  }

  close() {
    this.failed = true;
    this.connection.close();
    this.video.srcObject = null;
    this.video.hidden = true;
  }
}
