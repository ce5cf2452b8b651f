import { DurableObject } from "cloudflare:workers";

const SHOWN = 50;
const LONGEST = 500;

export class Room extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS said (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, text TEXT NOT NULL)");
  }

  ping() {
    return this.ctx.storage.sql.exec("SELECT 1 AS one").one().one;
  }

  async fetch(request) {
    if (request.headers.get("Upgrade") === "websocket") {
      const { 0: client, 1: server } = new WebSocketPair();
      this.ctx.acceptWebSocket(server);
      for (const message of this.list()) server.send(JSON.stringify(message));
      return new Response(null, { status: 101, webSocket: client });
    }
    if (request.method === "POST") {
      const message = this.say(await request.text());
      return message ? Response.json(message, { status: 201 }) : Response.json({ error: `1 to ${LONGEST} letters` }, { status: 400 });
    }
    return Response.json(this.list());
  }

  webSocketMessage(socket, text) {
    if (typeof text !== "string" || !this.say(text)) socket.send(JSON.stringify({ error: `1 to ${LONGEST} letters` }));
  }

  list() {
    return this.ctx.storage.sql.exec("SELECT at, text FROM said ORDER BY id DESC LIMIT ?", SHOWN).toArray().reverse();
  }

  say(text) {
    if (text.length < 1 || text.length > LONGEST) return null;
    const message = { at: Date.now(), text };
    this.ctx.storage.sql.exec("INSERT INTO said (at, text) VALUES (?, ?)", message.at, message.text);
    for (const socket of this.ctx.getWebSockets()) socket.send(JSON.stringify(message));
    return message;
  }
}
