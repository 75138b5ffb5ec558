// Machines of Curfew in the side bar: list, wake, hibernate, keep awake, open over Remote-SSH.
import * as vscode from "vscode";

import { Api, checkedUrl, describe, kind, Machine, remoteTarget } from "./api";

const KEY = "curfew.apiKey";
const ICONS: Record<string, string> = { awake: "vm-running", asleep: "circle-large-outline", waking: "loading~spin", falling: "loading~spin", lost: "debug-disconnect", trouble: "warning" };

class Machines implements vscode.TreeDataProvider<Machine> {
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChangeTreeData = this.changed.event;

  constructor(private readonly connect: () => Promise<Api | undefined>) {}

  refresh(): void {
    this.changed.fire();
  }

  getTreeItem(machine: Machine): vscode.TreeItem {
    const item = new vscode.TreeItem(machine.name);
    item.id = machine.id;
    item.description = describe(machine, new Date());
    item.tooltip = machine.error ? `${machine.error.message} ${machine.error.next_step}` : machine.idle.why ?? item.description;
    item.contextValue = kind(machine);
    item.iconPath = new vscode.ThemeIcon(ICONS[machine.status] ?? "vm");
    return item;
  }

  async getChildren(parent?: Machine): Promise<Machine[]> {
    const api = parent ? undefined : await this.connect();
    return api ? api.machines() : [];
  }
}

export function activate(context: vscode.ExtensionContext): void {
  const connect = async (): Promise<Api | undefined> => {
    const url = vscode.workspace.getConfiguration("curfew").get<string>("url", "");
    const key = await context.secrets.get(KEY);
    return url && key ? new Api(checkedUrl(url), key) : undefined;
  };
  const machines = new Machines(connect);
  const view = vscode.window.createTreeView("curfew.machines", { treeDataProvider: machines });
  const act = (work: (api: Api, machine: Machine) => Promise<void>, done: (machine: Machine) => string) => async (machine?: Machine): Promise<void> => {
    const api = await connect();
    if (!api || !machine) {
      return;
    }
    try {
      await work(api, machine);
      vscode.window.setStatusBarMessage(done(machine), 5000);
    } catch (failure) {
      void vscode.window.showErrorMessage(failure instanceof Error ? failure.message : String(failure));
    }
    machines.refresh();
  };
  const seconds = Math.max(5, vscode.workspace.getConfiguration("curfew").get<number>("refreshSeconds", 15));
  const timer = setInterval(() => view.visible && machines.refresh(), seconds * 1000);
  context.subscriptions.push(
    view,
    { dispose: () => clearInterval(timer) },
    vscode.commands.registerCommand("curfew.connect", () => ask(context, machines)),
    vscode.commands.registerCommand("curfew.refresh", () => machines.refresh()),
    vscode.commands.registerCommand("curfew.wake", act((api, m) => api.wake(m.id), (m) => `${m.name} is being woken`)),
    vscode.commands.registerCommand("curfew.hibernate", act((api, m) => api.hibernate(m.id), (m) => `${m.name} is being put to sleep`)),
    vscode.commands.registerCommand("curfew.keepAwake", act((api, m) => api.keepAwake(m.id, 60), (m) => `${m.name} stays awake for an hour`)),
    vscode.commands.registerCommand("curfew.openSsh", open),
  );
}

async function ask(context: vscode.ExtensionContext, machines: Machines): Promise<void> {
  const settings = vscode.workspace.getConfiguration("curfew");
  const url = await vscode.window.showInputBox({ title: "Address of Curfew", value: settings.get<string>("url", ""), ignoreFocusOut: true });
  if (!url) {
    return;
  }
  const key = await vscode.window.showInputBox({ title: "API key (Settings, API keys; scopes gpu.view and gpu.operate)", password: true, ignoreFocusOut: true });
  if (!key) {
    return;
  }
  try {
    await settings.update("url", checkedUrl(url), vscode.ConfigurationTarget.Global);
    await context.secrets.store(KEY, key.trim());
  } catch (failure) {
    void vscode.window.showErrorMessage(failure instanceof Error ? failure.message : String(failure));
  }
  machines.refresh();
}

async function open(machine?: Machine): Promise<void> {
  const target = machine ? remoteTarget(machine) : null;
  if (!target) {
    void vscode.window.showWarningMessage("This machine cannot be reached over SSH now.");
    return;
  }
  await vscode.commands.executeCommand("vscode.openFolder", vscode.Uri.parse(`vscode-remote://ssh-remote+${target}/workspace`), { forceNewWindow: true });
}
