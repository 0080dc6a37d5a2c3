// Runs a WebAssembly module. Usage: node wasm.mjs FILE [ARGUMENTS]
//
// A module of `wasm32-unknown-unknown` must not import anything; one of `wasm32-wasip1` gets what WASI promises. Ends
// with the exit code of the program.
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const [file, ...args] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(file));
const imports = WebAssembly.Module.imports(module);
if (imports.some(({ module }) => module === "wasi_snapshot_preview1")) {
  const wasi = new WASI({ version: "preview1", args: [file, ...args], env: process.env, returnOnExit: false });
  wasi.start(new WebAssembly.Instance(module, wasi.getImportObject()));
} else if (imports.length > 0) {
  console.error(`${file} needs of its environment: ${imports.map(({ module, name }) => `${module}.${name}`).join(", ")}`);
  process.exit(1);
} else {
  const code = new WebAssembly.Instance(module).exports.main(0, 0);
  console.log(`${file} has no imports and ends with ${code}`);
  process.exit(code);
}
process.exit(0);
