/**
 * GET /health: one real operation on each service the application needs, side by side, each with its own time limit.
 *
 * 503 when the database or the storage does not work. Without the email provider orders are still taken and their
 * confirmations sent later, so that is 200 and "degraded", for the service and in total.
 *
 * @typedef {"ok" | "degraded" | "error"} Status
 * @typedef {{status: Status, latency_ms: number, message?: string}} ServiceHealth
 */
import { withDatabase } from "./database.js";
import { json } from "./responses.js";

const TIMEOUT_MS = 1500;
const SLOW_MS = 1000;
const CRITICAL = ["database", "storage"];
const SECRETS = ["JWT_SECRET", "EMAIL_API_KEY"];

/** @type {import("./router.js").Handler} */
export async function health(_request, env, ctx) {
  const [database, storage, email] = await Promise.all([
    measure(env, () => checkDatabase(env, ctx)),
    measure(env, () => checkStorage(env)),
    measure(env, () => checkEmail(env), "degraded"),
  ]);
  const services = { database, storage, email };
  const status = overall(services);
  const version = { id: env.CF_VERSION?.id ?? "unknown", tag: env.CF_VERSION?.tag ?? "" };
  const body = { status, timestamp: new Date().toISOString(), version, services };
  return json(body, { status: status === "error" ? 503 : 200 });
}

/**
 * @param {Record<string, ServiceHealth>} services
 * @returns {Status}
 */
export function overall(services) {
  if (CRITICAL.some((name) => services[name].status === "error")) return "error";
  return Object.values(services).every((service) => service.status === "ok") ? "ok" : "degraded";
}

/**
 * Hyperdrive answers a repeated read from its cache for 60 s (and 15 s more while it refreshes), which would hide an
 * outage. It never caches a statement with a volatile function, and these two are volatile.
 */
async function checkDatabase(env, ctx) {
  if (env.HYPERDRIVE === undefined) throw new NotConfigured("the binding HYPERDRIVE is missing");
  const uncacheable = "SELECT 1 AS one, random(), clock_timestamp()";
  await withDatabase(env, ctx, (client) => client.query(uncacheable), { timeoutMs: TIMEOUT_MS });
}

/** Listing needs no object to exist, and needs the same permission as reading one. */
async function checkStorage(env) {
  if (env.MODELS === undefined) throw new NotConfigured("the binding MODELS is missing");
  await env.MODELS.list({ limit: 1 });
}

async function checkEmail(env) {
  if (!env.EMAIL_API_URL) throw new NotConfigured("the variable EMAIL_API_URL is missing");
  const response = await fetch(`${env.EMAIL_API_URL}/health`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`the email provider answered ${response.status}`);
}

/** A missing binding or variable: it will not heal by itself, whatever the service. */
class NotConfigured extends Error {}

/**
 * @param {Status} whenDown what it means for the application that this service does not answer
 * @returns {Promise<ServiceHealth>}
 */
async function measure(env, check, whenDown = "error") {
  const start = Date.now();
  try {
    await withinLimit(check());
  } catch (error) {
    const status = error instanceof NotConfigured ? "error" : whenDown;
    return { status, latency_ms: Date.now() - start, message: presentable(error, env) };
  }
  const latencyMs = Date.now() - start;
  if (latencyMs < SLOW_MS) return { status: "ok", latency_ms: latencyMs };
  return { status: "degraded", latency_ms: latencyMs, message: `slower than ${SLOW_MS} ms` };
}

async function withinLimit(promise) {
  let timer;
  const limit = new Promise((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
    promise.catch(() => {}); // when the limit came first, the late failure is no news
  }
}

/** The error's text for everybody to read: no address with a password in it, no secret, no novel. */
function presentable(error, env) {
  let text = String(error?.message || error?.code || error?.name || "failed");
  for (const name of SECRETS) {
    if (env[name]) text = text.replaceAll(env[name], "[secret]");
  }
  return text.replace(/\b[a-z][\w+.-]*:\/\/\S+/gi, "[address]").slice(0, 200);
}
