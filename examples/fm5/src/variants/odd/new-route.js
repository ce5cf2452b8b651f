/** A page that there was not before, and that many people ask for at once. */
import { createApp } from "../../app.js";
import { json } from "../../responses.js";

export default createApp({ routes: { "GET /api/news": () => json({ news: ["We make gears now."] }) } });
