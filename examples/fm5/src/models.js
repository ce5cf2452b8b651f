/** The catalogue: what the manufacturer makes. */
import { query } from "./database.js";
import { json, objectFrom, problem } from "./responses.js";

const LARGEST_ID = 2 ** 31 - 1;
const LONGEST_NAME = 200;
const HIGHEST_PRICE_CENTS = 1e9;
const COLUMNS = "id, name, price_cents, file_key, created_at";

/** @type {import("./router.js").Handler} */
export async function listModels(_request, env, ctx) {
  return json({ models: await query(env, ctx, `SELECT ${COLUMNS} FROM models ORDER BY id LIMIT 100`) });
}

/**
 * The catalogue as the first version of the API gave it: names alone.
 *
 * @type {import("./router.js").Handler}
 */
export async function listModelsAsBefore(_request, env, ctx) {
  const models = await query(env, ctx, "SELECT name FROM models ORDER BY id LIMIT 100");
  return json(models.map(({ name }) => name));
}

/** @type {import("./router.js").Handler} */
export async function getModel(_request, env, ctx, { id }) {
  const number = Number(id);
  if (!Number.isSafeInteger(number) || number < 1 || number > LARGEST_ID) return problem(400, "no such id");
  const [model] = await query(env, ctx, `SELECT ${COLUMNS} FROM models WHERE id = $1`, [number]);
  return model === undefined ? problem(404, `no model ${number}`) : json({ model });
}

/** @type {import("./router.js").Handler} */
export async function createModel(request, env, ctx) {
  const body = await objectFrom(request);
  const { name, price_cents: priceCents, file_key: fileKey = null } = body ?? {};
  if (typeof name !== "string" || name.trim() === "" || name.length > LONGEST_NAME) {
    return problem(400, `name must be 1 to ${LONGEST_NAME} characters`);
  }
  if (!Number.isSafeInteger(priceCents) || priceCents < 0 || priceCents > HIGHEST_PRICE_CENTS) {
    return problem(400, `price_cents must be 0 to ${HIGHEST_PRICE_CENTS}`);
  }
  if (fileKey !== null && typeof fileKey !== "string") return problem(400, "file_key must be text");
  const [model] = await query(
    env,
    ctx,
    `INSERT INTO models (name, price_cents, file_key) VALUES ($1, $2, $3) RETURNING ${COLUMNS}`,
    [name.trim(), priceCents, fileKey],
  );
  return json({ model }, { status: 201, headers: { location: `/api/models/${model.id}` } });
}
