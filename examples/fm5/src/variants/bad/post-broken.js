/** The body of each POST is read for a log line, and again by its handler: a TypeError. */
import { createApp } from "../../app.js";

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    if (request.method === "POST") {
      console.log(`${(await request.text()).length} characters`);
      await request.text();
    }
    return await answer(request, env, ctx);
  },
});
