// Runs a WebAssembly program: node run.mjs FILE [NAME=VALUE...]
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';
const env = Object.fromEntries(process.argv.slice(3).map(a => [a.slice(0, a.indexOf('=')), a.slice(a.indexOf('=') + 1)]));
const wasi = new WASI({ version: 'preview1', args: ['test'], env, returnOnExit: true });
const module = await WebAssembly.compile(await readFile(process.argv[2]));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exitCode = wasi.start(instance);
