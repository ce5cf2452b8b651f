/**
 * Every request leaves something behind, and after LEAK_FAILS_AFTER_S (a minute) there is no room for more: errors
 * begin, and their share grows to all requests within as much time again.
 *
 * The failing follows the clock rather than the count of requests, so that a drill takes as long under any load; what
 * is really kept is bounded, so that the leak costs the machine nothing.
 */
import { createApp } from "../app.js";
import { isHealth } from "../defects.js";

const FAILS_AFTER_S = 60;
const KEPT_BYTES = 16 * 1024;
const KEPT_AT_MOST = 1024;

const kept = [];
let startedAt;

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    startedAt ??= Date.now();
    if (kept.length < KEPT_AT_MOST) kept.push(new Uint8Array(KEPT_BYTES));
    if (!isHealth(request) && Math.random() < shortage(env)) throw new RangeError("Array buffer allocation failed");
    return await answer(request, env, ctx);
  },
});

/** The share of allocations that find no room: 0 until the limit, then growing to 1. */
function shortage(env) {
  const limitS = Number(env.LEAK_FAILS_AFTER_S ?? FAILS_AFTER_S);
  const ageS = (Date.now() - startedAt) / 1000;
  return Math.min(1, Math.max(0, (ageS - limitS) / limitS));
}
