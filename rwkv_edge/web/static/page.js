// What the parts of the page share: what is known, the elements, the clock.

export const SLIDERS = ["confidence", "fill"];

export const known = {
  status: null,
  captured: null, // when the picture on the screen was captured, by this page's clock, in seconds
  late: 0, // its age when it came on the screen
  heard: null, // when the program last said anything
  refused: false, // the token is no longer right
  touched: {}, // when a control was last moved here: what comes back meanwhile is older
};

export const get = (id) => document.getElementById(id);
export const now = () => performance.now() / 1000;

// a picture is on the screen from now on
export function takePicture(captured) {
  known.captured = captured;
  known.late = now() - captured;
}

export const best = (status) => (status.findings?.length
  ? Math.max(...status.findings.map((finding) => finding.confidence)) : null);

export function setText(id, words) {
  const element = get(id);
  if (element.textContent !== words) element.textContent = words; // else it is announced again
}
