"use strict";
// Line charts by uPlot, with bands, marks that never hide each other, values to read with keys, and a table behind each.

const MARKERS = ["circle", "square", "up", "diamond", "down", "left", "right", "cross"];
const DASHES = [[], [7, 4], [2, 3], [7, 3, 2, 3]];
const NUM_COLORS = 8;
const charts = new Set();

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function colorOf(style) {
  return css(known(style.color) ? `--series-${style.color % NUM_COLORS}` : "--plain");
}

function tracePath(context, shape, x, y, r) {
  context.beginPath();
  const points = {
    square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    up: [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]],
    down: [[0, 1.2], [1.1, -0.9], [-1.1, -0.9]],
    left: [[-1.2, 0], [0.9, -1.1], [0.9, 1.1]],
    right: [[1.2, 0], [-0.9, -1.1], [-0.9, 1.1]],
    diamond: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
    cross: [[-0.4, -1.1], [0.4, -1.1], [0.4, -0.4], [1.1, -0.4], [1.1, 0.4], [0.4, 0.4], [0.4, 1.1], [-0.4, 1.1],
      [-0.4, 0.4], [-1.1, 0.4], [-1.1, -0.4], [-0.4, -0.4]],
  }[shape];
  if (!points) context.arc(x, y, r, 0, 2 * Math.PI);
  else points.forEach(([dx, dy], i) => context[i ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
  context.closePath();
}

// The sample of a legend, drawn as the chart draws the line.
function swatch(style) {
  const canvas = el("canvas", { width: 72, height: 28, class: "swatch", "aria-hidden": "true" });
  const draw = () => {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, 72, 28);
    context.strokeStyle = colorOf(style);
    context.lineWidth = 3.4;
    context.setLineDash(DASHES[style.dash % DASHES.length].map((part) => part * 2));
    context.beginPath();
    context.moveTo(0, 14);
    context.lineTo(72, 14);
    context.stroke();
    context.setLineDash([]);
    tracePath(context, MARKERS[style.marker % MARKERS.length], 36, 14, 8);
    context.fillStyle = css("--surface");
    context.fill();
    context.stroke();
  };
  draw();
  charts.add({ node: canvas, redraw: draw, resize() {} });
  return canvas;
}

// One legend for all charts of a section. Its buttons hide and show lines.
function legend(series, hidden, onChange) {
  const items = series.map(({ label, style }) => {
    const button = el("button", { type: "button", "aria-pressed": String(!hidden.has(label)) }, swatch(style), label);
    button.addEventListener("click", () => {
      if (!hidden.delete(label)) hidden.add(label);
      button.setAttribute("aria-pressed", String(!hidden.has(label)));
      onChange();
    });
    return el("li", {}, button);
  });
  return el("ul", { class: "legend", "aria-label": "Lines: press one to hide or show it" }, ...items);
}

// options: title, xTitle, series [{label, style, points: [{x, y, low, high}]}], ticks [[x, text]], dodge (how far apart
// marks at one x are spread), isZeroBased, reference, format, markers (true, false or "staggered"), xRange, height
function lineChart(options) {
  const { title, xTitle, series, ticks, format = short, markers = true } = options;
  const shown = series.filter((one) => one.points.some((point) => known(point.y)));
  if (!shown.length) return el("figure", { class: "chart" }, el("figcaption", {}, title), nothing("Nothing to show."));
  const width = shown.length > 1 ? options.dodge ?? 0 : 0;
  const spread = Math.max(12, 3 * shown.length); // lines that coincide have their marks at different places
  shown.forEach((one, i) => {
    one.shift = width ? width * (i / (shown.length - 1) - 0.5) : 0;
  });
  const xs = [...new Set(shown.flatMap((one) => one.points.map((point) => point.x + one.shift)))].sort((a, b) => a - b);
  const at = new Map(xs.map((x, i) => [x, i]));
  const data = [xs, ...shown.map((one) => {
    const values = new Array(xs.length).fill(null);
    for (const point of one.points) values[at.get(point.x + one.shift)] = point.y;
    return values;
  })];
  const ends = shown.flatMap((one) => one.points.flatMap((p) => [p.y, p.low, p.high])).filter(known);
  if (known(options.reference)) ends.push(options.reference);
  if (options.isZeroBased) ends.push(0);
  const [least, most] = [Math.min(...ends), Math.max(...ends)];
  const pad = (most - least || Math.abs(most) || 1) * 0.06;
  const range = [options.isZeroBased && least >= 0 ? 0 : least - pad, most + pad];
  const xRange = options.xRange ?? [ticks[0][0] - 0.5, ticks[ticks.length - 1][0] + 0.5];
  const texts = new Map(ticks);
  const axis = { stroke: () => css("--muted"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { show: false },
    font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelGap: 2, labelSize: 20 };

  const readout = el("output", { class: "readout" }, "");
  const box = el("div", { class: "plot", tabindex: "0", role: "group",
    "aria-label": `${title}. Left and right arrow keys read the values; the table below has all of them.` });
  box.style.minHeight = `${(options.height ?? 270) + 16}px`; // what is below stays where it is when the chart is made
  const name = (x) => texts.get(x) ?? short(x);

  function tell(index) {
    const here = shown.flatMap((one) =>
      one.points.filter((p) => at.get(p.x + one.shift) === index && known(p.y)).map((p) => ({ one, p })));
    if (!here.length) return;
    const values = here.map(({ one, p }) => `${one.label} ${format(p.y)}` +
      (known(p.low) ? ` [${format(p.low)}, ${format(p.high)}]` : ""));
    readout.textContent = `${xTitle} ${name(here[0].p.x)}: ${values.join(" · ")}`;
  }

  function decorate(u) {
    const context = u.ctx;
    const ratio = uPlot.pxRatio;
    const px = (x, y) => [u.valToPos(x, "x", true), u.valToPos(y, "y", true)];
    context.save();
    context.beginPath();
    context.rect(u.bbox.left - 9 * ratio, u.bbox.top - 9 * ratio, u.bbox.width + 18 * ratio, u.bbox.height + 18 * ratio);
    context.clip();
    for (const one of shown) {
      const color = colorOf(one.style);
      const whole = one.points.filter((p) => known(p.y) && known(p.low) && known(p.high));
      context.strokeStyle = context.fillStyle = color;
      if (whole.length > 1) {
        context.globalAlpha = 0.1;
        context.beginPath();
        whole.forEach((p, i) => context[i ? "lineTo" : "moveTo"](...px(p.x + one.shift, p.high)));
        [...whole].reverse().forEach((p) => context.lineTo(...px(p.x + one.shift, p.low)));
        context.fill();
        context.globalAlpha = 1;
      }
      context.lineWidth = 1.2 * ratio;
      for (const p of whole) {
        const [x, top] = px(p.x + one.shift, p.high);
        const [, bottom] = px(p.x + one.shift, p.low);
        context.beginPath();
        context.moveTo(x, top);
        context.lineTo(x, bottom);
        for (const y of [top, bottom]) {
          context.moveTo(x - 3 * ratio, y);
          context.lineTo(x + 3 * ratio, y);
        }
        context.stroke();
      }
      const isMarked = markers === "staggered" ? (_, i) => (i + 3 * shown.indexOf(one)) % spread === 0 : () => markers;
      context.lineWidth = 1.7 * ratio;
      for (const p of one.points.filter((point) => known(point.y)).filter(isMarked)) {
        tracePath(context, MARKERS[one.style.marker % MARKERS.length], ...px(p.x + one.shift, p.y), 4 * ratio);
        context.fillStyle = css("--surface");
        context.fill();
        context.stroke();
      }
    }
    context.restore();
  }

  function reference(u) {
    if (!known(options.reference)) return;
    const y = u.valToPos(options.reference, "y", true);
    u.ctx.save();
    u.ctx.strokeStyle = css("--muted");
    u.ctx.lineWidth = uPlot.pxRatio;
    u.ctx.setLineDash([4 * uPlot.pxRatio, 4 * uPlot.pxRatio]);
    u.ctx.beginPath();
    u.ctx.moveTo(u.bbox.left, y);
    u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
    u.ctx.stroke();
    u.ctx.restore();
  }

  const make = () => {
    const u = new uPlot({
      width: Math.max(box.clientWidth, 200), height: options.height ?? 270, legend: { show: false },
      cursor: { drag: { x: false, y: false }, y: false, points: { show: false } },
      scales: { x: { time: false, range: () => xRange }, y: { range: () => range } },
      series: [{}, ...shown.map((one) => ({ label: one.label, stroke: () => colorOf(one.style), width: 1.7, spanGaps: true,
        dash: DASHES[one.style.dash % DASHES.length], points: { show: false } }))],
      axes: [
        { ...axis, label: xTitle, size: 30, splits: () => ticks.map(([x]) => x), values: (_, splits) => splits.map(name) },
        { ...axis, size: 54, values: (_, splits) => splits.map(short) },
      ],
      hooks: { drawAxes: [reference], draw: [decorate], setCursor: [(plot) => known(plot.cursor.idx) && tell(plot.cursor.idx)] },
    }, data, box);
    u.root.querySelectorAll("canvas").forEach((canvas) => canvas.setAttribute("aria-hidden", "true"));
    const chart = { node: box, redraw: () => u.redraw(false), resize: (max = Infinity) =>
      box.clientWidth && u.setSize({ width: Math.min(box.clientWidth, max), height: options.height ?? 270 }) };
    charts.add(chart);
    new ResizeObserver(() => chart.resize()).observe(box);
    let index = -1;
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      index = Math.min(Math.max(index + step, 0), xs.length - 1);
      u.setCursor({ left: u.valToPos(xs[index], "x"), top: 10 });
      tell(index);
    });
  };
  whenSeen(box, make);

  const loads = [...new Set(shown.flatMap((one) => one.points.map((point) => point.x)))].sort((a, b) => a - b);
  const rows = loads.map((x) => [name(x), ...shown.map((one) => {
    const point = one.points.find((p) => p.x === x);
    return point && known(point.y) ? format(point.y) + (known(point.low) ? ` [${format(point.low)}, ${format(point.high)}]` : "") : "–";
  })]);
  const values = details("Values");
  values.addEventListener("toggle", () => values.children.length > 1 ||
    values.append(table(`${title}: values`, [xTitle, ...shown.map((one) => one.label)], rows)), { once: true });
  return el("figure", { class: "chart" }, el("figcaption", {}, title), box, readout, values);
}

// A chart is made when it is about to be seen: a page of hundreds of cells opens at once. Printing makes all of them.
const waiting = new Map();
const observer = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting && makeNow(entry.target)),
  { rootMargin: "300px" });

function whenSeen(node, make) {
  waiting.set(node, make);
  observer.observe(node);
}

function makeNow(node) {
  const make = waiting.get(node);
  waiting.delete(node);
  observer.unobserve(node);
  if (make) make();
}

function redrawCharts() {
  for (const chart of charts) {
    if (chart.node.isConnected) chart.redraw();
    else charts.delete(chart);
  }
}
