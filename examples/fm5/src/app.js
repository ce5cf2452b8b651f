/**
 * The application: its routes, and the Worker made of them. A variant changes some of the parts and nothing else.
 *
 * Nothing here catches an unexpected error: it must reach the platform, so that logs and analytics count an exception.
 */
import { getFile, putFile } from "./files.js";
import { health } from "./health.js";
import { createModel, getModel, listModels, listModelsAsBefore } from "./models.js";
import { confirmPendingOrders, createOrder } from "./orders.js";
import { about, home, style } from "./pages.js";
import { allowed } from "./responses.js";
import { compileRoutes, dispatch } from "./router.js";
import { session, signIn } from "./session.js";

/** @type {Record<string, import("./router.js").Handler>} */
export const ROUTES = {
  "GET /": home,
  "GET /about": about,
  "GET /style.css": style,
  "GET /health": health,
  "GET /api/models": listModels,
  "POST /api/models": createModel,
  "GET /api/models/:id": getModel,
  "GET /api/files/:key": getFile,
  "PUT /api/files/:key": putFile,
  "POST /api/orders": createOrder,
  "GET /api/session": session,
  "POST /api/session": signIn,
  "GET /api/v1/models": listModelsAsBefore,
  "OPTIONS /api/models": allowed,
  "OPTIONS /api/orders": allowed,
};

/**
 * @typedef {(request: Request, env: import("./env.js").Env, ctx: ExecutionContext) => Promise<Response>} Answer
 *
 * @param {object} [changes]
 * @param {Record<string, import("./router.js").Handler>} [changes.routes] handlers that replace those of ROUTES
 * @param {(answer: Answer) => Answer} [changes.around] what stands around every request
 * @param {(event: ScheduledController, env: import("./env.js").Env, ctx: ExecutionContext) => Promise<void>}
 *   [changes.scheduled] what the schedule does
 */
export function createApp({ routes = {}, around = (answer) => answer, scheduled = confirmPending } = {}) {
  const table = compileRoutes({ ...ROUTES, ...routes });
  const answer = around((request, env, ctx) => dispatch(table, request, env, ctx));
  return {
    /** @type {Answer} */
    async fetch(request, env, ctx) {
      return stamped(await answer(request, env, ctx), env, new URL(request.url).pathname.startsWith("/api/"));
    },

    scheduled,
  };
}

async function confirmPending(_event, env, ctx) {
  await confirmPendingOrders(env, ctx);
}

/** Every answer names the version that gave it, so that a client can tell old from new during a gradual deployment. */
function stamped(response, env, isApi) {
  const stampedResponse = new Response(response.body, response);
  stampedResponse.headers.set("x-fm5-version", env.CF_VERSION?.id ?? "unknown");
  if (isApi) stampedResponse.headers.set("access-control-allow-origin", "*"); // shops of others show the catalogue
  return stampedResponse;
}
