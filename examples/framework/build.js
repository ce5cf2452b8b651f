// Builds as the adapter of a framework does: static files under names that hold their hash, the server with a list of
// them, the configuration that is deployed, and `.wrangler/deploy/config.json`, which leads wrangler to it.
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join, parse } from "node:path";

const CLIENT = "dist/client";
const SERVER = "dist/server";

await rm("dist", { recursive: true, force: true });
await mkdir(join(CLIENT, "assets"), { recursive: true });
await mkdir(SERVER, { recursive: true });
await mkdir(".wrangler/deploy", { recursive: true });

const files = {};
for (const file of await readdir("src/client")) {
  const content = await readFile(join("src/client", file));
  const { name, ext } = parse(file);
  files[file] = `/assets/${name}-${createHash("sha256").update(content).digest("hex").slice(0, 8)}${ext}`;
  await writeFile(join(CLIENT, files[file]), content);
}
await writeFile(join(SERVER, "files.js"), `export default ${JSON.stringify(files, null, 2)};\n`);
await copyFile("src/server.js", join(SERVER, "index.js"));

const source = await readFile("wrangler.jsonc", "utf8");
const own = JSON.parse(source.replace(/^\s*\/\/.*$/gm, ""));
const built = {
  ...own,
  topLevelName: own.name,
  main: "index.js",
  no_bundle: true,
  rules: [{ type: "ESModule", globs: ["**/*.js"] }],
  assets: { directory: "../client" },
};
await writeJson(join(SERVER, "wrangler.json"), built);
await writeJson(".wrangler/deploy/config.json", { configPath: `../../${SERVER}/wrangler.json` });
console.log(`built ${Object.keys(files).length} static files and the server`);

async function writeJson(path, value) {
  await writeFile(path, `${JSON.stringify(value, null, 2)}\n`);
}
