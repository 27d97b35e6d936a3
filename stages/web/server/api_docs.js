// Documents the routes of the server that serves this page, from its openapi.json.
"use strict";

const at = (id) => document.getElementById(id);

function element(tag, text = "", kind = "") {
  const one = document.createElement(tag);
  one.textContent = text;
  if (kind) one.className = kind;
  return one;
}

// Returns a paragraph in which text between backticks is shown as code.
function paragraph(text) {
  const one = element("p");
  text.split("`").forEach((part, i) => one.append(i % 2 ? element("code", part) : part));
  return one;
}

// Returns a schema with all references resolved; a reference to an enclosing schema is replaced by its name.
function resolved(schema, all, inside = []) {
  if (Array.isArray(schema)) return schema.map((one) => resolved(one, all, inside));
  if (!schema || typeof schema !== "object") return schema;
  if (schema.$ref) {
    const name = schema.$ref.split("/").pop();
    return inside.includes(name) ? name : resolved(all.components.schemas[name], all, [...inside, name]);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolved(value, all, inside)]));
}

// Returns an example-like value with the structure of a schema: {"label": "string", "probabilities": {"...": "number"}}.
function shape(schema) {
  if (typeof schema !== "object" || schema === null) return schema ?? "anything";
  if (schema.const !== undefined) return schema.const;
  const several = schema.anyOf ?? schema.oneOf;
  if (several) return several.length > 1 && several.every((one) => typeof shape(one) === "string") ? several.map(shape).join(" or ") : shape(several[0]);
  if (schema.type === "array") return schema.prefixItems ? schema.prefixItems.map(shape) : [shape(schema.items ?? schema.description ?? {})];
  if (schema.properties) return Object.fromEntries(Object.entries(schema.properties).map(([name, one]) => [name, shape(one)]));
  if (schema.type === "object") return { "...": typeof schema.additionalProperties === "object" ? shape(schema.additionalProperties) : "anything" };
  return schema.format === "binary" ? "a file" : schema.type ?? "anything";
}

const shown = (schema) => element("pre", JSON.stringify(shape(schema), null, 2));

// Returns a shell command that sends a request to a route.
function command(path, method, { requestBody, security }, all) {
  const words = ["curl"];
  if ((security ?? all.security ?? []).length) words.push('-H "X-API-Key: $MACULA_API_KEY"');
  const [kind, body] = Object.entries(requestBody?.content ?? {})[0] ?? [];
  if (kind === "multipart/form-data") words.push(...Object.keys(body.schema.properties).map((field) => `-F ${field}=@image.png`));
  else if (kind === "application/json") words.push(`-H "Content-Type: ${kind}" -d '${JSON.stringify(body.schema.example ?? {})}'`);
  else if (kind) words.push(`-H "Content-Type: ${kind}" --data-binary @image.png`);
  else if (method !== "get") words.push(`-X ${method.toUpperCase()}`);
  const filled = path.slice(1).replace(/\{(\w+)\}/g, (_, name) => name.toUpperCase());
  return [...words, `'${new URL(filled, document.baseURI)}'`].join(" ");
}

function route(path, method, operation, all) {
  const one = element("section", "", "route");
  const head = element("h2", `${method.toUpperCase()} ${path}`);
  head.id = operation.operationId;
  one.append(head, paragraph(operation.description ?? operation.summary ?? ""), element("pre", command(path, method, operation, all)));
  const table = element("table");
  for (const { name, in: where, required, description, schema } of operation.parameters ?? []) {
    const row = table.insertRow();
    row.append(element("th", name));
    for (const words of [where, shape(resolved(schema, all)), required ? "required" : `default: ${schema.default ?? "none"}`]) row.insertCell().textContent = words;
    row.insertCell().append(...paragraph(description ?? "").childNodes);
  }
  if (table.rows.length) one.append(table);
  for (const [kind, { schema }] of Object.entries(operation.requestBody?.content ?? {})) one.append(detail(`request body: ${kind}`, [shown(resolved(schema, all))]));
  const failures = [];
  for (const [status, { description, content }] of Object.entries(operation.responses ?? {})) {
    const response = element("p", `${status}: ${description}`, "quiet small");
    const bodies = Object.values(content ?? {}).filter(({ schema }) => schema && Object.keys(schema).length);
    if (status >= 400) failures.push(response);
    else if (bodies.length) one.append(detail(response.textContent, bodies.map(({ schema }) => shown(resolved(schema, all)))));
    else one.append(response);
  }
  if (failures.length) one.append(detail('errors, each as {"error": message}', failures));
  return one;
}

function detail(title, inside) {
  const one = element("details");
  one.append(element("summary", title, "quiet small"), ...inside);
  return one;
}

async function introduce() {
  try {
    const response = await fetch("openapi.json");
    if (!response.ok) throw new Error(`openapi.json: the server responded with status ${response.status}`);
    const all = await response.json();
    at("about").textContent = all.info.title === "Macula" ? "" : all.info.title;
    at("keyed").hidden = !(all.security ?? []).length;
    for (const [path, methods] of Object.entries(all.paths))
      for (const [method, operation] of Object.entries(methods)) at("routes").append(route(path, method, operation, all));
  } catch (error) {
    at("about").textContent = error.message;
  }
}

introduce();
