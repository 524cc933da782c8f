"use strict";
// One reply, coloured by step; and where the outputs of a cell and of its plain run part.

const ms = (us) => `${short(us / 1000)} ms`;

// Each step of a reply: what it took from the draft, what the target added, and their texts where the archive has them.
function stepsOf(reply) {
  const characters = Array.from(reply.text);
  const whole = reply.token_lengths && (reply.is_cut ||
    reply.token_lengths.reduce((sum, length) => sum + length, 0) === characters.length);
  let token = 0;
  let place = 0;
  const take = (count) => {
    let length = 0;
    for (let i = 0; i < count; i++) length += reply.token_lengths[token + i] ?? 0;
    token += count;
    const text = characters.slice(place, place + length).join("");
    place += length;
    return text;
  };
  return reply.num_tokens.map((size, i) => {
    const accepted = i === 0 ? 0 : reply.num_accepted[i];
    const fromDraft = known(accepted) ? Math.min(accepted, size) : null;
    const step = { number: i, size, accepted, fromDraft, proposed: reply.num_proposed[i], gap: reply.gaps_us[i] };
    if (whole && known(fromDraft)) [step.draftText, step.targetText] = [take(fromDraft), take(size - fromDraft)];
    else if (whole) step.text = take(size);
    return step;
  });
}

function describeStep(step, isPlain) {
  if (step.number === 0) return `Prefill: ${step.size} token${step.size === 1 ? "" : "s"}, ${ms(step.gap)} after the request was sent.`;
  const parts = [`Step ${step.number}: ${ms(step.gap)} after the one before`];
  if (isPlain) parts.push(`${step.size} token${step.size === 1 ? "" : "s"}`);
  else if (known(step.accepted)) {
    const own = step.size - step.fromDraft;
    parts.push(`${known(step.proposed) ? `${step.proposed} drafted, ` : ""}${step.accepted} accepted`);
    parts.push(own > 0 ? `${own} added by the target` : "cut before the target's own token");
  } else parts.push(`${step.size} tokens; the engine does not tell which were drafted`);
  return `${parts.join("; ")}.`;
}

function replyView(cell, reply) {
  const steps = stepsOf(reply);
  const isPlain = cell.draft_length === null;
  const hasTexts = steps.some((step) => known(step.text) || known(step.targetText));
  const told = el("output", { class: "readout" });
  const nodes = steps.map((step) => {
    const inner = [];
    if (!hasTexts) {
      const drafted = step.fromDraft ?? 0;
      for (let i = 0; i < step.size; i++) {
        const kind = step.number === 0 ? "first" : isPlain ? "target" : !known(step.fromDraft) ? "unknown" : i < drafted ? "draft" : "target";
        inner.push(el("span", { class: `token ${kind}` }));
      }
    } else if (known(step.text)) inner.push(el("span", { class: "unknown" }, step.text));
    else {
      if (step.draftText) inner.push(el("span", { class: "draft" }, step.draftText));
      if (step.targetText) inner.push(el("span", { class: step.number === 0 ? "first" : "target" }, step.targetText));
    }
    return el("span", { class: "step" }, ...inner);
  });
  let current = -1;
  const choose = (index) => {
    nodes[current]?.classList.remove("current");
    current = Math.min(Math.max(index, 0), nodes.length - 1);
    nodes[current].classList.add("current");
    told.textContent = describeStep(steps[current], isPlain);
  };
  nodes.forEach((node, i) => node.addEventListener("click", () => choose(i)));
  const text = el("div", { class: hasTexts ? "reply" : "reply blocks", tabindex: "0", role: "group",
    "aria-label": "Reply by steps; left and right arrow keys go from step to step" }, ...nodes);
  text.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    choose(current + by);
  });
  if (nodes.length) choose(Math.min(1, nodes.length - 1));

  const later = steps.slice(1);
  const points = (key) => later.map((step) => ({ x: step.number, y: key(step) }));
  const every = Math.max(1, Math.ceil(later.length / 10));
  const ticks = later.filter((_, i) => i % every === 0).map((step) => [step.number, String(step.number)]);
  const chart = later.length > 1 ? lineChart({
    title: "Time of each step (ms)", xTitle: "step", ticks, xRange: [0, later.length + 1], isZeroBased: true, height: 180,
    series: [{ label: "since the one before", style: { color: 0, marker: 0, dash: 0 }, points: points((step) => step.gap / 1000) }],
    markers: later.length <= 80,
  }) : null;
  const sizes = later.length > 1 && !isPlain ? lineChart({
    title: "Tokens of each step", xTitle: "step", ticks, xRange: [0, later.length + 1], isZeroBased: true, height: 180,
    series: [{ label: "tokens", style: { color: 1, marker: 1, dash: 0 }, points: points((step) => step.size) }],
    markers: later.length <= 80,
  }) : null;

  const tokens = later.reduce((sum, step) => sum + step.size, 0);
  const key = isPlain ? [["first", "of the prefill"], ["target", "of a decode step"]]
    : [["first", "of the prefill"], ["draft", "accepted from the draft"], ["target", "added by the target"], ["unknown", "not told"]];
  return [
    el("p", { class: "asked" }, el("b", {}, "Prompt "), reply.prompt),
    el("p", { class: "muted" }, `${reply.num_prompt_tokens} prompt tokens · ${tokens + (steps[0]?.size ?? 0)} output tokens in ` +
      `${later.length} decode steps` + (later.length ? ` (${number(tokens / later.length)} tokens a step)` : "") +
      (reply.finish_reason ? ` · ended by ${reply.finish_reason}` : "")),
    el("ul", { class: "key" }, ...key.map(([kind, words]) => el("li", {}, el("span", { class: `sample ${kind}` }, "abc"), ` ${words}`))),
    hasTexts ? null : el("p", { class: "note" }, "The archive has this reply as one text, so the blocks show how many tokens each " +
      "step gave, and the text below is not divided."),
    text,
    told,
    hasTexts ? null : el("div", { class: "reply" }, reply.text || "(no text archived)"),
    reply.is_cut ? el("p", { class: "note" }, "The reply is longer and was cut here.") : null,
    el("div", { class: "charts" }, chart, sizes),
  ].filter(Boolean);
}

function drawInspector() {
  const cells = report.cells.filter((cell) => cell.inspected.length);
  if (!cells.length) return fill("inspector-body", nothing("The page holds no reply: none finished, or none fits into its size."));
  const view = el("div", {});
  const nameOf = (cell) => `job ${cell.job} · ${cell.name} · ${cell.load}` + (cell.replicate ? ` · replicate ${cell.replicate}` : "");
  const titleOf = (reply) => `${reply.prompt_id} · turn ${reply.turn + 1} · ${reply.category}`;
  let cell = cells.find((one) => one.draft_length !== null) ?? cells[0];
  const replies = select("Reply", [], (value) => show(Number(value)));
  const choice = select("Cell", cells.map((one) => [String(one.job), nameOf(one)]), (value) => open(Number(value)));
  const show = (index) => view.replaceChildren(...replyView(cell, cell.inspected[index]));
  // The same prompt stays chosen, so that methods can be compared on it.
  const open = (job) => {
    const before = replies.choice.value === "" ? null : cell.inspected[Number(replies.choice.value)];
    cell = cells.find((one) => one.job === job);
    replies.offer(cell.inspected.map((reply, i) => [String(i), titleOf(reply)]));
    let index = cell.inspected.findIndex((reply) => before && reply.prompt_id === before.prompt_id && reply.turn === before.turn);
    if (index < 0) index = cell.inspected.reduce((best, reply, i, all) =>
      (reply.num_tokens.length > all[best].num_tokens.length ? i : best), 0);
    replies.choice.value = String(index);
    show(index);
    choice.choice.value = String(job);
  };
  fill("inspector-body", el("div", { class: "controls" }, choice.node, replies.node), view);
  open(cell.job);
  return open;
}

// Both texts with what differs marked, from the first character in which they differ.
function marked(text, other, label) {
  if (!known(text)) return el("p", {}, el("b", {}, `${label} `), "(no text archived)");
  const [mine, theirs] = [Array.from(text), Array.from(other ?? "")];
  let at = 0;
  while (at < mine.length && at < theirs.length && mine[at] === theirs[at]) at++;
  const rest = mine.slice(at).join("");
  return el("p", { class: "excerpt" }, el("b", {}, `${label} `), mine.slice(0, at).join(""),
    el("mark", {}, rest || (at < theirs.length ? "⟨ends⟩" : "⟨same text, other tokens⟩")));
}

function drawOutputs() {
  const judged = report.cells.filter((cell) => cell.same_output);
  if (!judged.length) return fill("outputs-body", nothing("No output could be compared with that of a plain run."));
  const byJob = new Map(report.cells.map((cell) => [cell.job, cell]));
  const shares = table("Share of identical outputs", ["job", "method", "load", "identical outputs"],
    judged.map((cell) => [String(cell.job), cell.name, cell.load, cell.same_output]));
  const items = report.excerpts.map((found) => el("li", {},
    el("p", { class: "muted" }, `job ${found.job} · ${byJob.get(found.job)?.name ?? ""} · ${found.prompt_id} · turn ${found.turn + 1} · ` +
      `they part at output token ${found.position + 1}`),
    marked(found.baseline_text, found.text, "plain"),
    marked(found.text, found.baseline_text, "this cell")));
  fill("outputs-body",
    items.length ? el("ol", { class: "excerpts" }, ...items) : nothing("No compared reply differs from that of plain decoding."),
    judged.length > 12 ? details(`Identical outputs of ${judged.length} cells`, shares) : shares);
}
