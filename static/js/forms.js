// Forms: one submission at a time, unsaved changes, fields that submit by themselves, copying, removing tags.
import { $, $$, on, onContent, say } from "./dom.js";

/* plain submissions (htmx ones are looked after in wire.js) */
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method === "dialog") { return; }
  if (form.dataset.sending) { event.preventDefault(); return; }
  form.dataset.sending = "yes";
  event.submitter?.setAttribute("aria-busy", "true");
  delete form.dataset.changed;
});
window.addEventListener("pageshow", () => {
  $$("form[data-sending]").forEach((form) => { delete form.dataset.sending; });
  $$("button[aria-busy]").forEach((button) => button.removeAttribute("aria-busy"));
});

/* a form that came back: begin where the first error is */
const wrong = $("main form [aria-invalid='true']");
wrong?.focus({ preventScroll: true });
(wrong ?? $("main form [role='alert']"))?.scrollIntoView({ block: "center" });

/* unsaved changes */
const bar = (form) => $("[data-unsaved]", form);
on("input", "form[data-dirty]", (event, form) => {
  if (event.target.closest("[data-not-dirty]")) { return; }
  form.dataset.changed = "yes";
  if (bar(form)) { bar(form).hidden = false; }
});
on("reset", "form[data-dirty]", (event, form) => {
  delete form.dataset.changed;
  if (bar(form)) { bar(form).hidden = true; }
});
document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail;
  const form = ctx.sourceElement?.closest?.("form[data-dirty]");
  if (ctx.sourceElement?.closest?.("[data-not-dirty]")) { return; } // only looked at what is being written
  if (form && ctx.request.method !== "GET" && ctx.response.status < 400) {
    delete form.dataset.changed;
    if (bar(form)) { bar(form).hidden = true; }
  }
});
window.addEventListener("beforeunload", (event) => {
  if ($("form[data-dirty][data-changed]")) { event.preventDefault(); }
});

/* page size and the like: their own Go button is only for pages without scripts */
onContent(() => $$("[data-autosubmit] [type=submit]:not([data-keep])").forEach((button) => { button.hidden = true; }));
on("change", "[data-autosubmit]", (event, form) => form.requestSubmit());

/* <button data-clip="#token">: copies the text or value of that element */
on("click", "[data-clip]", async (event, button) => {
  const source = $(button.dataset.clip);
  if (!source) { return; }
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent.trim());
    button.dataset.copied = "yes";
    say("Copied");
    setTimeout(() => { delete button.dataset.copied; }, 2000);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    say("Selected; press Control C to copy");
  }
});

on("click", ".tag button", (event, button) => {
  const form = button.closest("form");
  button.closest(".tag").remove();
  form?.dispatchEvent(new Event("input", { bubbles: true }));
});

/* a field that shows others: <select data-shows="#extra" data-shows-when="custom">, or each part has its own data-when */
function reveal(field) {
  const value = field.type === "checkbox" ? String(field.checked) : field.type === "radio" ? $(`[name="${CSS.escape(field.name)}"]:checked`, field.form ?? document)?.value : field.value;
  $$(field.dataset.shows).forEach((part) => { part.hidden = !(part.dataset.when ?? field.dataset.showsWhen ?? "true").split("|").includes(value); });
}
onContent(() => $$("[data-shows]").forEach(reveal));
document.addEventListener("change", () => $$("[data-shows]").forEach(reveal));

/* search as you type inside a list that is wholly on the page */
on("input", "[data-filter]", (event, box) => {
  const words = box.value.trim().toLowerCase();
  const list = $(box.dataset.filter);
  if (list) { $$("tbody tr, :scope > li", list).forEach((row) => { row.hidden = words !== "" && !row.textContent.toLowerCase().includes(words); }); }
});
