/** One in ten looks at a model (or the share HANGS_SHARE) waits for an answer that never comes, and gives up after 35 s. */
import { createApp, ROUTES } from "../../app.js";
import { wait } from "../../defects.js";

const HANGS_FOR_MS = 35_000;

export default createApp({
  routes: {
    "GET /api/models/:id": async (request, env, ctx, params) => {
      if (Math.random() < Number(env.HANGS_SHARE ?? 0.1)) await wait(HANGS_FOR_MS);
      return await ROUTES["GET /api/models/:id"](request, env, ctx, params);
    },
  },
});
