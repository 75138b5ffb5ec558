// htmx: CSRF, errors beside the page instead of inside a cell, busy state, and what a morph must leave alone.
import { $, meta } from "./dom.js";
import { showProblem } from "./notices.js";

const SAFE = /^(GET|HEAD|OPTIONS)$/;
const background = (ctx) => !["click", "submit", "change", "input", "keydown", "keyup"].includes(ctx.sourceEvent?.type);
const sourceOf = (ctx) => ctx.request?.submitter ?? ctx.sourceElement;

document.addEventListener("htmx:config:request", (event) => {
  const { request } = event.detail.ctx;
  if (!SAFE.test(request.method)) { request.headers["X-CSRFToken"] = meta("csrf-token"); }
});

/* busy: said to screen readers and seen, for what a person started */
document.addEventListener("htmx:before:request", (event) => {
  const { ctx } = event.detail;
  if (!background(ctx)) { sourceOf(ctx)?.setAttribute?.("aria-busy", "true"); }
});
document.addEventListener("htmx:finally:request", (event) => {
  const { ctx } = event.detail;
  ctx.sourceElement?.removeAttribute?.("aria-busy");
  sourceOf(ctx)?.removeAttribute?.("aria-busy");
});

/* log in again: at once when a person asked for something, as a notice when the page refreshed itself */
function loginUrl() {
  return `${meta("curfew-login")}?next=${encodeURIComponent(location.pathname + location.search)}`;
}
function signedOut(ctx) {
  if (!background(ctx)) { location.assign(loginUrl()); return; }
  showProblem({ title: "You are logged out.", text: "Log in again to go on; what you typed is still here.", key: "session", link: { href: loginUrl(), text: "Log in" } });
}
function isLoginPage(ctx) {
  const { raw } = ctx.response;
  return raw.redirected && new URL(raw.url).pathname === meta("curfew-login") && location.pathname !== meta("curfew-login");
}

/* what the server says about an error: problem JSON, or the texts that our error pages mark */
function readProblem(ctx) {
  const type = ctx.response.headers.get("Content-Type") ?? "";
  if (type.includes("json")) {
    try {
      const body = JSON.parse(ctx.text);
      return { title: body.title ?? "", text: body.detail ?? "", id: body.request_id ?? "" };
    } catch { return {}; }
  }
  if (!type.includes("html")) { return {}; }
  const page = new DOMParser().parseFromString(ctx.text, "text/html");
  const of = (name) => page.querySelector(`[data-problem-${name}]`)?.textContent.trim() ?? "";
  return { title: of("title"), text: of("detail"), id: of("id") };
}
const SAID = {
  403: "You may not do this here.", 404: "It is not there any more.", 409: "Something else is already under way.",
  413: "That is too large.", 429: "Too many requests.", 503: "A part of Curfew is not answering.",
};

/** Does it again: the form is sent again, the button pressed again, the refresh repeated. */
function again(ctx) {
  const source = ctx.sourceElement;
  const { submitter } = ctx.request;
  if (!source?.isConnected) { location.reload(); return; }
  if (source.matches("form")) { source.requestSubmit(submitter?.isConnected ? submitter : undefined); return; }
  if (ctx.sourceEvent?.type === "click") { source.click(); return; }
  source.dispatchEvent(new CustomEvent(ctx.sourceEvent?.type ?? "click", { bubbles: false }));
}

document.addEventListener("htmx:response:error", (event) => {
  const { ctx } = event.detail;
  const { status } = ctx.response;
  if (status === 422 || ctx.hx?.reswap) { return; } // a form with its errors, or the server said where it goes
  const read = readProblem(ctx);
  ctx.swap = "none"; // an `hx-status:…` on the element still has the last word
  ctx.text = ctx.hx?.retarget ? ctx.text : "";
  if (ctx.hx?.redirect || ctx.hx?.refresh) { return; }
  if (status === 401) { signedOut(ctx); return; }
  if (background(ctx) && (status >= 500 || status === 429)) { refreshFailed(); return; }
  const wait = Number(ctx.response.headers.get("Retry-After"));
  showProblem({
    title: read.title || SAID[status] || (status >= 500 ? "Something broke on our side." : "That did not work."),
    text: read.text || (wait ? `Try again in ${wait} s.` : ""),
    id: read.id, key: `${status}`,
    retry: status >= 500 || status === 409 || status === 429 ? () => again(ctx) : null,
  });
});
document.addEventListener("htmx:after:request", (event) => {
  const { ctx } = event.detail;
  if (!isLoginPage(ctx)) { return; }
  event.preventDefault();
  signedOut(ctx);
});
document.addEventListener("htmx:error", (event) => {
  const { ctx, error } = event.detail;
  if (!ctx) { return; }
  if (background(ctx)) { refreshFailed(); return; }
  const late = ctx.request?.signal?.reason === "timeout";
  if (!late && !(error instanceof TypeError)) { return; }
  showProblem({
    title: late ? "No answer in time." : "Curfew cannot be reached.",
    text: late ? "It may still be working on it; look before you try again." : "Check your connection. What was started goes on.",
    key: "network", retry: () => again(ctx),
  });
});
function refreshFailed() {
  document.dispatchEvent(new CustomEvent("curfew:refresh-failed"));
}

/* a morph leaves alone what only the page knows: open menus, selection, the place of the keyboard */
const KEPT = [
  ["open", "details, dialog"],
  ["hidden", ".bulk, .drawer, [data-unsaved], [data-apply]"],
  ["aria-selected", "[data-rows] tr"],
  ["tabindex", "[data-rows] tr"],
  ["aria-expanded", "[data-bs-toggle], [data-rail-toggle]"],
  ["aria-busy", "*"],
  ["style", "[data-chart], [x-data], [x-show]"],
  ["_echarts_instance_", "*"],
];
function keep(element, { attrName }) {
  if (KEPT.some(([name, selector]) => name === attrName && element.matches(selector))) { return false; }
  if (attrName === "checked" && element.matches("[data-pick], [data-pick-all]")) { return false; }
  return undefined;
}
globalThis.htmx?.registerExtension("curfew", {
  htmx_before_morph_attr: keep,
  // the canvas belongs to the chart library, not to the server
  htmx_before_morph_node: (element) => (element.matches?.("[data-chart] *") ? false : undefined),
});

/* a fragment that carries a new token (after a log-in elsewhere) updates the page's */
document.addEventListener("htmx:after:swap", (event) => {
  const fresh = event.target instanceof Element ? $("input[name=csrfmiddlewaretoken]", event.target)?.value : "";
  if (fresh) { $('meta[name="csrf-token"]').content = fresh; }
});
