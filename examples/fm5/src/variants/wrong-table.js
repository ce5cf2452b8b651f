/** A slip in a name: the catalogue is read from a table that is not there, and Postgres answers 42P01. */
import { createApp } from "../app.js";
import { query } from "../database.js";
import { json } from "../responses.js";

export default createApp({
  routes: {
    "GET /api/models": async (_request, env, ctx) => {
      return json({ models: await query(env, ctx, "SELECT id, name, price_cents FROM modelz ORDER BY id") });
    },
  },
});
