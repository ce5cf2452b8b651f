/** The entry point of FM5 on Node: `node src/server.js`, or the one file that `npm run build:node` makes of it. */
import app from "./index.js";
import { serve } from "./node/serve.js";

serve(app);
