import files from "./files.js"; // written by build.js: what each static file is called in this build

export default {
  fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/health") return Response.json({ status: "ok", version: { id: env.CF_VERSION.id } });
    if (pathname === "/") return renderPage("Home", "Rendered by the server, made lively by a static file.");
    if (pathname === "/about") return renderPage("About", "Each build gives its static files names of their own.");
    return renderPage("Not found", "There is no such page.", 404);
  },
};

function renderPage(title, text, status = 200) {
  const page = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <title>${title}</title>
    <link rel="stylesheet" href="${files["style.css"]}" />
    <script type="module" src="${files["main.js"]}"></script>
  </head>
  <body>
    <nav><a href="/">Home</a> <a href="/about">About</a></nav>
    <h1>${title}</h1>
    <p>${text}</p>
    <button>0</button>
  </body>
</html>
`;
  return new Response(page, { status, headers: { "Content-Type": "text/html; charset=utf-8" } });
}
