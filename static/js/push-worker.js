// The service worker: shows what the server pushes, and opens the page that it is about.
// It keeps nothing and answers no requests of pages.
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  let told = {};
  try { told = event.data ? event.data.json() : {}; } catch { told = {}; }
  const icon = new URL("../img/favicon.svg", self.location.href).href;
  event.waitUntil(self.registration.showNotification(told.title || "Curfew", {
    body: told.body || "", tag: told.id || undefined, icon, badge: icon, data: { url: told.url || "/" },
  }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const wanted = new URL(event.notification.data?.url || "/", self.location.origin);
  const url = wanted.origin === self.location.origin ? wanted.href : `${self.location.origin}/`;
  event.waitUntil((async () => {
    const open = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
    const there = open.find((page) => page.url === url);
    return there ? there.focus() : self.clients.openWindow(url);
  })());
});
