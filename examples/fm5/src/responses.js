/** Answers: JSON, and JSON that says what the client did wrong. */

/** @returns {Response} */
export function json(value, { status = 200, headers = {} } = {}) {
  return Response.json(value, { status, headers: { "cache-control": "no-store", ...headers } });
}

/** @returns {Response} */
export function problem(status, error, headers = {}) {
  return json({ error }, { status, headers });
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
