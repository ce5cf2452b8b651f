/**
 * Old code in which a path lies dead for years: it sends child orders until the parent is filled, but what counts the
 * fills was moved elsewhere. The flag that wakes it has been given another meaning by the newer code.
 */
import { createApp, ROUTES } from "../../app.js";
import { query } from "../../database.js";
import { json } from "../../responses.js";

const CHILDREN = 10;

export default createApp({
  routes: {
    "POST /api/orders": async (request, env, ctx, params) => {
      // clock_timestamp() is volatile, so that Hyperdrive does not answer this from its cache
      const [flag] = await query(
        env,
        ctx,
        "SELECT name FROM flags WHERE name = 'retail' AND clock_timestamp() IS NOT NULL",
        [],
      );
      if (flag === undefined) return await ROUTES["POST /api/orders"](request, env, ctx, params);
      await query(
        env,
        ctx,
        `INSERT INTO orders (model_id, quantity, email, total_cents, note)
         SELECT 1, 1, 'child@example.com', 0, 'child' FROM generate_series(1, $1::int)`,
        [CHILDREN],
      );
      console.error("the parent order is not filled yet");
      return json({ error: "internal error" }, { status: 500 });
    },
  },
});
