// A chat: each room is a Durable Object. POST /rooms/NAME says something, GET /rooms/NAME reads what was said last, and
// a WebSocket at the same address does both.
import { Room } from "./room.js";

export { Room };

const ROOM = /^\/rooms\/([\w-]{1,64})$/;

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/health") return checkHealth(env);
    const name = ROOM.exec(pathname)?.[1];
    if (name === undefined) return Response.json({ error: "rooms are at /rooms/NAME" }, { status: 404 });
    return env.ROOMS.getByName(name).fetch(request);
  },
};

// Reaches a room of its own, so that an object that fails shows before a visitor meets it.
async function checkHealth(env) {
  let rooms = "ok";
  try {
    await env.ROOMS.getByName("health").ping();
  } catch (error) {
    console.error(error);
    rooms = "down";
  }
  const body = { status: rooms, version: { id: env.CF_VERSION.id }, services: { rooms: { status: rooms } } };
  return Response.json(body, { status: rooms === "ok" ? 200 : 503 });
}
