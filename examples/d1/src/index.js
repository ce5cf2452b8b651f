// Notes in D1: POST /notes keeps one, GET /notes lists the newest, GET /notes/ID reads one.
const SHOWN = 50;
const LONGEST = 500;

export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/health") return checkHealth(env);
    if (pathname === "/notes") return request.method === "POST" ? addNote(request, env) : listNotes(env);
    const id = /^\/notes\/(\d{1,15})$/.exec(pathname)?.[1];
    const note = id && (await env.DB.prepare("SELECT * FROM notes WHERE id = ?").bind(Number(id)).first());
    return note ? Response.json(note) : Response.json({ error: "notes are at /notes and /notes/ID" }, { status: 404 });
  },
};

// Reads the table that the newest migration made, so that code and schema that do not fit show before a visitor meets it.
async function checkHealth(env) {
  let database = "ok";
  try {
    await env.DB.prepare("SELECT id, text, created_at FROM notes LIMIT 1").all();
  } catch (error) {
    console.error(error);
    database = "down";
  }
  const body = { status: database, version: { id: env.CF_VERSION.id }, services: { database: { status: database } } };
  return Response.json(body, { status: database === "ok" ? 200 : 503 });
}

async function addNote(request, env) {
  const text = await request.text();
  if (text.length < 1 || text.length > LONGEST) {
    return Response.json({ error: `a note has 1 to ${LONGEST} letters` }, { status: 400 });
  }
  const note = await env.DB.prepare("INSERT INTO notes (text) VALUES (?) RETURNING *").bind(text).first();
  return Response.json(note, { status: 201 });
}

async function listNotes(env) {
  const { results } = await env.DB.prepare("SELECT * FROM notes ORDER BY id DESC LIMIT ?").bind(SHOWN).all();
  return Response.json(results);
}
