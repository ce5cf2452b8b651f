/** The page about us has another address; the old one sends people there for good. */
import { createApp } from "../../app.js";
import { about } from "../../pages.js";

export default createApp({
  routes: {
    "GET /about": (request) => Response.redirect(new URL("/company", request.url), 301),
    "GET /company": about,
  },
});
