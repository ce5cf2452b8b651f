/** The preflight of other origins' pages is refused: no browser sends what it asks for. */
import { createApp } from "../../app.js";
import { problem } from "../../responses.js";

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    if (request.method === "OPTIONS") return problem(405, "use GET or POST", { allow: "GET, POST" });
    return await answer(request, env, ctx);
  },
});
