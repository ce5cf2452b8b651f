/** Postgres through Hyperdrive. One connection a request: Hyperdrive keeps the pool, a socket ends with its request. */
import { Client } from "pg";

/**
 * Run `work` with a connection and give the connection back afterwards.
 *
 * @template T
 * @param {import("./env.js").Env} env
 * @param {ExecutionContext} ctx
 * @param {(client: Client) => Promise<T>} work
 * @param {{timeoutMs?: number}} [limits] for connecting and for each query
 * @returns {Promise<T>}
 */
export async function withDatabase(env, ctx, work, { timeoutMs = 5000 } = {}) {
  const client = await connect(env, { timeoutMs });
  try {
    return await work(client);
  } finally {
    ctx.waitUntil(client.end().catch(() => {}));
  }
}

/** A connection of the caller's own, to be ended by it. On Node it comes from the pool that the process keeps. */
export async function connect(env, { timeoutMs = 5000 } = {}) {
  if (env.HYPERDRIVE.pool !== undefined) return await env.HYPERDRIVE.pool.connect();
  const client = new Client({
    connectionString: env.HYPERDRIVE.connectionString,
    connectionTimeoutMillis: timeoutMs,
    query_timeout: timeoutMs,
  });
  client.on("error", () => {}); // a connection lost between queries; the query that needed it reports the loss
  await client.connect();
  return client;
}

/** The rows of one statement. */
export async function query(env, ctx, text, values = []) {
  const result = await withDatabase(env, ctx, (client) => client.query(text, values));
  return result.rows;
}
