// Drawers beside a grid or over the page. Swapping into #drawer-host opens it; Escape closes; focus returns.
import { $, $$, on, onContent } from "./dom.js";
import { trap } from "./frame.js";

const openers = new WeakMap();
const isModal = (drawer) => drawer.dataset.modal !== undefined;

export function openDrawer(drawer, from = null) {
  openers.set(drawer, from ?? document.activeElement);
  drawer.hidden = false;
  if (isModal(drawer)) { $("[data-scrim]").hidden = false; drawer.setAttribute("aria-modal", "true"); }
  const heading = $("h1, h2", drawer);
  if (heading && !drawer.hasAttribute("aria-labelledby")) { drawer.setAttribute("aria-label", heading.textContent.trim()); }
  drawer.closest(".dock")?.classList.add("has-drawer");
  if (from) { ($("[autofocus], [data-drawer-close]", drawer) ?? drawer).focus(); }
}
export function closeDrawer(drawer) {
  if (drawer.hidden) { return; }
  drawer.hidden = true;
  if (isModal(drawer)) { $("[data-scrim]").hidden = true; }
  drawer.closest(".dock")?.classList.remove("has-drawer");
  $$(".is-picked").forEach((row) => row.classList.remove("is-picked"));
  const opener = openers.get(drawer);
  if (opener?.isConnected) { opener.focus(); }
}
const openOnes = () => $$(".drawer:not([hidden])");

on("click", "[data-drawer-open]", (event, button) => {
  const drawer = $(button.dataset.drawerOpen);
  if (!drawer) { return; }
  event.preventDefault();
  pick(button);
  openDrawer(drawer, button);
});
function pick(button) {
  $$(".is-picked").forEach((row) => row.classList.remove("is-picked"));
  button.closest("tr")?.classList.add("is-picked");
}
on("click", "[data-drawer-close]", (event, button) => { event.preventDefault(); closeDrawer(button.closest(".drawer")); });
on("click", "[data-scrim]", () => openOnes().filter(isModal).forEach(closeDrawer));
document.addEventListener("drawer:close", () => openOnes().forEach(closeDrawer));

let asked = null;
document.addEventListener("htmx:before:request", (event) => {
  const { ctx } = event.detail;
  if (ctx.target?.closest?.(".drawer")) { asked = ctx.sourceElement; }
});
document.addEventListener("htmx:after:swap", (event) => {
  const drawer = event.detail.ctx.target?.closest?.(".drawer");
  if (!drawer || !drawer.hidden || drawer.textContent.trim() === "") { return; }
  if (asked) { pick(asked); }
  openDrawer(drawer, asked);
});

document.addEventListener("keydown", (event) => {
  if ($("dialog[open]")) { return; }
  const drawer = openOnes().at(-1);
  if (!drawer) { return; }
  if (event.key === "Escape" && !event.defaultPrevented) { closeDrawer(drawer); }
  if (event.key === "Tab" && isModal(drawer)) { trap(event, drawer); }
});

/* #id in the address opens that drawer or dialog, so that it can be shared */
let seen = "";
onContent(() => {
  if (location.hash.length < 2 || seen === location.hash) { return; }
  seen = location.hash;
  const there = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (there?.matches(".drawer[data-share]")) { openDrawer(there); }
  if (there instanceof HTMLDialogElement && there.dataset.share !== undefined && !there.open) { there.showModal(); }
});
