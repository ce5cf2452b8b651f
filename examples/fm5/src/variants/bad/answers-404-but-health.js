/** The routes were moved below a prefix that nobody asks for: 404 for everything but /health. */
import { createApp } from "../../app.js";
import { everythingButHealth } from "../../defects.js";
import { problem } from "../../responses.js";

export default createApp({ around: everythingButHealth(() => problem(404, "no such page")) });
