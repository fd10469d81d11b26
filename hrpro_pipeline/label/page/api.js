// What the server is asked. Addresses are relative: the page's own one begins with the token.

export async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await problemOf(answer));
  return answer.json();
}

export async function bytes(path, signal) {
  const answer = await fetch(path, { signal });
  if (!answer.ok) throw new Error(await problemOf(answer));
  return answer.arrayBuffer();
}

export async function post(path, content) {
  const answer = await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
  });
  if (!answer.ok) {
    const error = new Error(await problemOf(answer));
    error.isRefusal = true; // the server is there, and says no
    throw error;
  }
  return answer.json();
}

async function problemOf(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error || text;
  } catch {
    return text.trim() || `the server answered ${answer.status}`;
  }
}
