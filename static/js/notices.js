// Toasts for what happened elsewhere, and the alert region for requests that failed.
import { $, $$, on } from "./dom.js";

const STAY = 8000;
const MOST = 4;

/** Shows a toast: {text, detail, kind: info|good|warn|bad|moon, href}. */
export function toast({ text, detail = "", kind = "info", href = "" }) {
  const host = $("#toasts");
  const template = $("#toast-template");
  if (!host || !template || !text) { return; }
  const node = template.content.firstElementChild.cloneNode(true);
  node.dataset.kind = ["info", "good", "warn", "bad", "moon"].includes(kind) ? kind : "info";
  const title = $("[data-toast-text]", node);
  if (href && href.startsWith("/")) {
    const link = document.createElement("a");
    link.href = href;
    link.textContent = text;
    title.append(link);
  } else { title.textContent = text; }
  $("[data-toast-detail]", node).textContent = detail;
  host.append(node);
  $$(".toasty", host).slice(0, -MOST).forEach((old) => old.remove());
  if (kind !== "bad") { leaveLater(node); }
}
function leaveLater(node) {
  setTimeout(() => {
    if (node.matches(":hover, :focus-within")) { leaveLater(node); } else { node.remove(); }
  }, STAY);
}
document.addEventListener("toast", (event) => {
  const { detail } = event;
  const list = Array.isArray(detail) ? detail : Array.isArray(detail?.value) ? detail.value : [detail];
  list.forEach((item) => toast(typeof item === "string" ? { text: item } : item?.value ? { text: String(item.value) } : item ?? {}));
});
on("click", "[data-toast-close]", (event, button) => button.closest(".toasty").remove());

/** Shows a problem in the alert region: {title, text, id, key, retry, link}. One line per `key`. */
export function showProblem({ title, text = "", id = "", key = "", retry = null, link = null }) {
  const host = $("#alerts");
  const template = $("#alert-template");
  if (!host || !template) { return; }
  $$("[data-key]", host).filter((old) => old.dataset.key === key).forEach((old) => old.remove());
  const node = template.content.firstElementChild.cloneNode(true);
  node.dataset.key = key;
  $("[data-alert-title]", node).textContent = title;
  $("[data-alert-text]", node).textContent = text;
  $("[data-alert-id]", node).textContent = id;
  const anchor = $("[data-alert-link]", node);
  if (link) { anchor.href = link.href; anchor.textContent = link.text; } else { anchor.remove(); }
  const button = $("[data-alert-retry]", node);
  if (retry) { button.addEventListener("click", () => { node.remove(); retry(); }); } else { button.remove(); }
  host.append(node);
}
export function clearProblem(key) {
  $$("#alerts [data-key]").filter((node) => node.dataset.key === key).forEach((node) => node.remove());
}
on("click", "[data-alert-close]", (event, button) => button.closest("[data-key]").remove());
