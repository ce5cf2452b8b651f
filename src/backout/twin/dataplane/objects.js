// Durable Objects of the twin: they live in a process of their own (`host`), which the processes that answer requests
// call (`forward`). POST / with {why, onlyLive, ids: {namespace: [id]}} resets objects, as the platform does when their
// code was updated: calls under way fail with `why`, and so does every stub that was made before.
import { DurableObject } from "cloudflare:workers";

const RESET = "x-backout-reset";
const live = new Set();

export function host(Base, name) {
  if (typeof Base !== "function") throw new Error(`The Durable Object class ${name} is not exported by the main module.`);
  const Hosted = class extends Base {
    #ctx;
    constructor(ctx, env) {
      super(ctx, env);
      this.#ctx = ctx;
    }
    fetch(request) {
      const why = request.headers.get(RESET);
      if (why !== null) return this.#ctx.abort(why);
      if (super.fetch === undefined) throw new Error("Handler does not export a fetch() function.");
      return super.fetch(request);
    }
  };
  Object.defineProperty(Hosted, "name", { value: name });
  return Hosted;
}

// A class whose objects hand every call to the object of the same id: fetch with WebSockets, and RPC.
export function forward(script, name) {
  return class extends DurableObject {
    constructor(ctx, env) {
      super(ctx, env);
      const id = ctx.id.toString();
      live.add(id);
      let object;
      ctx.blockConcurrencyWhile(async () => {
        const answer = await env.HUB.fetch(`http://hub/?${new URLSearchParams({ script, name, id })}`);
        const text = await answer.text();
        if (!answer.ok) throw new Error(text);
        object = env.PROCESSES.connect(text).getActor("main", name, id);
      });
      const fetch = (request) => {
        const why = request.headers.get(RESET);
        if (why === null) return object.fetch(request);
        live.delete(id);
        return ctx.abort(why);
      };
      return new Proxy(this, {
        get(target, property) {
          if (property === "fetch") return fetch;
          const own = object === undefined || Reflect.has(target, property); // handlers are looked for at first
          return Reflect.get(own ? target : object, property);
        },
      });
    }
  };
}

async function reset(namespace, id, why) {
  try {
    await namespace.get(namespace.idFromString(id)).fetch("http://reset/", { headers: { [RESET]: why } });
  } catch {
    // the end of the call is the reset
  }
}

export default {
  async fetch(request, env) {
    const { why, onlyLive, ids } = await request.json();
    const wanted = Object.entries(ids).flatMap(([name, list]) => list.map((id) => [name, id]));
    const found = wanted.filter(([, id]) => !onlyLive || live.has(id));
    await Promise.all(found.map(([name, id]) => reset(env[name], id, why)));
    return new Response(null, { status: 204 });
  },
};
