/** The check of the session stands before all of the API, also before what guests may read. */
import { createApp } from "../../app.js";
import { problem } from "../../responses.js";

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    if (new URL(request.url).pathname.startsWith("/api/")) return problem(401, "sign in first");
    return await answer(request, env, ctx);
  },
});
