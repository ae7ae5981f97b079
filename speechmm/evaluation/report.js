"use strict";
const PER_PAGE = 50;
const NAMES = { S: "substitution", D: "deletion", I: "insertion" };

const count = steps => steps.filter(step => typeof step !== "string").length;
const said = steps => steps.filter(step => typeof step === "string" || step[0] !== "I").length;
const words = steps => steps.flatMap(step => (typeof step === "string" ? step : step.slice(1)));

const rows = JSON.parse(document.getElementById("data").textContent).map(row => {
  const errors = count(row.a);
  const length = said(row.a);
  return {
    id: row.id,
    speaker: row.s ?? "",
    steps: row.a,
    other: row.b,
    errors,
    otherErrors: row.b ? count(row.b) : 0,
    words: length,
    wer: length ? (100 * errors) / length : errors ? 100 : 0,
    seconds: row.t ?? null,
    confidence: row.c ?? null,
    kinds: new Set(row.a.filter(step => typeof step !== "string").map(step => step[0])),
    text: [row.id, row.s ?? "", ...words(row.a), ...(row.b ? words(row.b) : [])].join(" ").toLowerCase(),
  };
});

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

function alignment(steps) {
  const box = element("div", "alignment");
  for (const step of steps) {
    const [kind, reference, hypothesis] = typeof step === "string" ? ["", step, step] : step;
    const pair = element("span", `step ${NAMES[kind] ?? "hit"}`);
    if (kind) pair.title = NAMES[kind];
    pair.append(element("span", "", reference || "∅"), element("span", "", hypothesis || "∅"));
    box.append(pair);
  }
  return box;
}

function line(row) {
  const made = element("tr");
  const cell = (name, text, className = "number") => {
    const td = element("td", className, text);
    if (name) td.dataset.name = name;
    made.append(td);
    return td;
  };
  cell("", row.id, "");
  cell("speaker", row.speaker, "");
  cell("errors", row.other ? `${row.errors} / ${row.otherErrors}` : row.errors);
  cell("words", row.words);
  cell("WER", row.wer.toFixed(1));
  cell("seconds", row.seconds === null ? "" : row.seconds.toFixed(1));
  cell("confidence", row.confidence === null ? "" : row.confidence.toFixed(2));
  const last = cell("", undefined, "");
  last.append(alignment(row.steps));
  if (row.other) last.append(alignment(row.other));
  return made;
}

const KINDS = {
  "": () => true,
  SDI: row => row.errors > 0,
  right: row => row.errors === 0,
  better: row => row.errors < row.otherErrors,
  worse: row => row.errors > row.otherErrors,
};

const table = document.getElementById("utterances");
const filter = document.getElementById("filter");
const kind = document.getElementById("kind");
let shown = rows;
let page = 0;

function compare(a, b) {
  if (a === b) return 0;
  if (a === null) return -1;
  if (b === null) return 1;
  return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
}

function draw() {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  table.tBodies[0].replaceChildren(...shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(line));
  document.getElementById("found").textContent = `${shown.length} of ${rows.length}`;
  document.getElementById("page").textContent = `page ${page + 1} of ${pages}`;
  document.getElementById("before").disabled = page === 0;
  document.getElementById("after").disabled = page === pages - 1;
}

function select() {
  const wanted = filter.value.toLowerCase().trim();
  const fits = KINDS[kind.value] ?? (row => row.kinds.has(kind.value));
  shown = rows.filter(row => fits(row) && row.text.includes(wanted));
  page = 0;
  draw();
}

function order(head, down) {
  for (const other of head.parentNode.cells) delete other.dataset.order;
  head.dataset.order = down ? "down" : "up";
  return down ? -1 : 1;
}

for (const head of table.querySelectorAll("th[data-key]")) {
  head.tabIndex = 0;
  const sort = () => {
    const text = ["id", "speaker"].includes(head.dataset.key);
    const sign = order(head, head.dataset.order ? head.dataset.order === "up" : !text);
    rows.sort((a, b) => sign * compare(a[head.dataset.key], b[head.dataset.key]));
    select();
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}

for (const head of document.querySelectorAll("th[data-sort]")) {
  head.addEventListener("click", () => {
    const numeric = head.dataset.sort === "number";
    const sign = order(head, head.dataset.order ? head.dataset.order === "up" : numeric);
    const value = row => {
      const text = row.cells[head.cellIndex].textContent.trim();
      return numeric ? Number(text) || 0 : text;
    };
    const body = head.closest("table").tBodies[0];
    body.append(...[...body.rows].sort((a, b) => sign * compare(value(a), value(b))));
  });
}

filter.addEventListener("input", select);
kind.addEventListener("change", select);
document.getElementById("controls").addEventListener("submit", event => event.preventDefault());
document.getElementById("before").addEventListener("click", () => { page -= 1; draw(); });
document.getElementById("after").addEventListener("click", () => { page += 1; draw(); });
document.getElementById("more-worst")?.addEventListener("click", event => {
  for (const article of document.querySelectorAll("#worst article")) article.hidden = false;
  event.target.remove();
});

draw();
