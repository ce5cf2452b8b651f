/** The email provider's address is wrong: /health is "degraded", orders are taken, confirmations wait. */
import { createApp } from "../app.js";

export default createApp({
  around: (answer) => (request, env, ctx) => answer(request, { ...env, EMAIL_API_URL: "http://127.0.0.1:9" }, ctx),
});
