/** A transaction is begun for each look at the catalogue and never ended: its connection serves nobody else. */
import { createApp } from "../../app.js";
import { connect } from "../../database.js";
import { wait } from "../../defects.js";
import { listModels } from "../../models.js";

const HELD_FOR_MS = 25_000;

export default createApp({
  routes: {
    "GET /api/models": async (request, env, ctx, params) => {
      const client = await connect(env);
      await client.query("BEGIN");
      ctx.waitUntil(wait(HELD_FOR_MS).then(() => client.end()));
      return await listModels(request, env, ctx, params);
    },
  },
});
