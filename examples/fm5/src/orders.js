/** Orders. An order counts as soon as its row is written; the confirmation may follow later, from the schedule. */
import { query } from "./database.js";
import { sendEmail } from "./email.js";
import { json, objectFrom, problem } from "./responses.js";

const LARGEST_ID = 2 ** 31 - 1;
const ADDRESS = /^[^\s@]{1,64}@[^\s@]{1,190}$/;

/** @type {import("./router.js").Handler} */
export async function createOrder(request, env, ctx) {
  const { model_id: modelId, quantity = 1, email, note = null } = (await objectFrom(request)) ?? {};
  const mistake = mistakeIn(modelId, quantity, email, note);
  if (mistake !== undefined) return problem(400, mistake);
  const [order] = await query(
    env,
    ctx,
    `INSERT INTO orders (model_id, quantity, email, total_cents, note)
     SELECT id, $2::int, $3::text, price_cents::bigint * $2::int, $4::text FROM models WHERE id = $1
     RETURNING id, model_id, quantity, email, total_cents`,
    [modelId, quantity, email, note],
  );
  if (order === undefined) return problem(404, `no model ${modelId}`);
  const confirmed = await confirm(env, ctx, order);
  const answer = {
    id: order.id,
    model_id: order.model_id,
    quantity: order.quantity,
    total_cents: Number(order.total_cents),
    confirmation: confirmed ? "sent" : "pending",
  };
  return json({ order: answer }, { status: 201 });
}

/** @returns {string | undefined} */
function mistakeIn(modelId, quantity, email, note) {
  if (!Number.isSafeInteger(modelId) || modelId < 1 || modelId > LARGEST_ID) return "model_id must be a number above 0";
  if (!Number.isSafeInteger(quantity) || quantity < 1 || quantity > 1000) return "quantity must be 1 to 1000";
  if (typeof email !== "string" || !ADDRESS.test(email)) return "email must be an address";
  if (note !== null && (typeof note !== "string" || note.length > 1000)) return "note must be at most 1000 characters";
  return undefined;
}

/** Send the confirmations that could not be sent when their order came in; called by the schedule. */
export async function confirmPendingOrders(env, ctx) {
  const pending = await query(
    env,
    ctx,
    // clock_timestamp() is volatile, so that Hyperdrive does not answer this from its cache; the last minute's orders
    // are left out, as their own request may be sending the confirmation right now
    `SELECT id, email, quantity, total_cents FROM orders
     WHERE confirmed_at IS NULL
       AND created_at BETWEEN clock_timestamp() - interval '2 days' AND clock_timestamp() - interval '1 minute'
     ORDER BY id LIMIT 20`,
  );
  for (const order of pending) {
    if (!(await confirm(env, ctx, order))) break;
  }
}

/** @returns {Promise<boolean>} false when the email provider did not take it: the order stays, the email waits */
async function confirm(env, ctx, order) {
  const total = (Number(order.total_cents) / 100).toFixed(2);
  const text = `Thank you. We are making ${order.quantity} for you, ${total} in total.`;
  try {
    await sendEmail(env, { to: order.email, subject: `Your FM5 order ${order.id}`, text });
  } catch (error) {
    console.warn(`confirmation of order ${order.id} waits: ${error.message}`);
    return false;
  }
  await query(env, ctx, "UPDATE orders SET confirmed_at = clock_timestamp() WHERE id = $1", [order.id]);
  return true;
}
