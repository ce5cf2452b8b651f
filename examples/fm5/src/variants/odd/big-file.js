/** A film about the workshop, 4 MB, beside the small files that there were. */
import { createApp } from "../../app.js";

const FILM = new Uint8Array(4 * 1024 * 1024);

export default createApp({
  routes: { "GET /film.mp4": () => new Response(FILM, { headers: { "content-type": "video/mp4" } }) },
});
