// Stores chats in this browser (IndexedDB). If that fails, a chat lasts as long as the page.
let opened = null;
let keeps = true;

/** Store no chats: a public demo keeps nothing. */
export function keepNothing() {
  keeps = false;
}

function database() {
  if (!keeps) return Promise.reject(new Error("this page keeps no chats"));
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open("llava-playground", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("chats", { keyPath: "id" });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opened;
}

async function run(mode, act) {
  const store = (await database()).transaction("chats", mode).objectStore("chats");
  return new Promise((resolve, reject) => {
    const asked = act(store);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

/** Return the chats, newest first. */
export async function list() {
  const chats = await run("readonly", (store) => store.getAll()).catch(() => []);
  return chats.sort((one, other) => other.updated - one.updated);
}

export const load = (id) => run("readonly", (store) => store.get(id)).catch(() => undefined);
export const remove = (id) => run("readwrite", (store) => store.delete(id)).catch(() => {});

/** Store a chat; return whether that worked. */
export async function keep(chat) {
  return run("readwrite", (store) => store.put({ ...chat, updated: Date.now() })).then(() => true, () => false);
}
