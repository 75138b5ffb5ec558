// Turning push on and off for this browser. The list of browsers and their buttons are plain forms.
import { $ , meta } from "./dom.js";

const box = $("[data-push]");
const button = $("[data-push-on]");
const word = $("[data-push-word]");

function say(text, bad = false) {
  word.textContent = text;
  word.classList.toggle("form-error", bad);
}

function bytes(text) {
  const raw = atob(text.replace(/-/g, "+").replace(/_/g, "/").padEnd(Math.ceil(text.length / 4) * 4, "="));
  return Uint8Array.from(raw, (c) => c.charCodeAt(0));
}

async function registration() {
  const made = await navigator.serviceWorker.register(box.dataset.worker);
  if (made.active) { return made; }
  const worker = made.installing ?? made.waiting;
  await new Promise((resolve) => {
    if (!worker || worker.state === "activated") { resolve(); return; }
    worker.addEventListener("statechange", () => { if (worker.state === "activated") { resolve(); } });
  });
  return made;
}

async function keep(subscription) {
  const { endpoint, keys } = subscription.toJSON();
  const body = new URLSearchParams({ endpoint, p256dh: keys.p256dh, auth: keys.auth });
  const answer = await fetch(box.dataset.add, { method: "POST", body, headers: { "X-CSRFToken": meta("csrf-token") } });
  if (answer.ok) { location.reload(); return; }
  await subscription.unsubscribe();
  const told = await answer.json().catch(() => ({}));
  say(told.detail ?? "The server did not take it. Try again.", true);
}

async function turnOn() {
  button.disabled = true;
  try {
    if (await Notification.requestPermission() !== "granted") {
      say("This browser does not let Curfew show notifications. Allow it in the browser's settings for this site.", true);
      return;
    }
    const worker = await registration();
    const old = await worker.pushManager.getSubscription();
    if (old) { await old.unsubscribe(); }
    await keep(await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(box.dataset.key) }));
  } catch (error) {
    say(error?.name === "AbortError" ? "The browser's push service does not answer. Try again later." : "This browser could not be turned on. Try again.", true);
  } finally {
    button.disabled = false;
  }
}

if (box && button) {
  if (!window.isSecureContext || !("serviceWorker" in navigator) || !("PushManager" in window) || !("Notification" in window)) {
    button.disabled = true;
    say(window.isSecureContext ? "This browser cannot take push messages." : "Push works over HTTPS or on localhost only.");
  } else {
    button.addEventListener("click", turnOn);
  }
}
