// The flight recorder with its own Durable Object: one for each Worker whose answers are counted. It adds up what all
// isolates counted, and guard reads the sums from it through this Worker's `fetch`, with requests that SECRET signs.
// docs/recorder.md of backout says what it keeps and what that costs.
import recorder, { sign } from "./recorder.js";

const [KEPT_S, SWEEP_MS, SPLIT_MS, READ_MS, NEW_MS] = [7200, 600_000, 120_000, 90_000, 1_200_000];
const [MOST_PART, MOST_ROWS, PAGE_BYTES, CLOCK_S] = [512 << 10, 1000, 1 << 20, 300]; // a row of SQLite has up to 2 MB
const SEEN_AGAIN_MS = 300_000; // how old the time may be at which a version was seen, as far as it is on disk

const add = (into, from) => {
  for (const [name, number] of Object.entries(from ?? {})) into[name] = (into[name] ?? 0) + number;
};

function addRow(rows, row) {
  const id = `${row.second} ${row.version} ${row.route} ${row.keyed === true}`;
  const sum = rows.get(id);
  if (!sum) return void rows.set(id, row);
  for (const name of ["requests", "errors", "canceled", "probes", "chosen"]) sum[name] = (sum[name] ?? 0) + (row[name] ?? 0);
  for (const name of ["statuses", "latency", "left"]) add((sum[name] ??= {}), row[name]);
  for (const [name, [runs, failed]] of Object.entries(row.triggers ?? {})) {
    const [before, failedBefore] = (sum.triggers ??= {})[name] ?? [0, 0];
    sum.triggers[name] = [before + runs, failedBefore + failed];
  }
}

/**
 * The counts of one Worker. A part is what came in the same second from isolates that had held their counts equally
 * long; an isolate is known by the number of its last flush, so that each flush counts once and a missing one is seen.
 */
export class Counts {
  constructor(state, env) {
    [this.storage, this.sql, this.env] = [state.storage, state.storage.sql, env];
    [this.open, this.readUntil, this.hurryUntil, this.isWoken] = [new Map(), 0, 0, false];
    this.sweepMs = Number(env.SWEEP_MS ?? SWEEP_MS);
    this.sql.exec(`
      CREATE TABLE IF NOT EXISTS parts (
        id INTEGER PRIMARY KEY, second INTEGER, kind TEXT, lost INTEGER, gaps INTEGER, body TEXT);
      CREATE TABLE IF NOT EXISTS isolates (
        instance TEXT PRIMARY KEY, seq INTEGER, stored INTEGER, version TEXT, until INTEGER) WITHOUT ROWID;
      CREATE TABLE IF NOT EXISTS versions (version TEXT PRIMARY KEY, seen INTEGER, since INTEGER) WITHOUT ROWID;
    `);
    const known = this.sql.exec("SELECT version, seen, since FROM versions").toArray();
    this.versions = new Map(known.map(({ version, seen, since }) => [version, { seen, since, written: seen }]));
    this.ids = this.sql.exec("SELECT MAX(id) AS last FROM parts").one().last ?? 0;
  }

  async fetch(request) {
    const url = new URL(request.url);
    if (request.method === "POST") return Response.json(await this.take(await request.json()));
    return this.read(Number(url.searchParams.get("since")), Number(url.searchParams.get("after")));
  }

  /** Takes a flush of an isolate; a number that it has taken before changes nothing. */
  async take({ instance, seq, v, held, next, rows, lost, templates }) {
    const now = Date.now();
    const [known] = this.sql.exec("SELECT seq, version, until FROM isolates WHERE instance = ?", instance).toArray();
    if (known && seq <= known.seq) return { stored: now, quiet: false };
    const second = Math.floor(now / 1000);
    const isKept = known !== undefined && held !== undefined && second <= known.until; // its word, see recorder.js
    const quiet = !this.mustHurry(rows, now);
    const kind = JSON.stringify({ v, templates, ...(isKept && { held: { version: known.version, s: held.s } }) });
    const gaps = known ? seq - known.seq - 1 : 0;
    this.storage.transactionSync(() => {
      for (let at = 0; at === 0 || at < rows.length; at += MOST_ROWS) {
        this.addPart(second, kind, rows.slice(at, at + MOST_ROWS), at ? 0 : lost, at ? 0 : gaps);
      }
      this.sql.exec(
        "INSERT OR REPLACE INTO isolates VALUES (?, ?, ?, ?, ?)",
        ...[instance, seq, now, quiet ? next.version : "", quiet ? second + next.s : 0],
      );
    });
    if (!this.isWoken && (await this.storage.getAlarm()) === null) await this.storage.setAlarm(now + this.sweepMs);
    this.isWoken = true;
    return { stored: now, quiet };
  }

  /** Adds rows to the part of this second and kind: one row of the database is written, however many there are. */
  addPart(second, kind, rows, lost, gaps) {
    for (const [name, part] of this.open) if (part.second < second) this.open.delete(name);
    let part = this.open.get(kind);
    if (!part || part.bytes > MOST_PART) {
      part = { id: ++this.ids, second, rows: new Map(), lost: 0, gaps: 0, bytes: 0 };
      this.open.set(kind, part);
    }
    for (const row of rows) addRow(part.rows, row);
    [part.lost, part.gaps] = [part.lost + lost, part.gaps + gaps];
    const body = JSON.stringify([...part.rows.values()]);
    part.bytes = body.length;
    const values = [part.id, part.second, kind, part.lost, part.gaps, body];
    this.sql.exec("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?, ?)", ...values);
  }

  /** Returns whether isolates shall store often: a version is new, several answer, or guard is reading. */
  mustHurry(rows, now) {
    const newMs = Number(this.env.HURRY_MS ?? NEW_MS);
    const answered = rows.filter((row) => row.requests || row.probes || row.triggers);
    for (const version of new Set(answered.map((row) => row.version))) {
      const found = this.versions.get(version) ?? { seen: -Infinity, since: now, written: -Infinity };
      if (now - found.seen > newMs) found.since = now;
      found.seen = now;
      if (now - found.written > SEEN_AGAIN_MS) {
        found.written = now;
        this.sql.exec("INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", version, now, found.since);
      }
      this.versions.set(version, found);
    }
    const seen = [...this.versions.values()];
    if (seen.some((each) => now - each.since < newMs)) return true;
    if (seen.filter((each) => now - each.seen < SPLIT_MS).length > 1) this.hurryUntil = now + newMs;
    return now < Math.max(this.hurryUntil, this.readUntil);
  }

  /** Answers the parts that came from a second on, after the one with that number, oldest first: as many as fit. */
  read(since, after) {
    const now = Date.now();
    this.readUntil = now + Number(this.env.READ_MS ?? READ_MS);
    const found = this.sql.exec("SELECT * FROM parts WHERE id > ? AND second >= ? ORDER BY id", after, since);
    const [parts, second] = [[], Math.floor(now / 1000)];
    let [bytes, more] = [0, false];
    for (const part of found) {
      more = bytes > PAGE_BYTES;
      if (more) break;
      bytes += part.body.length;
      const { body, kind, ...numbers } = part;
      parts.push(`{${[JSON.stringify(numbers), kind].map((each) => each.slice(1, -1)).join()},"rows":${body}}`);
    }
    const quiet = this.sql.exec("SELECT stored, version, until FROM isolates WHERE until >= ?", second - 60).toArray();
    const rest = JSON.stringify({ now, more, isolates: quiet }).slice(1, -1);
    return new Response(`{"parts":[${parts.join(",")}],${rest}}`);
  }

  /** Removes what is older than guard looks back. */
  async alarm() {
    const now = Date.now();
    const kept = Number(this.env.KEPT_S ?? KEPT_S);
    this.sql.exec("DELETE FROM parts WHERE second < ?", Math.floor(now / 1000) - kept);
    this.sql.exec("DELETE FROM isolates WHERE stored < ?", now - kept * 1000);
    this.sql.exec("DELETE FROM versions WHERE seen < ?", now - 86_400_000);
    this.isWoken = this.sql.exec("SELECT 1 FROM parts UNION ALL SELECT 1 FROM isolates LIMIT 1").toArray().length > 0;
    if (this.isWoken) await this.storage.setAlarm(now + this.sweepMs);
  }
}

const text = new TextEncoder();

function isSame(one, other) {
  const [a, b] = [text.encode(one), text.encode(other)];
  return a.byteLength === b.byteLength && crypto.subtle.timingSafeEqual(a, b);
}

export default {
  tail: recorder.tail,

  /** Answers guard: GET /backout/SCRIPT?since=SECOND&after=NUMBER, signed as the answer is; docs/recorder.md. */
  async fetch(request, env) {
    const { pathname, search, searchParams } = new URL(request.url);
    const script = /^\/backout\/([a-z0-9_-]{1,63})$/.exec(pathname)?.[1];
    const authorization = request.headers.get("Authorization") ?? "";
    const [, stamp, signature] = /^Backout (\d{10}),([A-Za-z0-9+/=]{44})$/.exec(authorization) ?? [];
    if (request.method !== "GET" || !script || !signature) return new Response("Not Found", { status: 404 });
    const asked = `${pathname}${search}`;
    const isRecent = Math.abs(Date.now() / 1000 - Number(stamp)) <= CLOCK_S;
    if (!isRecent || !isSame(signature, await sign(`GET ${asked}.${stamp}.`, env))) {
      return new Response("Unauthorized", { status: 401 });
    }
    const [since, after] = [Number(searchParams.get("since")), Number(searchParams.get("after"))];
    const object = env.OBJECT.get(env.OBJECT.idFromName(script));
    const answer = await object.fetch(`https://object/?since=${since || 0}&after=${after || 0}`);
    if (!answer.ok) return new Response("the object does not answer", { status: 502 });
    const [body, at] = [await answer.text(), Math.floor(Date.now() / 1000)];
    return new Response(`${at} v1,${await sign(`${asked}.${at}.${body}`, env)}\n${body}`);
  },
};
