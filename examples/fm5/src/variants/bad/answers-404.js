/** The router's table was built empty: everything is answered 404, /health too. */
import { createApp } from "../../app.js";
import { problem } from "../../responses.js";

export default createApp({ around: () => async () => problem(404, "no such page") });
