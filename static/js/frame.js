// The frame: theme, the menu as a drawer on a phone, drop-down menus, search by keyboard.
import { $, $$, focusable, isTyping, on } from "./dom.js";

/* theme */
on("click", "[data-theme-toggle]", () => {
  const root = document.documentElement;
  const next = root.dataset.bsTheme === "dark" ? "light" : "dark";
  root.setAttribute("data-bs-theme", next);
  try { localStorage.setItem("curfew-theme", next); } catch { /* storage may be off */ }
  document.dispatchEvent(new CustomEvent("curfew:theme"));
});

/* search: / or Ctrl-K */
document.addEventListener("keydown", (event) => {
  const slash = event.key === "/" && !isTyping(event) && !event.ctrlKey && !event.metaKey && !event.altKey;
  const combo = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey;
  if ((!slash && !combo) || $("dialog[open]")) { return; }
  const box = $$("[data-global-search]").find((input) => input.checkVisibility());
  if (box) { event.preventDefault(); box.focus(); box.select(); }
});
on("keydown", "[data-global-search]", (event, box) => { if (event.key === "Escape") { box.blur(); } });

/* the rail */
let railOpener = null;
function setRail(open, from = null) {
  const rail = $("#rail");
  if (!rail || rail.classList.contains("is-open") === open) { return; }
  rail.classList.toggle("is-open", open);
  $("[data-scrim]").hidden = !open;
  $$("[data-rail-toggle]").forEach((button) => button.setAttribute("aria-expanded", String(open)));
  if (open) { railOpener = from; $("a", rail)?.focus(); } else { railOpener?.focus(); railOpener = null; }
}
on("click", "[data-rail-toggle]", (event, button) => { event.preventDefault(); setRail(!$("#rail").classList.contains("is-open"), button); });
on("click", "[data-rail-close]", (event) => { event.preventDefault(); setRail(false); });
on("click", "[data-scrim]", () => setRail(false));
on("keydown", "[data-rail-toggle]", (event, button) => { if (event.key === " ") { event.preventDefault(); button.click(); } });
document.addEventListener("keydown", (event) => {
  const rail = $("#rail.is-open");
  if (!rail) { return; }
  if (event.key === "Escape") { setRail(false); }
  if (event.key === "Tab") { trap(event, rail); }
});
matchMedia("(min-width: 901px)").addEventListener("change", () => setRail(false));

/** Keeps Tab inside `root`. */
export function trap(event, root) {
  const list = focusable(root);
  const [first, last] = [list[0], list.at(-1)];
  if (!first) { event.preventDefault(); return; }
  if (!root.contains(document.activeElement)) { event.preventDefault(); first.focus(); }
  else if (event.shiftKey && document.activeElement === first) { event.preventDefault(); last.focus(); }
  else if (!event.shiftKey && document.activeElement === last) { event.preventDefault(); first.focus(); }
}

/* drop-down menus are <details class="menubox">: one open at a time, arrows move, Escape closes */
const close = (box, refocus) => { box.open = false; if (refocus) { $("summary", box)?.focus(); } };
document.addEventListener("click", (event) => {
  $$("details.menubox[open]").filter((box) => !box.contains(event.target)).forEach((box) => close(box, false));
});
on("keydown", "details.menubox", (event, box) => {
  const items = $$(".menubox-list a[href], .menubox-list button:not([disabled]), .menubox-list input", box);
  const at = items.indexOf(document.activeElement);
  if (event.key === "Escape" && box.open) { event.stopPropagation(); close(box, true); return; }
  if (!["ArrowDown", "ArrowUp"].includes(event.key) || !items.length) { return; }
  event.preventDefault();
  event.stopPropagation();
  box.open = true;
  const step = event.key === "ArrowDown" ? 1 : -1;
  items[at < 0 ? (step > 0 ? 0 : items.length - 1) : (at + step + items.length) % items.length].focus();
}, true);
on("focusout", "details.menubox", (event, box) => {
  if (event.relatedTarget && !box.contains(event.relatedTarget)) { close(box, false); }
});

/* a row of tabs that is wider than a phone: show the current one */
$$(".sidenav, .tabs").forEach((row) => {
  const current = $('[aria-current="page"]', row);
  if (current && row.scrollWidth > row.clientWidth) { row.scrollLeft = current.offsetLeft - row.offsetLeft - row.clientWidth / 3; }
});
