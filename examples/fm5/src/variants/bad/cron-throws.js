/** The schedule throws: confirmations that waited are never sent, and no visitor sees it. */
import { createApp } from "../../app.js";

export default createApp({
  async scheduled() {
    throw new TypeError("pending is not iterable");
  },
});
