/** Every order fails, and nothing else: one request in two hundred, and the reason why the shop exists. */
import { createApp } from "../../app.js";

export default createApp({
  routes: {
    "POST /api/orders": async (request) => {
      const { shipping } = await request.json();
      return Response.json({ order: { to: shipping.address } }, { status: 201 });
    },
  },
});
