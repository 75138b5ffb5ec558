// Pending changes of switches and what they cost, before anything is applied.
// <form data-nodes data-rate="14.62" data-currency="USD"> … <input class="switch" data-price data-was data-name> … <div data-apply>
import { $, $$, on, onContent } from "./dom.js";

const format = (form) => new Intl.NumberFormat("en-US", { style: "currency", currency: form.dataset.currency || "USD" });

function sync(form) {
  const bar = $("[data-apply]", form);
  if (!bar) { return; }
  const money = format(form);
  const changed = $$(".switch[data-was]", form).filter((one) => {
    const is = one.checked !== (one.dataset.was === "on");
    const cell = one.closest(".node");
    cell?.classList.toggle("is-pending", is);
    const note = cell ? $(".node-pending", cell) : null;
    if (note) { note.textContent = one.checked ? "Will wake" : "Will sleep"; }
    return is;
  });
  const wake = changed.filter((one) => one.checked);
  const sleep = changed.filter((one) => !one.checked);
  const known = changed.every((one) => one.dataset.price !== undefined && one.dataset.price !== "");
  const delta = changed.reduce((sum, one) => sum + (one.checked ? 1 : -1) * Number(one.dataset.price || 0), 0);
  const put = (name, text) => { const place = $(`[data-apply-${name}]`, bar); if (place) { place.textContent = text; } };
  bar.hidden = changed.length === 0;
  const parts = [wake.length ? `${wake.length} to wake` : "", sleep.length ? `${sleep.length} to put to sleep` : ""].filter(Boolean);
  put("what", `${changed.length === 1 ? "1 change" : `${changed.length} changes`}: ${parts.join(", ")}`);
  put("names", changed.map((one) => `${one.checked ? "wake" : "sleep"} ${one.dataset.name}`).join(" · "));
  const rate = form.dataset.rate ?? $("[data-rate]", form)?.dataset.rate ?? "";
  const now = rate === "" ? null : Number(rate);
  put("now", now === null ? "no data" : money.format(now));
  put("then", known && now !== null ? money.format(now + delta) : "no price");
  put("delta", known ? `${delta < 0 ? "−" : "+"}${money.format(Math.abs(delta))}/h` : "no price");
}

onContent(() => $$("form[data-nodes]").forEach(sync));
on("change", "form[data-nodes]", (event, form) => sync(form));
on("click", "form[data-nodes] [data-reset]", (event, button) => {
  const form = button.closest("form");
  $$(".switch[data-was]", form).forEach((one) => { one.checked = one.dataset.was === "on"; });
  sync(form);
});
/* every switch to on or off at once, still pending until Apply */
on("click", "form[data-nodes] [data-all]", (event, button) => {
  event.preventDefault();
  const form = button.closest("form");
  $$(".switch[data-was]:not(:disabled)", form).forEach((one) => { if (one.checkVisibility()) { one.checked = button.dataset.all === "on"; } });
  sync(form);
});
