// The API as the page uses it: requests with a token, pages of listings, the stream of events. A token lives as long as the tab.

const KEY = "lunette-token";

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  clear: () => sessionStorage.removeItem(KEY),
};

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The daemon does not answer.");
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new ApiError(response.status, body.error?.code ?? "internal", body.error?.message ?? response.statusText);
  }
  return response;
}

export const get = async (path) => (await request(path)).json();
export const text = async (path) => (await request(path)).text();
export const remove = async (path) => (await request(path, { method: "DELETE" })).json();
export const post = async (path, body = {}) => (await request(path, {
  method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } })).json();
export const command = (name, body) => post(`v1/commands/${name}`, body);

/** All rows of a listing, page by page. */
export async function all(path) {
  const rows = [];
  let next = `${path}?limit=1000`;
  while (next) {
    const response = await request(next);
    rows.push(...await response.json());
    const link = /<\/([^>]*)>; rel="next"/.exec(response.headers.get("Link") ?? "");
    next = link?.[1];
  }
  return rows;
}

/** Call `heard` with events as they come, until `signal`; over the end of a connection, too. */
export async function follow(heard, signal) {
  let last = null;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const reader = (await request("v1/events", { headers, signal })).body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const part of parts) {
          const data = part.split("\n").find((line) => line.startsWith("data: "));
          if (data) {
            const event = JSON.parse(data.slice(6));
            last = event.id;
            heard(event);
          }
        }
      }
    } catch (error) {
      if (error.status === 401 || error.status === 403) return;
    }
    await new Promise((resolve) => { setTimeout(resolve, 2000); });
  }
}
