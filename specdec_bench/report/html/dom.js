"use strict";
// Elements, numbers and tables. Text of a run is only ever set as text, never as markup.

const report = JSON.parse(document.getElementById("data").textContent);

function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function fill(id, ...children) {
  document.getElementById(id).replaceChildren(...children.filter((child) => child !== null));
}

const known = (value) => value !== null && value !== undefined;

function number(value, digits = 2) {
  if (!known(value)) return "–";
  const places = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? Math.min(digits, 1) : digits;
  return value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
}

// A distance that floating-point numbers can show at any size: 0.0123, 1.23, 1,230.
function short(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}

function interval(found, digits = 2) {
  if (!found || !known(found.value)) return "–";
  const ends = known(found.low) && known(found.high);
  return number(found.value, digits) + (ends ? ` [${number(found.low, digits)}, ${number(found.high, digits)}]` : "");
}

// A table in a box that scrolls by itself, so that the page never scrolls sideways.
function table(label, headers, rows, properties = {}) {
  const head = el("tr", {}, ...headers.map((header) => el("th", { scope: "col" }, header)));
  const body = rows.map((row) =>
    el("tr", {}, ...row.map((cell, i) => (i === 0 ? el("th", { scope: "row" }, cell) : el("td", {}, cell)))),
  );
  const content = el("table", properties, el("thead", {}, head), el("tbody", {}, ...body));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, content);
}

// Two columns of names and values.
function fields(label, pairs) {
  return table(label, ["field", "value"], pairs.map(([name, value]) => [name, value]), { class: "fields" });
}

function details(summary, ...children) {
  return el("details", {}, el("summary", {}, summary), ...children);
}

function nothing(text) {
  return el("p", { class: "nothing" }, text);
}

let numControls = 0;

function select(label, options, onChange) {
  const id = `control-${numControls++}`;
  const choice = el("select", { id, onchange: () => onChange(choice.value) });
  const offer = (values) =>
    choice.replaceChildren(...values.map(([value, text]) => el("option", { value }, text)));
  offer(options);
  return { node: el("span", { class: "control" }, el("label", { for: id }, label), choice), choice, offer };
}

async function copy(text, told) {
  try {
    await navigator.clipboard.writeText(text);
    told.textContent = "copied";
  } catch {
    const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    told.textContent = document.execCommand("copy") ? "copied" : "this browser does not let a page copy";
    area.remove();
  }
}

// What a spreadsheet would take for the beginning of a formula gets a ' in front; see report/text.py.
function csvField(value) {
  if (!known(value)) return "";
  if (typeof value === "number") return String(value);
  let text = String(value).replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (c) =>
    `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  if (/^ *[=+\-@＝＋－＠]/.test(text) && Number.isNaN(Number(text))) text = `'${text}`;
  return /[",]|^ | $/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv(headers, rows) {
  return [headers, ...rows].map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
}
