// The charts of the last minute, and the same in words.

import { Chart } from "./chart.js";
import { best, get, known, now } from "./page.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

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

export function addToCharts(status, heard) {
  charts.latency.add(heard, [1000 * known.late, status.latency_ms]);
  charts.confidence.add(heard, [best(status), status.view.confidence]);
}

let drawn = 0;

export function drawCharts() {
  const interval = calm.matches ? 1 : 0.25;
  if (document.hidden || now() - drawn < interval) return;
  drawn = now();
  charts.latency.draw(drawn);
  charts.confidence.draw(drawn);
}

// for those who do not see the charts
export function describeCharts() {
  const ages = charts.latency.values(0, now()).sort((a, b) => a - b);
  const confidences = charts.confidence.values(0, now());
  get("latency-chart").setAttribute("aria-label", ages.length
    ? `Age when shown over the last minute: median ${ages[ages.length >> 1].toFixed(0)}, worst ${ages[ages.length - 1].toFixed(0)} milliseconds`
    : "Latency over the last minute: no pictures");
  get("confidence-chart").setAttribute("aria-label", confidences.length
    ? `Confidence of the best finding over the last minute: ${Math.min(...confidences).toFixed(2)} to ${Math.max(...confidences).toFixed(2)}`
    : "Confidence over the last minute: no finding");
}
