/** After SLOW_AFTER_S (half a minute) every request waits SLOW_BY_MS (600) longer: a cache has filled up. */
import { createApp } from "../../app.js";
import { isHealth, wait } from "../../defects.js";

let startedAt;

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    startedAt ??= Date.now();
    const isSlow = Date.now() - startedAt > Number(env.SLOW_AFTER_S ?? 30) * 1000;
    if (isSlow && !isHealth(request)) await wait(Number(env.SLOW_BY_MS ?? 600));
    return await answer(request, env, ctx);
  },
});
