/** A model's own page is for those who signed in, from now on; the catalogue stays open. */
import { createApp, ROUTES } from "../../app.js";
import { problem } from "../../responses.js";

export default createApp({
  routes: {
    "GET /api/models/:id": async (request, env, ctx, params) => {
      if (!request.headers.has("authorization")) return problem(401, "sign in first");
      return await ROUTES["GET /api/models/:id"](request, env, ctx, params);
    },
  },
});
