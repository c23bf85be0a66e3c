// Asks lmprog dev for the page's parts when something has changed, and puts in those that are not as they were.
"use strict";
const root = document.getElementById("parts");
let asked = { split: null, row: 0, typed: {} };
let at_work = false;
let again = false;
const last = new Map();

for (const part of root.querySelectorAll("[data-part]")) last.set(part.dataset.part, part.outerHTML);

async function post(path, body) {
  return fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

async function show() {
  again = true;
  if (at_work) return; // what has changed meanwhile is asked for when this answer is there
  at_work = true;
  while (again) {
    again = false;
    const question = asked;
    try {
      const answer = await post("parts", question);
      const text = await answer.text();
      if (answer.ok && question === asked) { // else it answers for a row that is no more looked at
        const fresh = document.createElement("template");
        fresh.innerHTML = text;
        put(fresh.content);
      }
    } catch { break; } // the server is gone; its stream of events says so
  }
  at_work = false;
}

function put(fresh) {
  const parts = [...fresh.querySelectorAll("[data-part]")];
  const names = parts.map((part) => part.dataset.part);
  const here = [...root.querySelectorAll("[data-part]")].map((part) => part.dataset.part);
  if (names.join() !== here.join()) { // as when a file can run for the first time
    const open = opened(root);
    root.replaceChildren(fresh);
    for (const part of parts) last.set(part.dataset.part, part.outerHTML);
    reopen(root, open);
    return;
  }
  for (const part of parts) {
    const name = part.dataset.part;
    const html = part.outerHTML;
    if (last.get(name) === html) continue;
    const old = root.querySelector(`[data-part="${name}"]`);
    // What a person is typing stays; it is in `asked`, and what it gives is shown beside it.
    if (name === "row" && old.contains(document.activeElement) && document.activeElement.dataset.input) {
      old.querySelector("#wrong").textContent = part.querySelector("#wrong").textContent;
      old.querySelector("#as-in-row").hidden = part.querySelector("#as-in-row").hidden;
      stale = true;
      continue;
    }
    last.set(name, html);
    if (old.contains(document.activeElement)) wanted = key(document.activeElement);
    const open = opened(old);
    old.replaceWith(part);
    reopen(part, open);
  }
  focusAgain();
  const name = root.querySelector("[data-name]").dataset.name;
  document.title = `${name}: lmprog dev`;
}

// The form is shown anew when nobody types in it any more.
let stale = false;
root.addEventListener("focusout", () => {
  if (!stale) return;
  stale = false;
  show();
});

// A button that was pressed keeps the focus, also when it could not be pressed for a while.
let wanted = null;
function focusAgain() {
  if (document.activeElement !== document.body) wanted = null;
  const node = wanted && root.querySelector(wanted);
  if (!node || node.disabled) return;
  wanted = null;
  node.focus();
}

function key(node) {
  if (node.id) return `#${CSS.escape(node.id)}`;
  for (const name of ["run", "step"]) if (node.dataset[name]) return `[data-${name}="${node.dataset[name]}"]`;
  return node.name ? `[name="${node.name}"]` : null;
}

function opened(within) {
  return new Map([...within.querySelectorAll("details[data-key]")].map((part) => [part.dataset.key, part.open]));
}

function reopen(within, open) {
  for (const part of within.querySelectorAll("details[data-key]")) {
    if (open.has(part.dataset.key)) part.open = open.get(part.dataset.key);
  }
}

function typed() {
  const found = {};
  for (const field of root.querySelectorAll("[data-input]")) {
    if (field.value !== field.dataset.from) found[field.dataset.input] = field.value;
  }
  return found;
}

function choose(split, row) {
  asked = { split, row, typed: {} };
  if (document.activeElement?.dataset.input) document.activeElement.blur();
  show();
}

let waiting = 0;
root.addEventListener("input", (event) => {
  if (!event.target.dataset.input) return;
  asked = { ...asked, typed: typed() };
  clearTimeout(waiting);
  waiting = setTimeout(show, 250);
});

root.addEventListener("change", (event) => {
  const form = event.target.closest("#inputs");
  if (!form) return;
  if (event.target.name === "split") choose(event.target.value, 0);
  if (event.target.name === "row") choose(form.elements.split.value, Math.max(0, Number(event.target.value) || 0));
});

root.addEventListener("submit", (event) => event.preventDefault());

root.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.step) {
    const form = button.closest("form");
    choose(form.elements.split.value, Number(form.elements.row.value) + Number(button.dataset.step));
  } else if (button.id === "as-in-row") {
    choose(asked.split, asked.row);
  } else if (button.dataset.run) {
    const answer = await post("run", { ...asked, real: button.dataset.run === "real" });
    if (!answer.ok) root.querySelector("#wrong").textContent = await answer.text();
  } else if (button.id === "stop") {
    await post("stop", {});
  }
});

// A step of the drawing leads to its request, which is opened.
window.addEventListener("hashchange", () => {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named?.matches("details")) named.open = true;
});

const events = new EventSource("events");
events.addEventListener("change", show);
events.onopen = () => { root.querySelector("#line").hidden = true; };
events.onerror = () => { root.querySelector("#line").hidden = false; };
