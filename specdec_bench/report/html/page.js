"use strict";
// The sections of the page, in their order.

const TONES = { result: ["●", "Result"], good: ["✓", "Good sign"], open: ["?", "Open"], bad: ["!", "Distrust"] };
const SPEEDS = [["speedup_tpot", "Speedup over plain decoding (TPOT)"], ["speedup_e2e", "Speedup over plain decoding (end to end)"],
  ["speedup_throughput", "Speedup over plain decoding (throughput)"]];
const RATES = [["output_tps_per_user", "Output tokens/s per user"], ["output_tps", "Output tokens/s in all"],
  ["ttft_ms_p50", "Time to first token, median (ms)"], ["tpot_ms_mean", "Time per output token, mean (ms)"]];
const TIMES = { ttft_ms: "time to first token", tpot_ms: "time per output token", step_time_ms: "step time", e2e_ms: "end to end" };

const styles = new Map();
report.panels.forEach((panel) => panel.curves.forEach((curve) => curve.points.forEach((point) => styles.set(point.job, curve))));

function drawHeader() {
  document.title = `${report.title} – specdec_bench`;
  document.getElementById("kind").textContent = `report of ${{ run: "a run", sweep: "a sweep", archives: "several archives" }[report.kind]}`;
  document.getElementById("title").textContent = report.title;
  document.getElementById("subtitle").textContent = report.subtitle;
  const stamp = document.getElementById("stamp");
  stamp.hidden = !report.is_synthetic;
  stamp.textContent = "SYNTHETIC: no real model made these metrics";
  const links = [...document.querySelectorAll("main h2")].map((title) =>
    el("li", {}, el("a", { href: `#${title.parentElement.id}` }, title.textContent)));
  document.getElementById("contents").replaceChildren(...links);
}

function drawVerdict() {
  const group = (title, statements) => el("div", { class: "statements" }, el("h3", {}, title),
    statements.length ? el("ul", {}, ...statements.map(({ tone, text }) => el("li", { class: tone },
      el("span", { class: "tone", "aria-hidden": "true" }, TONES[tone][0]), el("span", { class: "unseen" }, `${TONES[tone][1]}: `), text)))
      : el("p", { class: "muted" }, "Nothing found."));
  const { speed, output, distrust } = report.verdict;
  fill("verdict-body", group("How fast", speed), group("Same output?", output), group("What to distrust", distrust));
}

function drawSpeed() {
  if (!report.panels.length) return fill("speed-body", nothing("No run finished, so there is no speed to show."));
  const hidden = new Set();
  const body = el("div", {});
  let panel = report.panels[0];
  let [speed, rate] = [SPEEDS[0], RATES[0]];
  const choices = (label, all, set) => select(label, all, (value) => {
    set(all.find(([name]) => name === value));
    drawCharts();
  });
  const area = el("div", { class: "charts" });
  const drawCharts = () => {
    const loads = [...new Set(panel.curves.flatMap((curve) => curve.points.map((point) => point.load)))].sort((a, b) => a - b);
    const ticks = loads.map((load, i) => [i, String(load)]);
    const chart = ([name, title], isZeroBased, reference) => lineChart({
      title, xTitle: panel.load.title, ticks, dodge: 0.32, isZeroBased, reference,
      series: panel.curves.filter((curve) => !hidden.has(curve.label)).map((curve) => ({ label: curve.label, style: curve,
        points: curve.points.filter((point) => point.values[name]).map((point) => ({ x: loads.indexOf(point.load),
          y: point.values[name].value, low: point.values[name].low, high: point.values[name].high })) })),
    });
    area.replaceChildren(chart(speed, false, 1), chart(rate, true));
  };
  const draw = () => {
    const series = panel.curves.map((curve) => ({ label: curve.label, style: curve }));
    body.replaceChildren(legend(series, hidden, drawCharts), area);
    drawCharts();
  };
  const controls = el("div", { class: "controls" });
  if (report.panels.length > 1) {
    controls.append(select("Of", report.panels.map((one, i) => [String(i), `${one.title} · ${one.load.title}`]), (value) => {
      panel = report.panels[Number(value)];
      draw();
    }).node);
  }
  controls.append(choices("Left", SPEEDS, (found) => { speed = found; }).node, choices("Right", RATES, (found) => { rate = found; }).node);
  fill("speed-body", el("p", { class: "lead" }, "Bands and bars are 95% intervals. Marks at one load stand side by side, so that methods that " +
    "coincide stay apart."), controls, body);
  draw();
}

// Figures of several methods in columns, each with a bar behind its number.
function matrix(label, first, rows, columns, value, digits = 2) {
  const all = rows.flatMap((row) => columns.map((column) => value(row, column))).filter(known);
  const most = Math.max(...all, 0);
  const cells = rows.map((row) => [row.label, ...columns.map((column) => {
    const found = value(row, column);
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    if (known(found) && most > 0) bar.style.width = `${(100 * found) / most}%`;
    return el("span", { class: "barred" }, bar, el("span", {}, number(found, digits)));
  })]);
  return table(label, [first, ...columns.map((column) => column.label)], cells, { class: "matrix" });
}

// The first run of each method at one load, which acceptance and latency are shown of.
function groupsOfCells() {
  const groups = new Map();
  for (const cell of report.cells) {
    if (cell.replicate !== 0 || !cell.acceptance) continue;
    const name = [cell.load, cell.engine, cell.model, cell.dataset].join(" · ");
    if (!groups.has(name)) groups.set(name, []);
    const group = groups.get(name);
    group.push({ label: cell.name, cell, style: styles.get(cell.job) ?? { color: group.length, marker: group.length, dash: 0 } });
  }
  return groups;
}

function chooser(id, lead, draw) {
  const groups = groupsOfCells();
  if (!groups.size) return fill(`${id}-body`, nothing("No run has metrics to show."));
  const body = el("div", {});
  const show = (name) => body.replaceChildren(...draw(groups.get(name)).filter(Boolean));
  const names = [...groups.keys()];
  const choice = names.length > 1 ? el("div", { class: "controls" }, select("At", names.map((name) => [name, name]), show).node) : null;
  const replicated = report.cells.some((cell) => cell.replicate > 0) ? " Of cells that were run several times, the first run is shown." : "";
  fill(`${id}-body`, el("p", { class: "lead" }, lead + replicated), choice, body);
  show(names[0]);
}

function drawAcceptance(group) {
  const drafted = group.filter(({ cell }) => cell.draft_length !== null);
  if (!drafted.length) return [nothing("Nothing was drafted.")];
  const hidden = new Set();
  const area = el("div", { class: "charts" });
  const most = Math.max(...drafted.map(({ cell }) => cell.acceptance.joint.length), 0);
  const ticks = Array.from({ length: most }, (_, i) => [i + 1, String(i + 1)]);
  const chart = (title, key) => lineChart({ title, xTitle: "draft position", ticks, dodge: 0.16, isZeroBased: true, reference: 1,
    series: drafted.filter(({ label }) => !hidden.has(label)).map(({ label, style, cell }) => ({ label, style,
      points: cell.acceptance[key].map((y, i) => ({ x: i + 1, y })) })) });
  const draw = () => area.replaceChildren(
    chart("Share of verify steps that accepted at least i drafts", "joint"), chart("Acceptance of draft i, given the one before", "conditional"));
  if (most) draw();
  const parts = (key, name) => [...new Set(drafted.flatMap(({ cell }) => cell.acceptance[key].map(name)))];
  const find = (key, name) => (row, { cell }) => cell.acceptance[key].find((one) => name(one) === row.key)?.acceptance_length;
  const categories = parts("by_category", (one) => one.name).sort();
  const size = (cell, key, match) => cell.acceptance[key].find(match)?.num_requests ?? 0;
  const rows = categories.map((key) => ({ key, label: `${key} (${size(drafted[0].cell, "by_category", (one) => one.name === key)})` }));
  const turns = parts("by_turn", (one) => one.first).sort((a, b) => a - b);
  const contexts = parts("by_context", (one) => one.first).sort((a, b) => a - b);
  const end = (first) => (first === 0 ? 127 : 2 * first - 1);
  const length = "Acceptance length (tokens per decode step, pooled)";
  return [
    most ? legend(drafted, hidden, draw) : null,
    most ? area : nothing("The engine does not tell how many drafts each step accepted, so there is nothing by position."),
    el("h3", {}, "By category"), el("p", { class: "muted" }, `${length}; in brackets the finished requests of the first method.`),
    matrix("Acceptance by category", "category", rows, drafted, find("by_category", (one) => one.name)),
    el("h3", {}, "By context length"), contexts.length
      ? matrix("Acceptance by context length", "tokens in the context",
        contexts.map((key) => ({ key, label: `${key} to ${end(key)}` })), drafted, find("by_context", (one) => one.first))
      : nothing("Unknown: a chunk of these runs may hold several steps."),
    el("h3", {}, "By turn"), matrix("Acceptance by turn", "turn of the conversation",
      turns.map((key) => ({ key, label: String(key + 1) })), drafted, find("by_turn", (one) => one.first)),
  ];
}

function drawLatency(group) {
  const names = Object.keys(TIMES).filter((name) => group.some(({ cell }) => cell.quantiles[name]));
  if (!names.length) return [nothing("No request has a time.")];
  const hidden = new Set();
  const area = el("div", { class: "charts" });
  const ticks = [0, 25, 50, 75, 90, 99].map((p) => [p, `p${p}`]);
  const at = (cell, name, percentile) => cell.quantiles[name]?.[report.percentiles.indexOf(percentile)];
  const draw = () => area.replaceChildren(...names.map((name) => {
    // The last percent would squeeze all others against the axis; the table has the maximum.
    const shown = report.percentiles.map((p, i) => [p, i]).filter(([p]) => p <= 99);
    return lineChart({ title: `${TIMES[name]} (ms)`, xTitle: "percentile", ticks, xRange: [0, 100], isZeroBased: true,
      markers: "staggered",
      series: group.filter(({ label }) => !hidden.has(label)).map(({ label, style, cell }) => ({ label, style,
        points: cell.quantiles[name] ? shown.map(([x, i]) => ({ x, y: cell.quantiles[name][i] })) : [] })) });
  }));
  draw();
  const rows = names.flatMap((name) => [50, 90, 99, 100].map((p) => ({ name, p, label: `${TIMES[name]}, ${p === 100 ? "max" : `p${p}`}` })));
  return [legend(group, hidden, draw), area, el("h3", {}, "Percentiles (ms)"),
    table("Percentiles of the times in ms", ["time", ...group.map(({ label }) => label)],
      rows.map(({ name, p, label }) => [label, ...group.map(({ cell }) => number(at(cell, name, p)))]))];
}

function drawCells(inspect) {
  const several = (key) => new Set(report.cells.map((cell) => cell[key])).size > 1;
  const texts = [["job", "job"], ["name", "method"], ["load", "load"], ["engine", "engine"], ["model", "model"], ["dataset", "dataset"],
    ["replicate", "replicate"], ["status", "status"]].filter(([key]) => ["job", "name", "load"].includes(key) || several(key));
  let [sorted, isDescending, all] = ["job", false, false];
  const filter = el("input", { type: "search", id: "filter", oninput: () => draw() });
  const count = el("output", { class: "muted" });
  const told = el("output", { class: "muted" });
  const box = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Cells" });
  const order = (cell, key) => (key === "load" ? cell.load_value : cell.metrics[key] ? cell.metrics[key].value : cell[key]);
  const settingsOf = (cell) => Object.entries(cell.settings).map(([name, value]) => `${name}=${value}`).join(" ");

  function found() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const cells = report.cells.filter((cell) => {
      const text = [...texts.map(([key]) => cell[key]), cell.folder, cell.note, settingsOf(cell)].join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const sign = isDescending ? -1 : 1;
    return cells.sort((one, other) => {
      const [a, b] = [order(one, sorted), order(other, sorted)];
      if (!known(a) || !known(b)) return known(b) - known(a) || one.job - other.job;
      return (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))) * sign || one.job - other.job;
    });
  }

  function header(key, text, isNumber) {
    const direction = sorted === key ? (isDescending ? "descending" : "ascending") : "none";
    const arrow = el("span", { "aria-hidden": "true" }, sorted === key ? (isDescending ? " ↓" : " ↑") : "");
    return el("th", { scope: "col", "aria-sort": direction, class: isNumber ? "number" : undefined },
      el("button", { type: "button", "data-key": key, onclick: () => {
        isDescending = sorted === key ? !isDescending : false;
        sorted = key;
        draw();
        box.querySelector(`[data-key="${key}"]`).focus();
      } }, text, arrow));
  }

  function draw() {
    const cells = found();
    const metrics = report.columns.filter((column) => all || column.is_shown);
    count.textContent = `${cells.length} of ${report.cells.length} cells`;
    const head = el("tr", {}, ...texts.map(([key, text]) => header(key, text)), ...metrics.map((c) => header(c.name, c.header, true)),
      header("same_output", "same output"), el("th", { scope: "col" }, "replies"));
    const rows = cells.map((cell) => el("tr", {}, ...texts.map(([key], i) => el(i ? "td" : "th", i ? {} : { scope: "row" }, String(cell[key]))),
      ...metrics.map((column) => el("td", { class: "number" }, interval(cell.metrics[column.name]))),
      el("td", {}, cell.same_output || "–"),
      el("td", {}, cell.inspected.length && inspect ? el("a", { href: "#inspector", onclick: () => inspect(cell.job) },
        "inspect", el("span", { class: "unseen" }, ` job ${cell.job}`)) : cell.note || "–")));
    box.replaceChildren(el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
  }

  function asCsv() {
    const metrics = report.columns.flatMap(({ name }) => [[name, "value"], [`${name}_low`, "low"], [`${name}_high`, "high"]]
      .map(([header, end]) => [header, (cell) => cell.metrics[name]?.[end]]))
      .filter(([, value]) => report.cells.some((cell) => known(value(cell))));
    const plain = ["job", "name", "engine", "model", "dataset", "spec", "draft_length", "load_value", "replicate", "status", "num_finished",
      "num_failed", "same_output", "note", "folder"];
    const settings = [...new Set(report.cells.flatMap((cell) => Object.keys(cell.settings)))];
    return csv([...plain, ...metrics.map(([header]) => header), ...settings],
      found().map((cell) => [...plain.map((key) => cell[key]), ...metrics.map(([, value]) => value(cell)), ...settings.map((key) => cell.settings[key])]));
  }

  const more = el("input", { type: "checkbox", id: "more", onchange: () => { all = more.checked; draw(); } });
  fill("cells-body",
    el("div", { class: "controls" }, el("span", { class: "control" }, el("label", { for: "filter" }, "Filter"), filter), count,
      el("span", { class: "control" }, more, el("label", { for: "more" }, "all metrics")),
      el("button", { type: "button", id: "copy", onclick: () => copy(asCsv(), told) }, "Copy as CSV"), told), box);
  draw();
  window.cellsAsCsv = asCsv;
}

function drawRest() {
  const varying = [...new Set(report.cells.flatMap((cell) => Object.keys(cell.settings)))].sort();
  fill("configuration-body",
    varying.length ? el("h3", {}, "What differs between the cells") : null,
    varying.length ? table("Settings that differ", ["job", ...varying],
      report.cells.map((cell) => [String(cell.job), ...varying.map((name) => cell.settings[name] ?? "–")])) : null,
    el("h3", {}, report.cells.length > 1 ? "What all cells share" : "All settings"),
    fields("Settings", Object.entries(report.configuration)));
  const differing = Object.entries(report.differing_provenance);
  fill("provenance-body",
    differing.length ? el("h3", {}, "What differs between the runs") : null,
    differing.length ? table("Provenance that differs", ["field", "value and its jobs"], differing.map(([name, values]) =>
      [name, Object.entries(values).map(([value, jobs]) => `${value} (job ${jobs.join(", ")})`).join("\n")]), { class: "fields" }) : null,
    el("h3", {}, report.cells.length > 1 ? "What all runs share" : "Versions, hardware, fingerprints"),
    fields("Provenance", Object.entries(report.provenance)));
  fill("commands-body", ...report.commands.map(({ purpose, text }) => {
    const told = el("output", { class: "muted" });
    return el("div", { class: "command" }, el("p", {}, purpose), el("pre", { tabindex: "0" }, text),
      el("button", { type: "button", "aria-label": `Copy: ${purpose}`, onclick: () => copy(text, told) }, "Copy"), told);
  }));
  fill("footer", report.thinned.length ? el("h2", {}, "What this page leaves out") : null,
    report.thinned.length ? el("ul", { id: "thinned" }, ...report.thinned.map((line) => el("li", {}, line))) : null,
    el("p", {}, `Made by specdec_bench ${report.version} at ${report.created_utc.slice(0, 19).replace("T", " ")} UTC. Plots by uPlot 1.6.32 (MIT). ` +
      "Numbers have six significant digits. The page loads nothing."));
}

function followTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const apply = () => {
    button.setAttribute("aria-pressed", String(isDark()));
    redrawCharts();
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    apply();
  });
  system.addEventListener("change", apply);
  apply();
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    for (const node of [...waiting.keys()]) makeNow(node);
    charts.forEach((chart) => chart.resize(620));
    redrawCharts();
  });
  addEventListener("afterprint", () => {
    if (before === undefined) delete root.dataset.theme;
    else root.dataset.theme = before;
    charts.forEach((chart) => chart.resize());
    redrawCharts();
  });
}

drawHeader();
drawVerdict();
drawSpeed();
chooser("acceptance", "How many drafts the target kept.", drawAcceptance);
chooser("latency", "Each line gives the time that this share of requests (or steps) did not exceed.", drawLatency);
drawCells(drawInspector());
drawOutputs();
drawRest();
followTheme();
document.documentElement.dataset.ready = "true";
