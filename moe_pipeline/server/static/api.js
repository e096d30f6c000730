// The server's JSON API. Every failure is an ApiError with the sentence that the server gave.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Api {
  key = sessionStorage.getItem("moe-key") ?? "";
  token = "";

  setKey(key) {
    this.key = key;
    sessionStorage.setItem("moe-key", key);
  }

  async request(method, path, body, options = {}) {
    const headers = {};
    if (this.key) headers.Authorization = `Bearer ${this.key}`;
    if (this.token) headers["X-Lease-Token"] = this.token;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(`/api/${path}`, { method, headers, body: JSON.stringify(body), cache: "no-store", ...options });
    } catch {
      throw new ApiError(0, "The server does not answer. Nothing that it has confirmed is lost.");
    }
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    throw new ApiError(answer.status, told.detail ?? `The server answered ${answer.status}.`);
  }

  async get(path) {
    return (await this.request("GET", path)).json();
  }

  async post(path, body) {
    return (await this.request("POST", path, body)).json();
  }

  async remove(path) {
    return (await this.request("DELETE", path)).json();
  }

  async file(path, name) {
    return new File([await (await this.request("GET", path)).blob()], name);
  }

  async open(name, take) {
    const { lease_token: token, session } = await this.post(`scans/${encodeURIComponent(name)}/session`, { take });
    this.token = token;
    return session;
  }

  // Without waiting: also while the page is being closed.
  release() {
    if (this.token) this.request("DELETE", "session", undefined, { keepalive: true }).catch(() => {});
    this.token = "";
  }
}

// Class ids of a patch, x fastest.
export async function unpack(patch) {
  const packed = Uint8Array.from(atob(patch.data), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = await new Response(stream).arrayBuffer();
  return patch.dtype === "uint8" ? new Uint8Array(raw) : new Uint16Array(raw);
}
