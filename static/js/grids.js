// Grids: j/k or arrows move, x selects, Enter opens, shift-click picks a range; the bulk bar lives through swaps.
import { $, $$, isTyping, on, onContent, say } from "./dom.js";

const picked = new Map(); // table id -> values that are picked
const places = new Map(); // table id -> id of the row that has the tab stop
const key = (table) => table.id || table.dataset.rows || "rows";
const rowsOf = (table) => $$("tbody tr", table).filter((row) => !row.hidden && !row.querySelector("th[colspan], td[colspan].rest"));
const boxOf = (row) => $("[data-pick]", row);

function remember(table) {
  picked.set(key(table), new Set($$("[data-pick]", table).filter((box) => box.checked).map((box) => box.value)));
}
function paint(table) {
  const list = rowsOf(table);
  const chosen = list.filter((row) => boxOf(row)?.checked);
  list.forEach((row) => { if (boxOf(row)) { row.setAttribute("aria-selected", String(boxOf(row).checked)); } });
  const all = $("[data-pick-all]", table);
  if (all) {
    const possible = list.filter(boxOf).length;
    all.checked = possible > 0 && chosen.length === possible;
    all.indeterminate = chosen.length > 0 && !all.checked;
  }
  const bulk = table.dataset.rows ? $(table.dataset.rows) : null;
  if (!bulk) { return; }
  bulk.hidden = chosen.length === 0;
  $$("[data-count]", bulk).forEach((place) => { place.textContent = String(chosen.length); });
  const sums = chosen.map((row) => Number(row.dataset.hourly)).filter(Number.isFinite);
  $$("[data-sum]", bulk).forEach((place) => {
    place.textContent = sums.length ? new Intl.NumberFormat("en-US", { style: "currency", currency: place.dataset.sum || "USD" }).format(sums.reduce((a, b) => a + b, 0)) : "";
  });
}
/** One row has the tab stop: the remembered one, else the first. */
function rove(table) {
  const list = rowsOf(table).filter((row) => row.hasAttribute("tabindex") || boxOf(row) || $("[data-open], a[href]", row));
  const stop = list.find((row) => row.id && row.id === places.get(key(table))) ?? list[0];
  list.forEach((row) => row.setAttribute("tabindex", row === stop ? "0" : "-1"));
}
function go(table, row) {
  if (!row) { return; }
  rowsOf(table).forEach((other) => other.setAttribute("tabindex", other === row ? "0" : "-1"));
  places.set(key(table), row.id);
  row.focus();
  row.scrollIntoView({ block: "nearest" });
}

onContent(() => $$("table[data-rows]").forEach((table) => {
  const values = picked.get(key(table));
  if (values) { $$("[data-pick]", table).forEach((box) => { box.checked = values.has(box.value); }); }
  remember(table);
  rove(table);
  paint(table);
}));

let last = null;
on("click", "table[data-rows] [data-pick]", (event, box) => {
  const table = box.closest("table");
  const boxes = $$("[data-pick]", table);
  if (event.shiftKey && last && boxes.includes(last)) {
    const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
    boxes.slice(from, to + 1).forEach((other) => { other.checked = box.checked; });
  }
  last = box;
});
on("change", "table[data-rows]", (event, table) => {
  if (event.target.matches("[data-pick-all]")) {
    rowsOf(table).map(boxOf).filter(Boolean).forEach((box) => { box.checked = event.target.checked; });
  }
  if (!event.target.matches("[data-pick], [data-pick-all]")) { return; }
  remember(table);
  paint(table);
  say(`${picked.get(key(table)).size} selected`);
});
function clear(table) {
  $$("[data-pick]", table).forEach((box) => { box.checked = false; });
  remember(table);
  paint(table);
}
on("click", "[data-bulk-clear]", (event, button) => {
  const bulk = button.closest("[id]");
  $$("table[data-rows]").filter((table) => $(table.dataset.rows) === bulk || $(table.dataset.rows)?.contains(button)).forEach((table) => {
    clear(table);
    $("tbody tr[tabindex='0']", table)?.focus();
  });
});
document.addEventListener("grid:clear", () => $$("table[data-rows]").forEach(clear));

document.addEventListener("keydown", (event) => {
  if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) { return; }
  const here = event.target.closest?.("table[data-rows] tbody tr");
  const table = here?.closest("table") ?? (["j", "k"].includes(event.key) ? $$("table[data-rows]").find((one) => one.checkVisibility()) : null);
  if (!table) { return; }
  const list = rowsOf(table);
  const at = list.indexOf(here);
  const inControl = here && event.target !== here;
  if (event.key === "j" || (event.key === "ArrowDown" && here && !inControl)) { event.preventDefault(); go(table, here ? list[at + 1] : $("tbody tr[tabindex='0']", table)); }
  else if (event.key === "k" || (event.key === "ArrowUp" && here && !inControl)) { event.preventDefault(); go(table, here ? list[at - 1] : $("tbody tr[tabindex='0']", table)); }
  else if (event.key === "Home" && here && !inControl) { event.preventDefault(); go(table, list[0]); }
  else if (event.key === "End" && here && !inControl) { event.preventDefault(); go(table, list.at(-1)); }
  else if (event.key === "x" && here && boxOf(here)) { event.preventDefault(); boxOf(here).click(); }
  else if (event.key === "Enter" && event.target === here) { event.preventDefault(); $("[data-open], a[href]", here)?.click(); }
  else if (event.key === "Escape" && here && picked.get(key(table))?.size) { clear(table); }
});
on("focusin", "table[data-rows] tbody tr", (event, row) => { if (event.target === row && row.id) { places.set(key(row.closest("table")), row.id); } });

/* the number of results, said once the rows have come */
document.addEventListener("htmx:after:swap", (event) => {
  const count = event.detail.ctx.target?.isConnected ? $("[data-result-count]", event.detail.ctx.target) : null;
  const typed = ["input", "submit", "change", "click"].includes(event.detail.ctx.sourceEvent?.type);
  if (count && typed) { say(count.dataset.resultCount || count.textContent.trim()); }
});
