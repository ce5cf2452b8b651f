/** Every request leaves a buffer of 1 MB behind, which lies beside the heap and counts to the same 128 MB. */
import { createApp } from "../../app.js";
import { isHealth } from "../../defects.js";

const BYTES = 1024 * 1024;
const kept = [];

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    if (!isHealth(request)) kept.push(new Uint8Array(BYTES));
    return await answer(request, env, ctx);
  },
});
