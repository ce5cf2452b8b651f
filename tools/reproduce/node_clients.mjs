// Node clients made to fail: node-pg, fetch, AggregateError and plain mistakes.
//
// node tools/reproduce/node_clients.mjs DATABASE_URL VENDOR_URL
// DATABASE_URL may be thrown away; VENDOR_URL is where vendor_errors.py listens. `pg` comes from node_modules.
import crypto from "node:crypto";
import net from "node:net";
import util from "node:util";
import pg from "pg";

const [databaseUrl, vendorUrl] = process.argv.slice(2);
const here = import.meta.url;

// The text as `console.error(error)` prints it, and as a structured logger writes it.
function keep(origin, error) {
  const shown = util.inspect(error, { depth: 4 });
  const line = { level: 50, time: Date.now(), err: { type: error.name, message: error.message, stack: error.stack, code: error.code } };
  for (const [form, text] of [["inspect", shown], ["json", JSON.stringify({ ...line, msg: "request failed" })]]) {
    const clean = text.replaceAll(here, "file:///app/server.js");
    console.log(JSON.stringify({ origin: `${origin}_${form}`, kind: "runtime", text: clean.slice(0, 2500) }));
  }
}

async function keepFailure(origin, action) {
  try {
    await action();
    console.error(`${origin}: did not fail`);
  } catch (error) {
    keep(origin, error);
  }
}

async function query(statement, values = []) {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    return await client.query(statement, values);
  } finally {
    await client.end();
  }
}

// Both families refused: what Node prints for "localhost" since it tries them side by side.
function refusedTwice() {
  const lookup = (_host, _options, done) =>
    done(null, [
      { address: "::1", family: 6 },
      { address: "127.0.0.1", family: 4 },
    ]);
  return new Promise((_, reject) => {
    net.connect({ host: "db", port: 1, autoSelectFamily: true, lookup }).on("error", reject);
  });
}

const cases = {
  "pg#undefined_table": () => query("select * from price_rules"),
  "pg#timeout": () => query("set statement_timeout = 50; select pg_sleep(2)"),
  "pg#out_of_range": () => query("select $1::int", ["99999999999999"]),
  "node#aggregate_refused": refusedTwice,
  "node#fetch_refused": () => fetch("http://127.0.0.1:1/api/stock"),
  "node#fetch_dns": () => fetch("https://partner.invalid/v1"),
  "node#fetch_page": async () => (await fetch(`${vendorUrl}/html-page`)).json(),
  "node#fetch_relative": () => fetch(`${process.env.UNSET_BASE_URL}/v1/stock`),
  "node#no_secret": async () => crypto.createHmac("sha256", process.env.UNSET_SECRET),
  "node#undefined_property": async () => undefined.lines,
  "node#no_package": () => import("not-installed-here"),
};
for (const [origin, action] of Object.entries(cases)) await keepFailure(origin, action);
