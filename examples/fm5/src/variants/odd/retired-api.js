/** The first version of the API is gone, as was announced: 410. */
import { createApp } from "../../app.js";
import { problem } from "../../responses.js";

export default createApp({ routes: { "GET /api/v1/models": () => problem(410, "use /api/models") } });
