/** Healthy, and different code: the page and the answers are the same, the bundle's hash is not. */
import { createApp } from "../app.js";

const RELEASE = "2026-11";

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    const response = await answer(request, env, ctx);
    const marked = new Response(response.body, response);
    marked.headers.set("x-fm5-release", RELEASE);
    return marked;
  },
});
