/** The one page: the catalogue, filled in by the browser. */
const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>FM5</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }
  li { display: flex; justify-content: space-between; border-bottom: 1px solid #ddd; padding: .4rem 0; }
  ul { list-style: none; padding: 0; }
</style>
<h1>FM5</h1>
<p>Small things, made to order.</p>
<ul id="models"><li>Loading…</li></ul>
<script type="module">
  const list = document.getElementById("models");
  const response = await fetch("/api/models");
  const { models } = response.ok ? await response.json() : { models: [] };
  list.replaceChildren(...models.map((model) => {
    const row = document.createElement("li");
    const price = document.createElement("span");
    price.textContent = (model.price_cents / 100).toFixed(2);
    row.append(model.name, price);
    return row;
  }));
  if (models.length === 0) list.textContent = response.ok ? "Nothing yet." : "The catalogue is not available.";
</script>
</html>
`;

const ABOUT = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>About FM5</title>
<link rel="stylesheet" href="/style.css">
<h1>About us</h1>
<p>We make small things to order, in a workshop with two printers and a lathe.</p>
</html>
`;
const STYLE = "body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }\n";

/** @type {import("./router.js").Handler} */
export function about() {
  return new Response(ABOUT, { headers: { "content-type": "text/html; charset=utf-8" } });
}

/** @type {import("./router.js").Handler} */
export function style() {
  return new Response(STYLE, { headers: { "content-type": "text/css; charset=utf-8" } });
}

/** @type {import("./router.js").Handler} */
export function home() {
  return new Response(PAGE, { headers: { "content-type": "text/html; charset=utf-8" } });
}
