/**
 * A rule of a firewall in front of every request, /health too: a pattern that backtracks. It blocks nothing, and that
 * it runs is enough: in one thread, all other requests wait for it.
 */
import { createApp } from "../../app.js";

const RULE = /.*.*=.*;/;
const LOOKED_AT = 450;

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    const text = `x=${new URL(request.url).pathname.repeat(LOOKED_AT)}`.slice(0, LOOKED_AT);
    if (RULE.test(text)) console.warn("the rule would have blocked a request");
    return await answer(request, env, ctx);
  },
});
