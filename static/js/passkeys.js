// Says in our words why a passkey did not work; the ceremony itself is the authentication library's.
import { $, say } from "./dom.js";

const SAID = {
  NotAllowedError: "The key was not used: cancelled, or too slow. Try again.",
  InvalidStateError: "This key is added already.",
  SecurityError: "Passkeys work over HTTPS or on localhost only.",
  NotSupportedError: "This browser or key cannot do that.",
};

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const box = $("#passkey-problem");
  const text = SAID[event.detail.exception?.name] ?? "The key could not be used. Try again, or log in another way.";
  if (box) { box.textContent = text; box.hidden = false; } else { say(text); }
});
