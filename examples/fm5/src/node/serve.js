/**
 * The application on Node: what a Worker is given by Cloudflare comes from the environment's variables here.
 *
 * An error that the application does not catch is answered with 500 and written to stderr, as the platform does it for
 * a Worker. SIGTERM ends the process when the requests under way are answered.
 */
import { createServer } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Bucket } from "./bucket.js";
import { openPool } from "./pool.js";

/** Longer than a proxy keeps an idle connection (Caddy: 2 minutes), so that none is used while this end closes it. */
const KEEP_ALIVE_MS = 150_000;

/**
 * Serve at 127.0.0.1 and PORT; with the argument `scheduled` run the schedule once and end.
 *
 * @param {ReturnType<import("../app.js").createApp>} app
 */
export async function serve(app, variables = process.env, words = process.argv.slice(2)) {
  const env = bind(variables);
  if (words[0] === "scheduled") return await runSchedule(app, env);
  const server = createServer((incoming, outgoing) => answer(app, env, incoming, outgoing));
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  process.once("SIGTERM", () => server.close());
  server.listen(Number(variables.PORT), "127.0.0.1");
}

/** @returns {import("../env.js").Env} */
function bind(variables) {
  const { DATABASE_URL, S3_ENDPOINT, S3_BUCKET, S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_REGION, ...texts } = variables;
  const access = { endpoint: S3_ENDPOINT, bucket: S3_BUCKET, region: S3_REGION };
  const keys = { accessKeyId: S3_ACCESS_KEY_ID, secretAccessKey: S3_SECRET_ACCESS_KEY };
  return {
    ...texts,
    HYPERDRIVE: DATABASE_URL ? { connectionString: DATABASE_URL, pool: openPool(DATABASE_URL) } : undefined,
    MODELS: S3_ENDPOINT && S3_BUCKET ? new Bucket({ ...access, ...keys }) : undefined,
    CF_VERSION: { id: variables.RELEASE ?? "unknown", tag: variables.RELEASE_TAG ?? "", timestamp: "" },
  };
}

async function runSchedule(app, env) {
  const pending = [];
  await app.scheduled({ cron: "", scheduledTime: Date.now() }, env, { waitUntil: (work) => pending.push(work) });
  await Promise.all(pending);
}

async function answer(app, env, incoming, outgoing) {
  let request;
  try {
    request = toRequest(incoming);
  } catch {
    outgoing.writeHead(400).end("bad request\n");
    return;
  }
  const ctx = { waitUntil: (work) => void Promise.resolve(work).catch(console.error), passThroughOnException() {} };
  try {
    const response = await app.fetch(request, env, ctx);
    outgoing.writeHead(response.status, [...response.headers].flat());
    if (response.body === null) outgoing.end();
    else await pipeline(Readable.fromWeb(response.body), outgoing);
  } catch (error) {
    if (outgoing.headersSent) return outgoing.destroy(); // the client is gone, or the answer broke off
    console.error(error);
    outgoing.writeHead(500, { "content-type": "text/plain" }).end("internal error\n");
  }
}

function toRequest(incoming) {
  const headers = new Headers();
  for (let at = 0; at < incoming.rawHeaders.length; at += 2) {
    headers.append(incoming.rawHeaders[at], incoming.rawHeaders[at + 1]);
  }
  const { method } = incoming;
  const body = method === "GET" || method === "HEAD" ? undefined : Readable.toWeb(incoming);
  return new Request(`http://${incoming.headers.host ?? "localhost"}${incoming.url}`, {
    method,
    headers,
    body,
    duplex: "half",
  });
}
