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

/* Refreshing by itself. Who listens to several topics that changed at once asks once. An element with data-shape says
   which ids changed and gets these alone; any other that was refreshed before says what it has, and may be told 304. */
const MOST_IDS = 40;
const seen = new WeakMap(); // element -> the changes it has asked about already
const wanted = new WeakMap(); // element -> ids not yet asked about; null when only the whole will do
const etags = new WeakMap(); // element -> { url, etag } of what it shows
const isLive = (ctx) => ctx.sourceEvent?.type?.startsWith("live:") && SAFE.test(ctx.request.method);

document.addEventListener("htmx:config:request", (event) => {
  const { ctx } = event.detail;
  if (!isLive(ctx)) { return; }
  const element = ctx.sourceElement;
  const changes = ctx.sourceEvent.detail?.changes;
  if (changes && seen.get(element) === changes) { event.preventDefault(); return; }
  if (changes) { seen.set(element, changes); }
  const before = wanted.has(element) ? wanted.get(element) : new Set();
  const topics = [...(element.getAttribute("hx-trigger") ?? "").matchAll(/live:([\w.-]+)/g)].map((one) => one[1]);
  const mine = changes ? topics.filter((topic) => changes.has(topic)).map((topic) => changes.get(topic)) : [[]];
  const whole = before === null || mine.some((ids) => !ids.length);
  wanted.set(element, whole ? null : new Set([...before, ...mine.flat()]));
});
document.addEventListener("htmx:before:request", (event) => {
  const { ctx } = event.detail;
  const element = ctx.sourceElement;
  if (!isLive(ctx)) { return; }
  if (!wanted.has(element)) { event.preventDefault(); return; } // a request since then has asked for it
  const ids = wanted.get(element);
  wanted.delete(element);
  if (element.dataset.shape && ids && ids.size <= MOST_IDS) {
    const url = new URL(ctx.request.action, document.baseURI);
    url.searchParams.set("ids", [...ids].sort().join(","));
    url.searchParams.set("shape", element.dataset.shape);
    ctx.request.action = url.pathname + url.search;
  } else if (etags.get(element)?.url === ctx.request.action) {
    ctx.request.headers["If-None-Match"] = etags.get(element).etag;
  }
});
document.addEventListener("htmx:after:swap", (event) => {
  const { ctx } = event.detail;
  const etag = ctx.response?.headers.get("ETag");
  const shown = isLive(ctx) && etag && !ctx.request.action.includes("ids=") ? { url: ctx.request.action, etag } : null;
  if (shown) { etags.set(ctx.sourceElement, shown); return; }
  // something else was put into the page: what stands there is no longer what the tag names
  [ctx.sourceElement, ctx.target].forEach((one) => {
    for (let element = one; element instanceof Element; element = element.parentElement) { etags.delete(element); }
  });
});
/* what could not be had is wanted still, and then the whole of it */
const missed = (ctx) => { if (ctx && isLive(ctx)) { wanted.set(ctx.sourceElement, null); } };
document.addEventListener("htmx:response:error", (event) => missed(event.detail.ctx));
document.addEventListener("htmx:error", (event) => missed(event.detail.ctx));

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
