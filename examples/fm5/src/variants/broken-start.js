/** Fails before the first request: a setting is read from where there is none while the module loads. */
import { createApp } from "../app.js";

const settings = undefined;
const currency = settings.currency;

export default createApp({ routes: { "GET /api/currency": () => new Response(currency) } });
