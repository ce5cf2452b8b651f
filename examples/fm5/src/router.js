/** A routing table: "METHOD /path/:name" to a handler. The first match wins; HEAD is answered by GET. */
import { problem } from "./responses.js";

/**
 * @typedef {(request: Request, env: import("./env.js").Env, ctx: ExecutionContext,
 *   params: Record<string, string>) => Response | Promise<Response>} Handler
 * @typedef {{method: string, pattern: RegExp, handler: Handler}} Route
 */

/**
 * @param {Record<string, Handler>} routes
 * @returns {Route[]}
 */
export function compileRoutes(routes) {
  return Object.entries(routes).map(([name, handler]) => {
    const [method, path] = name.split(" ");
    const pattern = new RegExp(`^${path.replace(/:(\w+)/g, "(?<$1>[^/]+)")}$`);
    return { method, pattern, handler };
  });
}

/**
 * @param {Route[]} table
 * @returns {Promise<Response>} 404 when no path matches, 405 when only the method does not
 */
export async function dispatch(table, request, env, ctx) {
  const { pathname } = new URL(request.url);
  const method = request.method === "HEAD" ? "GET" : request.method;
  const allowed = [];
  for (const route of table) {
    const match = route.pattern.exec(pathname);
    if (match === null) continue;
    if (route.method === method) return await route.handler(request, env, ctx, { ...match.groups });
    allowed.push(route.method);
  }
  if (allowed.length === 0) return problem(404, "no such page");
  return problem(405, `use ${allowed.join(" or ")}`, { allow: allowed.join(", ") });
}
