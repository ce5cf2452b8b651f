// The tail worker of every version: it batches for 20 ms, then sends events as lines of JSON to the twin's hub.
// Without a tail session, only events with failures, and those of schedules, queues and Durable Objects, leave it;
// POST /all/1 and /all/0 switch that.
// POST /scheduled?cron=&time= runs the Worker's schedule, as the platform would.
let switched; // by a request; until then the configuration's ALL holds
let buffer = [];
let flushing = false;

const trouble = (event) =>
  event.outcome !== "ok" ||
  event.exceptions.length > 0 ||
  event.event?.response?.status >= 500 ||
  event.logs.some((log) => log.level === "error" || log.level === "warn");

const counted = (event) =>
  trouble(event) ||
  event.executionModel === "durableObject" ||
  event.event?.cron !== undefined ||
  event.event?.queue !== undefined;

async function flush(env) {
  flushing = true;
  try {
    await scheduler.wait(20);
    while (buffer.length > 0) {
      const lines = buffer;
      buffer = [];
      const answer = await env.HUB.fetch("http://hub/tail", { method: "POST", body: lines.join("\n") });
      await answer.arrayBuffer();
    }
  } catch {
    buffer = []; // the twin is gone or stopping
  } finally {
    flushing = false;
  }
}

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/scheduled") {
      const scheduledTime = new Date(Number(searchParams.get("time")));
      return Response.json(await env.MAIN.scheduled({ scheduledTime, cron: searchParams.get("cron") }));
    }
    if (pathname.startsWith("/all/")) switched = pathname === "/all/1";
    return new Response(null, { status: 204 });
  },
  async tail(events, env, ctx) {
    const all = switched ?? env.ALL === "1";
    for (const event of events) {
      if (all || counted(event)) {
        buffer.push(JSON.stringify({ ...event, scriptName: env.SCRIPT, scriptVersion: { id: env.VERSION } }));
      }
    }
    if (buffer.length > 0 && !flushing) ctx.waitUntil(flush(env));
  },
};
