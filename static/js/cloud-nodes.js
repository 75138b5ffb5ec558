// What a morph cannot know about the grid's switches: when the truth of a node changes, its switch shows the truth again
// (an unsaved choice stays only while it still is a choice), and the keyboard stays in the cell it was in.
import { $, $$ } from "./dom.js";

const SWITCH = "form[data-nodes] .switch[data-was]";
const last = new WeakMap();
let cell = "";

function learn() {
  $$(SWITCH).forEach((one) => {
    const was = last.get(one);
    last.set(one, one.dataset.was);
    if (was === undefined || was === one.dataset.was) { return; }
    one.checked = one.dataset.was === "on";
    one.dispatchEvent(new Event("change", { bubbles: true }));
  });
}

document.addEventListener("htmx:before:swap", () => {
  cell = document.activeElement?.closest?.(".node[id]")?.id ?? "";
});
document.addEventListener("htmx:after:swap", () => {
  learn();
  if (cell && (document.activeElement === document.body || document.activeElement === null)) {
    $("input.switch, button, a", document.getElementById(cell) ?? document.createElement("div"))?.focus();
  }
});
learn();
