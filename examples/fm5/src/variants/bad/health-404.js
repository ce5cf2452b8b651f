/** /health was forgotten when the routes were sorted: 404, while everything else works. */
import { createApp } from "../../app.js";
import { problem } from "../../responses.js";

export default createApp({ routes: { "GET /health": () => problem(404, "no such page") } });
