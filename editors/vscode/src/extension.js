// Starts `lmprog lsp` for YAML files, and again when the settings or the trust in the workspace change.
"use strict";

const { execFile } = require("node:child_process");
const path = require("node:path");
const { promisify } = require("node:util");
const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

/** Return the command of lmprog: of the settings, of the Python environment that is chosen, or the one in PATH. */
async function command() {
  const written = vscode.workspace.getConfiguration("lmprog").get("command");
  if (written) {
    return written;
  }
  const python = await chosenPython();
  if (python !== undefined) {
    const beside = path.join(path.dirname(python), process.platform === "win32" ? "lmprog.exe" : "lmprog");
    try {
      await promisify(execFile)(beside, ["--version"]);
      return beside;
    } catch {
      // lmprog is not installed there
    }
  }
  return "lmprog";
}

/** Return the interpreter that the Python extension has chosen; undefined without the extension. */
async function chosenPython() {
  const extension = vscode.extensions.getExtension("ms-python.python");
  if (extension === undefined || !vscode.workspace.isTrusted) {
    return undefined;
  }
  const python = await extension.activate();
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  return python?.environments?.getActiveEnvironmentPath(folder)?.path;
}

async function start() {
  const trusted = vscode.workspace.isTrusted;
  const further = trusted ? vscode.workspace.getConfiguration("lmprog").get("arguments") : ["--no-import"];
  const server = { command: await command(), args: ["lsp", ...further] };
  const options = {
    documentSelector: [
      { scheme: "file", language: "yaml" },
      // Files that programs name count as they are typed too.
      { scheme: "file", pattern: "**/*.{jsonl,csv,tsv,txt}" },
    ],
  };
  client = new LanguageClient("lmprog", "lmprog", server, options);
  try {
    await client.start();
  } catch (error) {
    client = undefined;
    const message = `lmprog: cannot start \`${server.command} lsp\`: ${error.message ?? error}`;
    const chosen = await vscode.window.showErrorMessage(`${message}. pip install 'lmprog[lsp]'`, "Settings");
    if (chosen === "Settings") {
      await vscode.commands.executeCommand("workbench.action.openSettings", "lmprog.command");
    }
  }
}

async function stop() {
  const running = client;
  client = undefined;
  await running?.stop();
}

async function restart() {
  await stop();
  await start();
}

async function activate(context) {
  context.subscriptions.push(
    vscode.commands.registerCommand("lmprog.restart", restart),
    vscode.workspace.onDidGrantWorkspaceTrust(restart),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("lmprog.command") || change.affectsConfiguration("lmprog.arguments")) {
        return restart();
      }
    }),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
