/** Defects that several variants share. Each leaves /health alone: a health check alone would not notice them. */
import { createApp } from "./app.js";
import { json } from "./responses.js";

/** The application, answering 500 to the share `share` (0 to 1) of its requests. */
export function failing(share) {
  return createApp({
    around: (answer) => async (request, env, ctx) => {
      if (isHealth(request) || Math.random() >= share) return await answer(request, env, ctx);
      console.error(`price rules could not be applied to ${new URL(request.url).pathname}`);
      return json({ error: "internal error" }, { status: 500 });
    },
  });
}

/** The application, waiting `byMs` (or SLOW_BY_MS) before the share `share` (or SLOW_SHARE) of its requests. */
export function slowed({ share, byMs }) {
  return createApp({
    around: (answer) => async (request, env, ctx) => {
      if (!isHealth(request) && Math.random() < Number(env.SLOW_SHARE ?? share)) await wait(Number(env.SLOW_BY_MS ?? byMs));
      return await answer(request, env, ctx);
    },
  });
}

/** Answers every request but /health by `answerOf`, which is given the request. */
export function everythingButHealth(answerOf) {
  return (answer) => async (request, env, ctx) =>
    isHealth(request) ? await answer(request, env, ctx) : answerOf(request);
}

export function isHealth(request) {
  return new URL(request.url).pathname === "/health";
}

export function wait(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
