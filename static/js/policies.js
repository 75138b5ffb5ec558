// Node templates and policies: the steps of the slide-over, ticking whole categories, the star that moves at once.
import { $, $$, on, onContent, say } from "./dom.js";

/* the four steps and the summary; without scripts all of them stand below one another */
const parts = (form) => $$("[data-part]", form);
function show(form, number, focus = true) {
  const all = parts(form);
  const at = Math.min(Math.max(number, 1), all.length);
  form.dataset.at = String(at);
  all.forEach((part) => { part.hidden = Number(part.dataset.part) !== at; });
  $$("[data-goto]", form).forEach((button) => {
    if (Number(button.dataset.goto) === at) { button.setAttribute("aria-current", "step"); } else { button.removeAttribute("aria-current"); }
    button.classList.toggle("done", Number(button.dataset.goto) < at);
  });
  const [back, next, save] = ["back", "next", "save"].map((name) => $(`[data-wizard-${name}]`, form));
  if (back) { back.hidden = at === 1; }
  if (next) { next.hidden = at === all.length; }
  if (save) { save.hidden = at !== all.length && !form.querySelector('[name="template"]').value; }
  $(".body", form).scrollTop = 0;
  const heading = $(`[data-part="${at}"] h3`, form);
  if (focus && heading) { heading.tabIndex = -1; heading.focus({ preventScroll: true }); say(`Step ${at} of ${all.length}: ${heading.textContent}`); }
}
onContent(() => $$("form[data-wizard]").forEach((form) => {
  if (form.dataset.at) { return; }
  $("[data-steps]", form).hidden = false;
  show(form, Number(form.dataset.step || 1), false);
}));
on("click", "[data-goto]", (event, button) => show(button.form, Number(button.dataset.goto)));
on("click", "[data-wizard-next]", (event, button) => show(button.form, Number(button.form.dataset.at) + 1));
on("click", "[data-wizard-back]", (event, button) => show(button.form, Number(button.form.dataset.at) - 1));
on("keydown", "form[data-wizard] input:not([type=search])", (event, input) => {
  const next = $("[data-wizard-next]", input.form);
  if (event.key === "Enter" && next && !next.hidden) { event.preventDefault(); next.click(); }
});
on("keydown", "form[data-wizard] [type=search]", (event) => { if (event.key === "Enter") { event.preventDefault(); } });

/* a category ticks its usual families for the architectures that are chosen; unticking it clears the whole category */
on("change", "[data-pick-category]", (event, box) => {
  const group = box.closest("[data-famgroup]");
  const arm = $('[name="architectures"][value="arm64"]', box.form).checked;
  const x86 = $('[name="architectures"][value="amd64"]', box.form).checked || !arm;
  const wanted = new Set([...(x86 ? box.dataset.x86.split(" ") : []), ...(arm ? box.dataset.arm.split(" ") : [])]);
  $$("[data-family]", group).forEach((one) => { one.checked = box.checked ? one.checked || wanted.has(one.value) : false; });
  box.form.dispatchEvent(new Event("input", { bubbles: true }));
});
function count(form) {
  $$("[data-famgroup]", form).forEach((group) => {
    const all = $$("[data-family]", group);
    const ticked = all.filter((one) => one.checked).length;
    $("[data-ticked]", group).textContent = `${ticked} of ${all.length}`;
    const box = $("[data-pick-category]", group);
    if (box) { box.checked = ticked > 0; box.indeterminate = false; }
  });
}
on("input", "form[data-wizard]", (event, form) => count(form));
onContent(() => $$("form[data-wizard]").forEach(count));
/* families that the check finds impossible are marked where they are ticked, and one press leaves one out */
onContent(() => $$("form[data-wizard]").forEach((form) => {
  const clashes = $$("[data-clash]", form);
  clashes.forEach((button) => { button.hidden = $('[name="name"]', form).matches(":disabled"); });
  const named = new Set(clashes.map((button) => button.dataset.clash));
  $$("[data-family]", form).forEach((box) => box.parentElement.classList.toggle("fam--clash", box.checked && named.has(box.value)));
}));
on("click", "[data-clash]", (event, button) => {
  const box = $(`[data-family][value="${CSS.escape(button.dataset.clash)}"]`, button.form);
  if (!box) { return; }
  box.checked = false;
  box.parentElement.classList.remove("fam--clash");
  box.dispatchEvent(new Event("input", { bubbles: true }));
  say(`${box.value} is left out`);
});
on("input", "[data-families-search]", (event, box) => {
  const words = box.value.trim().toLowerCase();
  $$("[data-famgroup]", box.form).forEach((group) => {
    const rows = $$(".famgrid > li", group);
    rows.forEach((row) => { row.hidden = words !== "" && !row.textContent.toLowerCase().includes(words); });
    group.hidden = rows.every((row) => row.hidden);
    $$("details", group).forEach((one) => { if (words) { one.open = true; } });
  });
});

/* the star moves before the server has answered; when it refuses, the star goes back */
let before = null;
function star(id) {
  $$("[data-star]").forEach((button) => {
    const mine = button.closest("tr").id === id;
    button.setAttribute("aria-pressed", String(mine));
    $("[data-default-chip]", button.closest("tr")).hidden = !mine;
  });
}
document.addEventListener("htmx:before:request", (event) => {
  const { sourceElement: form } = event.detail.ctx;
  if (!(form instanceof Element) || !form.matches("[data-star-form]")) { return; }
  before = $('[data-star][aria-pressed="true"]')?.closest("tr").id ?? null;
  star(form.closest("tr").id);
  form.closest("details")?.removeAttribute("open");
});
const undo = () => { if (before !== null) { star(before); before = null; } };
document.addEventListener("htmx:response:error", undo);
document.addEventListener("htmx:error", undo);
document.addEventListener("htmx:after:swap", () => { before = null; });

/* a policy: two layers, of which one is shown; both are sent */
function layer(form) {
  const chosen = $('[name="tab"]:checked', form).value;
  $$("[data-layer]", form).forEach((one) => { one.hidden = one.dataset.layer !== chosen; });
  form.setAttribute("action", `${form.getAttribute("action").split("#")[0]}#${chosen}`); // saving comes back to this layer
}
onContent(() => $$("form[data-policy]").forEach((form) => {
  $("[data-tabs]", form).hidden = false;
  if (form.dataset.ready) { return; }
  form.dataset.ready = "yes";
  if (location.hash === "#workload") { $('[name="tab"][value="workload"]', form).checked = true; }
  layer(form);
  $$("[data-add-row], [data-drop-row]", form).forEach((button) => { button.hidden = false; });
}));
on("change", "[data-tab]", (event, input) => { layer(input.form); history.replaceState(null, "", `#${input.value}`); });
on("click", "[data-start-over]", (event, link) => {
  event.preventDefault();
  delete link.closest("form").dataset.changed;
  location.reload();
});
on("input", "input[type=range]", (event, input) => {
  const out = $(`output[data-of="${input.id}"]`);
  if (out) { out.textContent = `${input.value} %`; }
});

/* rows that are added and taken away */
on("click", "[data-add-row]", (event, button) => {
  const set = $("[data-rowset]", button.parentElement);
  const row = set.lastElementChild.cloneNode(true);
  $$("input", row).forEach((input) => { input.value = ""; });
  $$("select", row).forEach((select) => { select.selectedIndex = 0; });
  set.append(row);
  $("input", row).focus();
});
on("click", "[data-drop-row]", (event, button) => {
  const row = button.closest("[data-row]");
  const { form } = button;
  if (row.parentElement.children.length === 1) { $$("input", row).forEach((input) => { input.value = ""; }); } else { row.remove(); }
  form.dispatchEvent(new Event("input", { bubbles: true }));
});
