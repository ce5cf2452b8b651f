/** A column that the schema does not have: Postgres answers 42703 to each look at a model. */
import { createApp } from "../../app.js";
import { query } from "../../database.js";
import { json } from "../../responses.js";

export default createApp({
  routes: {
    "GET /api/models/:id": async (_request, env, ctx, { id }) => {
      const [model] = await query(env, ctx, "SELECT id, name, price FROM models WHERE id = $1", [Number(id)]);
      return json({ model });
    },
  },
});
