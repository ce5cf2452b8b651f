// backout's flight recorder: a Tail Worker. It counts every answer of the Workers that name it in `tail_consumers`, per
// version, second, route class and status, and stores the counts, signed, in a bucket that `backout guard` reads.
// No URL, header or body leaves it. What is stored and how it is read: docs/recorder.md of backout.
const LOG_RATIO = Math.log(1.044); // of the latency histogram, 256 buckets: backout.model.signals.bucket_of
const GONE = new Set(["canceled", "responseStreamDisconnected"]); // the client went away: counts neither way
const [MOST_ROWS, MOST_ROUTES, WINDOW_MS, LONGEST_FLUSH_MS] = [5000, 16, 60_000, 15_000];
const books = new Map(); // script -> what this isolate counted: `rows` to be sent, `batches` of the window, `held` rows unsure
const routes = new Set();
let instance, key, flushingSince = 0; // made by the first event: a module may not draw random numbers

const bucketOf = (ms) => (ms <= 1 ? 0 : Math.min(Math.floor(Math.log(ms) / LOG_RATIO), 255));
const add = (table, name) => (table[name] = (table[name] ?? 0) + 1);

// The prefix in ROUTES, else the first word of the path: at most 16, and only of paths that the application knows.
function routeOf(url, known, wanted) {
  const path = url.slice(url.indexOf("/", 8));
  if (wanted?.length) return wanted.find((prefix) => path.startsWith(prefix)) ?? "*";
  const word = /^\/(?:[a-z][a-z_-]{0,23})?(?=[/?#]|$)/i.exec(path)?.[0] ?? "*"; // as backout.model.routes.route_of_path
  if (known && word !== "*" && routes.size < MOST_ROUTES) routes.add(word);
  return routes.has(word) ? word : "*";
}

function count({ event, eventTimestamp, wallTime, outcome, scriptName, scriptVersion }, env) {
  if (!event?.request) return; // a schedule, a queue, an alarm: not a visitor's request
  const status = event.response?.status ?? 0;
  const second = Math.floor((eventTimestamp + (wallTime ?? 0)) / 1000); // in which the answer ended
  const known = !GONE.has(outcome) && (status < 400 || status >= 500);
  const [version, route] = [scriptVersion?.id ?? "", routeOf(event.request.url, known, env.ROUTES)];
  if (!books.has(scriptName)) books.set(scriptName, { rows: new Map(), batches: [], seq: 0, window: 0, held: 0, lost: 0 });
  const book = books.get(scriptName);
  const id = `${second} ${version} ${route}`;
  let row = book.rows.get(id);
  if (!row) {
    if (book.rows.size + book.held >= MOST_ROWS) return void (book.lost += 1);
    row = { version, second, route, requests: 0, errors: 0, canceled: 0, probes: 0, statuses: {}, latency: {} };
    book.rows.set(id, row);
  }
  if (event.request.headers["x-backout-probe"] === "1") return void (row.probes += 1); // our own look
  if (GONE.has(outcome)) return void (row.canceled += 1);
  row.requests += 1;
  if (outcome !== "ok" || status >= 500) row.errors += 1;
  add(row.statuses, status);
  if (status !== 101) add(row.latency, bucketOf(wallTime ?? 0)); // how long a websocket stays is no latency
}

// Each object holds all batches of its window, so that the newest one of a window replaces those before it. A window
// does not end while it is unsure whether the last object arrived: if it did, the next one replaces it.
async function store(script, book, env) {
  const now = Date.now();
  if (!book.unsure && now - book.window > WINDOW_MS) [book.window, book.batches] = [now, []];
  const batch = { seq: ++book.seq, stored: null, lost: book.lost, rows: [...book.rows.values()] };
  book.batches.push(batch);
  book.rows.clear();
  [book.unsure, book.held, book.lost] = [true, book.held + batch.rows.length, 0];
  const name = `backout/${script}/${Math.floor(now / 1000)}-${instance}-${book.window}-${batch.seq}`;
  const body = JSON.stringify({ batches: book.batches });
  const signed = new TextEncoder().encode(`${name}.${Math.floor(now / 1000)}.${body}`);
  const secret = Uint8Array.from(atob(env.SECRET.slice("whsec_".length)), (c) => c.charCodeAt(0));
  key ??= await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signature = btoa(String.fromCharCode(...new Uint8Array(await crypto.subtle.sign("HMAC", key, signed))));
  const object = await env.COUNTS.put(name, `${Math.floor(now / 1000)} v1,${signature}\n${body}`);
  batch.stored = object.uploaded.getTime();
  if (batch.seq === book.seq) [book.unsure, book.held] = [false, 0]; // else a later flush took over while it hung
}

async function flush(env) {
  try {
    do {
      await scheduler.wait(Number(env.FLUSH_MS ?? 2000));
      const waiting = [...books].filter(([, book]) => book.rows.size || book.unsure);
      const done = await Promise.allSettled(waiting.map(([script, book]) => store(script, book, env)));
      const failed = done.find(({ status }) => status === "rejected");
      if (failed) throw failed.reason;
    } while ([...books.values()].some((book) => book.rows.size) && Date.now() - flushingSince < LONGEST_FLUSH_MS);
  } catch (error) {
    console.error(`nothing was stored, the next event tries again: ${error}`);
  } finally {
    flushingSince = 0;
  }
}

export default {
  async tail(events, env, ctx) {
    instance ??= crypto.randomUUID().slice(0, 8);
    for (const event of events) count(event, env);
    if (books.size && Date.now() - flushingSince > 2 * LONGEST_FLUSH_MS) {
      flushingSince = Date.now(); // a flush that was cut off (its isolate's invocation ended) is taken up again
      ctx.waitUntil(flush(env));
    }
  },
};
