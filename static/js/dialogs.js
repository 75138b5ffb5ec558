// <dialog>: opened when a swap fills #dialog-host, closed with focus back on what opened it; confirmations.
import { $, on } from "./dom.js";

const host = () => $("#dialog-host");
let opener = null;

export function openDialog(dialog, from = document.activeElement) {
  if (dialog.open) { return; }
  opener = from;
  name(dialog);
  dialog.showModal();
}
/** The dialog's name is its own heading. */
function name(dialog) {
  const heading = $("h1, h2", dialog);
  if (!heading || dialog.hasAttribute("aria-labelledby")) { return; }
  dialog.setAttribute("aria-label", heading.textContent.trim());
}

/* swaps into the host: content opens it, nothing closes it */
let asked = null;
document.addEventListener("htmx:before:request", (event) => { if (event.detail.ctx.target === host()) { asked = event.detail.ctx.sourceElement; } });
document.addEventListener("htmx:after:swap", (event) => {
  const dialog = host();
  if (!dialog || event.detail.ctx.target !== dialog) { return; }
  if (dialog.textContent.trim() === "") { if (dialog.open) { dialog.close(); } return; }
  if (dialog.open) { name(dialog); } else { openDialog(dialog, asked); }
});
document.addEventListener("dialog:close", () => { const dialog = host(); if (dialog?.open) { dialog.close(); } });

document.addEventListener("close", (event) => {
  const dialog = event.target;
  if (!(dialog instanceof HTMLDialogElement)) { return; }
  if (dialog === host()) { dialog.replaceChildren(); }
  if (opener?.isConnected) { opener.focus(); }
  opener = null;
}, true);

on("click", "[data-dialog-open]", (event, button) => {
  const dialog = $(button.dataset.dialogOpen);
  if (dialog instanceof HTMLDialogElement) { event.preventDefault(); openDialog(dialog, button); }
});
on("click", "dialog [data-dialog-close]", (event, button) => { event.preventDefault(); button.closest("dialog").close(); });
/* a click on the backdrop closes, unless something was typed */
let pressed = null;
on("pointerdown", "dialog", (event) => { pressed = event.target; });
on("click", "dialog[open]", (event, dialog) => {
  if (event.target !== dialog || pressed !== dialog || $("form[data-changed]", dialog)) { return; }
  const box = dialog.getBoundingClientRect();
  const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
  if (!inside) { dialog.close(); }
});

/** Asks in our own dialog; resolves to true or false. `text` may carry a title: "Title | text". */
export function ask(text, { yes = "Continue", danger = false } = {}) {
  const dialog = $("#confirm-dialog");
  if (!dialog) { return Promise.resolve(window.confirm(text)); }
  const [title, ...rest] = text.split("|").map((part) => part.trim());
  $("#confirm-title", dialog).textContent = rest.length ? title : "Are you sure?";
  $("#confirm-text", dialog).textContent = rest.length ? rest.join(" | ") : title;
  const button = $("[data-confirm-yes]", dialog);
  button.textContent = yes;
  button.className = danger ? "btn btn-danger" : "btn btn-primary";
  dialog.returnValue = "";
  const before = opener;
  openDialog(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); opener = before; }, { once: true });
  });
}
const options = (element) => ({ yes: element?.dataset?.confirmYes || undefined, danger: element?.dataset?.confirmDanger !== undefined });

document.addEventListener("htmx:confirm", (event) => {
  const { ctx, issueRequest, dropRequest } = event.detail;
  if (!ctx.confirm) { return; }
  event.preventDefault();
  ask(ctx.confirm, options(ctx.sourceElement)).then((yes) => (yes ? issueRequest() : dropRequest()));
});
/* plain forms: <form data-confirm="Title | text"> or a submit button with it */
document.addEventListener("submit", (event) => {
  const form = event.target;
  const text = event.submitter?.dataset.confirm ?? form.dataset.confirm;
  if (!text || form.dataset.confirmed) { delete form.dataset.confirmed; return; }
  event.preventDefault();
  event.stopImmediatePropagation();
  const { submitter } = event;
  ask(text, options(submitter?.dataset.confirm ? submitter : form)).then((yes) => {
    if (yes) { form.dataset.confirmed = "yes"; form.requestSubmit(submitter ?? undefined); }
  });
}, true);
