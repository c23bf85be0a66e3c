// Hides rows that are not asked for, goes through them by keys, and stores what a person says of them.
"use strict";
const rows = [...document.querySelectorAll("tr.entry")];
const ways = document.getElementById("ways");
const search = document.getElementById("search");
const bar = document.getElementById("label");
const comment = document.getElementById("comment");
const state = document.getElementById("status");
const compared = document.getElementById("runs").dataset.compared === "true";
let way = "";
let chosen = null;

ways.hidden = false;
const shown = () => rows.filter((row) => !row.hidden);

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = (Boolean(way) && row.dataset.way !== way) || !words.every((word) => text.includes(word));
  }
}

for (const button of ways.querySelectorAll("button")) {
  button.addEventListener("click", () => {
    for (const other of ways.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
    way = button.dataset.way;
    filter();
  });
}
search.addEventListener("input", filter);

function choose(row) {
  if (!row) return;
  chosen?.removeAttribute("aria-current");
  chosen = row;
  row.setAttribute("aria-current", "true");
  row.focus({ preventScroll: true });
  row.scrollIntoView({ block: "center" });
  if (bar) {
    bar.hidden = !row.dataset.run;
    comment.value = "";
    state.textContent = "";
  }
}

// The place of the chosen row stays where the filter has taken it out.
function step(by) {
  const all = rows.indexOf(chosen);
  const list = by > 0 ? rows.slice(all + 1) : rows.slice(0, Math.max(all, 0)).reverse();
  choose(list.find((row) => !row.hidden) ?? (chosen ? null : shown()[0]));
}

for (const row of rows) row.addEventListener("click", () => { if (!String(getSelection())) choose(row); });

async function store(given, on) {
  const row = chosen;
  if (!row?.dataset.run) return;
  try {
    const answer = await fetch("feedback", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ run: row.dataset.run, feedback: given }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    const { said, way, colour } = await answer.json();
    row.querySelector(".said").textContent = said;
    if (!compared) mark(row, way, colour); // else the badge says how two runs differ
    state.textContent = "stored";
    if (on && row === chosen) step(1);
  } catch (error) {
    state.textContent = `not stored: ${error.message}`;
  }
}

function mark(row, way, colour) {
  for (const [name, by] of [[row.dataset.way, -1], [way, 1]]) {
    const count = ways.querySelector(`button[data-way="${name}"] .count`);
    if (count) count.textContent = String(Number(count.textContent) + by);
  }
  row.dataset.way = way;
  const badge = row.querySelector(".badge");
  badge.textContent = way;
  badge.className = `badge ${colour}`;
}

function press(button) {
  if (button.dataset.back) store({ score: null, comment: null, correction: null }, false);
  else if (button.dataset.score) store({ score: Number(button.dataset.score) }, true);
  else store({ correction: { [button.dataset.output]: button.dataset.value } }, true);
}

if (bar) {
  for (const button of bar.querySelectorAll("button")) button.addEventListener("click", () => press(button));
  comment.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !comment.value.trim()) return;
    store({ comment: comment.value }, false);
    comment.value = "";
    chosen.focus();
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const button = bar && !bar.hidden && bar.querySelector(`button[data-key="${CSS.escape(event.key)}"]`);
  if (event.key === "j" || event.key === "ArrowDown") step(1);
  else if (event.key === "k" || event.key === "ArrowUp") step(-1);
  else if (event.key === "/") search.focus();
  else if (event.key === "c" && bar && !bar.hidden) comment.focus();
  else if (button) press(button);
  else return;
  event.preventDefault();
});
