// Curfew's HTTP interface, as far as the extension needs it. Knows nothing of VS Code.

export interface Machine {
  id: string;
  name: string;
  status: string;
  gpu_name: string | null;
  gpu_count: number | null;
  hourly_cost: string | null;
  ssh: { host: string; port: number; user: string } | null;
  idle: { sleep_at: string | null; why: string | null };
  operation: { step: string; progress: number } | null;
  error: { message: string; next_step: string } | null;
}

export class ApiError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

/** The address without a slash at its end. Throws for anything but https, or http on this computer. */
export function checkedUrl(text: string): string {
  const url = new URL(text.trim());
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && local)) {
    throw new Error("Use an address that begins with https://, so that the key is not sent in the clear.");
  }
  if (url.username || url.password || url.search) {
    throw new Error("The address must hold neither credentials nor a query.");
  }
  return url.origin + url.pathname.replace(/\/+$/, "");
}

export class Api {
  constructor(private readonly base: string, private readonly key: string, private readonly send: typeof fetch = fetch) {}

  async machines(): Promise<Machine[]> {
    const found: Machine[] = [];
    for (let page = 1; page <= 20; page += 1) {
      const answer = (await this.call("GET", `/api/v1/instances?page_size=200&page=${page}`)) as { results: Machine[]; next: string | null };
      found.push(...answer.results);
      if (!answer.next) {
        break;
      }
    }
    return found;
  }

  async wake(id: string): Promise<void> {
    await this.call("POST", `/api/v1/instances/${encodeURIComponent(id)}/wake`, {});
  }

  async hibernate(id: string): Promise<void> {
    await this.call("POST", `/api/v1/instances/${encodeURIComponent(id)}/hibernate`, { reason: "From VS Code" });
  }

  async keepAwake(id: string, minutes: number): Promise<void> {
    await this.call("POST", `/api/v1/instances/${encodeURIComponent(id)}/keep-alive`, { minutes });
  }

  private async call(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await this.send(this.base + path, {
      method,
      redirect: "error",
      headers: { Authorization: `Api-Key ${this.key}`, Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(20_000),
    });
    const content = await answer.json().catch(() => null);
    if (!answer.ok) {
      const told = content as { detail?: string; title?: string } | null;
      throw new ApiError(answer.status, told?.detail || told?.title || `Curfew answered ${answer.status}.`);
    }
    return content;
  }
}

/** One line about a machine: what it runs on, what it costs, what is going on. */
export function describe(machine: Machine, now: Date): string {
  const gpu = machine.gpu_count ? `${machine.gpu_count} × ${machine.gpu_name}` : machine.gpu_name ?? "";
  const price = machine.hourly_cost === null ? "price unknown" : `$${machine.hourly_cost}/h`;
  return [words(machine, now), gpu, price].filter(Boolean).join(" · ");
}

function words(machine: Machine, now: Date): string {
  if (machine.error) {
    return machine.error.message;
  }
  if (machine.operation) {
    return `${machine.operation.step || machine.status} (${machine.operation.progress} %)`;
  }
  if (machine.idle.sleep_at) {
    const seconds = Math.max(0, Math.round((new Date(machine.idle.sleep_at).getTime() - now.getTime()) / 1000));
    return `idle, sleeps in ${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }
  return machine.status;
}

/** What Remote-SSH opens, or null when the machine cannot be reached now. Only plain host names and addresses pass. */
export function remoteTarget(machine: Machine): string | null {
  const { ssh } = machine;
  if (!ssh || !/^[A-Za-z0-9.:-]+$/.test(ssh.host) || !/^[a-z_][a-z0-9_-]*$/.test(ssh.user) || !(ssh.port > 0 && ssh.port < 65536)) {
    return null;
  }
  return `${ssh.user}@${ssh.host}:${ssh.port}`;
}

/** Which commands fit: awake, asleep, or neither. */
export function kind(machine: Machine): string {
  if (machine.operation) {
    return "busy";
  }
  return machine.status === "awake" || machine.status === "asleep" ? machine.status : "other";
}
