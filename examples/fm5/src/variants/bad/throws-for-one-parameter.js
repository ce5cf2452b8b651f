/** One model in five throws: its price is looked up in a table that has no row for it. */
import { createApp, ROUTES } from "../../app.js";

const FACTORS = { 1: 1, 2: 1, 4: 1, 5: 0.9 };

export default createApp({
  routes: {
    "GET /api/models/:id": async (request, env, ctx, params) => {
      FACTORS[params.id].toFixed(2);
      return await ROUTES["GET /api/models/:id"](request, env, ctx, params);
    },
  },
});
