// The page is whole without this: it only hides rows that are not asked for, and opens what an address names.
"use strict";
for (const group of document.querySelectorAll(".filter")) {
  group.hidden = false;
  const rows = group.parentElement.querySelectorAll("details.row");
  const buttons = group.querySelectorAll("button");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      for (const row of rows) row.hidden = Boolean(button.dataset.way) && row.dataset.way !== button.dataset.way;
    });
  }
}
// Paper shows what is closed.
window.addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
