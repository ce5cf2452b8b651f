/** Every request leaves about 2 MB of objects behind: the isolate is over its 128 MB again and again. */
import { createApp } from "../../app.js";
import { isHealth } from "../../defects.js";

const OBJECTS = 20_000;
const kept = [];

export default createApp({
  around: (answer) => async (request, env, ctx) => {
    if (!isHealth(request)) kept.push(Array.from({ length: OBJECTS }, (_, place) => ({ place, url: request.url })));
    return await answer(request, env, ctx);
  },
});
