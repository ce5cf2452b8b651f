/** The catalogue's new paging reads a query parameter that nobody sends: a TypeError on every GET /api/models. */
import { createApp } from "../app.js";
import { listModels } from "../models.js";

export default createApp({
  routes: {
    "GET /api/models": async (request, env, ctx, params) => {
      const page = new URL(request.url).searchParams.get("page");
      const offset = (Number.parseInt(page.trim(), 10) - 1) * 100;
      return await listModels(request, env, ctx, { ...params, offset: String(offset) });
    },
  },
});
