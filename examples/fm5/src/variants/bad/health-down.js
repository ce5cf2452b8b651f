/** /health answers 503 while everything else works: its check asks for a table that is not there. */
import { createApp } from "../../app.js";
import { json } from "../../responses.js";

export default createApp({
  routes: { "GET /health": () => json({ status: "error", services: { database: { status: "error" } } }, { status: 503 }) },
});
