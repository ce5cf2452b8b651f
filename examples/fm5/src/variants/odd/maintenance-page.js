/** Files are being moved: whoever asks for one is sent to a page that says so; everything else works. */
import { createApp } from "../../app.js";
import { about } from "../../pages.js";

export default createApp({
  routes: {
    "GET /api/files/:key": (request) => Response.redirect(new URL("/maintenance", request.url), 302),
    "GET /maintenance": about,
  },
});
