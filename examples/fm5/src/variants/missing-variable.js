/** Prices are looked up with a key that nobody has set: GET /api/models/:id and POST /api/orders throw at use. */
import { createApp, ROUTES } from "../app.js";
import { required } from "../env.js";

export default createApp({
  routes: {
    "GET /api/models/:id": withPayments(ROUTES["GET /api/models/:id"]),
    "POST /api/orders": withPayments(ROUTES["POST /api/orders"]),
  },
});

function withPayments(handler) {
  return async (request, env, ctx, params) => {
    const key = required(env, "PAYMENTS_API_KEY");
    const response = await handler(request, env, ctx, params);
    response.headers.set("x-fm5-payments", key.startsWith("live_") ? "live" : "test");
    return response;
  };
}
