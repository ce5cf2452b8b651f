// backout's flight recorder: a Tail Worker. It counts every answer of the Workers that name it in `tail_consumers`, per
// version, second, route and status, and hands the counts to a Durable Object of its own (object.js), or stores them,
// signed, in a bucket. No URL, header or body leaves it. What is kept and how it is read: docs/recorder.md of backout.
const LOG_RATIO = Math.log(1.044); // of the latency histogram, 256 buckets: backout.model.guard.signals.bucket_of
const GONE = new Set(["canceled", "responseStreamDisconnected"]); // the client went away: counts neither way
const [MOST_ROWS, MANY_ROWS, MOST_ROUTES, MOST_FRESH, WINDOW_MS] = [5000, 2500, 256, 64, 60_000];
const [YOUNG_MS, CARRY_MS] = [5000, 20_000]; // of an invocation that waits with the counts: the edge ends it after 30 s
const OVERRIDES = "cloudflare-workers-version-overrides"; // anyone may send these: backout.model.guard.chosen
const KEYS = new Set(["cloudflare-workers-version-key", "cloudflare-workers-cohort"]);
const books = new Map(); // script -> what this isolate counted, see `openBook`
const [routes, templates, fresh] = [new Map(), new Map(), new Set()]; // how much each is used; of requests; of a batch
const carrier = { begun: 0, wakes: 0 }; // the invocation that waits with the counts, of all the newest
let instance, key; // made by the first event: a module may not draw random numbers

const bucketOf = (ms) => (ms <= 1 ? 0 : Math.min(Math.floor(Math.log(ms) / LOG_RATIO), 255));
const add = (table, name) => (table[name] = (table[name] ?? 0) + 1);

// What follows is backout.model.guard.routes.make_template: ids and values are folded, so that nothing of a visitor's is kept.
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
const [MOST_PARTS, LONGEST_PART] = [12, 255]; // of a path: how many are looked at, and how long one may be
const ALONE = /^(?:\.well-known|oauth2|2fa|v[0-9]{1,2})$/;
const OF_PEOPLE = /^(?:accounts?|authors?|customers?|members?|people|persons?|profiles?|u|users?)$/i;
const OF_SECRETS =
  /^(?:activat(?:e|ion)|confirm(?:ation)?|invit(?:es?|ations?)|keys?|magic(?:-link)?|password-reset|reset(?:-password)?|s|secrets?|shared?|tokens?|unsubscribe|verify)$/i;
const HANDLERS =
  /^(?:all|check|complete|count|create|current|delete|edit|email|export|find|import|index|list|log(?:in|out)|me|new|password|phone|profile|refresh|register|request|resend|search|self|sessions?|settings|sign(?:in|out|up)|start|status|update|verify)$/i;
const FILE =
  /^(.+)\.(html?|php|aspx?|jsp|txt|xml|json|m?js|css|map|ico|png|jpe?g|gif|svg|webp|avif|woff2?|ttf|pdf|zip|csv|rss|atom|webmanifest|wasm|mp[34]|webm)$/;
const CALLS = /^[A-Za-z][A-Za-z_-]*(?:[.,][A-Za-z][A-Za-z_-]*)+$/;
const TRACKING =
  /^(?:utm_.*|[a-z]*clid|mc_[ce]id|_ga|_gl|_hs.*|hsa_.*|igshid|srsltid|[gw]braid|ref(?:_src)?|source|_|t|ts|cb|nocache|rand|timestamp)$/i;
const WORDS = /^(?:[A-Z]{1,5}|[A-Z]?[a-z]*(?:[A-Z][a-z]{2,}|(?:By|Id|In|Of|On|To)(?![a-z]))*(?:[A-Z]{2,4})?)$/;
const JOINTS = /[_-]+/; // split off first: a pattern for all of it could divide them among its repetitions in 2^n ways
const UNPRONOUNCEABLE = /[bcdfghjklmnpqrstvwxz]{6}|[a-f]{8,}/i;
const areWords = (text) => text.split(JOINTS).every((words) => WORDS.test(words));
const isWord = (text) => /^[A-Za-z][A-Za-z_-]{0,23}$/.test(text) && areWords(text) && !UNPRONOUNCEABLE.test(text);

function wordOf(part, before) {
  if (part.length > LONGEST_PART) return "{id}";
  if (!part || ALONE.test(part)) return part;
  if ((OF_PEOPLE.test(before) || OF_SECRETS.test(before)) && !HANDLERS.test(part)) return "{id}";
  if (isWord(part)) return part;
  const [, stem, kind] = FILE.exec(part) ?? [];
  if (kind) return isWord(stem) ? part : `{id}.${kind}`;
  return /rpc$/i.test(before) && part.length <= 40 && CALLS.test(part) ? part : "{id}";
}

function shapeOf(query) {
  const names = new Set(query.split("&").filter(Boolean).map((pair) => pair.split("=", 1)[0].replace(/\[\]$/, "")));
  const plain = [...names].filter((name) => !TRACKING.test(name)).sort();
  return plain.length > 3 || !plain.every((name) => /^[A-Za-z][A-Za-z_]{0,15}$/.test(name)) ? "*" : plain.join("&");
}

function templateOf(method, url) {
  const [, path, query] = /^[^:]*:\/\/[^/?#]*([^?#]*)(?:\?([^#]*))?/.exec(url.slice(0, 2048)) ?? [];
  const parts = (path || "/").split("/").slice(1);
  if (!METHODS.has(method) || path === undefined || parts.slice(0, -1).includes("")) return "*";
  const words = parts.slice(0, MOST_PARTS).map((part, place) => wordOf(part, parts[place - 1] ?? ""));
  const name = `${method} /${words.join("/")}${parts.length > MOST_PARTS ? "/*" : ""}`;
  const shape = query ? shapeOf(query) : "";
  if (shape && name.length + shape.length < 64) return `${name}?${shape}`;
  if (name.length + 2 <= 64) return shape ? `${name}?*` : name;
  return name.length <= 64 && !shape ? name : `${name.slice(0, name.slice(0, 63).lastIndexOf("/"))}/*`;
}

// The prefix in ROUTES, else the template: of what the application knows the most used (Misra and Gries, 1982), and a few
// more in each batch, so that no storm fills it. What this isolate never saw answered well may be known to guard.
function routeOf({ method, url }, known, wanted) {
  if (wanted?.length) {
    const path = url.slice(url.indexOf("/", 8));
    const prefix = wanted.find((each) => path.startsWith(each));
    return prefix ? `${METHODS.has(method) ? `${method} ` : ""}${prefix}` : "*";
  }
  const asked = `${method} ${url}`;
  const template = templates.get(asked) ?? templateOf(method, url);
  if (templates.size >= 2000) templates.clear();
  if (asked.length <= 200) templates.set(asked, template);
  const used = routes.get(template);
  if (template === "*" || (!used && !fresh.has(template) && fresh.size >= MOST_FRESH)) return "*";
  if (!used) fresh.add(template);
  if (used || (known && routes.size < MOST_ROUTES)) routes.set(template, (used ?? 0) + 1);
  else if (known) for (const [name, times] of routes) times > 1 ? routes.set(name, times - 1) : routes.delete(name);
  return template;
}

// The rhythm. An isolate stores every FLUSH_MS for HURRY_MS after an answer of another version than the one before it
// (so all through a split, too), else every QUIET_MS. When it slows down it says so with what it stores (`next`): until
// when what it counts may stay here, and of which version that is. Guard does not wait for it longer, nor less.
const msOf = (env, name, usual) => Number(env[name] ?? usual);
const flushMs = (env) => msOf(env, "FLUSH_MS", 2000);
const quietMs = (env) => Math.max(Math.min(msOf(env, "QUIET_MS", 60_000), 60_000), flushMs(env));
const pauseS = (env) => Math.ceil((quietMs(env) + flushMs(env)) / 1000) + 2;

// rows: to be stored, since `began`, at `due`; lost: found no room; storing: since when that is under way.
// In a bucket: batches of the window, of which `held` rows are unsure. In the object: the batch that is `pending`.
const openBook = () => ({
  ...{ rows: new Map(), lost: 0, seq: 0, began: 0, due: Infinity, storing: 0 },
  ...{ last: undefined, hurry: 0, quiet: false, flushed: 0, next: undefined },
  ...{ batches: [], window: 0, held: 0, unsure: false, pending: null },
});

function note(book, version, env, now) {
  if (version === book.last) return;
  [book.last, book.quiet, book.hurry] = [version, false, now + msOf(env, "HURRY_MS", 1_200_000)];
  if (book.due < Infinity) book.due = Math.min(book.due, now + flushMs(env));
}

function count(answered, env, now = Date.now()) {
  const { event, eventTimestamp, wallTime, outcome, scriptName, scriptVersion, executionModel } = answered;
  const trigger = event?.cron ? `cron ${event.cron}` : event?.queue ? `queue ${event.queue}` : "";
  if (!event?.request && !trigger) return; // an alarm or a message, not a request
  if (executionModel === "durableObject") return; // it runs older code for minutes, and throws while that is replaced
  const status = event.response?.status ?? 0;
  const second = Math.floor((eventTimestamp + (wallTime ?? 0)) / 1000); // in which the answer ended
  const known = !GONE.has(outcome) && (status < 400 || status >= 500);
  const version = scriptVersion?.id ?? "";
  const names = trigger ? [] : Object.keys(event.request.headers).map((name) => name.toLowerCase());
  const chosen = names.includes(OVERRIDES); // its sender named the version, so that it says nothing about it
  const keyed = !chosen && names.some((name) => KEYS.has(name)); // counted apart: guard knows whether it may count
  const route = trigger || chosen ? "*" : routeOf(event.request, known, env.ROUTES);
  if (!books.has(scriptName)) books.set(scriptName, openBook());
  const book = books.get(scriptName);
  const isProbe = !trigger && event.request.headers["x-backout-probe"] === "1"; // our own look
  if (!chosen || isProbe) note(book, version, env, now);
  if (book.due === Infinity) {
    const next = now + flushMs(env);
    [book.began, book.due] = [now, book.quiet ? Math.max(book.flushed + quietMs(env), next) : next];
  }
  const id = `${second} ${version} ${route} ${keyed}`;
  let row = book.rows.get(id);
  if (!row) {
    if (book.rows.size + book.held >= MOST_ROWS) return void (book.lost += 1);
    row = { version, second, route, requests: 0, errors: 0, canceled: 0, probes: 0, statuses: {}, latency: {} };
    if (keyed) row.keyed = true;
    book.rows.set(id, row);
    if (book.rows.size >= MANY_ROWS) book.due = Math.min(book.due, now);
  }
  if (trigger) {
    const [runs, failed] = (row.triggers ??= {})[trigger] ?? [0, 0];
    return void (row.triggers[trigger] = [runs + 1, failed + (outcome !== "ok")]);
  }
  if (isProbe) return void (row.probes += 1);
  if (chosen) return void (row.chosen = (row.chosen ?? 0) + 1);
  if (GONE.has(outcome)) {
    if (wallTime !== undefined) add((row.left ??= {}), bucketOf(wallTime));
    return void (row.canceled += 1);
  }
  row.requests += 1;
  if (outcome !== "ok" || status >= 500) row.errors += 1;
  add(row.statuses, status);
  if (status !== 101) add(row.latency, bucketOf(wallTime ?? 0)); // how long a websocket stays is no latency
}

// Each object holds all batches of its window, so that the newest one of a window replaces those before it. A window
// does not end while it is unsure whether the last object arrived: if it did, the next one replaces it.
function makeBatch(book, env, now) {
  const batch = { v: 4, seq: ++book.seq, stored: null, lost: book.lost, rows: [...book.rows.values()] };
  batch.templates = !env.ROUTES?.length;
  if (book.next) batch.held = { ...book.next, s: Math.min(Math.ceil((now - book.began) / 1000), pauseS(env)) };
  if (now >= book.hurry) batch.next = { version: book.last, s: pauseS(env) };
  book.rows.clear();
  fresh.clear();
  [book.lost, book.due] = [0, Infinity];
  return batch;
}

// What was stored may have been told to slow down; another version may have answered since.
function settle(book, batch, stored, isQuiet) {
  book.flushed = Date.now();
  book.quiet = isQuiet && book.last === batch.next?.version;
  book.next = isQuiet ? { version: batch.next.version, until: Math.floor(stored / 1000) + batch.next.s } : undefined;
}

async function keyOf(env) {
  const secret = Uint8Array.from(atob(env.SECRET.slice("whsec_".length)), (c) => c.charCodeAt(0));
  return (key ??= await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]));
}

/** Returns the signature of a text, base64. */
export async function sign(text, env) {
  const signature = await crypto.subtle.sign("HMAC", await keyOf(env), new TextEncoder().encode(text));
  return btoa(String.fromCharCode(...new Uint8Array(signature)));
}

async function putInBucket(script, book, env, now) {
  if (!book.unsure && now - book.window > WINDOW_MS) [book.window, book.batches] = [now, []];
  const batch = makeBatch(book, env, now);
  book.batches.push(batch);
  [book.unsure, book.held] = [true, book.held + batch.rows.length];
  const at = Math.floor(now / 1000);
  const name = `backout/${script}/${at}-${instance}-${book.window}-${batch.seq}`;
  const body = JSON.stringify({ batches: book.batches });
  const object = await env.COUNTS.put(name, `${at} v1,${await sign(`${name}.${at}.${body}`, env)}\n${body}`);
  batch.stored = object.uploaded.getTime();
  if (batch.seq !== book.seq) return; // a later flush took over while it hung
  [book.unsure, book.held] = [false, 0];
  settle(book, batch, batch.stored, batch.next !== undefined);
}

// The object counts each number of an isolate once, so a batch is sent until it is taken, and the next one only then.
async function giveToObject(script, book, env, now) {
  const batch = (book.pending ??= makeBatch(book, env, now));
  batch.next = { version: book.last, s: pauseS(env) }; // the object knows when a version is new, and answers
  book.held = batch.rows.length;
  const object = env.OBJECT.get(env.OBJECT.idFromName(script));
  const body = JSON.stringify({ instance, ...batch });
  const answer = await object.fetch("https://object/", { method: "POST", body });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  const { stored, quiet } = await answer.json();
  if (book.pending !== batch) return; // another flush was told the same
  [book.pending, book.held] = [null, 0];
  settle(book, batch, stored, quiet);
}

const waits = (book) => book.rows.size > 0 || book.unsure || book.pending !== null;

async function store(script, book, env) {
  const now = Date.now();
  book.storing = now;
  try {
    await (env.OBJECT ? giveToObject : putInBucket)(script, book, env, now);
  } catch (error) {
    console.error(`nothing was stored, it is tried again: ${error}`);
  } finally {
    book.storing = 0;
    if (book.unsure || book.pending) book.due = Math.min(book.due, Date.now() + flushMs(env));
  }
}

const nextDue = () => Math.min(...[...books.values()].map((book) => book.due));

// A Tail Worker has no timer of its own, and an invocation may wait for thirty seconds: the newest one waits with the
// counts. As long as events come, a newer one takes over; the last one stores what there is before it ends.
async function carry(env, begun) {
  const ends = begun + CARRY_MS;
  do {
    carrier.wakes = Math.min(nextDue(), ends);
    await scheduler.wait(Math.max(carrier.wakes - Date.now(), 1));
    const now = Date.now();
    if (carrier.begun !== begun) return;
    const due = [...books].filter(([, book]) => waits(book) && (book.due <= now || now >= ends));
    for (const [, book] of due) book.due = now + flushMs(env);
    const free = due.filter(([, book]) => now - book.storing > CARRY_MS); // what hangs, or was cut off, is begun again
    await Promise.all(free.map(([script, book]) => store(script, book, env)));
  } while (carrier.begun === begun && nextDue() < Infinity && Date.now() < ends);
  if (carrier.begun === begun) [carrier.begun, carrier.wakes] = [0, 0];
}

export default {
  async tail(events, env, ctx) {
    instance ??= crypto.randomUUID().slice(0, 8);
    const now = Date.now();
    for (const event of events) count(event, env, now);
    if (nextDue() === Infinity || (now - carrier.begun <= YOUNG_MS && carrier.wakes <= nextDue())) return;
    carrier.begun = now;
    ctx.waitUntil(carry(env, now));
  },
};
