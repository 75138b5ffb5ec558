import assert from "node:assert/strict";
import { test } from "node:test";

import { Api, ApiError, checkedUrl, describe, kind, Machine, remoteTarget } from "../src/api";

const machine: Machine = {
  id: "m1", name: "ember", status: "awake", gpu_name: "RTX 4090", gpu_count: 2, hourly_cost: "0.76",
  ssh: { host: "203.0.113.7", port: 41022, user: "root" }, idle: { sleep_at: null, why: null }, operation: null, error: null,
};

function answering(status: number, content: unknown, seen: Request[] = []): typeof fetch {
  return (async (url: string, options: RequestInit) => {
    seen.push(new Request(url, { method: options.method, headers: options.headers, body: options.body }));
    return new Response(JSON.stringify(content), { status });
  }) as typeof fetch;
}

test("a key is never sent in the clear", () => {
  assert.equal(checkedUrl("https://curfew.example.com/ "), "https://curfew.example.com");
  assert.equal(checkedUrl("http://localhost:8000"), "http://localhost:8000");
  for (const bad of ["http://curfew.example.com", "ftp://x", "https://a:b@curfew.example.com", "nonsense"]) {
    assert.throws(() => checkedUrl(bad));
  }
});

test("orders go to the fixed paths with the key", async () => {
  const seen: Request[] = [];
  const api = new Api("https://c.test", "cfk_1", answering(202, {}, seen));
  await api.wake("m1");
  await api.hibernate("m1");
  await api.keepAwake("m1", 60);
  assert.deepEqual(seen.map((r) => `${r.method} ${new URL(r.url).pathname}`), [
    "POST /api/v1/instances/m1/wake", "POST /api/v1/instances/m1/hibernate", "POST /api/v1/instances/m1/keep-alive",
  ]);
  assert.equal(seen[0]?.headers.get("Authorization"), "Api-Key cfk_1");
  assert.deepEqual(await seen[2]?.json(), { minutes: 60 });
});

test("every page of the list is read", async () => {
  let page = 0;
  const send = (async () => {
    page += 1;
    return new Response(JSON.stringify({ results: [{ ...machine, id: `m${page}` }], next: page < 3 ? "more" : null }));
  }) as typeof fetch;
  assert.deepEqual((await new Api("https://c.test", "k", send).machines()).map((m) => m.id), ["m1", "m2", "m3"]);
});

test("a refusal carries Curfew's own words", async () => {
  const api = new Api("https://c.test", "k", answering(409, { detail: "ember is awake." }));
  await assert.rejects(api.wake("m1"), (failure: ApiError) => failure.status === 409 && failure.message === "ember is awake.");
});

test("the line says what is going on", () => {
  const now = new Date("2031-01-01T00:00:00Z");
  assert.equal(describe(machine, now), "awake · 2 × RTX 4090 · $0.76/h");
  assert.match(describe({ ...machine, idle: { sleep_at: "2031-01-01T00:02:05Z", why: null } }, now), /^idle, sleeps in 2:05/);
  assert.match(describe({ ...machine, hourly_cost: null }, now), /price unknown$/);
  assert.equal(kind({ ...machine, operation: { step: "x", progress: 1 } }), "busy");
});

test("only a plain address is opened", () => {
  assert.equal(remoteTarget(machine), "root@203.0.113.7:41022");
  assert.equal(remoteTarget({ ...machine, ssh: null }), null);
  assert.equal(remoteTarget({ ...machine, ssh: { host: "x -oProxyCommand=evil", port: 22, user: "root" } }), null);
});
