// A line chart of the last minute on a canvas: a few lines, gaps where nothing is known.

const SPAN_S = 60;
const GAP_S = 2.5; // points further apart are not joined: nothing is known in between
const FONT = "12px system-ui, sans-serif";
const QUIET = "#9fadba";
const GRID = "#222b34";

export class Chart {
  // lines: [{colour, dash}]; top: the least upper end of the scale; fixed: whether it never grows
  constructor(canvas, { lines, top, fixed = false, format }) {
    Object.assign(this, { canvas, lines, top, fixed, format });
    this.points = []; // [seconds, value or null of each line]
  }

  add(seconds, values) {
    this.points.push([seconds, ...values]);
    while (this.points[0][0] < seconds - SPAN_S - GAP_S) this.points.shift();
  }

  // the values of one line within the minute
  values(line, now) {
    return this.points.filter((p) => p[0] > now - SPAN_S && p[line + 1] !== null)
      .map((p) => p[line + 1]);
  }

  draw(now) {
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);

    const top = this.scaleTop(now);
    const left = 38, right = width - 6, upper = 9, lower = height - 19;
    const x = (t) => right - ((now - t) / SPAN_S) * (right - left);
    const y = (v) => lower - (Math.min(v, top) / top) * (lower - upper);

    pen.font = FONT;
    pen.fillStyle = QUIET;
    pen.strokeStyle = GRID;
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const value of [0, top / 2, top]) {
      const row = Math.round(y(value)) + 0.5;
      pen.beginPath();
      pen.moveTo(left, row);
      pen.lineTo(right, row);
      pen.stroke();
      pen.fillText(this.format(value), left - 5, row);
    }
    pen.textBaseline = "alphabetic";
    for (const [ago, align, words] of [[60, "left", "−60 s"], [30, "center", "−30 s"], [0, "right", "now"]]) {
      pen.textAlign = align;
      pen.fillText(words, x(now - ago), height - 5);
    }

    pen.save();
    pen.beginPath();
    pen.rect(left, 0, right - left, height);
    pen.clip();
    this.lines.forEach((line, index) => this.stroke(pen, line, index + 1, x, y));
    pen.restore();
  }

  stroke(pen, { colour, dash = [] }, column, x, y) {
    pen.beginPath();
    let before = null;
    for (const point of this.points) {
      const value = point[column];
      if (value === null) {
        before = null;
        continue;
      }
      if (before === null || point[0] - before > GAP_S) {
        pen.moveTo(x(point[0]) - 0.5, y(value)); // a lone point is seen as a dot
      }
      pen.lineTo(x(point[0]), y(value));
      before = point[0];
    }
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.setLineDash(dash);
    pen.stroke();
    pen.setLineDash([]);
  }

  // a round number above everything; one wild value is cut off, not all flattened
  scaleTop(now) {
    if (this.fixed) return this.top;
    const all = this.lines.flatMap((_, index) => this.values(index, now)).sort((a, b) => a - b);
    const high = Math.max(this.top, 1.15 * (all[Math.floor(0.99 * (all.length - 1))] || 0));
    const power = 10 ** Math.floor(Math.log10(high));
    return [1, 1.5, 2, 3, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= high * 0.999);
  }
}
