// Runs a script of this repository under CPython for WebAssembly: node wasm.mjs PYODIDE ROOT SCRIPT
import path from "node:path";
import { pathToFileURL } from "node:url";

const [pyodide, root, script] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(path.join(pyodide, "pyodide.mjs")));
const python = await loadPyodide();
python.FS.mkdirTree("/repository");
python.FS.mount(python.FS.filesystems.NODEFS, { root }, "/repository");
try {
  python.runPython(`
import runpy, sys, warnings
sys.dont_write_bytecode = True
warnings.simplefilter("error", SyntaxWarning)
runpy.run_path("/repository/${script}", run_name="__main__")
print("Python %d.%d" % sys.version_info[:2])`);
} catch (error) {
  console.error(String(error));
  process.exit(1);
}
