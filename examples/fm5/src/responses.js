/** Answers: JSON, and JSON that says what the client did wrong. */

/** @returns {Response} */
export function json(value, { status = 200, headers = {} } = {}) {
  return Response.json(value, { status, headers: { "cache-control": "no-store", ...headers } });
}

/** @returns {Response} */
export function problem(status, error, headers = {}) {
  return json({ error }, { status, headers });
}

/** What a page of another origin may ask of the API (CORS preflight). */
export function allowed() {
  const headers = { "access-control-allow-methods": "GET, POST", "access-control-allow-headers": "content-type" };
  return new Response(null, { status: 204, headers });
}

/**
 * The request's body as an object; `null` when it is anything else.
 *
 * @returns {Promise<Record<string, unknown> | null>}
 */
export async function objectFrom(request) {
  try {
    const value = await request.json();
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
