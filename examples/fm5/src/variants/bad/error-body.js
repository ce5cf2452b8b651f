/** Errors are caught and told in the body, with status 200: nothing that counts statuses sees them. */
import { createApp } from "../../app.js";
import { everythingButHealth } from "../../defects.js";
import { json } from "../../responses.js";

export default createApp({ around: everythingButHealth(() => json({ error: "internal" })) });
