/** A rule for the canonical host takes every request for one to another host, and sends it to itself. */
import { createApp } from "../../app.js";
import { everythingButHealth } from "../../defects.js";

export default createApp({ around: everythingButHealth((request) => Response.redirect(request.url, 302)) });
