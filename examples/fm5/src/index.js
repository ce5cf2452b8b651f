/** The entry point of FM5 as it runs in staging and production; the variants in `variants/` are entry points too. */
import { createApp } from "./app.js";

export default createApp();
